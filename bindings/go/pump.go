package kogge

// #include "shim.h"
import "C"

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// itemsMax is how many ends of operations the pump takes at once.
const itemsMax = 64

// progressInterval is how often progress is told.
const progressInterval = 100 * time.Millisecond

// pump tells goroutines when their operations end. One goroutine waits on a queue of the library; no
// C code ever calls into Go.
type pump struct {
	queue  handle
	mutex  sync.Mutex
	tag    uint64
	waits  map[uint64]chan<- C.kogge_status
	stops  atomic.Bool
	exited chan struct{}
}

func newPump() (*pump, error) {
	made := C.kg_queue_new()
	if err := check(made); err != nil {
		return nil, err
	}
	this := &pump{
		queue:  made.handle,
		waits:  make(map[uint64]chan<- C.kogge_status),
		exited: make(chan struct{}),
	}
	go this.run()
	return this, nil
}

// stop ends the pump after all that is in the queue; no operation may be running then.
func (p *pump) stop() {
	p.stops.Store(true)
	C.kg_queue_wake(p.queue)
	<-p.exited
	C.kg_queue_free(p.queue)
}

func (p *pump) run() {
	defer close(p.exited)
	var items [itemsMax]C.kg_item
	for {
		taken := C.kg_queue_next(p.queue, &items[0], itemsMax)
		for _, item := range items[:taken.count] {
			p.tell(uint64(item.tag), item.status, item.is_op != 0)
		}
		isWoken := taken.status == C.KOGGE_STATUS_AGAIN && !p.stops.Load()
		if taken.status != C.KOGGE_STATUS_OK && !isWoken {
			return
		}
	}
}

// tell wakes who waits for tag. The channel of an operation has room for its one end; that of a
// subscription for one sign that there is something to read.
func (p *pump) tell(tag uint64, status C.kogge_status, isOp bool) {
	p.mutex.Lock()
	wait := p.waits[tag]
	if isOp {
		delete(p.waits, tag)
	}
	p.mutex.Unlock()
	select {
	case wait <- status:
	default:
	}
}

// register gives a tag, and the channel that learns of it.
func (p *pump) register() (C.uint64_t, chan C.kogge_status) {
	wait := make(chan C.kogge_status, 1)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.tag++
	p.waits[p.tag] = wait
	return C.uint64_t(p.tag), wait
}

func (p *pump) forget(tag C.uint64_t) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	delete(p.waits, uint64(tag))
}

// running is an operation.
type running struct {
	op   handle
	wait <-chan C.kogge_status
}

// starter calls one of the `…_start` functions.
type starter func(queue handle, tag C.uint64_t) C.kg_made

// begin starts an operation. Its end must be waited for.
func (p *pump) begin(start starter) (running, error) {
	tag, wait := p.register()
	made := start(p.queue, tag)
	if err := check(made); err != nil {
		p.forget(tag)
		return running{}, err
	}
	if made.end != C.KOGGE_STATUS_AGAIN {
		p.forget(tag)
		wait <- made.end
	}
	return running{made.handle, wait}, nil
}

// await waits for the end of an operation, which is asked for as soon as ctx ends. Who gets no error
// finishes the operation. progress is called every now and then, unless it is nil.
func (r running) await(ctx context.Context, progress func()) error {
	status := r.follow(ctx, progress)
	if status == C.KOGGE_STATUS_OK {
		return nil
	}
	err := check(C.kg_op_finish(r.op))
	if status == C.KOGGE_STATUS_CANCELLED {
		// The context, or else the node that closes.
		if ctx.Err() != nil {
			return ended(ctx)
		}
		return closedError("the node")
	}
	return err
}

func (r running) follow(ctx context.Context, progress func()) C.kogge_status {
	var tick <-chan time.Time
	if progress != nil {
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case status := <-r.wait:
			return status
		case <-tick:
			progress()
		case <-ctx.Done():
			C.kg_op_cancel(r.op)
			return <-r.wait
		}
	}
}

// drop cancels an operation and waits for its end.
func (r running) drop() {
	C.kg_op_cancel(r.op)
	<-r.wait
	C.kg_op_free(r.op)
}

// run starts an operation and waits for its end. Who gets no error finishes the operation.
func (n *Node) run(ctx context.Context, start starter) (handle, error) {
	defer runtime.KeepAlive(n)
	op, err := n.begin(ctx, start)
	if err != nil {
		return 0, err
	}
	return op.op, op.await(ctx, nil)
}

func (n *Node) begin(ctx context.Context, start starter) (running, error) {
	if err := n.enter(ctx); err != nil {
		return running{}, err
	}
	op, err := n.pump.begin(start)
	return op, n.explain(err)
}
