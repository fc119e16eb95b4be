package kogge_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"kogge.dev/go/kogge"
)

// limit is how long anything may take before a test gives up.
const limit = 60 * time.Second

// A scene is a running network with known artifacts; the environment variable KOGGE_SCENE names its
// description (tests/kit/src/scene.rs).
type scene struct {
	Genesis, Policy, Program, Data, Repository, Absent string
	Peers                                              []string
	Artifacts                                          []known
}

type known struct {
	Name, What, PURL, File, BLAKE3, SHA256, Path, Waybill string
	Size                                                  int64
	Index                                                 uint64
}

func (k known) digest() string { return "sha256:" + k.SHA256 }

func (k known) bytes(t testing.TB) []byte { return read(t, k.Path) }

func read(t testing.TB, path string) []byte {
	t.Helper()
	bytes, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func open(t testing.TB) *scene {
	t.Helper()
	path := os.Getenv("KOGGE_SCENE")
	if path == "" {
		t.Skip("KOGGE_SCENE is not set: start a network with `kogge-testkit scene FOLDER` and set it to the path that is printed")
	}
	var scene scene
	if err := json.Unmarshal(read(t, path), &scene); err != nil {
		t.Fatal(err)
	}
	return &scene
}

func (s *scene) artifact(t testing.TB, name string) known {
	t.Helper()
	for _, it := range s.Artifacts {
		if it.Name == name {
			return it
		}
	}
	t.Fatalf("the scene has no artifact %q", name)
	return known{}
}

func (s *scene) config(t testing.TB) kogge.Config {
	return kogge.Config{DataDir: t.TempDir(), Genesis: read(t, s.Genesis), Peers: s.Peers, Logger: logger(t)}
}

// node opens a node that has caught up with the scene. It is closed at the end of the test, and then
// nothing of it is left.
func (s *scene) node(t testing.TB) *kogge.Node {
	t.Helper()
	leaves(t)
	node := s.unchecked(t, s.config(t))
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	return node
}

func (s *scene) unchecked(t testing.TB, config kogge.Config) *kogge.Node {
	t.Helper()
	node, err := kogge.Open(within(t), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Live(within(t)); err != nil {
		node.Close()
		t.Fatal(err)
	}
	return node
}

// within is a context for one call.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// leaves has the test fail unless it leaves as many goroutines as there were, and no handle. To be called
// before other cleanups are registered.
func leaves(t testing.TB) {
	t.Helper()
	goroutines := runtime.NumGoroutine()
	t.Cleanup(func() {
		eventually(t, "all handles are freed", func() bool { return kogge.LiveHandles() == 0 })
		eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
		if t.Failed() {
			stacks := make([]byte, 1<<20)
			t.Logf("%d handles, goroutines:\n%s", kogge.LiveHandles(), stacks[:runtime.Stack(stacks, true)])
		}
	})
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("does not come true: %s", what)
			return
		}
	}
}

// logger writes warnings into the test's log.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(&lines{t: t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type lines struct {
	t     testing.TB
	mutex sync.Mutex
}

func (l *lines) Write(bytes []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.t.Log(strings.TrimSpace(string(bytes)))
	return len(bytes), nil
}
