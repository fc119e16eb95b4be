package kogge_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"kogge.dev/go/kogge"
)

// describes fails unless fetched is what is known.
func describes(t *testing.T, fetched kogge.Fetched, known known) {
	t.Helper()
	if fetched.BLAKE3.Hex() != known.BLAKE3 || fetched.SHA256.Hex() != known.SHA256 ||
		fetched.Size != known.Size || fetched.LogIndex != known.Index {
		t.Errorf("fetched %+v, known is %+v", fetched, known)
	}
}

func TestEveryArtifactArrivesByEveryWay(t *testing.T) {
	scene := open(t)
	for _, known := range scene.Artifacts {
		t.Run(known.Name, func(t *testing.T) {
			ways := map[string]func(*testing.T, *kogge.Node) ([]byte, kogge.Fetched){
				"bytes":  fetchBytes(known),
				"file":   fetchFile(known),
				"stream": fetchStream(known),
			}
			for name, fetch := range ways {
				t.Run(name, func(t *testing.T) {
					node := scene.node(t)
					for _, from := range []string{"peers", "store"} {
						got, fetched := fetch(t, node)
						describes(t, fetched, known)
						if !bytes.Equal(got, known.bytes(t)) {
							t.Errorf("%d other bytes came from the %s", len(got), from)
						}
					}
				})
			}
		})
	}
}

func fetchBytes(known known) func(*testing.T, *kogge.Node) ([]byte, kogge.Fetched) {
	return func(t *testing.T, node *kogge.Node) ([]byte, kogge.Fetched) {
		got, fetched, err := node.FetchBytes(within(t), known.digest())
		if err != nil {
			t.Fatal(err)
		}
		return got, fetched
	}
}

func fetchFile(known known) func(*testing.T, *kogge.Node) ([]byte, kogge.Fetched) {
	return func(t *testing.T, node *kogge.Node) ([]byte, kogge.Fetched) {
		path := filepath.Join(t.TempDir(), known.File)
		fetched, err := node.FetchFile(within(t), known.What, path, kogge.WithFile(known.File), kogge.WithReplace())
		if err != nil {
			t.Fatal(err)
		}
		return read(t, path), fetched
	}
}

func fetchStream(known known) func(*testing.T, *kogge.Node) ([]byte, kogge.Fetched) {
	return func(t *testing.T, node *kogge.Node) ([]byte, kogge.Fetched) {
		artifact, err := node.Fetch(within(t), known.PURL, kogge.WithFile(known.File))
		if err != nil {
			t.Fatal(err)
		}
		defer artifact.Close()
		var got bytes.Buffer
		if _, err := io.Copy(&got, artifact); err != nil {
			t.Fatal(err)
		}
		return got.Bytes(), artifact.Fetched
	}
}

func TestBytesComeFromPeersOnceAndThenFromTheStore(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "medium")
	for _, expected := range []struct{ store, peers int64 }{{0, known.Size}, {known.Size, 0}} {
		fetched, err := node.Prefetch(within(t), known.digest())
		if err != nil {
			t.Fatal(err)
		}
		if fetched.FromStore != expected.store || fetched.FromPeers != expected.peers {
			t.Errorf("%+v, expected %+v", fetched, expected)
		}
	}
}

// TestAnArtifactIsAReader runs the standard library's own checks of io.Reader, io.ReaderAt and io.Seeker.
func TestAnArtifactIsAReader(t *testing.T) {
	scene := open(t)
	node := scene.node(t)
	for _, name := range []string{"tiny", "small"} {
		known := scene.artifact(t, name)
		content := known.bytes(t)
		for _, span := range [][2]int64{{0, 0}, {1, 5_000}, {known.Size - 100, 0}, {known.Size - 100, 1_000}, {known.Size, 0}, {known.Size + 9, 3}} {
			artifact, err := node.Fetch(within(t), known.digest(), kogge.WithRange(span[0], span[1]))
			if err != nil {
				t.Fatal(err)
			}
			start := min(span[0], known.Size)
			expected := content[start:]
			if span[1] != 0 {
				expected = expected[:min(span[1], int64(len(expected)))]
			}
			if artifact.Len() != int64(len(expected)) {
				t.Errorf("%v has length %d", span, artifact.Len())
			}
			// One byte at a time, which only a buffer makes bearable.
			if err := iotest.TestReader(artifact, expected); err != nil {
				t.Errorf("%v: %v", span, err)
			}
			artifact.Close()
		}
	}
}

func TestPartsAreReadFromManyGoroutines(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "medium")
	content := known.bytes(t)
	artifact, err := node.Fetch(within(t), known.digest())
	if err != nil {
		t.Fatal(err)
	}
	defer artifact.Close()
	var group sync.WaitGroup
	for at := range 64 {
		group.Add(1)
		go func() {
			defer group.Done()
			part := make([]byte, 100_000)
			offset := known.Size * int64(63-at) / 64
			count, err := artifact.ReadAt(part, offset)
			if err != nil && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if !bytes.Equal(part[:count], content[offset:offset+int64(count)]) {
				t.Errorf("other bytes at %d", offset)
			}
		}()
	}
	group.Wait()
}

func TestSeekingMovesWriteToAndStaysInTheArtifact(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "small")
	artifact, err := node.Fetch(within(t), known.digest())
	if err != nil {
		t.Fatal(err)
	}
	defer artifact.Close()
	first := make([]byte, 10)
	if _, err := io.ReadFull(artifact, first); err != nil {
		t.Fatal(err)
	}
	for _, it := range []struct {
		offset   int64
		whence   int
		expected int64
	}{{0, io.SeekCurrent, 10}, {-5, io.SeekEnd, known.Size - 5}, {100, io.SeekStart, 100}} {
		if at, err := artifact.Seek(it.offset, it.whence); err != nil || at != it.expected {
			t.Errorf("%+v: %d, %v", it, at, err)
		}
	}
	for _, it := range []struct {
		offset int64
		whence int
	}{{-1, io.SeekStart}, {1, io.SeekEnd}, {0, 9}} {
		if _, err := artifact.Seek(it.offset, it.whence); !errors.Is(err, kogge.ErrInvalidArgument) {
			t.Errorf("%+v: %v", it, err)
		}
	}
	var rest bytes.Buffer
	count, err := artifact.WriteTo(&rest)
	if err != nil || count != known.Size-100 || !bytes.Equal(rest.Bytes(), known.bytes(t)[100:]) {
		t.Errorf("%d bytes, %v", count, err)
	}
	if count, err := artifact.WriteTo(&rest); count != 0 || err != nil {
		t.Errorf("behind the end: %d, %v", count, err)
	}
}

// stuck fails after some bytes, and takes a part of the last write.
type stuck struct{ room int }

var errStuck = errors.New("stuck")

func (s *stuck) Write(bytes []byte) (int, error) {
	count := min(len(bytes), s.room)
	s.room -= count
	if count < len(bytes) {
		return count, errStuck
	}
	return count, nil
}

func TestAWriterThatFailsEndsWriteToAndReadingGoesOnThere(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "medium")
	artifact, err := node.Fetch(within(t), known.digest())
	if err != nil {
		t.Fatal(err)
	}
	defer artifact.Close()
	if _, err := artifact.Read(make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	total := int64(7)
	// Within what was read ahead, and within a chunk.
	for _, room := range []int{11, 2_500_000} {
		count, err := artifact.WriteTo(&stuck{room})
		if !errors.Is(err, errStuck) || count != int64(room) {
			t.Fatalf("%d, %v", count, err)
		}
		total += count
	}
	rest, err := io.ReadAll(artifact)
	if err != nil || !bytes.Equal(rest, known.bytes(t)[total:]) {
		t.Errorf("%d bytes follow, %v", len(rest), err)
	}
}

func TestProgressIsToldUpToTheEnd(t *testing.T) {
	scene := open(t)
	known := scene.artifact(t, "large")
	var told []int64
	progress := kogge.WithProgress(func(done, total int64) {
		if total != known.Size {
			t.Errorf("%d in total", total)
		}
		told = append(told, done)
	})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if len(told) == 0 || told[len(told)-1] != known.Size {
			t.Errorf("told %v", told)
		}
		for at := 1; at < len(told); at++ {
			if told[at] < told[at-1] {
				t.Errorf("fell: %v", told)
			}
		}
		told = nil
	}
	node := scene.node(t)
	_, err := node.FetchFile(within(t), known.digest(), filepath.Join(t.TempDir(), "x"), progress)
	check(err)
	artifact, err := node.Fetch(within(t), known.digest(), progress)
	if err != nil {
		t.Fatal(err)
	}
	defer artifact.Close()
	told = nil
	_, err = io.Copy(io.Discard, artifact)
	check(err)
	if done, total := artifact.Progress(); done != known.Size || total != known.Size {
		t.Errorf("%d of %d", done, total)
	}
}

func TestFilesArePlacedAsAskedFor(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "medium")
	// Beside the data directory, on the same file system.
	path := filepath.Join(t.TempDir(), "file")
	for _, it := range []struct {
		options  []kogge.Option
		placed   kogge.Placement
		expected error
	}{
		{nil, kogge.Copied, nil},
		{nil, kogge.Copied, kogge.ErrExists},
		{[]kogge.Option{kogge.WithHardLink()}, kogge.Copied, kogge.ErrExists},
		{[]kogge.Option{kogge.WithHardLink(), kogge.WithReplace()}, kogge.HardLinked, nil},
		{[]kogge.Option{kogge.WithReplace()}, kogge.Copied, nil},
	} {
		fetched, err := node.FetchFile(within(t), known.digest(), path, it.options...)
		if !errors.Is(err, it.expected) || fetched.Placed != it.placed {
			t.Errorf("%+v: %v, %v", it, fetched.Placed, err)
		}
		if !bytes.Equal(read(t, path), known.bytes(t)) {
			t.Error("other bytes")
		}
	}
	// Where the file system cannot share bytes, they are copied.
	fetched, err := node.FetchFile(within(t), known.digest(), path, kogge.WithReflink(), kogge.WithReplace())
	if err != nil || fetched.Placed == kogge.HardLinked {
		t.Errorf("%v, %v", fetched.Placed, err)
	}
}

func TestWhatCannotBeFetchedSaysWhy(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "medium")
	folder := t.TempDir()
	bytes := func(options ...kogge.Option) func() error {
		return func() error {
			_, _, err := node.FetchBytes(within(t), known.digest(), options...)
			return err
		}
	}
	file := func(path string, options ...kogge.Option) func() error {
		return func() error {
			_, err := node.FetchFile(within(t), known.digest(), path, options...)
			return err
		}
	}
	what := func(what string, options ...kogge.Option) func() error {
		return func() error {
			_, err := node.Fetch(within(t), what, options...)
			return err
		}
	}
	for name, it := range map[string]struct {
		call     func() error
		expected error
	}{
		"absent package":     {what(scene.Absent), kogge.ErrNotFound},
		"absent digest":      {what("sha256:" + strings.Repeat("0", 64)), kogge.ErrNotFound},
		"absent file":        {what(known.What, kogge.WithFile("x")), kogge.ErrNotFound},
		"no name":            {what(""), kogge.ErrInvalidArgument},
		"no UTF-8":           {what("\xff"), kogge.ErrInvalidArgument},
		"a bad name":         {what("../x"), kogge.ErrInvalidArgument},
		"a long name":        {what(strings.Repeat("x", 2<<20)), kogge.ErrInvalidArgument},
		"too large":          {bytes(kogge.WithMaxBytes(1_000)), kogge.ErrQuota},
		"negative":           {bytes(kogge.WithMaxBytes(-1)), kogge.ErrInvalidArgument},
		"negative range":     {bytes(kogge.WithRange(-1, 0)), kogge.ErrInvalidArgument},
		"range of a file":    {file(folder+"/r", kogge.WithRange(0, 1)), kogge.ErrInvalidArgument},
		"link to memory":     {bytes(kogge.WithHardLink()), kogge.ErrInvalidArgument},
		"no path":            {file(""), kogge.ErrInvalidArgument},
		"a path with a zero": {file(folder + "/a\x00b"), kogge.ErrInvalidArgument},
		"no folder":          {file(folder + "/none/x"), kogge.ErrIO},
		"no folder, errno":   {file(folder + "/none/x"), syscall.ENOENT},
		"a folder":           {file(folder, kogge.WithReplace()), errAny},
	} {
		err := it.call()
		var failure *kogge.Error
		if it.expected == errAny && err != nil {
			continue
		}
		if !errors.Is(err, it.expected) || !errors.As(err, &failure) || failure.Message == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// errAny stands for any error.
var errAny = errors.New("any")

func TestAPackageWithSeveralFilesNamesThem(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "tiny")
	entries, err := node.Resolve(within(t), known.What)
	if err != nil || len(entries) < 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	_, err = node.Fetch(within(t), known.What)
	var failure *kogge.Error
	if !errors.As(err, &failure) || failure.Code != kogge.ErrInvalidArgument || !strings.Contains(string(failure.Detail), known.File) {
		t.Errorf("%v", err)
	}
	one, err := node.Resolve(within(t), known.What, kogge.WithFile(known.File))
	if err != nil || len(one) != 1 {
		t.Fatalf("%v, %v", one, err)
	}
	if it := one[0]; it.Index != known.Index || it.SHA256.Hex() != known.SHA256 || it.PURL != known.PURL ||
		it.File != known.File || it.Kind != "add-artifact" || it.Removed != kogge.NotRemoved || it.Time.IsZero() {
		t.Errorf("%+v", it)
	}
	if _, err := node.Resolve(within(t), known.What, kogge.WithMaxBytes(1)); !errors.Is(err, kogge.ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestHundredsOfFetchesAtOnce(t *testing.T) {
	scene := open(t)
	node := scene.node(t)
	contents := map[string][]byte{}
	for _, known := range scene.Artifacts {
		contents[known.Name] = known.bytes(t)
	}
	const count = 600
	failures := make(chan error, count)
	for at := range count {
		// The large one seldom, or the test is about memory.
		known := scene.Artifacts[at%3]
		if at%100 == 99 {
			known = scene.artifact(t, "large")
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			failures <- func() error {
				if at%2 == 0 {
					got, _, err := node.FetchBytes(ctx, known.digest())
					if err == nil && !bytes.Equal(got, contents[known.Name]) {
						err = errors.New("other bytes of " + known.Name)
					}
					return err
				}
				artifact, err := node.Fetch(ctx, known.digest())
				if err != nil {
					return err
				}
				defer artifact.Close()
				got, err := io.ReadAll(artifact)
				if err == nil && !bytes.Equal(got, contents[known.Name]) {
					err = errors.New("other bytes of " + known.Name)
				}
				return err
			}()
		}()
	}
	for range count {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
}

func TestDigestsAreNames(t *testing.T) {
	scene := open(t)
	node, known := scene.node(t), scene.artifact(t, "tiny")
	raw, err := hex.DecodeString(known.BLAKE3)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := node.Resolve(within(t), kogge.BLAKE3(raw).String())
	if err != nil || len(entries) != 1 || entries[0].SHA256.String() != known.digest() {
		t.Errorf("%v, %v", entries, err)
	}
}
