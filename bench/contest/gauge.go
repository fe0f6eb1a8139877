package main

import (
	"context"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A gauge tells how fast the processors are at the moment. Where they are virtual, whoever runs the machine may take time away without a word (steal in
// /proc/stat stays 0), and what is taken counts as processor time of whoever was running: for some seconds or minutes all that is measured costs
// half as much again. It does the same piece of work over and over, on the server's processor and on another one at the same time, since the two may share
// a core, and compares how long that takes with the least that it has ever taken.
//
// Its two threads live as long as the process: one that ended would take with it the processes that were started from it (Pdeathsig).
type gauge struct {
	workers []chan *[pieces]time.Duration // empty = there is nothing to gauge
	done    sync.WaitGroup
	best    []float64 // by worker
}

const (
	// pieces are done in a row: about 20 ms on a processor of today, in which a host that takes time away does so several times.
	pieces = 16
	// sluggish is the share of the time above which a measurement is not trusted.
	sluggish = 0.25
	// firstLook is how many rows of pieces find out what the processors can do.
	firstLook = 10
)

func newGauge(server, rest string) *gauge {
	g := &gauge{}
	if server == "" {
		return g
	}
	for _, processors := range []string{server, rest} {
		w := make(chan *[pieces]time.Duration)
		g.workers = append(g.workers, w)
		go g.work(processors, w)
	}
	g.best = make([]float64, len(g.workers))
	for range firstLook {
		g.pace()
	}
	return g
}

// pace is how many microseconds a piece takes just now, on the average, on the server's processor and on another; nil = that is not known.
func (g *gauge) pace() (mean []float64) {
	took := make([][pieces]time.Duration, len(g.workers))
	for i, w := range g.workers {
		g.done.Add(1)
		w <- &took[i]
	}
	g.done.Wait()
	for i := range took {
		sum := time.Duration(0)
		for _, one := range took[i] {
			if one <= 0 {
				return nil
			}
			sum += one
			if us := float64(one.Nanoseconds()) / 1000; g.best[i] == 0 || us < g.best[i] {
				g.best[i] = us
			}
		}
		mean = append(mean, float64(sum.Nanoseconds())/1000/pieces)
	}
	return mean
}

// lost is the share of a processor's time that was not there at some pace, of the processor that has lost more. It becomes more exact as the contest goes
// on and the best becomes known.
func (g *gauge) lost(pace []float64) (share float64) {
	for i, us := range pace {
		share = max(share, 1-g.best[i]/us)
	}
	return share
}

// slower is the slower of two, by worker.
func slower(a, b []float64) (both []float64) {
	for i := range min(len(a), len(b)) {
		both = append(both, max(a[i], b[i]))
	}
	return both
}

// work does rows of pieces on some processors, and tells the processor time of each.
func (g *gauge) work(processors string, rows <-chan *[pieces]time.Duration) {
	runtime.LockOSThread() // nothing else may run where this process is not to be
	set, err := cpuSet(processors)
	if err == nil {
		err = unix.SchedSetaffinity(0, &set)
	}
	for took := range rows {
		for i := 0; err == nil && i < pieces; i++ { // else nothing is gauged
			before := threadClock()
			runtime.KeepAlive(piece()) // so that the compiler leaves the work in
			took[i] = threadClock() - before
		}
		g.done.Done()
	}
}

func threadClock() time.Duration {
	var at unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at) != nil {
		return 0
	}
	return time.Duration(at.Nano())
}

// piece is a millisecond of work that neither memory nor the kernel has a part in.
func piece() uint64 {
	x := uint64(0x9e3779b97f4a7c15)
	for range 500_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

// Waiting for a machine that is slow at the moment.
const (
	lookAgain   = 500 * time.Millisecond
	longestWait = 30 * time.Second // for one measurement
)

// await waits until the processors are not slow, as long as the contest has time to spare, and returns their pace.
func (c *contest) await(ctx context.Context) (pace []float64) {
	begun := time.Now()
	atMost := min(longestWait, c.spare()/4) // others may have to wait too
	for {
		pace = c.gauge.pace()
		if c.gauge.lost(pace) <= sluggish || ctx.Err() != nil || time.Since(begun) > atMost {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookAgain):
		}
	}
	if waited := time.Since(begun); waited > lookAgain {
		c.results.Waited += waited.Seconds()
		c.bar.repeat(waited)
	}
	return pace
}

// spare is how much longer than estimated the contest may still take.
func (c *contest) spare() time.Duration { return time.Until(c.until) - c.bar.left() }

// slowed says of all rounds how slow the processors were, by the best that was seen in the whole contest.
func (c *contest) slowed() {
	for x := range c.results.rounds() {
		x.Slowed = c.gauge.lost(x.Pace)
	}
}
