package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
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
	used, redis, own, origin usage
	server, rest             time.Duration // that processors worked, by whomever
	upstream                 asked
	hits                     *int64
	lines                    int64         // of the access log
	delay                    time.Duration // that the origin has waited for its processor
	at                       time.Time
}

// settling is how long what is done behind answers has (storing, logs) before processor time is read: it belongs to them.
func settling(sc *scenario, e *entry) time.Duration {
	if sc.hits() && !e.s.With[accessLog] {
		return 25 * time.Millisecond
	}
	return 100 * time.Millisecond
}

// measure is one round of one row.
func (c *contest) measure(ctx context.Context, st *stage, sc *scenario, e *entry, r *row) (*round, error) {
	if e.running == nil || len(e.running.pids()) == 0 {
		return nil, errors.New("contest: it has ended")
	}
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
	if err := c.lab.hold(e); err != nil {
		return nil, err
	}
	time.Sleep(settling(sc, e)) // what was asked before ends
	before, err := c.read(ctx, e, true)
	if err != nil {
		return nil, err
	}
	look, gauged := c.watch(ctx, st, sc, e), c.gauge.watch()
	sent, err := g.run(ctx, c.lab.rest, c.lab.memory, c.each(sc))
	pace, seen := gauged(), look()
	if err != nil {
		return nil, err
	}
	time.Sleep(settling(sc, e))
	after, err := c.read(ctx, e, false)
	if err != nil {
		return nil, err
	}
	if err := c.catchUp(ctx, sc, e, &after, before, sent.Requests+seen.checked); err != nil {
		return nil, err
	}
	if r.Head == "" {
		r.Head = seen.head
	}
	one := roundOf(sent, before, after)
	one.Disturbed, one.Pace = c.lab.disturbed(sent, before, after), pace
	one.Checked = seen.checked
	one.share(sent.Requests + seen.checked)
	if one.Memory, err = resident(e.running.pids()); err != nil {
		return nil, err
	}
	one.Memory += kept(e.s.CacheDir, e.running.pids())
	if e.redis != nil {
		inRedis, err := resident(e.redis.pids())
		if err != nil {
			return nil, err
		}
		one.Memory += inRedis
	}
	one.Void = sc.judge(one, sent, seen)
	if one.Void == "" {
		one.Void = c.suspect(ctx, sc, e, g, sent, seen, after.lines-before.lines)
	}
	return one, nil
}

// suspect looks where judge cannot: whether the server is where it should be, has written its log, and has stored what it was to store.
func (c *contest) suspect(ctx context.Context, sc *scenario, e *entry, g generator, sent *run, seen *sight, lines int64) string {
	if c.lab.server != "" {
		set, err := cpuSet(c.lab.server)
		if n := len(strays(e.running.pids(), set)); err != nil || n > 0 {
			return fmt.Sprintf("%d of its threads had left its processor", n)
		}
	}
	if e.s.With[accessLog] && lines*100 < sent.Requests*99 {
		return fmt.Sprintf("it has written %d lines of log for %d requests", lines, sent.Requests)
	}
	if e.c.hits == nil && !e.c.fixed && sc.hits() && seen.checked-seen.fromCache > max(1, seen.checked/20) { // the first may have been fetched
		return fmt.Sprintf("of %d responses that were compared only %d said that they were hits", seen.checked, seen.fromCache)
	}
	if own, is := g.(loadgen); is && sc.unique {
		return c.notStored(ctx, sc, e, own.spec.Patterns[0].FirstID, sent.Requests)
	}
	return ""
}

// notStored asks once more for some of what was just missed, and says so where that is not in the cache.
func (c *contest) notStored(ctx context.Context, sc *scenario, e *entry, first uint64, n int64) string {
	const some = 20
	time.Sleep(100 * time.Millisecond) // what is stored behind the answers has been
	before, err := c.lab.asked(ctx)
	for i := range uint64(min(some, n)) {
		r := sc.resource()
		r.ID = first + uint64(n)*i/some
		err = errors.Join(err, answersOnce(ctx, e.url(r, false)))
	}
	after, errAfter := c.lab.asked(ctx)
	if err = errors.Join(err, errAfter); err != nil {
		return err.Error()
	}
	if again := after.Requests - before.Requests; again > some/4 {
		return fmt.Sprintf("of %d responses that it was to store it has fetched %d again", some, again)
	}
	return ""
}

// read reads the counters. The contestant's own is asked for outside of what is measured: before the first look at processor time,
// and after the last.
func (c *contest) read(ctx context.Context, e *entry, first bool) (x counters, err error) {
	own := func() error {
		if e.s.With[accessLog] {
			x.lines = lines(e.s.LogFile)
		}
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
	of := []struct {
		of *usage
		i  *instance
	}{{&x.used, e.running}, {&x.redis, e.redis}, {&x.origin, c.lab.origin}}
	for _, one := range of {
		if one.i == nil {
			continue
		}
		if *one.of, err = used(one.i.pids()); err != nil {
			return x, err
		}
	}
	x.delay = delayed(c.lab.origin.pids())
	if x.own, err = used([]int{os.Getpid()}); err != nil {
		return x, err
	}
	x.server, x.rest, x.at = worked(c.lab.server), worked(c.lab.rest), time.Now()
	if !first {
		err = own()
	}
	return x, err
}

// disturbed is the share of a processor that something else has taken meanwhile: of the server's, or of all the others.
func (l *lab) disturbed(sent *run, before, after counters) float64 {
	if l.server == "" {
		return 0
	}
	long := after.at.Sub(before.at)
	ours := after.own.sub(before.own).All + after.origin.sub(before.origin).All + after.redis.sub(before.redis).All
	onServer := after.server - before.server - after.used.sub(before.used).All
	elsewhere := after.rest - before.rest - ours // generators are our children that have ended
	return max(0, float64(max(onServer, elsewhere))/float64(long))
}

// lines is how many lines a file has.
func lines(name string) (n int64) {
	f, err := os.Open(name)
	if err != nil {
		return 0
	}
	defer f.Close()
	for piece := make([]byte, 1<<20); ; {
		k, err := f.Read(piece)
		n += int64(bytes.Count(piece[:k], []byte{'\n'}))
		if err != nil {
			return n
		}
	}
}

// catchUp reads the counters again until a contestant's own has all hits, and its log all lines: some write what their threads have only now and then.
// What they take to write a log is their work; what they take to be asked for a counter is not.
func (c *contest) catchUp(ctx context.Context, sc *scenario, e *entry, after *counters, before counters, want int64) (err error) {
	logs := func() bool { return e.s.With[accessLog] && after.lines-before.lines < want }
	counts := func() bool { return sc.hits() && after.hits != nil && *after.hits-*before.hits < want }
	for end := time.Now().Add(counterWait); err == nil && (logs() || counts()) && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		if logs() {
			*after, err = c.read(ctx, e, false)
			continue
		}
		var n int64
		if n, err = e.c.hits(ctx, e.s); err == nil {
			after.hits = &n
		}
	}
	return err
}

// counterWait is how long that may take.
const counterWait = 3 * time.Second

// roundOf compares two looks. The processor time is that of all requests still: share divides it.
func roundOf(sent *run, before, after counters) *round {
	u := after.used.sub(before.used)
	user, system := u.split()
	elapsed := sent.Elapsed.Seconds()
	one := &round{
		Requests: sent.Requests, Seconds: elapsed, RPS: float64(sent.Requests) / elapsed,
		User: float64(user.Microseconds()), System: float64(system.Microseconds()), Redis: float64(after.redis.sub(before.redis).All.Microseconds()),
		Generator: sent.Own.Seconds() / elapsed,
		Latency:   latencyOf(sent.Latency), HDR: encoded(sent.Latency), Oversleep: float64(sent.Oversleep.Microseconds()), Due: sent.Due, HitP99: float64(sent.HitP99.Microseconds()),
		Upstream: after.upstream.Requests - before.upstream.Requests, Errors: sent.Errors,
	}
	if one.Upstream > 0 {
		one.Delay = float64((after.delay - before.delay).Microseconds()) / float64(one.Upstream)
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
	x.User, x.System, x.Redis = x.User/n, x.System/n, x.Redis/n
}

func latencyOf(h *hdrhistogram.Histogram) latency {
	at := func(p float64) float64 { return float64(h.ValueAtQuantile(p)) }
	return latency{at(50), at(75), at(90), at(99), at(99.9), float64(h.Max())}
}

// encoded is a histogram as text; "" where it has nothing.
func encoded(h *hdrhistogram.Histogram) string {
	if h.TotalCount() == 0 {
		return ""
	}
	text, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return ""
	}
	return string(text)
}

// curve has the percentiles that are drawn: each halving of what is left in five steps.
func (x *round) curve() (points [][2]float64) {
	h, err := hdrhistogram.Decode([]byte(x.HDR))
	if x.HDR == "" || err != nil {
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
		if n := sent.Errors[kind]; n*1000 > sent.Requests || kind == "connect" {
			return fmt.Sprintf("%d of %d requests ended with an error (%s)", n, sent.Requests, kind)
		}
	}
	all := sent.Requests + seen.checked
	switch {
	case sent.Requests == 0:
		return "it answered nothing"
	case seen.wrong > 0:
		return fmt.Sprintf("%d of %d responses that were compared were wrong: %s", seen.wrong, seen.checked, seen.fault)
	case seen.checked == 0:
		return "no response could be compared"
	case sc.validate && sent.Bytes*100 > sent.Requests*int64(sc.size):
		return "it answered in full, not with 304"
	}
	return sc.judgeUpstream(x, all)
}

// judgeUpstream says why a round does not count by what the origin was asked for, and by what the server itself counts.
func (sc *scenario) judgeUpstream(x *round, all int64) string {
	switch {
	case sc.hits() && x.Hits != nil && *x.Hits*100 < all*99:
		return fmt.Sprintf("by its own counter only %d of %d requests were hits", *x.Hits, all)
	case sc.hits() && x.Upstream*100 > all:
		return fmt.Sprintf("its upstream was asked %d times for %d hits", x.Upstream, all)
	case sc.unique && x.Upstream*100 < all*95, sc.body == body.Pass && x.Upstream*100 < all*95:
		return fmt.Sprintf("its upstream was asked only %d times for %d requests", x.Upstream, all)
	case len(sc.rates) > 0 && (x.Upstream*100 > all*15 || x.Upstream*100 < all*7):
		return fmt.Sprintf("its upstream was asked %d times for %d requests, of which a tenth are no hits", x.Upstream, all)
	}
	return ""
}
