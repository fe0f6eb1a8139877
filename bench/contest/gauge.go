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
	best    time.Duration
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
	for range firstLook {
		g.lost()
	}
	return g
}

// lost is the share of a processor's time that was taken away just now, of that processor of the two that has lost more.
func (g *gauge) lost() (share float64) {
	took := make([][pieces]time.Duration, len(g.workers))
	for i, w := range g.workers {
		g.done.Add(1)
		w <- &took[i]
	}
	g.done.Wait()
	for _, of := range took {
		for _, one := range of {
			if g.best == 0 || one > 0 && one < g.best {
				g.best = one
			}
		}
	}
	for _, of := range took {
		var sum time.Duration
		for _, one := range of {
			sum += one
		}
		if sum > 0 {
			share = max(share, 1-float64(pieces*g.best)/float64(sum))
		}
	}
	return share
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

// await waits until the processors are not slow, for as long as the contest has time for that, and returns how slow they are.
func (c *contest) await(ctx context.Context) (lost float64) {
	begun := time.Now()
	for {
		lost = c.gauge.lost()
		if lost <= sluggish || ctx.Err() != nil || c.spare() <= 0 || time.Since(begun) > longestWait {
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
	return lost
}

// spare is how much longer than estimated the contest may still take.
func (c *contest) spare() time.Duration { return time.Until(c.until) - c.bar.left() }
