package main

import (
	"testing"
	"time"
)

// What takes a part of the time away is seen, and that nothing does.
func TestGauge(t *testing.T) {
	g := newGauge(processors())
	if len(g.workers) == 0 {
		if lost := g.lost(); lost != 0 {
			t.Errorf("%v is lost where nothing is gauged", lost)
		}
		return
	}
	if g.best <= 0 || g.best > 100*time.Millisecond {
		t.Fatalf("a piece takes %v", g.best)
	}
	least := 1.0
	for range 20 {
		least = min(least, g.lost())
	}
	if least > 0.5 {
		t.Errorf("at least %v of the time is lost", least)
	}
	g.best /= 2 // processors that were twice as fast
	if lost := g.lost(); lost < 0.4 {
		t.Errorf("of a half that is gone, %v is lost", lost)
	}
}
