// Package bubble runs a test in a bubble of testing/synctest, whose clock is its own, so that the race detector survives it.
//
// Up to Go 1.26 all timers of a bubble share one context of the race detector, whichever goroutine makes them fire: two that reset timers which
// are due at once (httputil.ReverseProxy does, to flush) use it from two threads, and the process dies of SIGSEGV or of a failed CHECK of
// ThreadSanitizer (https://go.dev/issue/78156). While a bubble runs there is therefore one processor for goroutines: what the detector finds
// rests on who waited for whom, not on what ran at the same time, so it finds the same.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

var processors struct {
	sync.Mutex
	bubbles int // that run
	before  int // GOMAXPROCS without them
}

// Run is synctest.Test. Tests may call it at the same time.
func Run(t *testing.T, f func(*testing.T)) {
	t.Helper()
	enter()
	defer leave()
	synctest.Test(t, f)
}

func enter() {
	processors.Lock()
	defer processors.Unlock()
	if processors.bubbles++; processors.bubbles == 1 {
		processors.before = runtime.GOMAXPROCS(1)
	}
}

func leave() {
	processors.Lock()
	defer processors.Unlock()
	if processors.bubbles--; processors.bubbles == 0 {
		runtime.GOMAXPROCS(processors.before)
	}
}
