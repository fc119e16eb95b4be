//go:build kogge_debug

package kogge_test

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"kogge.dev/go/kogge"
)

func TestTheTagReportsWhereForgottenObjectsWereMade(t *testing.T) {
	scene := open(t)
	leaves(t)
	var mutex sync.Mutex
	var told []string
	report := func(what, stack string) {
		mutex.Lock()
		defer mutex.Unlock()
		if strings.Contains(stack, "forget") {
			told = append(told, what)
		}
	}
	kogge.OnForgotten.Store(&report)
	defer kogge.OnForgotten.Store(nil)
	forget(t, scene)
	eventually(t, "both are told", func() bool {
		runtime.GC()
		mutex.Lock()
		defer mutex.Unlock()
		slices.Sort(told)
		return slices.Equal(told, []string{"Artifact", "Node"})
	})
}
