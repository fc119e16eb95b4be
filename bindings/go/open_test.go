package kogge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kogge.dev/go/kogge"
)

func TestABadConfigurationIsRefusedAndNamed(t *testing.T) {
	leaves(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, it := range map[string]struct {
		config   kogge.Config
		expected error
		says     string
	}{
		"no directory":   {kogge.Config{}, kogge.ErrInvalidArgument, "data_dir"},
		"a file":         {kogge.Config{DataDir: file}, errAny, ""},
		"not UTF-8":      {kogge.Config{DataDir: "\xff"}, kogge.ErrInvalidArgument, "UTF-8"},
		"bad TOML":       {kogge.Config{DataDir: "x", TOML: "a ="}, kogge.ErrInvalidArgument, ""},
		"unknown key":    {kogge.Config{DataDir: "x", TOML: "colour = 1"}, kogge.ErrInvalidArgument, "colour"},
		"bad peer":       {kogge.Config{DataDir: "x", Peers: []string{"bob"}}, kogge.ErrInvalidArgument, "peers"},
		"bad genesis":    {kogge.Config{DataDir: "x", Genesis: []byte("{}")}, kogge.ErrInvalidArgument, ""},
		"no genesis":     {kogge.Config{DataDir: "x", Network: kogge.NetworkGenesis}, kogge.ErrInvalidArgument, ""},
		"two networks":   {kogge.Config{DataDir: "x", Network: kogge.NetworkStored, Genesis: []byte("{}")}, kogge.ErrInvalidArgument, "Genesis"},
		"no network":     {kogge.Config{DataDir: t.TempDir(), Network: kogge.NetworkStored}, kogge.ErrNotFound, ""},
		"other network":  {kogge.Config{DataDir: "x", Network: 9}, kogge.ErrInvalidArgument, "9"},
		"half a second":  {kogge.Config{DataDir: "x", Limits: kogge.Limits{FetchTimeout: 500 * time.Millisecond}}, kogge.ErrInvalidArgument, "FetchTimeout"},
		"a large number": {kogge.Config{DataDir: "x", Limits: kogge.Limits{DiskMB: 1 << 63}}, kogge.ErrInvalidArgument, "too large"},
	} {
		node, err := kogge.Open(within(t), it.config)
		if node != nil || err == nil {
			t.Errorf("%s: opened", name)
			continue
		}
		if it.expected != errAny && !errors.Is(err, it.expected) || !strings.Contains(err.Error(), it.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLimitsAndListenReachTheNode(t *testing.T) {
	leaves(t)
	node, err := kogge.Open(within(t), kogge.Config{
		DataDir: t.TempDir(),
		Listen:  []string{"/ip4/127.0.0.1/tcp/0"},
		TOML:    "threads = 1\n[limits]\nconnections = 7\n",
		Limits: kogge.Limits{
			DiskMB: 100, UploadKBPerS: 1_000, DownloadKBPerS: 1_000, Connections: 9,
			FetchTimeout: 5 * time.Second, NoShare: true,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	status, err := node.Status(within(t))
	if err != nil || status.Store.Quota != 100<<20 {
		t.Errorf("%+v, %v", status, err)
	}
	eventually(t, "the node listens", func() bool {
		status, err := node.Status(within(t))
		return err == nil && len(status.Listen) == 1
	})
}

// recorder keeps records.
type recorder struct {
	mutex   sync.Mutex
	records []slog.Record
	level   slog.Level
	// hold blocks the handler until it is closed.
	hold chan struct{}
}

func (r *recorder) Enabled(_ context.Context, level slog.Level) bool { return level >= r.level }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler               { return r }
func (r *recorder) WithGroup(string) slog.Handler                    { return r }
func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	if r.hold != nil {
		<-r.hold
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.records = append(r.records, record)
	return nil
}

func (r *recorder) count() int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return len(r.records)
}

func TestTheLogIsToldUpToItsLevelAndNotAfterClose(t *testing.T) {
	leaves(t)
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelError} {
		recorder := &recorder{level: level}
		node, err := kogge.Open(within(t), kogge.Config{
			DataDir: t.TempDir(), Logger: slog.New(recorder),
			// Nobody listens there, which is worth a line.
			Peers: []string{"/ip4/127.0.0.1/tcp/9"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if level == slog.LevelDebug {
			eventually(t, "there is a line", func() bool { return recorder.count() != 0 })
		}
		if err := node.Close(); err != nil {
			t.Fatal(err)
		}
		count := recorder.count()
		for _, record := range recorder.records {
			var target string
			record.Attrs(func(it slog.Attr) bool { target = it.Value.String(); return false })
			if record.Level < level || record.Message == "" || !strings.HasPrefix(target, "kogge") {
				t.Errorf("%+v", record)
			}
		}
		if recorder.count() != count {
			t.Error("lines after the end")
		}
	}
}

func TestALoggerThatBlocksBlocksNoCall(t *testing.T) {
	scene := open(t)
	leaves(t)
	recorder := &recorder{level: slog.LevelDebug, hold: make(chan struct{})}
	config := scene.config(t)
	config.Logger = slog.New(recorder)
	node := scene.unchecked(t, config)
	for range 50 {
		if _, _, err := node.FetchBytes(within(t), scene.artifact(t, "tiny").digest()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := node.CloseContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	// The node itself is closed, or soon will be: only the lines wait.
	eventually(t, "the directory is free", func() bool {
		again, err := kogge.Open(within(t), kogge.Config{DataDir: config.DataDir})
		if err != nil {
			if !errors.Is(err, kogge.ErrBusy) {
				t.Error(err)
			}
			return false
		}
		again.Close()
		return true
	})
	close(recorder.hold)
	if err := node.Close(); err != nil {
		t.Error(err)
	}
}

func TestErrorsAreWhatTheyWrap(t *testing.T) {
	for _, it := range []struct {
		code  Code
		name  string
		again bool
	}{
		{kogge.ErrNotFound, "not-found", false},
		{kogge.ErrBusy, "busy", true},
		{kogge.ErrNetwork, "network", true},
		{Code(12345), "unknown", false},
	} {
		if it.code.Error() != it.name || it.code.Retryable() != it.again {
			t.Errorf("%d is %q, retryable: %v", it.code, it.code, it.code.Retryable())
		}
	}
	err := fmt.Errorf("while testing: %w", &kogge.Error{Code: kogge.ErrIO, Message: "it broke", Causes: []string{"it broke", "a tooth"}})
	if !errors.Is(err, kogge.ErrIO) || errors.Is(err, kogge.ErrBusy) {
		t.Error("not the code")
	}
	if err.Error() != "while testing: kogge: it broke: a tooth" {
		t.Error(err)
	}
}

// Code is short for the package's.
type Code = kogge.Code

func TestEventsTellWhatHappens(t *testing.T) {
	scene := open(t)
	leaves(t)
	node, err := kogge.Open(within(t), scene.config(t))
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	everything, err := node.Events(ctx, kogge.EventFilter{Remembered: true})
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := node.Events(within(t), kogge.EventFilter{Kinds: []string{"committed"}, Remembered: true})
	if err != nil {
		t.Fatal(err)
	}
	kinds, number := map[string]bool{}, uint64(0)
	for event := range everything {
		if event.Number <= number || event.Lost != 0 || event.Time.IsZero() || !bytes.Contains(event.JSON, []byte(event.Kind)) {
			t.Errorf("%+v after %d", event, number)
		}
		number, kinds[event.Kind] = event.Number, true
		if kinds["committed"] && kinds["peer-admitted"] && kinds["live"] {
			cancel()
			break
		}
	}
	for range everything {
		// Up to eventsMax more, then the channel is closed.
	}
	if event := <-blocks; event.Kind != "committed" {
		t.Errorf("%+v", event)
	}
	if err := node.Close(); err != nil {
		t.Error(err)
	}
	for event := range blocks {
		if event.Kind != "committed" {
			t.Errorf("%+v", event)
		}
	}
	for _, kinds := range [][]string{{""}, {"a,b"}} {
		if _, err := node.Events(within(t), kogge.EventFilter{Kinds: kinds}); err == nil {
			t.Errorf("%q is a kind", kinds)
		}
	}
}
