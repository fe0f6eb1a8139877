package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// attempts is how often a measurement is made until one was not disturbed, tolerable how much of a processor others may have taken: the kernel itself takes
// a tenth where memory comes and goes quickly. Where something is wrong with a contestant's answers there is one more attempt, which is told.
const (
	attempts  = 2
	tolerable = 0.15
)

// trouble is how much was in the way of a measurement: up to 1 it is tolerable.
func (x *round) trouble() float64 { return max(x.Disturbed/tolerable, x.Slowed/sluggish) }

// best measures until what comes of it counts and nothing else took part, as long as there is time for that, or else takes the least disturbed of
// those that count. What goes wrong is why it does not count. Restarts take too long to be repeated. A machine that is
// slow is so for seconds or for a quarter of an hour: there are other rounds.
func (c *contest) best(ctx context.Context, sc *scenario, measure func() (*round, error)) (best *round, err error) {
	for range attempts {
		one, err := measure()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			one = &round{Void: strings.TrimPrefix(err.Error(), "contest: ")}
		}
		switch {
		case best == nil, (best.Void == "") == (one.Void == "") && one.Disturbed < best.Disturbed:
			best = one
		case best.Void != "" && one.Void == "":
			one.Again = []string{best.Void}
			best = one
		}
		if one.Void == "" && one.Disturbed <= tolerable || sc.kind == byRestart || c.spare() < c.each(sc)+around {
			break
		}
		c.bar.repeat(c.each(sc))
	}
	return best, nil
}

// A plan is how a scenario is measured: all in the first rounds; after them those whose ratios to ours are not sure enough, and ours beside them, as long as
// there is time.
type plan struct {
	c       *contest
	sc      *scenario
	o       outcome
	entries []*entry      // by rates those of the rows
	fixed   []*entry      // of them those that are for this scenario alone
	takes   time.Duration // one measurement
	n       int           // the round
	until   time.Time     // of rounds that not everybody has
}

// prepare starts who is for this scenario alone, and warms up all.
func (p *plan) prepare(ctx context.Context, st *stage, entries []*entry) error {
	c, sc := p.c, p.sc
	p.entries = slices.Clone(entries)
	for _, e := range c.fixed(st, sc) {
		p.fixed = append(p.fixed, e)
		if err := c.startEntry(ctx, e, sc, 1); err != nil {
			return err
		}
		p.entries = append(p.entries, e)
	}
	p.o = outcome{Name: sc.name, Title: sc.title, AskedBy: c.askedBy(sc), Hits: sc.hits()}
	p.takes = c.takes(st, sc) / time.Duration(len(p.entries)*len(p.rates())*c.pace.rounds)
	for _, e := range p.entries {
		c.bar.begin(sc.name + ", warming up " + e.c.name)
		lacks, err := c.warmed(ctx, st, sc, e)
		if err != nil {
			return err
		}
		c.bar.add(sc.takesToWarm(e))
		for _, rate := range p.rates() {
			p.o.Rows = append(p.o.Rows, row{Contestant: e.c.name, Variant: e.variant(), Offered: rate, Lacks: lacks})
		}
	}
	return nil
}

// revive starts an entry again that has ended, and warms it up. Where that fails the measurement says so.
func (p *plan) revive(ctx context.Context, st *stage, e *entry) error {
	if e.running == nil || len(e.running.pids()) > 0 || p.sc.kind == byRestart {
		return nil
	}
	p.c.bar.say("%s has ended by itself; it is started again", e.c.name)
	p.c.end(e)
	if err := p.c.startEntry(ctx, e, p.sc, max(1, p.sc.keys)); err != nil {
		return err
	}
	_, err := p.c.warmed(ctx, st, p.sc, e)
	return err
}

// rates are those that are offered; none is offered where the loop is closed.
func (p *plan) rates() []float64 {
	if len(p.sc.rates) == 0 {
		return []float64{0}
	}
	return p.sc.rates
}

// round measures some rows.
func (p *plan) round(ctx context.Context, st *stage, rows []int) error {
	for _, i := range p.c.random.Perm(len(rows)) { // nobody comes always behind the same one
		r, e := &p.o.Rows[rows[i]], p.entries[rows[i]/len(p.rates())]
		p.c.bar.begin(fmt.Sprintf("%s, round %d: %s", p.sc.name, p.n, r.label()))
		if err := p.revive(ctx, st, e); err != nil {
			return err
		}
		one, err := p.c.best(ctx, p.sc, func() (*round, error) { return p.c.measure(ctx, st, p.sc, e, r) })
		if err != nil {
			return err
		}
		one.Number = p.n
		r.Rounds = append(r.Rounds, *one)
		p.took()
	}
	return nil
}

const (
	mostRounds = 15
	// sure is how far a ratio may be from what more rounds would make it, most times, to be left as it is.
	sure = 0.025
	// ahead is how much more than its part of the time that is left a scenario may take: others may need less.
	ahead = 1.5
)

// next begins a round, and returns the rows that are measured in it; none when there is no other.
func (p *plan) next() (rows []int) {
	p.n++
	if p.n <= p.c.pace.rounds {
		for i := range p.o.Rows {
			if p.o.Rows[i].Lacks == "" {
				rows = append(rows, i)
			} else {
				p.c.bar.add(p.takes)
			}
		}
		return rows
	}
	if p.c.pace.quick || p.n > mostRounds || p.sc.kind == byStampede || p.sc.kind == byRestart {
		return nil
	}
	rows = p.o.unsure()
	if time.Now().Add(time.Duration(len(rows)) * p.takes).After(p.until) {
		return nil
	}
	return rows
}

// took says that one more measurement has been made.
func (p *plan) took() {
	if p.n <= p.c.pace.rounds {
		p.c.bar.add(p.takes)
	} else {
		p.c.bar.repeat(p.takes)
	}
}

// part is how much of what there is to spare these plans may take, by what they have taken of all that was planned and is not done.
func (c *contest) part(plans []*plan) time.Duration {
	own := time.Duration(0)
	for _, p := range plans {
		own += p.takes * time.Duration(len(p.o.Rows)*c.pace.rounds)
	}
	spare := c.spare()
	return min(spare, time.Duration(ahead*float64(spare)*float64(own)/float64(own+c.bar.left())))
}

// unsure are the rows whose ratios to ours are not sure, or of too few quiet rounds, and those that they are compared with.
func (o *outcome) unsure() (rows []int) {
	for i := range o.Rows {
		r := &o.Rows[i]
		base := o.base(r)
		if r.Lacks != "" || base == nil || base == r {
			continue
		}
		all, quiet := ratios(r, base, (*round).cpu)
		if len(all) == 0 || quiet >= fewest && uncertainty(all) <= sure { // none: it does not count, and will not
			continue
		}
		rows = append(rows, i)
		for j := range o.Rows {
			if &o.Rows[j] == base && !slices.Contains(rows, j) {
				rows = append(rows, j)
			}
		}
	}
	return rows
}

// uncertainty is the standard error of the median of ratios, as a share of it, as if they were spread normally around it. That few may be close to each
// other by chance is in it: as much as Student's t is above what it is of many.
func uncertainty(all []float64) float64 {
	if len(all) < 2 {
		return math.Inf(1)
	}
	sum, squares := 0.0, 0.0
	for _, x := range all {
		sum += math.Log(x)
	}
	mean := sum / float64(len(all))
	for _, x := range all {
		squares += (math.Log(x) - mean) * (math.Log(x) - mean)
	}
	const median = 1.2533 // of the error of the mean: the square root of pi/2
	return student(len(all)-1) * median * math.Sqrt(squares/float64(len(all)-1)/float64(len(all)))
}

// student is how much further from the mean than by the normal distribution 95 of 100 are by Student's, of so many degrees of freedom: exact to a
// hundredth from two on.
func student(degrees int) float64 {
	n := float64(degrees)
	return 1 + 1.2/n + 1.3/n/n + 2.2/n/n/n
}
