package kogge_test

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"kogge.dev/go/kogge"
)

// calls has every method of a node that takes a context.
func calls(t *testing.T, node *kogge.Node, known known) map[string]func() error {
	log := node.Log()
	return map[string]func() error{
		"Live":    func() error { return node.Live(within(t)) },
		"Status":  func() error { _, err := node.Status(within(t)); return err },
		"Peers":   func() error { _, err := node.Peers(within(t)); return err },
		"Metrics": func() error { _, err := node.Metrics(within(t)); return err },
		"Genesis": func() error { _, err := node.Genesis(within(t)); return err },
		"Resolve": func() error { _, err := node.Resolve(within(t), known.digest()); return err },
		"Fetch": func() error {
			artifact, err := node.Fetch(within(t), known.digest())
			if err == nil {
				artifact.Close()
			}
			return err
		},
		"FetchBytes":   func() error { _, _, err := node.FetchBytes(within(t), known.digest()); return err },
		"FetchFile":    func() error { _, err := node.FetchFile(within(t), known.digest(), t.TempDir()+"/x"); return err },
		"Prefetch":     func() error { _, err := node.Prefetch(within(t), known.digest()); return err },
		"Stat":         func() error { _, err := node.Stat(within(t), known.digest()); return err },
		"Pin":          func() error { return node.Pin(within(t), known.digest(), true) },
		"Shrink":       func() error { _, err := node.Shrink(within(t), 0); return err },
		"RequestBuild": func() error { _, err := node.RequestBuild(within(t), "maven "+known.What); return err },
		"WaitBuild":    func() error { _, err := node.WaitBuild(within(t), known.SHA256); return err },
		"Events":       func() error { _, err := node.Events(within(t), kogge.EventFilter{}); return err },
		"Checkpoint":   func() error { _, err := log.Checkpoint(within(t)); return err },
		"Policy":       func() error { _, err := log.Policy(within(t)); return err },
		"Prove":        func() error { _, err := log.Prove(within(t), 0); return err },
		"Waybill":      func() error { _, err := log.Waybill(within(t), 0); return err },
		"Query": func() error {
			for _, err := range log.Query(within(t), "") {
				return err
			}
			return nil
		},
	}
}

func TestAfterCloseEveryCallSaysClosed(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "small")
	artifact, err := node.Fetch(within(t), known.digest())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := artifact.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	id := node.ID()
	for range 3 {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, call := range calls(t, node, known) {
		if err := call(); !errors.Is(err, kogge.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if node.ID() != id {
		t.Error("the identity has changed")
	}
	if _, err := artifact.ReadAt(make([]byte, 1), 0); !errors.Is(err, kogge.ErrClosed) {
		t.Error(err)
	}
	artifact.Close()
	artifact.Close()
	for name, read := range map[string]func() error{
		"Read":    func() error { _, err := artifact.Read(make([]byte, 1)); return err },
		"ReadAt":  func() error { _, err := artifact.ReadAt(make([]byte, 1), 0); return err },
		"WriteTo": func() error { _, err := artifact.WriteTo(io.Discard); return err },
	} {
		if err := read(); !errors.Is(err, kogge.ErrClosed) || !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCloseDuringUse(t *testing.T) {
	scene := open(t)
	known := scene.artifact(t, "medium")
	for round := range 8 {
		leaves(t)
		node := scene.unchecked(t, scene.config(t))
		var group sync.WaitGroup
		for name, call := range calls(t, node, known) {
			group.Add(1)
			go func() {
				defer group.Done()
				for {
					err := call()
					if errors.Is(err, kogge.ErrClosed) {
						return
					}
					// What else may come of calls with made-up arguments.
					if err != nil && !errors.Is(err, kogge.ErrNotFound) && !errors.Is(err, kogge.ErrAgain) && !errors.Is(err, kogge.ErrBusy) {
						t.Errorf("%s: %v", name, err)
						return
					}
				}
			}()
		}
		time.Sleep(time.Duration(round) * 3 * time.Millisecond)
		for range 4 {
			group.Add(1)
			go func() {
				defer group.Done()
				if err := node.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
		group.Wait()
	}
}

func TestAnArtifactIsClosedDuringUse(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "medium")
	for round := range 20 {
		artifact, err := node.Fetch(within(t), known.digest())
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for _, read := range []func() error{
			func() error { _, err := io.Copy(io.Discard, struct{ io.Reader }{artifact}); return err },
			func() error { _, err := artifact.WriteTo(io.Discard); return err },
			func() error { _, err := artifact.ReadAt(make([]byte, known.Size), 0); return err },
		} {
			group.Add(1)
			go func() {
				defer group.Done()
				if err := read(); err != nil && !errors.Is(err, kogge.ErrClosed) {
					t.Error(err)
				}
			}()
		}
		time.Sleep(time.Duration(round) * 200 * time.Microsecond)
		artifact.Close()
		group.Wait()
	}
}

func TestClosingIsNotWaitedForLongerThanTheContext(t *testing.T) {
	scene := open(t)
	node := scene.node(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := node.CloseContext(ctx)
	// It may have been that fast.
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := node.CloseContext(within(t)); err != nil {
		t.Error(err)
	}
}

func TestNodesInOneProcessAreIndependent(t *testing.T) {
	scene := open(t)
	alice, bob := scene.node(t), scene.node(t)
	if alice.ID() == bob.ID() {
		t.Error("one identity")
	}
	if err := alice.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := bob.FetchBytes(within(t), scene.artifact(t, "small").digest()); err != nil {
		t.Error(err)
	}
}

func TestADirectoryHasOneNode(t *testing.T) {
	leaves(t)
	config := kogge.Config{DataDir: t.TempDir(), Logger: logger(t)}
	node, err := kogge.Open(within(t), config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kogge.Open(within(t), config); !errors.Is(err, kogge.ErrBusy) {
		t.Error(err)
	}
	if err := node.Close(); err != nil {
		t.Error(err)
	}
	again, err := kogge.Open(within(t), config)
	if err != nil {
		t.Fatal(err)
	}
	if again.ID() != node.ID() {
		t.Error("another identity")
	}
	again.Close()
}
