//go:build kogge_debug

package kogge

import (
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
)

// OnForgotten is called, in programs built with the tag kogge_debug, for each Node and Artifact that
// was not closed: with its kind and the stack of the call that made it. Unless changed it writes to
// standard error. Set it before the first Open.
var OnForgotten atomic.Pointer[func(what, stack string)]

func madeAt() string { return string(debug.Stack()) }

func report(what, stack string) {
	if told := OnForgotten.Load(); told != nil {
		(*told)(what, stack)
		return
	}
	fmt.Fprintf(os.Stderr, "kogge: a %s was not closed; it was made here:\n%s\n", what, stack)
}
