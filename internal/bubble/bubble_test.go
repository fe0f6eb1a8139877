package bubble

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// Many timers that are due at once, set by goroutines of one bubble: with -race and more than one processor this kills the process.
func TestTimersDueAtOnce(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	Run(t, func(t *testing.T) {
		begin := time.Now()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 2000 {
					fired := make(chan struct{})
					time.AfterFunc(-1, func() { close(fired) })
					<-fired
				}
			})
		}
		all.Wait()
		if d := time.Since(begin); d != 0 {
			t.Errorf("took %v of the bubble's time", d)
		}
	})
	if after := runtime.GOMAXPROCS(0); after != before {
		t.Errorf("%d processors, %d before", after, before)
	}
}
