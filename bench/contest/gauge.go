package main

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A gauge tells how fast the processors are at the moment. Where they are virtual, whoever runs the machine may take time away without a word (steal in
// /proc/stat stays 0), or give the other half of a core to somebody else, and what is taken counts as processor time of whoever was running: for some
// seconds or minutes all that is measured costs a third or half as much again. The gauge does the same small piece of work now and then, on the server's
// processor and on another one, in the middle of what is measured there. The lower quartile of what the pieces take counts, since others are interrupted:
// on the server's processor it says whether two measurements can be compared, and how far from its best the machine was. That of the other is told alone.
//
// Its two threads live as long as the process: one that ended would take with it the processes that were started from it (Pdeathsig).
type gauge struct {
	workers []chan *watch // the server's first; empty = there is nothing to gauge
}

// A watch is what the workers have to do: pieces, one each time beside, until it has ended.
type watch struct {
	ended atomic.Bool
	done  sync.WaitGroup
	took  []float64 // microseconds of a piece, by worker; 0 = not known
}

const (
	// beside is the interval beside a measurement: of a processor the gauge takes two thousandths.
	beside = 25 * time.Millisecond
	// sluggish is the share of the time above which a measurement is not trusted. It is small since what servers take, who have memory to wait for, goes up
	// much faster: where the gauge has lost a tenth they have lost a third.
	sluggish = 0.05
)

func newGauge(server, rest string) *gauge {
	g := &gauge{}
	if server == "" {
		return g
	}
	for i, processors := range []string{server, rest} {
		w := make(chan *watch)
		g.workers = append(g.workers, w)
		go work(i, processors, w)
	}
	return g
}

// watch begins to look at the processors. The function that it returns ends that, and returns how many microseconds a piece took meanwhile (a quarter of
// them less), on the server's processor and on another; nil = that is not known.
func (g *gauge) watch() (end func() []float64) {
	w := &watch{took: make([]float64, len(g.workers))}
	w.done.Add(len(g.workers))
	for _, worker := range g.workers {
		worker <- w
	}
	return func() []float64 {
		w.ended.Store(true)
		w.done.Wait()
		for _, us := range w.took {
			if us <= 0 {
				return nil
			}
		}
		if len(w.took) == 0 {
			return nil
		}
		return w.took
	}
}

// lost is the share of a processor's time that was not there at a pace.
func lost(best float64, pace []float64) float64 {
	if len(pace) == 0 {
		return 0
	}
	return max(0, 1-best/pace[0])
}

// atBest is what a tenth of all is better than.
func atBest(paces []float64) float64 { return quantile(paces, 10) }

// quantile is what one in n is less than; 0 of nothing.
func quantile(all []float64, n int) float64 {
	if len(all) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(all))[len(all)/n]
}

// work is worker i, on some processors.
func work(i int, processors string, watches <-chan *watch) {
	runtime.LockOSThread() // nothing else may run where this process is not to be
	set, err := cpuSet(processors)
	if err == nil {
		err = unix.SchedSetaffinity(0, &set)
	}
	for w := range watches {
		if err == nil { // else nothing is gauged
			w.took[i] = w.work()
		}
		w.done.Done()
	}
}

// work does pieces until the watch has ended, and returns what a quarter of them took less than. The first warms up the clock and the code.
func (w *watch) work() float64 {
	runtime.KeepAlive(piece())
	var all []float64
	for len(all) == 0 || !w.ended.Load() {
		before := threadClock()
		runtime.KeepAlive(piece()) // so that the compiler leaves the work in
		all = append(all, float64((threadClock()-before).Nanoseconds())/1000)
		time.Sleep(beside)
	}
	return quantile(all, 4)
}

func threadClock() time.Duration {
	var at unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at) != nil {
		return 0
	}
	return time.Duration(at.Nano())
}

// piece is 50 microseconds of work that neither memory nor the kernel has a part in. There are six chains of it side by side, so that it keeps all of a
// core busy and feels whoever has the other half.
func piece() uint64 {
	a, b, c, d, e, f := uint64(1), uint64(2), uint64(3), uint64(4), uint64(5), uint64(6)
	for range 20_000 {
		a, b, c, d, e, f = a^a<<13, b^b<<13, c^c<<13, d^d<<13, e^e<<13, f^f<<13
		a, b, c, d, e, f = a^a>>7, b^b>>7, c^c>>7, d^d>>7, e^e>>7, f^f>>7
		a, b, c, d, e, f = a^a<<17, b^b<<17, c^c<<17, d^d<<17, e^e<<17, f^f<<17
	}
	return a ^ b ^ c ^ d ^ e ^ f
}

// even reports whether the server's processor was as fast in one measurement as in another, whose ratio is then that of the servers, be it a good time or a bad
// one. Where nothing was gauged it is taken to be.
func even(x, y *round) bool {
	if len(x.Pace) == 0 || len(y.Pace) == 0 {
		return true
	}
	return max(x.Pace[0], y.Pace[0])*(1-sluggish) <= min(x.Pace[0], y.Pace[0])
}

// spare is how much longer than estimated the contest may still take.
func (c *contest) spare() time.Duration { return time.Until(c.until) - c.bar.left() }

// slowed says of all rounds how slow the server's processor was, by the best of all of them.
func (r *results) slowed() {
	var all []float64
	for x := range r.rounds() {
		if len(x.Pace) > 0 {
			all = append(all, x.Pace[0])
		}
	}
	best := atBest(all)
	for x := range r.rounds() {
		x.Slowed = lost(best, x.Pace)
	}
}
