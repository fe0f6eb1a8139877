package main

import (
	"slices"
	"testing"
	"time"
)

// What takes a part of the time away is seen, and that nothing does.
func TestGauge(t *testing.T) {
	g := newGauge(processors())
	if len(g.workers) == 0 {
		if pace := g.pace(); pace != nil || g.lost(pace) != 0 {
			t.Errorf("something is gauged where there is nothing: %v", pace)
		}
		return
	}
	least := 1.0
	for range 20 {
		least = min(least, g.lost(g.pace()))
	}
	if least > 0.5 || slices.Min(g.best) <= 0 || slices.Max(g.best) > 10_000 {
		t.Errorf("at least %v of the time is lost; a piece takes %v us", least, g.best)
	}
	pace := slices.Clone(g.best)
	if lost := g.lost(pace); lost != 0 {
		t.Errorf("%v is lost at the best pace", lost)
	}
	pace[1] *= 2
	if lost := g.lost(pace); lost != 0.5 {
		t.Errorf("%v is lost where one processor takes twice as long", lost)
	}
	end := g.watch()
	time.Sleep(3 * beside)
	if pace := end(); len(pace) != 2 || slices.Min(pace) <= 0 {
		t.Errorf("beside a measurement %v", pace)
	}
}
