package main

import (
	"slices"
	"testing"
)

// What takes a part of the time away is seen, and that nothing does.
func TestGauge(t *testing.T) {
	g := newGauge(processors())
	if len(g.workers) == 0 {
		if pace := g.watch()(); pace != nil || lost(50, pace) != 0 {
			t.Errorf("something is gauged where there is nothing: %v", pace)
		}
		return
	}
	pace := g.watch()() // of one piece at least
	if len(pace) != 2 || slices.Min(pace) <= 0 || pace[0] > 10_000 {
		t.Errorf("beside the first measurement %v", pace)
	}
	if lost := lost(pace[0], []float64{2 * pace[0], pace[1]}); lost != 0.5 {
		t.Errorf("%v is lost where the server's processor takes twice as long", lost)
	}
}

// How slow the rounds of a contest were is by the best tenth of all of them.
func TestSlowed(t *testing.T) {
	r := &results{Scenarios: []outcome{{Rows: []row{{Rounds: []round{{Pace: []float64{60, 10}}, {}, {Pace: []float64{15, 9}}}}, {}}}}}
	for range 9 {
		r.Scenarios[0].Rows[1].Rounds = append(r.Scenarios[0].Rows[1].Rounds, round{Pace: []float64{30, 99}})
	}
	r.slowed()
	var got []float64
	for x := range r.rounds() {
		got = append(got, x.Slowed)
	}
	if !slices.Equal(got, append([]float64{0.5, 0, 0}, make([]float64, 9)...)) {
		t.Errorf("%v", got)
	}
}

// A ratio is of the servers where the processor was as fast for the one as for the other.
func TestEven(t *testing.T) {
	at := func(us ...float64) *round { return &round{Pace: us} }
	for _, c := range []struct {
		x, y *round
		want bool
	}{
		{at(50, 1), at(50, 9), true}, {at(50, 1), at(52, 1), true}, {at(52, 1), at(50, 1), true},
		{at(50, 1), at(53, 1), false}, {at(53, 1), at(50, 1), false}, {at(90, 1), at(91, 1), true},
		{at(), at(53, 1), true}, {at(50, 1), at(), true},
	} {
		if got := even(c.x, c.y); got != c.want {
			t.Errorf("%v beside %v: %v", c.x.Pace, c.y.Pace, got)
		}
	}
}
