package kogge

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Code says what kind of failure an [Error] is. Codes are errors themselves, so that
// errors.Is(err, kogge.ErrNotFound) works.
type Code int32

// Codes. Numbers are never reused; a newer library may have more.
const (
	// ErrInvalidArgument: an argument is out of range, malformed, or not UTF-8.
	ErrInvalidArgument Code = C.KOGGE_STATUS_INVALID_ARGUMENT
	// ErrBadHandle: an object of the library was used after it was freed, or after a fork.
	ErrBadHandle Code = C.KOGGE_STATUS_BAD_HANDLE
	// ErrABIMismatch: this package was compiled for another major version of the library.
	ErrABIMismatch Code = C.KOGGE_STATUS_ABI_MISMATCH
	// ErrUnsupported: the loaded library does not know what was asked for.
	ErrUnsupported Code = C.KOGGE_STATUS_UNSUPPORTED
	// ErrAgain: nothing there yet; ask again.
	ErrAgain Code = C.KOGGE_STATUS_AGAIN
	// ErrCancelled: the context of the call was cancelled.
	ErrCancelled Code = C.KOGGE_STATUS_CANCELLED
	// ErrTimedOut: the time was up first.
	ErrTimedOut Code = C.KOGGE_STATUS_TIMED_OUT
	// ErrClosed: the node or the artifact is closed.
	ErrClosed Code = C.KOGGE_STATUS_CLOSED
	// ErrBusy: too much of this is going on, or another process uses the data directory.
	ErrBusy Code = C.KOGGE_STATUS_BUSY
	// ErrNotFound: the log, the store, or the node does not have it.
	ErrNotFound Code = C.KOGGE_STATUS_NOT_FOUND
	// ErrExists: it is there already.
	ErrExists Code = C.KOGGE_STATUS_EXISTS
	// ErrDenied: the owner's configuration or the system does not allow it.
	ErrDenied Code = C.KOGGE_STATUS_DENIED
	// ErrQuota: it does not fit: a quota, a limit of the request, or the disk.
	ErrQuota Code = C.KOGGE_STATUS_QUOTA
	// ErrCorrupt: stored data is damaged.
	ErrCorrupt Code = C.KOGGE_STATUS_CORRUPT
	// ErrUnverified: something is not what the log, a signature, or a digest says.
	ErrUnverified Code = C.KOGGE_STATUS_UNVERIFIED
	// ErrIO: the file system or the operating system refused; see OSCode.
	ErrIO Code = C.KOGGE_STATUS_IO
	// ErrNetwork: no peer or upstream that is reachable has it, or none answers.
	ErrNetwork Code = C.KOGGE_STATUS_NETWORK
	// ErrPanic: a bug in the library. The node goes on.
	ErrPanic Code = C.KOGGE_STATUS_PANIC
)

// Error is the name of the code, such as "not-found".
func (c Code) Error() string { return textOf(C.kogge_status_get_name(C.int32_t(c))) }

// Retryable says whether the same call may succeed later without anything being mended.
func (c Code) Retryable() bool { return bool(C.kogge_status_is_retryable(C.int32_t(c))) }

// Error is a failure of the library.
//
// It is also its Code, the operating system's error ([syscall.Errno]) if there is one, and
// [context.Canceled] or [context.DeadlineExceeded] if the context ended the call.
type Error struct {
	// Code is the kind of failure.
	Code Code
	// Message says what failed, for people.
	Message string
	// OSCode is the system's error number; 0 if there is none.
	OSCode int
	// Detail is a JSON object with what programs may want to know; nil if there is nothing.
	Detail json.RawMessage
	// Causes are the messages of what led to it, the nearest first.
	Causes []string
	// wrapped is why the context ended, or nil.
	wrapped error
}

// Error tells the message and the causes that it does not contain already.
func (e *Error) Error() string {
	text := "kogge: " + e.Message
	for _, cause := range e.Causes {
		if !strings.Contains(text, cause) {
			text += ": " + cause
		}
	}
	return text
}

// Unwrap gives the code, and what else the error is.
func (e *Error) Unwrap() []error {
	all := []error{e.Code}
	if e.OSCode != 0 {
		all = append(all, syscall.Errno(e.OSCode))
	}
	if e.wrapped != nil {
		all = append(all, e.wrapped)
	}
	return all
}

// Retryable says whether the same call may succeed later without anything being mended.
func (e *Error) Retryable() bool { return e.Code.Retryable() }

// takeError turns a status and an error of the library into an error, and frees the latter.
func takeError(status C.kogge_status, object handle) error {
	if status == C.KOGGE_STATUS_OK {
		return nil
	}
	if object == 0 {
		code := Code(status)
		return &Error{Code: code, Message: code.Error()}
	}
	defer C.kg_error_free(object)
	view := C.kg_error_get(object)
	err := &Error{
		Code:    Code(view.code),
		Message: textOf(view.message),
		OSCode:  int(view.os_code),
	}
	if detail := textOf(view.detail); detail != "{}" {
		err.Detail = json.RawMessage(detail)
	}
	for depth := C.size_t(0); ; depth++ {
		cause := C.kg_error_cause(object, depth)
		if cause.len == 0 {
			return err
		}
		err.Causes = append(err.Causes, textOf(cause))
	}
}

func check(made C.kg_made) error { return takeError(made.status, made.error) }

func invalid(format string, arguments ...any) error {
	return &Error{Code: ErrInvalidArgument, Message: fmt.Sprintf(format, arguments...)}
}

func closedError(what string) error {
	return &Error{Code: ErrClosed, Message: what + " is closed"}
}

// ended is the error of a call whose context ended it; nil if the context has not ended.
func ended(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	code := ErrCancelled
	if errors.Is(err, context.DeadlineExceeded) {
		code = ErrTimedOut
	}
	if cause := context.Cause(ctx); cause != err {
		err = errors.Join(err, cause)
	}
	return &Error{Code: code, Message: "the call was ended", Causes: []string{err.Error()}, wrapped: err}
}
