package main

import (
	"context"
	"errors"
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
		"the least disturbed": {byWrk, time.Hour, []func() (*round, error){disturbed(0.3), disturbed(0.1), disturbed(0.2), disturbed(0.4)}, 4, 0.1, "", 0},
		"until it is quiet":   {byWrk, time.Hour, []func() (*round, error){disturbed(0.3), disturbed(0.02)}, 2, 0.02, "", 0},
		"no time":             {byWrk, 0, []func() (*round, error){disturbed(0.3)}, 1, 0.3, "", 0},
		"restarts":            {byRestart, time.Hour, []func() (*round, error){disturbed(0.3)}, 1, 0.3, "", 0},
		"wrong once":          {byWrk, time.Hour, []func() (*round, error){wrong, disturbed(0)}, 2, 0, "", 1},
		"wrong twice":         {byWrk, time.Hour, []func() (*round, error){failed, wrong}, 2, 0, "it has ended", 0},
		"wrong is never best": {byWrk, time.Hour, []func() (*round, error){disturbed(0.3), wrong, disturbed(0.2), wrong}, 4, 0.2, "", 2},
	} {
		made := 0
		contest := &contest{pace: full, bar: &progress{begun: time.Now(), now: time.Now}, gauge: &gauge{}, results: &results{}, until: time.Now().Add(c.spare)}
		one, err := contest.best(t.Context(), &scenario{kind: c.kind}, func() (*round, error) { made++; return c.does[made-1]() })
		if err != nil || made != c.made || one.Disturbed != c.want || one.Void != c.void || len(one.Again) != c.again {
			t.Errorf("%s: %d made, %+v, %v", name, made, one, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	contest := &contest{pace: full, bar: &progress{begun: time.Now(), now: time.Now}, gauge: &gauge{}, results: &results{}}
	if _, err := contest.best(ctx, &scenario{}, disturbed(0)); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on when it is interrupted: %v", err)
	}
}

// There is another round where figures are far apart and there is time for it.
func TestAnother(t *testing.T) {
	apart, alike, one := []float64{10, 12, 15}, []float64{10, 10.1, 30}, []float64{10}
	rows := func(figures ...[]float64) *outcome {
		o := &outcome{}
		for _, of := range figures {
			r := row{}
			for _, cpu := range of {
				r.Rounds = append(r.Rounds, round{User: cpu})
			}
			o.Rows = append(o.Rows, r)
		}
		return o
	}
	for name, c := range map[string]struct {
		pace  pace
		sc    scenario
		o     *outcome
		n     int
		spare time.Duration
		want  bool
	}{
		"not enough yet": {full, scenario{}, rows(one), 1, -time.Hour, true},
		"apart":          {full, scenario{}, rows(alike, apart), 3, time.Hour, true},
		"alike":          {full, scenario{}, rows(alike, alike), 3, time.Hour, false},
		"no time":        {full, scenario{}, rows(apart), 3, 0, false},
		"enough":         {full, scenario{}, rows(apart), mostRounds, time.Hour, false},
		"quick":          {short, scenario{}, rows(apart), 3, time.Hour, false},
		"restarts":       {full, scenario{kind: byRestart}, rows(apart), 3, time.Hour, false},
	} {
		contest := &contest{pace: c.pace, bar: &progress{begun: time.Now(), now: time.Now, total: time.Minute}, until: time.Now().Add(time.Minute + c.spare)}
		if got := contest.another(&c.sc, c.o, c.n, time.Second); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
