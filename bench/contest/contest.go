package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A contest measures contestants in scenarios, round by round: all of them once, then all of them again, so that whatever else the machine
// does meanwhile comes to everybody alike.
type contest struct {
	lab     *lab
	pace    pace
	who     []*contestant // who is there
	results *results
	bar     *progress
	keep    func(e *entry) error // is given each entry's files of configuration
	random  *rand.Rand
	gauge   *gauge
	until   time.Time // nothing is measured again, or waited for, when that would take longer
}

// What things take, as far as can be told before.
const (
	around      = 400 * time.Millisecond // of one measurement: counters, connecting
	startTime   = 1500 * time.Millisecond
	warmingRate = 9_000 // a second
)

// run goes through the stages. What goes wrong with a contestant is noted where its figures would be, and the contest goes on.
func (c *contest) run(ctx context.Context, all []stage) error {
	for _, st := range all {
		if len(c.entries(&st)) == 0 {
			continue
		}
		if err := c.stage(ctx, &st); err != nil {
			return fmt.Errorf("stage %s: %w", st.name, err)
		}
	}
	return nil
}

// estimate is how long the stages will take.
func (c *contest) estimate(all []stage) (d time.Duration) {
	for i := range all {
		st := &all[i]
		if len(c.entries(st)) == 0 {
			continue
		}
		d += c.takesToStart(st)
		for j := range st.scenarios {
			d += c.takes(st, &st.scenarios[j])
			for _, e := range c.entries(st) {
				d += st.scenarios[j].takesToWarm(e)
			}
		}
	}
	return d
}

func (c *contest) takesToStart(st *stage) time.Duration {
	return time.Duration(len(c.entries(st))) * startTime
}

// takes is how long it takes to measure one scenario.
func (c *contest) takes(st *stage, sc *scenario) (d time.Duration) {
	n := len(c.entries(st))
	n += len(c.fixed(st, sc))
	each := c.each(sc) + around
	if sc.kind == byStampede {
		each = slowness + around
	}
	if sc.kind == byRestart {
		each += startTime + time.Duration(sc.keys)*time.Second/warmingRate/2
	}
	return time.Duration(n*c.pace.rounds*max(1, len(sc.rates))) * each
}

// takesToWarm is how long it takes to fill one entry with what a scenario asks for.
func (sc *scenario) takesToWarm(e *entry) time.Duration {
	if !sc.warms() || e.c.fixed {
		return 0
	}
	return time.Duration(sc.keys) * time.Second / warmingRate
}

// each is how long one measurement of a scenario is.
func (c *contest) each(sc *scenario) time.Duration {
	d := c.pace.each * time.Duration(max(1, sc.longer))
	if sc.kind == byWrk || sc.kind == byH2load {
		d = max(time.Second, d.Round(time.Second)) // they know whole seconds alone
	}
	return d
}

// entries are those that a stage starts, who has no cache apart. Those that lack something are among them.
func (c *contest) entries(st *stage) (all []*entry) {
	for _, with := range st.variants {
		for _, one := range c.who {
			if one.fixed || !one.takesPart(with) || st.only != nil && !slices.Contains(st.only, one.name) {
				continue
			}
			all = append(all, &entry{c: one, with: with, lacks: one.supports(with)})
		}
	}
	return all
}

// fixed are the entries of those that answer everything alike, in a scenario where all are answered alike. Who has no TLS is asked without, so that what
// TLS costs can be seen too.
func (c *contest) fixed(st *stage, sc *scenario) (all []*entry) {
	if !sc.hits() {
		return nil
	}
	for _, one := range c.who {
		if !one.fixed {
			continue
		}
		e := &entry{c: one}
		if st.tls && one.supports(st.variants[0]) == "" {
			e.with = st.variants[0]
		} else if st.tls {
			e.in = "plain HTTP/1.1"
			if sc.kind == byH2load {
				e.in += fmt.Sprintf(", %d connections, by wrk", sc.connections*streams)
			}
		}
		all = append(all, e)
	}
	return all
}

// stage starts what it needs, goes through its scenarios, and stops all of it, whatever happens.
func (c *contest) stage(ctx context.Context, st *stage) error {
	entries := c.entries(st)
	defer func() { c.end(entries...) }()
	objects := uint64(1)
	for i := range st.scenarios {
		objects = max(objects, st.scenarios[i].keys)
	}
	for _, e := range entries {
		c.bar.begin("starting " + e.c.name)
		if e.lacks == "" {
			if err := c.startEntry(ctx, e, &scenario{}, objects); err != nil {
				return err
			}
		}
		c.bar.add(startTime)
	}
	together := 1
	if st.turns {
		together = len(st.scenarios)
	}
	for some := range slices.Chunk(st.scenarios, together) {
		if err := c.scenarios(ctx, st, some, entries); err != nil {
			return err
		}
	}
	return nil
}

// end stops entries. One that does not end well is told of; its figures stand.
func (c *contest) end(entries ...*entry) {
	for _, e := range entries {
		if err := errors.Join(e.stop(), e.remove()); err != nil {
			c.bar.say("%s: %v", e.c.name, err)
		}
	}
}

// startEntry starts one, those that are fixed for a scenario. Who does not start is noted and left out: a contest goes on without. A port may have been taken since it was found free, so it is tried
// twice.
func (c *contest) startEntry(ctx context.Context, e *entry, sc *scenario, objects uint64) (err error) {
	for range 2 {
		if e.s, err = c.lab.setup(e.c, e.with, objects); err != nil {
			return err
		}
		e.s.Size, e.s.Validating = sc.size, sc.validate
		if err = c.lab.start(ctx, e); err == nil {
			return c.keep(e)
		}
		if ctx.Err() != nil {
			return err
		}
		c.end(e)
	}
	c.bar.say("%s does not start: %v", e.c.name, err)
	e.lacks = "it did not start"
	return nil
}

// scenarios measures all entries in some, whose rounds come by turns. What there is of them is kept when it ends early.
func (c *contest) scenarios(ctx context.Context, st *stage, some []scenario, entries []*entry) error {
	plans := make([]*plan, 0, len(some))
	defer func() {
		for _, p := range plans {
			c.end(p.fixed...)
			if p.n > 0 {
				c.results.Scenarios = append(c.results.Scenarios, p.o)
			}
		}
	}()
	for i := range some {
		p := &plan{c: c, sc: &some[i]}
		plans = append(plans, p)
		if err := p.prepare(ctx, st, entries); err != nil {
			return fmt.Errorf("scenario %s: %w", p.sc.name, err)
		}
	}
	for n, more := 1, true; more; n++ {
		if more = n <= c.pace.rounds; n == c.pace.rounds+1 {
			until := time.Now().Add(c.part(plans))
			for _, p := range plans {
				p.until = until
			}
		}
		for _, p := range plans {
			rows := p.next()
			if err := p.round(ctx, st, rows); err != nil {
				return fmt.Errorf("scenario %s: %w", p.sc.name, err)
			}
			more = more || len(rows) > 0
		}
	}
	return nil
}

// warmed warms an entry up, and says why it cannot be measured where that fails twice. An error is that the contest is to end.
func (c *contest) warmed(ctx context.Context, st *stage, sc *scenario, e *entry) (lacks string, err error) {
	if e.lacks != "" || sc.kind == byRestart {
		return e.lacks, nil
	}
	for range 2 {
		if err = c.warm(ctx, st, sc, e); err == nil || ctx.Err() != nil {
			return "", err
		}
	}
	c.bar.say("%s is not measured in %s: %v", e.c.name, sc.name, err)
	return strings.TrimPrefix(err.Error(), "contest: "), nil
}
