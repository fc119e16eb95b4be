package kogge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kogge.dev/go/kogge"
)

// attempts is how often each call is cancelled, later and later.
const attempts = 150

// atEveryPoint calls again and again with contexts that end later and later: from before the call up to
// twice as long as one that succeeded took. Each call succeeds, or fails because of its context.
func atEveryPoint(t *testing.T, call func(context.Context) error) {
	t.Helper()
	if tryEveryPoint(t, call) == 0 {
		t.Error("no call was ended after it began")
	}
}

// tryEveryPoint does the same with a call that may always be faster, and gives how many calls were ended
// after they began.
func tryEveryPoint(t *testing.T, call func(context.Context) error) int {
	t.Helper()
	start := time.Now()
	if err := call(within(t)); err != nil {
		t.Fatal(err)
	}
	longest := max(2*time.Since(start), time.Millisecond)
	step := longest / attempts
	ended := 0
	for at := range attempts {
		after := time.Duration(at) * step
		ctx, cancel := context.WithCancel(context.Background())
		expected := context.Canceled
		if at%2 == 0 {
			ctx, cancel = context.WithTimeout(context.Background(), after)
			expected = context.DeadlineExceeded
		} else {
			time.AfterFunc(after, cancel)
		}
		isBefore := ctx.Err() != nil
		err := call(ctx)
		if err != nil {
			if !isBefore {
				ended++
			}
			var failure *kogge.Error
			if !errors.Is(err, expected) || !errors.As(err, &failure) {
				t.Errorf("ended after %v: %v", after, err)
			}
		}
		cancel()
	}
	t.Logf("%d of %d calls were ended, at most after %v", ended, attempts, longest)
	return ended
}

func TestAFetchIsCancelledAtEveryPoint(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "medium")
	path := filepath.Join(t.TempDir(), "file")
	for name, call := range map[string]func(context.Context) error{
		"bytes from peers": func(ctx context.Context) error {
			if _, err := node.Shrink(within(t), 0); err != nil {
				t.Fatal(err)
			}
			_, _, err := node.FetchBytes(ctx, known.digest())
			return err
		},
		"bytes from the store": func(ctx context.Context) error {
			_, _, err := node.FetchBytes(ctx, known.digest())
			return err
		},
		"file": func(ctx context.Context) error {
			os.Remove(path)
			_, err := node.FetchFile(ctx, known.digest(), path)
			_, missing := os.Stat(path)
			if err == nil && missing != nil {
				return missing
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { atEveryPoint(t, call) })
	}
	t.Run("stream", func(t *testing.T) {
		tryEveryPoint(t, func(ctx context.Context) error {
			artifact, err := node.Fetch(ctx, known.digest())
			if err == nil {
				artifact.Close()
			}
			return err
		})
	})
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAReadIsCancelledAtEveryPoint(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "medium")
	for name, read := range map[string]func(*kogge.Artifact) error{
		"Read": func(artifact *kogge.Artifact) error {
			_, err := io.Copy(io.Discard, struct{ io.Reader }{artifact})
			return err
		},
		"WriteTo": func(artifact *kogge.Artifact) error {
			_, err := artifact.WriteTo(io.Discard)
			return err
		},
		"ReadAt": func(artifact *kogge.Artifact) error {
			_, err := artifact.ReadAt(make([]byte, known.Size), 0)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			atEveryPoint(t, func(ctx context.Context) error {
				artifact, err := node.Fetch(ctx, known.digest())
				if err != nil {
					return err
				}
				defer artifact.Close()
				return read(artifact)
			})
		})
	}
}

func TestAQueryIsCancelledAtEveryPoint(t *testing.T) {
	scene := open(t)
	node := scene.node(t)
	atEveryPoint(t, func(ctx context.Context) error {
		for _, err := range node.Log().Query(ctx, "limit=1") {
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func TestSmallCallsAreCancelledAtEveryPoint(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "tiny")
	if _, err := node.Prefetch(within(t), known.digest()); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func(context.Context) error{
		"Live":   node.Live,
		"Status": func(ctx context.Context) error { _, err := node.Status(ctx); return err },
		"Pin":    func(ctx context.Context) error { return node.Pin(ctx, known.digest(), true) },
		"Shrink": func(ctx context.Context) error { _, err := node.Shrink(ctx, 1<<30); return err },
	} {
		t.Run(name, func(t *testing.T) { tryEveryPoint(t, call) })
	}
}

func TestOpeningIsCancelledAtEveryPointAndTheDirectoryIsFree(t *testing.T) {
	leaves(t)
	config := kogge.Config{DataDir: t.TempDir(), Logger: logger(t)}
	atEveryPoint(t, func(ctx context.Context) error {
		node, err := kogge.Open(ctx, config)
		if err != nil {
			return err
		}
		return node.Close()
	})
	node, err := kogge.Open(within(t), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Close(); err != nil {
		t.Error(err)
	}
}

// silence is an upstream that takes connections and does not answer: builds that ask it do not end
// until it hangs up.
type silence struct {
	listener net.Listener
	mutex    sync.Mutex
	taken    []net.Conn
}

func listen(t *testing.T) *silence {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	this := &silence{listener: listener}
	go func() {
		for {
			taken, err := listener.Accept()
			if err != nil {
				return
			}
			this.mutex.Lock()
			this.taken = append(this.taken, taken)
			this.mutex.Unlock()
		}
	}()
	return this
}

func (s *silence) hangUp() {
	s.listener.Close()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, it := range s.taken {
		it.Close()
	}
}

// solo opens a network of one node whose builds do not end, and requests one.
func solo(t *testing.T) (*kogge.Node, kogge.Build, *silence) {
	t.Helper()
	leaves(t)
	upstream := listen(t)
	toml := fmt.Sprintf("[maven]\nrepositories = [\"http://%s\"]\n", upstream.listener.Addr())
	node, err := kogge.Open(within(t), kogge.Config{DataDir: t.TempDir(), TOML: toml, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	// A node that closes waits for what its builds ask upstreams.
	t.Cleanup(upstream.hangUp)
	build, err := node.RequestBuild(within(t), "maven g:a:1")
	if err != nil {
		t.Fatal(err)
	}
	return node, build, upstream
}

func TestWaitingForABuildIsCancelledAtEveryPoint(t *testing.T) {
	node, build, _ := solo(t)
	for at := range attempts {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(at)*10*time.Microsecond)
		if build, err := node.WaitBuild(ctx, build.ID); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kogge.ErrTimedOut) {
			t.Errorf("%+v, %v", build, err)
		}
		cancel()
	}
}

func TestTheCauseOfAContextIsTold(t *testing.T) {
	node, build, _ := solo(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	impatience := errors.New("impatience")
	time.AfterFunc(time.Millisecond, func() { cancel(impatience) })
	_, err := node.WaitBuild(ctx, build.ID)
	for _, expected := range []error{impatience, context.Canceled, kogge.ErrCancelled} {
		if !errors.Is(err, expected) {
			t.Errorf("%v is not %v", err, expected)
		}
	}
}

func TestClosingANodeEndsWhatWaits(t *testing.T) {
	node, build, upstream := solo(t)
	const count = 100
	failures := make(chan error, count)
	for range count {
		go func() {
			_, err := node.WaitBuild(context.Background(), build.ID)
			failures <- err
		}()
	}
	events, err := node.Events(context.Background(), kogge.EventFilter{})
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- node.Close() }()
	for range count {
		if err := <-failures; !errors.Is(err, kogge.ErrClosed) {
			t.Error(err)
		}
	}
	upstream.hangUp()
	for range events {
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
