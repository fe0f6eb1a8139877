package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

// What was disturbed is measured again while there is time, and the least disturbed is kept; what was wrong once more, which is told.
func TestBest(t *testing.T) {
	disturbed := func(d float64) func() (*round, error) {
		return func() (*round, error) { return &round{Requests: 1, Disturbed: d}, nil }
	}
	wrong := func() (*round, error) { return &round{Void: "it was wrong"}, nil }
	failed := func() (*round, error) { return nil, errors.New("contest: it has ended") }
	for name, c := range map[string]struct {
		kind  kind
		spare time.Duration
		does  []func() (*round, error)
		made  int
		want  float64
		void  string
		again int
	}{
		"at once":             {byWrk, time.Hour, []func() (*round, error){disturbed(0.01)}, 1, 0.01, "", 0},
		"the least disturbed": {byWrk, time.Hour, []func() (*round, error){disturbed(0.3), disturbed(0.2)}, 2, 0.2, "", 0},
		"until it is quiet":   {byWrk, time.Hour, []func() (*round, error){disturbed(0.3), disturbed(0.02)}, 2, 0.02, "", 0},
		"no time":             {byWrk, 0, []func() (*round, error){disturbed(0.3)}, 1, 0.3, "", 0},
		"restarts":            {byRestart, time.Hour, []func() (*round, error){disturbed(0.3)}, 1, 0.3, "", 0},
		"wrong once":          {byWrk, time.Hour, []func() (*round, error){wrong, disturbed(0)}, 2, 0, "", 1},
		"wrong twice":         {byWrk, time.Hour, []func() (*round, error){failed, wrong}, 2, 0, "it has ended", 0},
		"wrong is never best": {byWrk, time.Hour, []func() (*round, error){disturbed(0.3), wrong}, 2, 0.3, "", 0},
	} {
		made := 0
		contest := &contest{pace: full, bar: &progress{begun: time.Now(), now: time.Now}, results: &results{}, until: time.Now().Add(c.spare)}
		one, err := contest.best(t.Context(), &scenario{kind: c.kind}, func() (*round, error) { made++; return c.does[made-1]() })
		if err != nil || made != c.made || one.Disturbed != c.want || one.Void != c.void || len(one.Again) != c.again {
			t.Errorf("%s: %d made, %+v, %v", name, made, one, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	contest := &contest{pace: full, bar: &progress{begun: time.Now(), now: time.Now}, results: &results{}}
	if _, err := contest.best(ctx, &scenario{}, disturbed(0)); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on when it is interrupted: %v", err)
	}
}

// After the first rounds those are measured again whose ratios are not sure, with ours beside them, as long as there is time.
func TestPlan(t *testing.T) {
	three := pace{rounds: 3}
	rows := func(figures ...[]float64) outcome {
		o := outcome{Rows: []row{{Contestant: ours}, {Contestant: "a"}, {Contestant: "b"}, {Contestant: "c", Lacks: "it did not start"}}}
		for i, of := range figures {
			o.Rows[i].Rounds = rounds(of...)
		}
		return o
	}
	even, sure, unsure := []float64{10, 20, 10}, []float64{30, 60.5, 30}, []float64{15, 60, 15}
	slow := rows(even, sure, sure)
	for i := range slow.Rows[:3] {
		slow.Rows[i].Rounds[1].Pace = []float64{50 + float64(10*min(i, 1)), 50}
	}
	disturbed := rows(even, sure, sure)
	for i := range disturbed.Rows[:3] {
		disturbed.Rows[i].Rounds = append(disturbed.Rows[i].Rounds, round{Number: 4, User: float64(10 + 100*i), Pace: []float64{50 + float64(10*i), 50}})
	}
	for name, c := range map[string]struct {
		pace  pace
		sc    scenario
		o     outcome
		n     int // rounds that were
		spare time.Duration
		want  []int
	}{
		"the first":          {three, scenario{}, rows(), 0, -time.Hour, []int{0, 1, 2}},
		"not enough yet":     {three, scenario{}, rows(even[:2], sure[:2], sure[:2]), 2, -time.Hour, []int{0, 1, 2}},
		"one is unsure":      {three, scenario{}, rows(even, sure, unsure), 3, time.Hour, []int{2, 0}},
		"all are sure":       {three, scenario{}, rows(even, sure, sure), 3, time.Hour, nil},
		"but in a bad time":  {three, scenario{}, disturbed, 4, time.Hour, nil},
		"too few are quiet":  {three, scenario{}, slow, 3, time.Hour, []int{1, 0, 2}},
		"one does not count": {three, scenario{}, rows(even, sure, []float64{-1, -1, 1}), 3, time.Hour, nil},
		"no time":            {three, scenario{}, rows(even, sure, unsure), 3, 0, nil},
		"enough":             {three, scenario{}, rows(even, sure, unsure), mostRounds, time.Hour, nil},
		"quick":              {pace{rounds: 3, quick: true}, scenario{}, rows(even, sure, unsure), 3, time.Hour, nil},
		"restarts":           {three, scenario{kind: byRestart}, rows(even, sure, unsure), 3, time.Hour, nil},
	} {
		contest := &contest{pace: c.pace, bar: &progress{begun: time.Now(), now: time.Now, total: time.Minute}, until: time.Now().Add(time.Minute + c.spare)}
		p := &plan{c: contest, sc: &c.sc, o: c.o, takes: time.Second, n: c.n, until: time.Now().Add(c.spare)}
		if got := p.next(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Scenarios get their part of what is to spare, and some more.
func TestPart(t *testing.T) {
	three := pace{rounds: 3}
	c := &contest{pace: three, bar: &progress{begun: time.Now(), now: time.Now, total: 90 * time.Second}, until: time.Now().Add(190 * time.Second)}
	p := &plan{c: c, o: outcome{Rows: make([]row, 1)}, takes: 10 * time.Second / 3}
	if part := c.part([]*plan{p}).Seconds(); part < 14 || part > 16 { // a tenth of 100 s, and half of that
		t.Errorf("%v s", part)
	}
	if part := c.part([]*plan{p, p}).Seconds(); part < 26 || part > 28 {
		t.Errorf("two get %v s", part)
	}
	c.bar.total = 0
	if part := c.part([]*plan{p}).Seconds(); part < 189 || part > 190 {
		t.Errorf("the last one gets %v s", part)
	}
}

func TestUncertainty(t *testing.T) {
	if u := uncertainty([]float64{1}); !math.IsInf(u, 1) {
		t.Error("one figure is sure to", u)
	}
	figures := []float64{1, 1.2, 1, 1.2}
	four, sixteen := uncertainty(figures), uncertainty(slices.Repeat(figures, 4))
	if four < 0.09 || four > 0.12 || sixteen < 0.28*four || sixteen > 0.35*four {
		t.Errorf("of four figures %v, of sixteen %v", four, sixteen)
	}
	for degrees, want := range map[int]float64{2: 4.303, 3: 3.182, 5: 2.571, 8: 2.306, 20: 2.086} { // from a table
		if got := 1.96 * student(degrees); math.Abs(got-want) > 0.02 {
			t.Errorf("of %d degrees of freedom %v, not %v", degrees, got, want)
		}
	}
}
