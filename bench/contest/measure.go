package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"cacheproxy/bench/body"
)

// A generator sends the requests of one measurement, from the given processors, and keeps what it must keep meanwhile in dir.
type generator interface {
	run(ctx context.Context, processors, dir string, d time.Duration) (*run, error)
}

// counters are all that is read before and after a measurement.
type counters struct {
	used     usage
	upstream asked
	hits     *int64
	at       time.Time
}

// measure is one round of one row.
func (c *contest) measure(ctx context.Context, st *stage, sc *scenario, e *entry, r *row) (*round, error) {
	switch sc.kind {
	case byStampede:
		return c.stampede(ctx, sc, e)
	case byRestart:
		return c.restart(ctx, st, sc, e)
	}
	return c.sample(ctx, st, sc, e, r, c.generator(st, sc, e, r.Offered))
}

// sample reads what a server counts and uses, has it asked by a generator and, at a few requests a second beside it, by one who looks at
// the answers, and reads again. What the looker asks is part of what is measured.
func (c *contest) sample(ctx context.Context, st *stage, sc *scenario, e *entry, r *row, g generator) (*round, error) {
	time.Sleep(100 * time.Millisecond) // what was asked before ends, and who collects garbage has done so
	before, err := c.read(ctx, e, true)
	if err != nil {
		return nil, err
	}
	look := c.watch(ctx, st, sc, e)
	sent, err := g.run(ctx, c.lab.rest, c.lab.memory, c.each(sc))
	seen, lookErr := look()
	if err = errors.Join(err, lookErr); err != nil {
		return nil, err
	}
	after, err := c.read(ctx, e, false)
	if err != nil {
		return nil, err
	}
	if err := c.catchUp(ctx, sc, e, &after, before, sent.Requests+seen.checked); err != nil {
		return nil, err
	}
	memory, err := resident(e.running.pids())
	if err != nil {
		return nil, err
	}
	if r.Head == "" {
		r.Head = seen.head
	}
	one := roundOf(sent, before, after)
	one.Checked, one.Memory = seen.checked, memory+kept(e.s.CacheDir)
	one.share(sent.Requests + seen.checked)
	one.Void = sc.judge(one, sent, seen)
	return one, nil
}

// read reads the counters. The contestant's own is asked for outside of what is measured: before the first look at processor time,
// and after the last.
func (c *contest) read(ctx context.Context, e *entry, first bool) (x counters, err error) {
	own := func() error {
		if e.c.hits == nil {
			return nil
		}
		n, err := e.c.hits(ctx, e.s)
		if err != nil {
			return fmt.Errorf("contest: the own counter of %s: %w", e.c.name, err)
		}
		x.hits = &n
		return nil
	}
	if first {
		if err := own(); err != nil {
			return x, err
		}
	}
	if x.upstream, err = c.lab.asked(ctx); err != nil {
		return x, err
	}
	if x.used, err = used(e.running.pids()); err != nil {
		return x, err
	}
	x.at = time.Now()
	if !first {
		err = own()
	}
	return x, err
}

// catchUp waits until a contestant's own counter has all hits: some add up what their threads have counted only now and then.
func (c *contest) catchUp(ctx context.Context, sc *scenario, e *entry, after *counters, before counters, want int64) error {
	for end := time.Now().Add(counterWait); sc.hits() && after.hits != nil && *after.hits-*before.hits < want && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		n, err := e.c.hits(ctx, e.s)
		if err != nil {
			return err
		}
		after.hits = &n
	}
	return nil
}

// counterWait is how long that may take.
const counterWait = 3 * time.Second

// roundOf compares two looks. The processor time is that of all requests still: share divides it.
func roundOf(sent *run, before, after counters) *round {
	u := after.used.sub(before.used)
	elapsed := sent.Elapsed.Seconds()
	one := &round{
		Requests: sent.Requests, Seconds: elapsed, RPS: float64(sent.Requests) / elapsed,
		User: float64(u.User.Microseconds()), System: float64(u.System.Microseconds()),
		Busy: u.total().Seconds() / after.at.Sub(before.at).Seconds(), Generator: sent.Own.Seconds() / elapsed,
		Latency: latencyOf(sent.Latency), Curve: curveOf(sent.Latency),
		Upstream: after.upstream.Requests - before.upstream.Requests, Errors: sent.Errors,
	}
	if before.hits != nil && after.hits != nil {
		n := *after.hits - *before.hits
		one.Hits = &n
	}
	return one
}

// share makes processor time that of one request.
func (x *round) share(requests int64) {
	n := float64(max(1, requests))
	x.User, x.System = x.User/n, x.System/n
}

func latencyOf(h *hdrhistogram.Histogram) latency {
	at := func(p float64) float64 { return float64(h.ValueAtQuantile(p)) }
	return latency{at(50), at(75), at(90), at(99), at(99.9), float64(h.Max())}
}

// curveOf has the percentiles that are drawn: each halving of what is left in five steps.
func curveOf(h *hdrhistogram.Histogram) (points [][2]float64) {
	if h.TotalCount() == 0 {
		return nil
	}
	for left := 0.5; left > 0.0005; left *= 0.871 {
		points = append(points, [2]float64{100 * (1 - left), float64(h.ValueAtQuantile(100 * (1 - left)))})
	}
	return points
}

// judge says why a round does not count: a fast wrong answer is none, and nor is a hit that was fetched.
func (sc *scenario) judge(x *round, sent *run, seen *sight) string {
	for _, kind := range slices.Sorted(maps.Keys(sent.Errors)) {
		if n := sent.Errors[kind]; n*1000 > sent.Requests {
			return fmt.Sprintf("%d of %d requests ended with an error (%s)", n, sent.Requests, kind)
		}
	}
	switch all := sent.Requests + seen.checked; {
	case sent.Requests == 0:
		return "it answered nothing"
	case seen.wrong > 0:
		return fmt.Sprintf("%d of %d responses that were compared were wrong: %s", seen.wrong, seen.checked, seen.fault)
	case seen.checked == 0:
		return "no response could be compared"
	case sc.validate && sent.Bytes/sent.Requests > int64(sc.size):
		return "it answered in full, not with 304"
	case sc.hits() && x.Hits != nil && *x.Hits*100 < all*99:
		return fmt.Sprintf("by its own counter only %d of %d requests were hits", *x.Hits, all)
	case sc.hits() && x.Upstream*100 > all:
		return fmt.Sprintf("its upstream was asked %d times for %d hits", x.Upstream, all)
	case sc.unique && x.Upstream*100 < all*95, sc.body == body.Pass && x.Upstream*100 < all*95:
		return fmt.Sprintf("its upstream was asked only %d times for %d requests", x.Upstream, all)
	}
	return ""
}
