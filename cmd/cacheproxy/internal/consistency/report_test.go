//go:build consistency

package consistency

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A run of at least longRun goes on, for twice as long at the most, until it has made each fault and so many purges and reads, both fleets together, and
// fails if it has not. A shorter one takes what it gets in its time, and says what that was.
const (
	longRun    = 2 * time.Minute
	fullRun    = 5 * time.Minute // less than that is not expected to do as much
	leastTried = 5000            // purges
	leastRead  = 500_000         // reads
)

// totals is what both fleets have done.
type totals struct{ purges, reads atomic.Int64 }

// enough reports whether a run that began then may end.
func (n *totals) enough(began time.Time) bool {
	switch took := time.Since(began); {
	case took < *duration:
		return false
	case *duration < fullRun, took >= 2**duration:
		return true
	}
	return n.purges.Load() >= leastTried && n.reads.Load() >= leastRead
}

// What a receipt has promised is held, whatever happens.
func TestRun(t *testing.T) {
	t.Logf("seed %d", *seed)
	began := time.Now()
	total := new(totals)
	t.Run("fleets", func(t *testing.T) {
		for i, strict := range []bool{true, false} {
			t.Run(fmt.Sprintf("strict=%v", strict), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, strict, total)
				w.trouble(rand.New(rand.NewPCG(*seed, uint64(i)<<16)), uint64(i))
				w.report()
			})
		}
	})
	t.Logf("%v, seed %d: %d purges, %d reads", time.Since(began).Round(time.Second), *seed, total.purges.Load(), total.reads.Load())
	if *duration >= fullRun && !t.Failed() && (total.purges.Load() < leastTried || total.reads.Load() < leastRead) {
		t.Errorf("%d purges and %d reads were wanted", leastTried, leastRead)
	}
}

// trouble makes faults in any order while the fleet is read and purged; in a long run each of them at least once.
func (w *world) trouble(random *rand.Rand, fleet uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	running := w.run(ctx, fleet)
	began := time.Now()
	over := func(round int) bool {
		return w.violations.Load() > 0 || w.total.enough(began) && (round > 0 || *duration < longRun)
	}
	for round := 0; !over(round); round++ {
		for _, i := range random.Perm(len(faults)) {
			for tries := 0; !over(round); tries++ { // some wait for a moment that may not come
				n := faults[i].make(w, random)
				w.faults[faults[i].name] += n
				pause(random, 500*time.Millisecond)
				if n > 0 || tries == 10 {
					break
				}
			}
		}
	}
	time.Sleep(w.o.horizon + afterwards)
	cancel()
	running.Wait()
	w.last()
}

// report tells what happened, and that all that should have has.
func (w *world) report() {
	ctx := context.Background()
	w.faults["evicted keys"] = int(w.info("evicted_keys"))
	subscribers := w.logAdmin.PubSubNumSub(ctx, "cp:{inv}:log").Val()["cp:{inv}:log"]
	if subscribers > 0 {
		w.t.Error("somebody subscribes to the hints: drop them")
	}
	w.faults["hints that nobody heard"] = int(w.purges.Load())
	var lines []string
	for _, f := range faults {
		w.faults[f.name] += 0
	}
	for _, name := range slices.Sorted(maps.Keys(w.faults)) {
		lines = append(lines, fmt.Sprintf("%6d  %s", w.faults[name], name))
		if w.faults[name] == 0 && *duration >= longRun && w.violations.Load() == 0 {
			w.t.Errorf("%s: this never happened: %s", w.mode(), name)
		}
	}
	w.t.Logf("%s: %d purges (%d confirmed by all, %d by some, %d unanswered), %d reads (%d hits, %d failed: %v), %d read again after their horizon\n%s", w.mode(),
		w.purges.Load(), w.complete.Load(), w.partly.Load(), w.refused.Load(), w.reads.Load(), w.hits.Load(), w.failed.Load(), w.failures, w.rereads.Load(), strings.Join(lines, "\n"))
	if w.complete.Load() == 0 || w.partly.Load() == 0 || w.hits.Load() == 0 || w.rereads.Load() == 0 {
		w.t.Errorf("%s: too little was tried", w.mode())
	}
}

// info is a number of INFO of the Redis that keeps responses, and of its spare where they change places.
func (w *world) info(name string) (sum int64) {
	texts := []string{w.admin.Info(context.Background(), "stats").Val()}
	if !w.o.apart {
		texts = append(texts, w.other.admin.Info(context.Background(), "stats").Val())
	}
	for _, text := range texts {
		for line := range strings.Lines(text) {
			if value, found := strings.CutPrefix(strings.TrimSpace(line), name+":"); found {
				n, _ := strconv.ParseInt(value, 10, 64)
				sum += n
			}
		}
	}
	return sum
}
