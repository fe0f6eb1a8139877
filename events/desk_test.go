package events

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/metrics"
)

// What another replica vouches for is let go only where both clocks, at their worst, leave no doubt; what nobody vouches for in a long time
// is appended here.
func TestWhatIsLetGo(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) time.Time { return now.Add(d) }
	const second, tick = time.Second, 10 * time.Millisecond
	redis := func(d time.Duration) int64 { return 1_000_000_000 + d.Microseconds() }
	// Redis said 1000 s at some time between 10 ms ago and now.
	c := clock{redis: redis(0), sent: at(-tick), got: now}
	for _, test := range []struct {
		name            string
		theirs          span
		after, received time.Duration
		want            string
	}{
		{"in the middle", span{redis(-4 * second), redis(0)}, -3 * second, -2 * second, left},
		{"as close to the end as both clocks allow", span{redis(-4 * second), redis(-2*second + tick + 2*time.Microsecond)}, -3 * second, -2 * second, left},
		{"closer", span{redis(-4 * second), redis(-2*second + tick)}, -3 * second, -2 * second, ""},
		{"as close to the begin", span{redis(-3*second - passing), redis(0)}, -3 * second, -2 * second, left},
		{"closer", span{redis(-3*second - passing + time.Microsecond), redis(0)}, -3 * second, -2 * second, ""},
		{"nothing is vouched for", span{}, -3 * second, -2 * second, ""},
		{"nothing for so long", span{}, -7 * second, -6 * second, appended},
		{"not all that was merged into it", span{redis(-4 * second), redis(-2 * second)}, -3 * second, -1 * second, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := metrics.New()
			var added []invalidation.Purge
			d := newTestDesk(m, func(_ context.Context, p invalidation.Purge) error {
				added = append(added, p)
				return nil
			})
			d.lease.clock, d.now = c, func() time.Time { return now }
			d.put(newRequest([]invalidation.Purge{{Kind: invalidation.KindAll}}, at(test.after), at(test.received)))
			d.letGo(t.Context(), test.theirs)
			for _, result := range results {
				want := 0
				if result == test.want {
					want = 1
				}
				if n := count(t, m, "cacheproxy_events_total", result); n != want {
					t.Errorf("%s: %d", result, n)
				}
			}
			if kept := test.want == ""; len(d.waiting) == 1 != kept || len(d.byKey) == 1 != kept || len(added) == 1 != (test.want == appended) {
				t.Errorf("%d wait, %d are known, %d are appended", len(d.waiting), len(d.byKey), len(added))
			}
		})
	}
	t.Run("not known since when", func(t *testing.T) {
		d := newTestDesk(nil, nil)
		d.lease.clock, d.now = c, func() time.Time { return now }
		d.put(newRequest(nil, time.Time{}, at(-2*second)))
		if d.letGo(t.Context(), span{1, redis(second)}); len(d.waiting) != 1 {
			t.Error("let go")
		}
	})
}

// What is vouched for is what was certainly received, by both clocks at their worst.
func TestVouch(t *testing.T) {
	now := time.Now()
	c := clock{redis: 1_000_000_000, sent: now.Add(-10 * time.Millisecond), got: now}
	if got, want := c.vouch(now.Add(-5*time.Second), now.Add(-time.Second)), (span{995_010_001, 998_000_000}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if got := c.vouch(now.Add(-2*time.Second), now.Add(-time.Second)); got != (span{}) {
		t.Errorf("%v: too short", got)
	}
	var unknown clock
	if got := unknown.vouch(now.Add(-5*time.Second), now); got != (span{}) {
		t.Errorf("%v: no time by Redis is known", got)
	}
}

func newTestDesk(m *metrics.Metrics, add func(context.Context, invalidation.Purge) error) *desk {
	log := slog.New(slog.DiscardHandler)
	return &desk{opt: &Options{Append: add, Metrics: m, Log: log}, rare: &rareLog{log: log}, byKey: map[string]*request{}, now: time.Now}
}

// What the log did not take is kept, in order, and what waits is bounded.
func TestWhatIsKept(t *testing.T) {
	m := metrics.New()
	var added []string
	fail := ""
	d := newTestDesk(m, func(_ context.Context, p invalidation.Purge) error {
		if p.Selector == fail {
			return errors.New("no log")
		}
		added = append(added, p.Selector)
		return nil
	})
	put := func(selectors ...string) {
		for _, s := range selectors {
			d.put(newRequest([]invalidation.Purge{{Kind: invalidation.KindURL, Selector: s}}, time.Now(), time.Now()))
		}
	}
	put("a", "b", "c", "b")
	fail = "b"
	if d.appendAll(t.Context()) || !slices.Equal(added, []string{"a"}) || len(d.waiting) != 2 {
		t.Errorf("%v, %d wait", added, len(d.waiting))
	}
	fail = ""
	put("a", "c")
	if !d.appendAll(t.Context()) || !slices.Equal(added, []string{"a", "b", "c", "a"}) || len(d.waiting)+len(d.byKey) != 0 {
		t.Errorf("%v, %d wait", added, len(d.waiting))
	}
	if n := count(t, m, "cacheproxy_events_total", merged); n != 2 {
		t.Errorf("%d were merged", n)
	}
	for i := range maxWaiting + 3 {
		put(string(rune(1000 + i)))
	}
	if n := count(t, m, "cacheproxy_events_total", dropped); n != 3 || len(d.waiting) != maxWaiting || d.whole.IsZero() {
		t.Errorf("%d were dropped, %d wait, whole since %v", n, len(d.waiting), d.whole)
	}
}
