package main

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"
)

// attempts is how often a measurement is made until one was not disturbed, tolerable how much of a processor others may have taken. Where something
// is wrong with a contestant's answers there is one more attempt, which is told.
const (
	attempts  = 2 // what a bad time is longer than, later rounds come after
	tolerable = 0.05
)

// trouble is how much was in the way of a measurement: up to 1 it is tolerable.
func (x *round) trouble() float64 { return max(x.Disturbed/tolerable, x.Slowed/sluggish) }

// best measures until what comes of it counts and nothing else was in the way, as long as there is time for that, or else takes the least disturbed of
// those that count. What goes wrong is why it does not count. Restarts take too long to be repeated.
func (c *contest) best(ctx context.Context, sc *scenario, measure func() (*round, error)) (best *round, err error) {
	var wrong []string
	for range attempts {
		c.await(ctx)
		gauged := c.gauge.watch()
		one, err := measure()
		pace := gauged()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			one = &round{Void: strings.TrimPrefix(err.Error(), "contest: ")}
		}
		one.Pace, one.Slowed = pace, c.gauge.lost(pace)
		if best == nil || best.Void != "" && one.Void == "" || (best.Void == "") == (one.Void == "") && one.trouble() < best.trouble() {
			best = one
		}
		if one.Void != "" {
			wrong = append(wrong, one.Void)
		}
		if one.Void == "" && one.trouble() <= 1 || len(wrong) > 1 || sc.kind == byRestart || c.spare() < c.each(sc)+around {
			break
		}
		c.bar.repeat(c.each(sc))
	}
	if best.Void == "" {
		best.Again = wrong
	}
	return best, nil
}

// A plan says who is measured in the next round of a scenario: all in the first ones; after them those whose ratios to ours are not sure enough, and ours
// beside them, as long as there is time.
type plan struct {
	c     *contest
	sc    *scenario
	o     *outcome
	takes time.Duration // one measurement
	n     int           // the round
	until time.Time     // of rounds that not everybody has
}

const (
	mostRounds = 9
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
	if p.n == p.c.pace.rounds+1 {
		p.until = time.Now().Add(p.part())
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

// part is how much of what there is to spare this scenario may take, by what it has taken of all that was planned and is not done.
func (p *plan) part() time.Duration {
	own := p.takes * time.Duration(len(p.o.Rows)*p.c.pace.rounds)
	spare := p.c.spare()
	return min(spare, time.Duration(ahead*float64(spare)*float64(own)/float64(own+p.c.bar.left())))
}

// unsure are the rows whose ratios to ours are not sure, and those that they are compared with.
func (o *outcome) unsure() (rows []int) {
	for i := range o.Rows {
		r := &o.Rows[i]
		base := o.base(r)
		if r.Lacks != "" || base == nil || base == r {
			continue
		}
		all := ratios(r, base, (*round).cpu)
		if len(all) == 0 || uncertainty(all) <= sure { // none: it does not count, and will not
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

// uncertainty is the standard error of the median of ratios, as a share of it, as if they were spread normally around it.
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
	return median * math.Sqrt(squares/float64(len(all)-1)/float64(len(all)))
}
