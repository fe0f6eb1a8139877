package main

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// agree is how far the ratios of two contests may be apart.
const agree = 0.10

// compare says how well two contests agree: of each row the ratio of processor time to ours, in the one and in the other, and how far
// these are apart. Of those that are further apart than they should be it says where that may be chance, as two contests have a few rounds each.
// Figures themselves are not compared, since a machine is faster on one day than on another.
func compare(w io.Writer, a, b *results) error {
	if a.Begun.Equal(b.Begun) {
		return fmt.Errorf("both are the contest of %s", a.Begun.UTC().Format("2 January 2006 15:04:05 UTC"))
	}
	if _, err := fmt.Fprintf(w, "%s\n%s\n", a.heading(), b.heading()); err != nil {
		return err
	}
	within, chance, all, alone := 0, 0, 0, 0
	for i := range b.Scenarios {
		alone += onlyIn(&b.Scenarios[i], a)
	}
	for i := range a.Scenarios {
		o := &a.Scenarios[i]
		alone += onlyIn(o, b)
		other := b.outcome(o.Name)
		if other == nil {
			continue
		}
		for j := range o.Rows {
			r := &o.Rows[j]
			x, okX := o.toOurs(r)
			y, okY := other.toOurs(other.same(r))
			if !okX || !okY {
				continue
			}
			apart := math.Abs(math.Log(x.Median / y.Median))
			all++
			mark := ""
			switch {
			case apart <= math.Log(1+agree):
				within++
			case byChance(apart, x.Doubt, y.Doubt):
				chance++
				mark = "  apart, may be chance"
			default:
				mark = "  apart"
			}
			if _, err := fmt.Fprintf(w, "%-14s %-32s %6.2f %6.2f%s\n", o.Name, r.at(), x.Median, y.Median, mark); err != nil {
				return err
			}
		}
	}
	if _, err := fmt.Fprintf(w, "%d of %d ratios agree within %.0f %%; of the others %d may be chance; %d are of one of the contests alone\n", within, all, 100*agree, chance, alone); err != nil {
		return err
	}
	switch {
	case all == 0:
		return errors.New("there is nothing to compare")
	case within < all:
		return fmt.Errorf("%d ratios are further apart than %.0f %%, %d of them more than chance allows", all-within, 100*agree, all-within-chance)
	case alone > 0:
		return fmt.Errorf("%d ratios are of one of the contests alone", alone)
	}
	return nil
}

// heading says which contest the results are of.
func (r *results) heading() string {
	extent := "all of a contest"
	switch {
	case r.Partial:
		extent = "a part of a contest"
	case r.Quick:
		extent = "a quick contest"
	}
	text := fmt.Sprintf("%s of %s, %s, %d processors", extent, r.Begun.UTC().Format("2 January 2006 15:04 UTC"), r.Machine.CPU, r.Machine.Processors)
	for _, c := range r.Contestants {
		if c.Name == ours && c.Version != "" {
			text += ", " + ours + " " + c.Version
		}
	}
	return text
}

// onlyIn is how many ratios an outcome has that other results do not have.
func onlyIn(o *outcome, others *results) (n int) {
	other := others.outcome(o.Name)
	for i := range o.Rows {
		if _, ok := o.toOurs(&o.Rows[i]); !ok {
			continue
		}
		if other != nil {
			if _, both := other.toOurs(other.same(&o.Rows[i])); both {
				continue
			}
		}
		n++
	}
	return n
}

// toOurs is the ratio of a row to ours of the same variant and rate. Ours have none, and nor have those of a stampede, which is about what reaches the
// upstream: a thousand requests are too few to tell processor time. Nor has a rate that one of the two cannot keep up with.
func (o *outcome) toOurs(r *row) (spread, bool) {
	if r == nil || r.Contestant == ours || o.Name == "stampede" {
		return spread{}, false
	}
	base := o.base(r)
	if base == nil || r.saturated() || base.saturated() {
		return spread{}, false
	}
	return ratio(r, base, (*round).cpu)
}

// byChance reports whether two ratios may be so far apart because each is of a few rounds: in 95 of 100 pairs of contests at least they are no further. Of
// one round nobody knows.
func byChance(apart, doubt, other float64) bool {
	both := math.Hypot(doubt, other)
	return apart <= both && !math.IsInf(both, 1)
}

// compared is the ratio of some figure of a row to ours.
func (o *outcome) compared(r *row, figure func(*round) float64) (spread, bool) {
	base := o.base(r)
	if base == nil {
		return spread{}, false
	}
	return ratio(r, base, figure)
}

// base is the row of ours that a row is compared with: of the same variant and rate, or else the one that stands for us; nil where there is none.
func (o *outcome) base(r *row) *row {
	base := o.same(&row{Contestant: ours, Variant: r.Variant, Offered: r.Offered})
	if base == nil && r.Offered == 0 {
		base = o.plain(ours)
	}
	return base
}

// same finds the row of the same contestant, variant and rate.
func (o *outcome) same(r *row) *row {
	for i := range o.Rows {
		if x := &o.Rows[i]; x.Contestant == r.Contestant && x.Variant == r.Variant && x.Offered == r.Offered {
			return x
		}
	}
	return nil
}
