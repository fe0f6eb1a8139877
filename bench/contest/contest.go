package main

import (
	"context"
	"errors"
	"fmt"
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
}

// What things take, as far as can be told before.
const (
	around      = 350 * time.Millisecond // of one measurement: counters, connecting
	startTime   = 1500 * time.Millisecond
	warmingRate = 12_000 // a second
)

func (c *contest) run(ctx context.Context, all []stage) error {
	for _, st := range all {
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
		d += c.takesToStart(st)
		for j := range st.scenarios {
			d += c.takes(st, &st.scenarios[j])
		}
	}
	return d
}

func (c *contest) takesToStart(st *stage) time.Duration {
	return time.Duration(len(c.entries(st))) * startTime
}

// takes is how long one scenario will.
func (c *contest) takes(st *stage, sc *scenario) (d time.Duration) {
	n := len(c.entries(st))
	if c.hasFixed(st, sc) {
		n += len(slices.DeleteFunc(slices.Clone(c.who), func(c *contestant) bool { return !c.fixed }))
	}
	each := c.each(sc) + around
	if sc.kind == byStampede {
		each = slowness + around
	}
	if sc.kind == byRestart {
		each += startTime + time.Duration(sc.keys)*time.Second/warmingRate/2
	}
	if sc.warms() {
		d += time.Duration(n) * time.Duration(sc.keys) * time.Second / warmingRate
	}
	return d + time.Duration(n*c.pace.rounds*max(1, len(sc.rates)))*each
}

// each is how long one measurement of a scenario is.
func (c *contest) each(sc *scenario) time.Duration {
	return c.pace.each * time.Duration(max(1, sc.longer))
}

// entries are those that a stage starts, who has no cache apart. Those that lack something are among them.
func (c *contest) entries(st *stage) (all []*entry) {
	for _, with := range st.variants {
		for _, one := range c.who {
			if one.fixed || st.only != nil && !slices.Contains(st.only, one.name) {
				continue
			}
			all = append(all, &entry{c: one, with: with, lacks: one.supports(with)})
		}
	}
	return all
}

// hasFixed reports whether a scenario is one in which those that answer everything alike can be compared.
func (c *contest) hasFixed(st *stage, sc *scenario) bool {
	return st.fixed && sc.hits() && sc.keys == 1 && !sc.validate
}

// stage starts what it needs, goes through its scenarios, and stops all of it, whatever happens.
func (c *contest) stage(ctx context.Context, st *stage) (err error) {
	entries := c.entries(st)
	defer func() {
		for _, e := range entries {
			err = errors.Join(err, e.stop(), e.remove())
		}
	}()
	objects := uint64(1)
	for i := range st.scenarios {
		objects = max(objects, st.scenarios[i].keys)
	}
	for _, e := range entries {
		c.bar.begin("starting " + e.c.name)
		if e.lacks == "" {
			if err := c.startEntry(ctx, e, st, 0, objects); err != nil {
				return err
			}
		}
		c.bar.add(startTime)
	}
	for i := range st.scenarios {
		if err := c.scenario(ctx, st, &st.scenarios[i], entries); err != nil {
			return fmt.Errorf("scenario %s: %w", st.scenarios[i].name, err)
		}
	}
	return nil
}

// startEntry starts one. Who does not start is noted and left out: a contest goes on without.
func (c *contest) startEntry(ctx context.Context, e *entry, st *stage, size int, objects uint64) (err error) {
	if e.s, err = c.lab.setup(e.c, e.with, size, objects); err != nil {
		return err
	}
	if err := c.lab.start(ctx, e); err != nil {
		if ctx.Err() != nil {
			return err
		}
		c.bar.say("%s does not start: %v", e.c.name, err)
		e.lacks = "it did not start"
		return nil
	}
	return c.keep(e)
}

// scenario measures all entries in one.
func (c *contest) scenario(ctx context.Context, st *stage, sc *scenario, entries []*entry) (err error) {
	if c.hasFixed(st, sc) {
		entries = slices.Clone(entries)
		for _, one := range c.who {
			if !one.fixed {
				continue
			}
			e := &entry{c: one}
			if err := c.startEntry(ctx, e, st, sc.size, 1); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, e.stop(), e.remove()) }()
			entries = append(entries, e)
		}
	}
	rates := sc.rates
	if len(rates) == 0 {
		rates = []float64{0}
	}
	o := outcome{Name: sc.name, Title: sc.title, Hits: sc.hits()}
	takes := c.takes(st, sc) / time.Duration(len(entries)*(len(rates)*c.pace.rounds+1)) // a part for warming up
	for _, e := range entries {
		c.bar.begin(sc.name + ", warming up " + e.c.name)
		if e.lacks == "" && sc.kind != byRestart {
			if err := c.warm(ctx, st, sc, e); err != nil {
				c.bar.say("%s is not measured in %s: %v", e.c.name, sc.name, err)
				e.lacks = strings.TrimPrefix(err.Error(), "contest: ")
			}
		}
		c.bar.add(takes)
		for _, rate := range rates {
			o.Rows = append(o.Rows, row{Contestant: e.c.name, Variant: e.variant(), Offered: rate, Lacks: e.lacks})
		}
	}
	for n := range c.pace.rounds {
		for k := range o.Rows {
			at := (k + n) % len(o.Rows) // whoever is first in one round is not in the next
			r, e := &o.Rows[at], entries[at/len(rates)]
			if r.Lacks == "" {
				c.bar.begin(fmt.Sprintf("%s, round %d of %d: %s", sc.name, n+1, c.pace.rounds, r.label()))
				one, err := c.measure(ctx, st, sc, e, r)
				if err != nil {
					return fmt.Errorf("%s: %w", r.label(), err)
				}
				r.Rounds = append(r.Rounds, *one)
			}
			c.bar.add(takes)
		}
	}
	c.results.Scenarios = append(c.results.Scenarios, o)
	return nil
}
