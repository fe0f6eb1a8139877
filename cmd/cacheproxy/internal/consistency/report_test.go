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

// What a receipt has promised is held, whatever happens.
func TestRun(t *testing.T) {
	t.Logf("seed %d", *seed)
	began := time.Now()
	var purges, reads atomic.Int64
	t.Run("fleets", func(t *testing.T) {
		for i, strict := range []bool{true, false} {
			t.Run(fmt.Sprintf("strict=%v", strict), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, strict)
				w.trouble(rand.New(rand.NewPCG(*seed, uint64(i)<<16)), uint64(i))
				w.report()
				purges.Add(w.purges.Load())
				reads.Add(w.reads.Load())
			})
		}
	})
	took := time.Since(began)
	t.Logf("%v, seed %d: %d purges, %d reads", took.Round(time.Second), *seed, purges.Load(), reads.Load())
	if seconds := int64(took.Seconds()); purges.Load() < floorPurges*seconds || reads.Load() < floorReads*seconds {
		t.Errorf("too few purges or reads to say anything")
	}
}

// trouble makes faults in any order, each of them at least once, while the fleet is read and purged.
func (w *world) trouble(random *rand.Rand, fleet uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	end := time.Now().Add(*duration)
	running := w.run(ctx, fleet)
	for round := 0; (time.Now().Before(end) || round == 0) && w.violations.Load() == 0; round++ {
		for _, i := range random.Perm(len(faults)) {
			if round > 0 && time.Now().After(end) || w.violations.Load() > 0 {
				break
			}
			n := 0
			for tries := 0; n == 0 && tries < 10; tries++ { // some wait for a moment that may not come
				n = faults[i].make(w, random)
				pause(random, 500*time.Millisecond)
			}
			w.faults[faults[i].name] += n
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
	for _, name := range slices.Sorted(maps.Keys(w.faults)) {
		lines = append(lines, fmt.Sprintf("%6d  %s", w.faults[name], name))
		if w.faults[name] == 0 {
			w.t.Errorf("%s: this never happened: %s", w.mode(), name)
		}
	}
	for _, f := range faults {
		if _, tried := w.faults[f.name]; !tried && w.violations.Load() == 0 {
			w.t.Errorf("%s: this was never tried: %s", w.mode(), f.name)
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
