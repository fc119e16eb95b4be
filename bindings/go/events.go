package kogge

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"math"
	"runtime"
	"strings"
	"time"
)

// eventsMax is how many events wait in a channel. More wait in the library, which remembers the last
// 1,024 of a node.
const eventsMax = 16

// Event is something that happened in a node.
type Event struct {
	// Number is its number in this node, from 1.
	Number uint64
	// Lost counts the events before this one that this reader was too slow for.
	Lost uint64
	Time time.Time
	// Kind is listening, peer-admitted, peer-lost, committed, live, build, fault, or stopped (the node
	// cannot go on, for the reason in its JSON; the last one before it is closed); a newer library
	// may have more.
	Kind string
	// JSON is all of it: an object with the field event, which is the kind.
	JSON json.RawMessage
}

// EventFilter says which events.
type EventFilter struct {
	// Kinds are the ones that are wanted; none means all.
	Kinds []string
	// After is the number of the last event that is not wanted; 0 means from now on.
	After uint64
	// Remembered begins with the oldest event that the node remembers; After is of no account then.
	Remembered bool
}

// Events tells what happens in the node, until ctx ends or the node is closed: then the channel is
// closed. A reader that is slow loses events, which are counted in the next, and delays nobody.
func (n *Node) Events(ctx context.Context, filter EventFilter) (<-chan Event, error) {
	if err := n.enter(ctx); err != nil {
		return nil, err
	}
	for _, kind := range filter.Kinds {
		if kind == "" || strings.ContainsAny(kind, ", ") {
			return nil, invalid("%q is not a kind of event", kind)
		}
	}
	after := filter.After
	if filter.Remembered {
		after = math.MaxUint64
	}
	kinds := strings.Join(filter.Kinds, ",")
	if err := n.addReader(); err != nil {
		return nil, err
	}
	tag, signs := n.pump.register()
	made := C.kg_events_open(n.node, n.pump.queue, tag, chars(kinds), size(kinds), C.uint64_t(after))
	if err := check(made); err != nil {
		n.pump.forget(tag)
		n.readers.Done()
		return nil, n.explain(err)
	}
	events := make(chan Event, eventsMax)
	go func() {
		// A program may hold nothing else than the channel.
		defer runtime.KeepAlive(n)
		defer n.readers.Done()
		defer close(events)
		defer n.pump.forget(tag)
		defer C.kg_events_free(made.handle)
		n.readEvents(ctx, made.handle, signs, events)
	}()
	return events, nil
}

// addReader counts a goroutine that closing has to wait for.
func (c *core) addReader() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.isLeaving() {
		return closedError("the node")
	}
	c.readers.Add(1)
	return nil
}

func (n *Node) readEvents(ctx context.Context, source handle, signs <-chan C.kogge_status, events chan<- Event) {
	for {
		next := C.kg_events_next(source)
		if next.status == C.KOGGE_STATUS_OK {
			event := eventOf(next)
			select {
			case events <- event:
				continue
			case <-ctx.Done():
				return
			case <-n.leaving:
			}
			// Who does not read must not keep the node from closing.
			select {
			case events <- event:
				continue
			default:
				return
			}
		}
		C.kg_error_free(next.error)
		if next.status != C.KOGGE_STATUS_AGAIN {
			return
		}
		select {
		case <-signs:
		case <-ctx.Done():
			return
		}
	}
}

func eventOf(next C.kg_event) Event {
	defer C.kg_event_free(next.event)
	return Event{
		Number: uint64(next.view.number),
		Lost:   uint64(next.view.lost),
		Time:   time.UnixMilli(int64(next.view.time_ms)),
		Kind:   textOf(next.view.kind),
		JSON:   json.RawMessage(textOf(next.view.json)),
	}
}
