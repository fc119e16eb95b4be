package kogge

// #include "shim.h"
import "C"

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
)

// levelTrace is below [slog.LevelDebug].
const levelTrace = slog.Level(-8)

// logReader hands the log of a node to a logger.
//
// The library tells lines by a callback. A callback into Go would run Go code on a thread of the
// library, at a price for each line and with the node waiting for a slow logger. So the callback is C
// (shim.c): it writes each line as one record into a pipe, and a goroutine reads that. The pipe ends
// after the last line, and with it the goroutine.
type logReader struct {
	pipe   *os.File
	logger *slog.Logger
	done   chan struct{}
}

// readLog has the log of nodes with this configuration told to logger.
func readLog(config handle, logger *slog.Logger) (*logReader, error) {
	level := levelOf(logger)
	if level == 0 {
		return nil, nil
	}
	read, write, err := pipe()
	if err != nil {
		return nil, &Error{Code: ErrIO, Message: "cannot make a pipe for the log", Causes: []string{err.Error()}}
	}
	// The descriptor for writing is the library's from here on.
	if err := check(C.kg_config_log(config, C.int32_t(level), C.int(write))); err != nil {
		_ = syscall.Close(read)
		return nil, err
	}
	this := &logReader{os.NewFile(uintptr(read), "log of a node"), logger, make(chan struct{})}
	go this.run()
	return this, nil
}

// pipe makes a pipe that neither end waits on the other in a system call.
func pipe() (read, write int, err error) {
	var both [2]int
	syscall.ForkLock.RLock()
	err = syscall.Pipe(both[:])
	if err == nil {
		syscall.CloseOnExec(both[0])
		syscall.CloseOnExec(both[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, 0, err
	}
	for _, it := range both {
		if err == nil {
			err = syscall.SetNonblock(it, true)
		}
	}
	if err != nil {
		_ = syscall.Close(both[0])
		_ = syscall.Close(both[1])
	}
	return both[0], both[1], err
}

// levelOf is the library's number of the lowest level that logger takes; 0 if it takes none.
func levelOf(logger *slog.Logger) int {
	for number, level := range []slog.Level{levelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if logger.Enabled(context.Background(), level) {
			return 5 - number
		}
	}
	return 0
}

func (r *logReader) run() {
	defer close(r.done)
	defer r.pipe.Close()
	buffered := bufio.NewReader(r.pipe)
	for {
		// A record as shim.h has it; it is always whole.
		var record struct {
			Lost               uint32
			TargetLen, LineLen uint16
			Level              int32
		}
		if binary.Read(buffered, binary.NativeEndian, &record) != nil {
			return
		}
		texts := make([]byte, int(record.TargetLen)+int(record.LineLen))
		if _, err := io.ReadFull(buffered, texts); err != nil {
			return
		}
		target, line := string(texts[:record.TargetLen]), string(texts[record.TargetLen:])
		attributes := []slog.Attr{slog.String("target", target)}
		if record.Lost != 0 {
			attributes = append(attributes, slog.Uint64("lost", uint64(record.Lost)))
		}
		// A line that was cut may end within a character.
		r.logger.LogAttrs(context.Background(), slogLevel(record.Level), strings.ToValidUTF8(line, ""), attributes...)
	}
}

func slogLevel(number int32) slog.Level {
	switch number {
	case 1:
		return slog.LevelError
	case 2:
		return slog.LevelWarn
	case 3:
		return slog.LevelInfo
	case 4:
		return slog.LevelDebug
	default:
		return levelTrace
	}
}
