package main

import (
	"fmt"
	"math"
	"slices"
)

// spread is the median, least and most of the rounds.
type spread struct {
	Median, Min, Max float64
	Unsure           bool    // there were fewer than fewest undisturbed rounds, so all are in it
	Doubt            float64 // of a ratio, as a share of it: as far from what more rounds would make it 95 of 100 medians are at most; infinite of one round
}

// spreadOf makes it of figures, if there are any.
func spreadOf(all []float64) (s spread, ok bool) {
	if len(all) == 0 {
		return spread{}, false
	}
	all = slices.Sorted(slices.Values(all))
	middle := all[len(all)/2]
	if len(all)%2 == 0 {
		middle = (all[len(all)/2-1] + middle) / 2
	}
	return spread{Median: middle, Min: all[0], Max: all[len(all)-1]}, true
}

// unsure stands behind a figure that has rounds in it in which the machine was not itself, since there were too few others.
const unsure = "‡"

// marked writes a figure, with the mark where it is due.
func (s spread) marked(write func(float64) string) string {
	if s.Unsure {
		return write(s.Median) + unsure
	}
	return write(s.Median)
}

// withDoubt writes a figure with its mark, and how sure it is, as far as there is something to tell: it is of several rounds, and not all alike.
func (s spread) withDoubt(write func(float64) string) string {
	off := write(s.Doubt * s.Median)
	if math.IsInf(s.Doubt, 1) || off == write(0) {
		return s.marked(write)
	}
	return s.marked(write) + " ± " + off
}

// markedSpan writes a figure with its mark, how sure it is, and least and most.
func (s spread) markedSpan(write func(float64) string) string {
	least, most := write(s.Min), write(s.Max)
	if least == most {
		return s.withDoubt(write)
	}
	return fmt.Sprintf("%s (%s to %s)", s.withDoubt(write), least, most)
}

// span writes median, least and most, without a mark: processor time in the same row has it.
func span(s spread, write func(float64) string) string {
	s.Unsure = false
	return s.markedSpan(write)
}
