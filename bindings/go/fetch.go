package kogge

// #include "shim.h"
import "C"

import (
	"context"
	"runtime"
)

// Fetched is what a fetch came to.
type Fetched struct {
	// BLAKE3 and SHA256 are the digests of the whole artifact.
	BLAKE3 BLAKE3
	SHA256 SHA256
	// Size is the length of the whole artifact in bytes.
	Size int64
	// LogIndex is the index of its entry in the log, which every byte was verified against.
	LogIndex uint64
	// FromStore counts bytes that were stored here before, FromPeers those that came from peers for
	// this call or others at the same time.
	FromStore, FromPeers int64
	// Placed is how FetchFile made the file.
	Placed Placement
}

// Placement is how a file was made of a stored artifact.
type Placement uint32

const (
	// Copied: the file has its own bytes.
	Copied Placement = 0
	// Reflinked: the file shares bytes with the store until one of them is written to.
	Reflinked Placement = C.KOGGE_PLACE_REFLINK
	// HardLinked: the file is another name of the store's own.
	HardLinked Placement = C.KOGGE_PLACE_HARD_LINK
)

// String is copied, reflinked or hard-linked.
func (p Placement) String() string {
	switch p {
	case Copied:
		return "copied"
	case Reflinked:
		return "reflinked"
	case HardLinked:
		return "hard-linked"
	default:
		return "placed"
	}
}

// Option changes a fetch or a resolution.
type Option func(*wish)

// wish is what the options of a call come to.
type wish struct {
	file     string
	offset   int64
	length   int64
	maxBytes int64
	flags    C.uint32_t
	progress func(done, total int64)
	// used has the options that do not fit every call.
	used struct{ fetch, ranged, placed bool }
}

// WithFile names a file of the package, such as "lib-1.0.jar". Without it, a fetch needs a name of which
// there is only one file.
func WithFile(name string) Option { return func(w *wish) { w.file = name } }

// WithRange wants length bytes from offset on; 0 means all up to the end. For Fetch and FetchBytes.
func WithRange(offset, length int64) Option {
	return func(w *wish) { w.offset, w.length, w.used.ranged = offset, length, true }
}

// WithMaxBytes lets a fetch of more bytes fail with ErrQuota. FetchBytes has a limit of 256 MiB unless
// this says otherwise; other fetches have none.
func WithMaxBytes(bytes int64) Option {
	return func(w *wish) { w.maxBytes, w.used.fetch = bytes, true }
}

// WithProgress has progress called about ten times a second, and at the end, with bytes that are here
// and bytes in total. It is called by the goroutine that fetches, or that reads the Artifact.
func WithProgress(progress func(done, total int64)) Option {
	return func(w *wish) { w.progress, w.used.fetch = progress, true }
}

// WithReplace lets FetchFile replace the file that is there; otherwise that is ErrExists.
func WithReplace() Option { return place(C.KOGGE_PLACE_REPLACE) }

// WithReflink lets FetchFile share the bytes with the store (copy on write) where the file system can do
// that.
func WithReflink() Option { return place(C.KOGGE_PLACE_REFLINK) }

// WithHardLink lets FetchFile make the file another name of the store's own, where that is on the same
// file system. Who writes to such a file damages the store.
func WithHardLink() Option { return place(C.KOGGE_PLACE_HARD_LINK) }

func place(flag C.uint32_t) Option {
	return func(w *wish) {
		w.flags |= flag
		w.used.placed = true
	}
}

// fits is which options a call takes.
type fits struct{ fetch, ranged, placed bool }

func wishOf(options []Option, fits fits) (wish, error) {
	var wish wish
	for _, option := range options {
		option(&wish)
	}
	switch {
	case wish.used.fetch && !fits.fetch:
		return wish, invalid("WithProgress and WithMaxBytes are for fetches")
	case wish.used.ranged && !fits.ranged:
		return wish, invalid("WithRange is for Fetch and FetchBytes")
	case wish.used.placed && !fits.placed:
		return wish, invalid("WithReplace, WithReflink and WithHardLink are for FetchFile")
	case wish.offset < 0 || wish.length < 0 || wish.maxBytes < 0:
		return wish, invalid("numbers of bytes are not negative")
	}
	return wish, nil
}

// Fetch opens an artifact: from the store, else from peers, while it arrives. what is a digest
// ("sha256:…", "blake3:…"), an image ("alpine:3.20"), "group:artifact:version", or a package URL.
//
// Every byte that is read was verified against the log. ctx holds for reading too, as with the body of
// an HTTP response; its deadline is the deadline of all. The Artifact must be closed.
func (n *Node) Fetch(ctx context.Context, what string, options ...Option) (*Artifact, error) {
	wish, err := wishOf(options, fits{fetch: true, ranged: true})
	if err != nil {
		return nil, err
	}
	fetched, err := n.fetch(ctx, what, "", C.KOGGE_SINK_STREAM, wish)
	if err != nil {
		return nil, err
	}
	return n.artifact(ctx, fetched, wish), nil
}

// FetchBytes fetches an artifact into memory.
func (n *Node) FetchBytes(ctx context.Context, what string, options ...Option) ([]byte, Fetched, error) {
	wish, err := wishOf(options, fits{fetch: true, ranged: true})
	if err != nil {
		return nil, Fetched{}, err
	}
	fetched, err := n.fetch(ctx, what, "", C.KOGGE_SINK_BUFFER, wish)
	if err != nil {
		return nil, Fetched{}, err
	}
	defer C.kg_buffer_free(fetched.buffer)
	view := viewOf(fetched.bytes)
	bytes := make([]byte, len(view))
	copy(bytes, view)
	return bytes, fetchedOf(fetched), nil
}

// FetchFile fetches an artifact to a file, which appears whole or not at all.
func (n *Node) FetchFile(ctx context.Context, what, path string, options ...Option) (Fetched, error) {
	wish, err := wishOf(options, fits{fetch: true, placed: true})
	if err != nil {
		return Fetched{}, err
	}
	fetched, err := n.fetch(ctx, what, path, C.KOGGE_SINK_PATH, wish)
	return fetchedOf(fetched), err
}

// Prefetch fetches an artifact into the store only.
func (n *Node) Prefetch(ctx context.Context, what string, options ...Option) (Fetched, error) {
	wish, err := wishOf(options, fits{fetch: true})
	if err != nil {
		return Fetched{}, err
	}
	fetched, err := n.fetch(ctx, what, "", C.KOGGE_SINK_NONE, wish)
	return fetchedOf(fetched), err
}

func (n *Node) fetch(ctx context.Context, what, path string, sink C.int32_t, wish wish) (C.kg_fetched, error) {
	wanted := C.kg_wish{
		max_bytes:   C.uint64_t(wish.maxBytes),
		sink:        sink,
		place_flags: wish.flags,
	}
	// A stream knows no range: the Artifact keeps to it.
	if sink == C.KOGGE_SINK_BUFFER {
		wanted.range_offset, wanted.range_len = C.uint64_t(wish.offset), C.uint64_t(wish.length)
	}
	defer runtime.KeepAlive(n)
	op, err := n.begin(ctx, func(queue handle, tag C.uint64_t) C.kg_made {
		return C.kg_fetch_start(n.node, queue, tag, wanted, chars(what), size(what),
			chars(wish.file), size(wish.file), chars(path), size(path))
	})
	if err != nil {
		return C.kg_fetched{}, err
	}
	var progress func()
	if wish.progress != nil {
		progress = func() {
			if now := C.kg_op_progress(op.op); now.total != 0 {
				wish.progress(int64(now.done), int64(now.total))
			}
		}
	}
	if err := op.await(ctx, progress); err != nil {
		return C.kg_fetched{}, err
	}
	if progress != nil {
		progress()
	}
	fetched := C.kg_fetch_finish(op.op)
	return fetched, takeError(fetched.status, fetched.error)
}

func fetchedOf(it C.kg_fetched) Fetched {
	return Fetched{
		BLAKE3:    BLAKE3(bytesOf(it.result.blake3)),
		SHA256:    SHA256(bytesOf(it.result.sha256)),
		Size:      int64(it.result.size),
		LogIndex:  uint64(it.result.log_index),
		FromStore: int64(it.result.bytes_from_store),
		FromPeers: int64(it.result.bytes_from_peers),
		Placed:    Placement(it.result.placed),
	}
}

// Resolve gives the log's entries of what a name names: one for a digest or with WithFile, else all
// files of the package version. ErrNotFound if the log has none: see Live.
func (n *Node) Resolve(ctx context.Context, what string, options ...Option) ([]Entry, error) {
	defer runtime.KeepAlive(n)
	wish, err := wishOf(options, fits{})
	if err != nil {
		return nil, err
	}
	if err := n.enter(ctx); err != nil {
		return nil, err
	}
	return n.takeRows(C.kg_resolve(n.node, chars(what), size(what), chars(wish.file), size(wish.file)))
}

func (n *Node) takeRows(made C.kg_made) ([]Entry, error) {
	if err := check(made); err != nil {
		return nil, n.explain(err)
	}
	defer C.kg_rows_free(made.handle)
	return entriesOf(made.handle), nil
}
