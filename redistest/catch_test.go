package redistest

import (
	"context"
	"testing"
	"time"
)

func TestFaultCatch(t *testing.T) {
	s := Start(t)
	f := s.Fault()
	c := through(t, f)
	late := f.Catch("set", "late")
	if err := c.Set(within(t, 50*time.Millisecond), "late", "v", 0).Err(); !timedOut(err) {
		t.Errorf("what is caught was answered: %v", err)
	}
	<-late.Caught()
	mustSet(t, c, "other", "v") // passes
	wantGet(t, s.Client(), "late", "")
	late.Release()
	await(t, "what was caught has come late", func(ctx context.Context) bool { return s.Admin().Get(ctx, "late").Val() == "v" })
	mustSet(t, c, "late", "w")
	if late.Count() != 1 {
		t.Errorf("%d are caught", late.Count())
	}
}

func TestFaultCatchAnswers(t *testing.T) {
	s := Start(t)
	f := s.Fault()
	c := through(t, f)
	silent := f.CatchAnswers("incr")
	if err := c.Incr(within(t, 50*time.Millisecond), "n").Err(); !timedOut(err) {
		t.Errorf("an answer came: %v", err)
	}
	wantGet(t, c, "n", "1")
	silent.Release()
	if n, err := c.Incr(t.Context(), "n").Result(); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestFaultOneWay(t *testing.T) {
	s := Start(t)
	f := s.Fault()
	c := through(t, f)
	mustSet(t, c, "k", "v") // a connection that has shaken hands
	f.Deafen()
	if err := c.Incr(within(t, 50*time.Millisecond), "n").Err(); !timedOut(err) {
		t.Errorf("an answer came: %v", err)
	}
	wantGet(t, s.Client(), "n", "1")
	f.Heal()
	mustSet(t, c, "k", "v")
	f.Mute()
	if err := c.Incr(within(t, 50*time.Millisecond), "n").Err(); !timedOut(err) {
		t.Errorf("an answer came: %v", err)
	}
	wantGet(t, s.Client(), "n", "1")
	f.Heal()
	await(t, "what was held goes on", func(ctx context.Context) bool { return s.Admin().Get(ctx, "n").Val() == "2" })
}

func TestFaultAim(t *testing.T) {
	one, two := Start(t), Start(t)
	f := one.Fault()
	c := through(t, f)
	mustSet(t, c, "k", "one")
	f.Aim(two)
	await(t, "the other server answers", func(ctx context.Context) bool { return c.Set(ctx, "k", "two", 0).Err() == nil })
	wantGet(t, two.Client(), "k", "two")
	wantGet(t, one.Client(), "k", "one")
	if f.URL() != "redis://"+f.Addr() {
		t.Error(f.URL())
	}
}
