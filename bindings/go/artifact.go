package kogge

// #include "shim.h"
import "C"

import (
	"context"
	"io"
	"os"
	"runtime"
	"sync"
	"time"
)

const (
	// chunkMax is how much is asked of the library at once. Unit: bytes.
	chunkMax = 1 << 20
	// aheadMin is how much Read asks for at least: what is not wanted yet waits for the next call.
	// Unit: bytes.
	aheadMin = 256 << 10
)

// Artifact is an artifact that is read while it arrives: all of it, or the range of WithRange.
//
// ReadAt may be called from many goroutines at once; Read, Seek and WriteTo share one position and wait
// for each other. Closing ends what is being read.
type Artifact struct {
	Fetched
	*source
	cleanup runtime.Cleanup
}

// source is what an Artifact leaves behind if it is not closed.
type source struct {
	node   *Node
	stream handle
	ctx    context.Context
	cancel context.CancelCauseFunc
	// start and end bound the range.
	start, end int64
	size       int64
	// progress may be nil; told is when it was called last.
	progress func(done, total int64)
	telling  sync.Mutex
	told     time.Time

	// mutex guards the position and what was read ahead of it.
	mutex    sync.Mutex
	position int64
	ahead    chunk
}

// chunk is bytes in the library's memory.
type chunk struct {
	buffer handle
	bytes  []byte
}

func (c *chunk) free() {
	C.kg_buffer_free(c.buffer)
	*c = chunk{}
}

func (n *Node) artifact(ctx context.Context, fetched C.kg_fetched, wish wish) *Artifact {
	result := fetchedOf(fetched)
	start := min(wish.offset, result.Size)
	end := result.Size
	if wish.length != 0 && wish.length < end-start {
		end = start + wish.length
	}
	this := &source{
		node: n, stream: fetched.stream, start: start, end: end, position: start,
		progress: wish.progress, size: result.Size,
	}
	this.ctx, this.cancel = context.WithCancelCause(ctx)
	artifact := &Artifact{Fetched: result, source: this}
	artifact.cleanup = runtime.AddCleanup(artifact, forgotten, lost{"Artifact", this.close, madeAt()})
	return artifact
}

// Len is the length of what can be read: Size, or that of the range.
func (a *Artifact) Len() int64 { return a.end - a.start }

// Progress tells how many bytes of the artifact are here and verified, and how many there are.
func (a *Artifact) Progress() (done, total int64) {
	defer runtime.KeepAlive(a)
	return a.source.here(), a.size
}

// Close frees the artifact; what has not come yet is fetched on. It may be called again.
func (a *Artifact) Close() error {
	a.cleanup.Stop()
	a.source.close()
	return nil
}

// close does not wait for readers: an operation that runs keeps what it needs.
func (s *source) close() {
	s.cancel(os.ErrClosed)
	C.kg_stream_free(s.stream)
	s.clear()
}

// clear frees what was read ahead of an artifact that is closed. If somebody reads, they do it.
func (s *source) clear() {
	if s.ctx.Err() != nil && s.mutex.TryLock() {
		s.ahead.free()
		s.mutex.Unlock()
	}
}

func (s *source) unlock() {
	s.mutex.Unlock()
	s.clear()
}

func (s *source) here() int64 { return int64(C.kg_stream_progress(s.stream)) }

// Read reads from the position on. It gives what has come as soon as there is some.
func (a *Artifact) Read(bytes []byte) (int, error) {
	defer runtime.KeepAlive(a)
	a.mutex.Lock()
	defer a.unlock()
	if err := a.check(); err != nil {
		return 0, err
	}
	if len(bytes) == 0 {
		return 0, nil
	}
	if len(a.ahead.bytes) == 0 {
		a.ahead.free()
		if a.position == a.end {
			return 0, io.EOF
		}
		next, err := a.chunk(a.position, max(len(bytes), aheadMin))
		if err != nil {
			return 0, err
		}
		a.ahead = next
	}
	count := copy(bytes, a.ahead.bytes)
	a.ahead.bytes = a.ahead.bytes[count:]
	a.position += int64(count)
	return count, nil
}

// ReadAt reads from offset on and waits until all of it has come.
func (a *Artifact) ReadAt(bytes []byte, offset int64) (int, error) {
	defer runtime.KeepAlive(a)
	if offset < 0 {
		return 0, invalid("offset %d is negative", offset)
	}
	done := 0
	for done < len(bytes) {
		at := a.start + min(offset, a.end-a.start) + int64(done)
		if at == a.end {
			return done, io.EOF
		}
		next, err := a.chunk(at, len(bytes)-done)
		if err != nil {
			return done, err
		}
		done += copy(bytes[done:], next.bytes)
		next.free()
	}
	return done, a.check()
}

// Seek moves the position of Read and WriteTo.
func (a *Artifact) Seek(offset int64, whence int) (int64, error) {
	a.mutex.Lock()
	defer a.unlock()
	switch whence {
	case io.SeekStart:
		offset += a.start
	case io.SeekCurrent:
		offset += a.position
	case io.SeekEnd:
		offset += a.end
	default:
		return 0, invalid("whence %d is unknown", whence)
	}
	if offset < a.start || a.end < offset {
		return 0, invalid("position %d is not in the artifact", offset-a.start)
	}
	a.ahead.free()
	a.position = offset
	return offset - a.start, nil
}

// WriteTo writes all from the position on to writer, which gets the library's memory without a copy, and
// reads ahead meanwhile.
func (a *Artifact) WriteTo(writer io.Writer) (int64, error) {
	defer runtime.KeepAlive(a)
	a.mutex.Lock()
	defer a.unlock()
	done := int64(0)
	write := func(bytes []byte) error {
		count, err := writer.Write(bytes)
		done += int64(count)
		a.position += int64(count)
		if err == nil && count != len(bytes) {
			err = io.ErrShortWrite
		}
		return err
	}
	if len(a.ahead.bytes) != 0 {
		if err := write(a.ahead.bytes); err != nil {
			a.ahead.bytes = a.ahead.bytes[done:]
			return done, err
		}
	}
	a.ahead.free()
	err := a.chunks(write)
	return done, err
}

// chunks gives all from the position on to use, and asks for the next chunk before it does.
func (s *source) chunks(use func([]byte) error) error {
	if s.position == s.end {
		return s.check()
	}
	next, err := s.begin(s.position, chunkMax)
	if err != nil {
		return err
	}
	for at := s.position; ; {
		current, err := s.finish(next, at)
		if err != nil {
			return err
		}
		at += int64(len(current.bytes))
		isLast := at == s.end
		if !isLast {
			next, err = s.begin(at, chunkMax)
		}
		if err != nil {
			current.free()
			return err
		}
		err = use(current.bytes)
		current.free()
		if err != nil && !isLast {
			next.drop()
		}
		if err != nil || isLast {
			return err
		}
	}
}

// check says whether reading may go on.
func (s *source) check() error {
	if s.ctx.Err() == nil {
		return nil
	}
	return s.explain(ended(s.ctx))
}

// explain tells apart the end of the Artifact and that of its context.
func (s *source) explain(err error) error {
	if context.Cause(s.ctx) == os.ErrClosed {
		return &Error{Code: ErrClosed, Message: "the artifact is closed", wrapped: os.ErrClosed}
	}
	return s.node.explain(err)
}

func (s *source) begin(offset int64, max int) (running, error) {
	length := min(int64(max), s.end-offset)
	op, err := s.node.begin(s.ctx, func(queue handle, tag C.uint64_t) C.kg_made {
		return C.kg_chunk_start(s.stream, queue, tag, C.uint64_t(offset), C.size_t(length))
	})
	if err != nil {
		return op, s.explain(err)
	}
	return op, nil
}

func (s *source) finish(op running, offset int64) (chunk, error) {
	var progress func()
	if s.progress != nil {
		progress = func() { s.tell(false) }
	}
	if err := op.await(s.ctx, progress); err != nil {
		return chunk{}, s.explain(err)
	}
	got := C.kg_chunk_finish(op.op)
	if err := takeError(got.status, got.error); err != nil {
		return chunk{}, err
	}
	next := chunk{got.buffer, viewOf(got.bytes)}
	if len(next.bytes) == 0 {
		next.free()
		return next, io.ErrUnexpectedEOF
	}
	if s.progress != nil {
		s.tell(offset+int64(len(next.bytes)) == s.end)
	}
	return next, nil
}

// tell tells progress if it is time, or the end was reached.
func (s *source) tell(isEnd bool) {
	s.telling.Lock()
	defer s.telling.Unlock()
	if now := time.Now(); isEnd || progressInterval <= now.Sub(s.told) {
		s.told = now
		s.progress(s.here(), s.size)
	}
}

func (s *source) chunk(offset int64, max int) (chunk, error) {
	op, err := s.begin(offset, max)
	if err != nil {
		return chunk{}, err
	}
	return s.finish(op, offset)
}
