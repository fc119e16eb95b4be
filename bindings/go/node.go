package kogge

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/hex"
	"errors"
	"runtime"
	"sync"
)

// NodeID is a node's identity: an ed25519 public key.
type NodeID [32]byte

// String is the key in lower-case hex.
func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// Node is a node that runs in this process. All methods may be called from any goroutine at any time;
// after Close they fail with ErrClosed.
//
// Nodes are independent: any number, each with a data directory of its own, may be open at once.
type Node struct {
	*core
	cleanup runtime.Cleanup
}

// core is what of a node goes on until it is closed, even if the program has forgotten the Node.
type core struct {
	node handle
	id   NodeID
	pump *pump
	log  *logReader

	mutex sync.Mutex
	// close is the attempt to close the node, and how it ended.
	close *closing
	// leaving is closed when the node begins to close.
	leaving chan struct{}
	// readers are the goroutines of subscriptions.
	readers sync.WaitGroup
}

type closing struct {
	done chan struct{}
	err  error
}

// Open opens a node and waits until it answers. Its Close must be called.
//
// The node then finds its peers and follows the log by itself; until Live returns it may not know what
// the network knows.
func Open(ctx context.Context, config Config) (*Node, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	settings, reader, err := config.build()
	if err != nil {
		return nil, err
	}
	pump, err := newPump()
	if err != nil {
		C.kg_config_free(settings)
		reader.wait(ctx)
		return nil, err
	}
	node, err := open(ctx, pump, settings)
	C.kg_config_free(settings)
	if err != nil {
		pump.stop()
		reader.wait(ctx)
		return nil, err
	}
	this := &core{node: node, pump: pump, log: reader, leaving: make(chan struct{})}
	C.kg_node_id(node, (*C.uint8_t)(&this.id[0]))
	outer := &Node{core: this}
	outer.cleanup = runtime.AddCleanup(outer, forgotten, lost{"Node", func() { this.startClosing() }, madeAt()})
	return outer, nil
}

func open(ctx context.Context, pump *pump, settings handle) (handle, error) {
	op, err := pump.begin(func(queue handle, tag C.uint64_t) C.kg_made {
		return C.kg_open_start(settings, queue, tag)
	})
	if err != nil {
		return 0, err
	}
	if err := op.await(ctx, nil); err != nil {
		return 0, err
	}
	made := C.kg_open_finish(op.op)
	return made.handle, check(made)
}

// Close closes the node: cancels what runs in it, stops its threads, and waits until Config.Logger has
// taken the lines that are on their way. Artifacts and iterators that came from it fail with ErrClosed
// from then on. It may be called again.
func (n *Node) Close() error { return n.CloseContext(context.Background()) }

// CloseContext closes the node as Close does, and waits for that until ctx ends; then closing goes on
// by itself.
func (n *Node) CloseContext(ctx context.Context) error {
	n.cleanup.Stop()
	attempt := n.startClosing()
	select {
	case <-attempt.done:
		return attempt.err
	case <-ctx.Done():
		return ended(ctx)
	}
}

// startClosing begins to close the node, unless that goes on or is done.
func (c *core) startClosing() *closing {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.close != nil {
		return c.close
	}
	if !c.isLeaving() {
		close(c.leaving)
	}
	attempt := &closing{done: make(chan struct{})}
	c.close = attempt
	go c.finish(attempt)
	return attempt
}

func (c *core) finish(attempt *closing) {
	defer close(attempt.done)
	// On its own thread, so that the end of the pump does not depend on the pump.
	attempt.err = check(C.kg_close(c.node))
	if attempt.err != nil {
		// The system refused a thread; the node is open, and the next call may have more luck.
		c.mutex.Lock()
		defer c.mutex.Unlock()
		c.close = nil
		return
	}
	c.readers.Wait()
	// All ends were told: the pump has them in its queue.
	c.pump.stop()
	c.log.wait(context.Background())
}

// wait waits until the logger has taken the last line, or ctx ends.
func (r *logReader) wait(ctx context.Context) {
	if r == nil {
		return
	}
	select {
	case <-r.done:
	case <-ctx.Done():
	}
}

func (c *core) isLeaving() bool {
	select {
	case <-c.leaving:
		return true
	default:
		return false
	}
}

// enter refuses calls with a context that has ended and calls of a closed node.
func (c *core) enter(ctx context.Context) error {
	if err := ended(ctx); err != nil {
		return err
	}
	if c.isLeaving() {
		return closedError("the node")
	}
	return nil
}

// explain says that the node is closed where the library only knows that a handle is stale.
func (c *core) explain(err error) error {
	if errors.Is(err, ErrBadHandle) && c.isLeaving() {
		return closedError("the node")
	}
	return err
}

// ID is the node's identity.
func (n *Node) ID() NodeID { return n.id }

// Live waits until the node has reached the head of the log: until then it may not know what the
// network knows, and ErrNotFound means little.
func (n *Node) Live(ctx context.Context) error {
	op, err := n.run(ctx, func(queue handle, tag C.uint64_t) C.kg_made {
		return C.kg_live_start(n.node, queue, tag)
	})
	if err != nil {
		return err
	}
	return check(C.kg_op_finish(op))
}
