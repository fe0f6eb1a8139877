package limiter

import (
	"sync/atomic"
	"testing"
	"time"

	"cacheproxy/internal/breaker"
	"cacheproxy/redistest"
)

// away makes a replica over a Redis that can be cut off.
func away(t *testing.T, change func(*Options), specs ...Spec) (*replica, *redistest.Server, *redistest.Fault) {
	t.Helper()
	s := server(t)
	fault := s.Fault()
	r := newReplica(t, fault.Addr(), func(o *Options) {
		o.Timeout = 2 * time.Second // a machine may be slow: what is cut off fails at once
		o.Breaker = breaker.Options{Failures: 2, Cooldown: 20 * time.Millisecond}
		if change != nil {
			change(o)
		}
	}, specs...)
	return r, s, fault
}

// opened waits until Redis is not asked any more, and closed until it is asked for everybody.
func (r *replica) opened(t *testing.T) {
	t.Helper()
	await(t, "open", func() bool {
		if r.shared.breaker.Allow() {
			r.reserve(t, from("203.0.113.1"))
		}
		return !r.shared.breaker.Allow()
	})
}

func (r *replica) closed(t *testing.T) {
	t.Helper()
	await(t, "closed", func() bool { return r.shared.breaker.Allow() && time.Since(r.shared.breaker.ClosedAt()) >= comeback })
}

// What each limit does while Redis does not answer, and how many are admitted in a window that has an outage: those before it, those of it, and
// those after it.
func TestOutages(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*redistest.Fault){"gone": (*redistest.Fault).Cut, "slow": func(f *redistest.Fault) { f.Delay(3 * time.Second) }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testOutages(t, begin)
		})
	}
}

func testOutages(t *testing.T, begin func(*redistest.Fault)) {
	const limit = 100
	for _, c := range []struct {
		name                  string
		on                    Outage
		accuracy              Accuracy
		before, during, after int // admitted, of 30 asked before, of 200 during and of 200 after
		status                int // of who is refused during it
	}{
		{"local", Local, Exact, 30, 70, 0, 429},
		{"local, leased", Local, Leased, 30, 70, 0, 429},
		{"divided", Divided, Exact, 30, 0, 70, 429}, // a fifth of the limit is less than what was admitted before
		{"open", Open, Exact, 30, 200, 70, 0},
		{"closed", Closed, Exact, 30, 0, 70, 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _, fault := away(t, func(o *Options) { o.Replicas = func() int { return 5 } },
				Spec{Name: "per-client", Limit: limit, Window: time.Hour, Accuracy: c.accuracy, OnOutage: c.on})
			if n := r.admitted(t, "192.0.2.7", 30); n != c.before {
				t.Errorf("before: %d admitted, want %d", n, c.before)
			}
			begin(fault)
			r.opened(t)
			if n := r.admitted(t, "192.0.2.7", 200); n != c.during {
				t.Errorf("during: %d admitted, want %d", n, c.during)
			}
			if held := r.reserve(t, from("192.0.2.7")); c.status != 0 && held.Status() != c.status {
				t.Errorf("during: status %d, want %d", held.Status(), c.status)
			} else if c.status == 0 && held.Refused() {
				t.Error("during: refused")
			}
			fault.Heal()
			r.closed(t)
			if n := r.admitted(t, "192.0.2.7", 200); n != c.after {
				t.Errorf("after: %d admitted, want %d", n, c.after)
			}
		})
	}
}

// In divided mode each replica has its part, one at the least.
func TestDividedOutage(t *testing.T) {
	t.Parallel()
	var replicas atomic.Int64
	r, _, fault := away(t, func(o *Options) { o.Replicas = func() int { return int(replicas.Load()) } },
		Spec{Name: "per-client", Limit: 100, Window: time.Hour, OnOutage: Divided})
	fault.Cut()
	r.opened(t)
	for _, c := range []struct{ replicas, want int }{{4, 25}, {1000, 1}, {0, 100}, {-3, 100}} {
		replicas.Store(int64(c.replicas))
		client := from("192.0.2.7").Client.Next()
		for range c.replicas % 7 {
			client = client.Next()
		}
		if n := r.admitted(t, client.String(), 200); n != c.want && c.replicas >= 0 {
			t.Errorf("of %d replicas: %d admitted, want %d", c.replicas, n, c.want)
		}
	}
}

// Redis goes and comes back many times in one window: what was admitted without it is neither forgotten nor counted anew.
func TestLocalCountSurvivesFlaps(t *testing.T) {
	t.Parallel()
	r, _, fault := away(t, nil, Spec{Name: "per-client", Limit: 100, Window: time.Hour, Accuracy: Exact})
	total := 0
	for range 6 {
		fault.Cut()
		r.opened(t)
		total += r.admitted(t, "192.0.2.7", 12)
		fault.Heal()
		r.closed(t)
		total += r.admitted(t, "192.0.2.7", 12)
	}
	if total != 100 {
		t.Errorf("%d admitted, want 100", total)
	}
}

// The window in which Redis was restarted empty, or lost its last writes, admits at most twice the limit: once from each count.
func TestRestartedRedis(t *testing.T) {
	t.Parallel()
	for _, accuracy := range []Accuracy{Exact, Leased} {
		t.Run(string(accuracy), func(t *testing.T) {
			s := server(t)
			all := fleet(t, 4, s.Addr(), Spec{Name: "per-client", Limit: 1000, Window: time.Hour, Accuracy: accuracy})
			before := offer(t, all, 700, nil)
			s.RestartEmpty()
			for _, r := range all {
				await(t, "there again", func() bool { return r.shared.client.Ping(t.Context()).Err() == nil })
			}
			after := offer(t, all, 20_000, nil)
			if before != 700 || after > 1000+4*1000/leaseShare || before+after > 2000 {
				t.Errorf("%d admitted before and %d after", before, after)
			}
			t.Logf("%d admitted before and %d after", before, after)
		})
	}
}

// No request waits for Redis longer than the timeout, however many limits it has and whoever else asks.
func TestSlowRedis(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{40 * time.Millisecond, 20 * time.Second} {
		for _, accuracy := range []Accuracy{Exact, Leased} {
			t.Run(delay.String()+" "+string(accuracy), func(t *testing.T) {
				const timeout = 150 * time.Millisecond
				r, _, fault := away(t, func(o *Options) { o.Timeout = timeout },
					Spec{Name: "a", Limit: 1000, Window: time.Hour, Accuracy: accuracy},
					Spec{Name: "b", Limit: 1000, Window: time.Hour, Accuracy: accuracy, Algorithm: GCRA})
				fault.Delay(delay)
				var longest time.Duration
				for range 20 {
					held := r.reserve(t, from("192.0.2.7"))
					longest = max(longest, held.Waited())
					if held.Refused() {
						t.Error("refused")
					}
				}
				// The machine may take its time after the timeout; that nothing waits for Redis's is what is shown.
				if longest > timeout+10*time.Second {
					t.Errorf("a request waited %s, with a timeout of %s", longest, timeout)
				}
				if slow := delay > timeout; slow == r.shared.breaker.Allow() && slow {
					t.Error("Redis is still asked")
				}
			})
		}
	}
}

// After an outage clients come back to Redis one after the other.
func TestComeback(t *testing.T) {
	t.Parallel()
	r, _, fault := away(t, nil, Spec{Name: "per-client", Limit: 100, Window: time.Hour, Accuracy: Exact})
	fault.Cut()
	r.opened(t)
	fault.Heal()
	await(t, "closed", r.shared.breaker.Allow)
	m := r.Current().all[0]
	const clients = 1 << 10 // evenly over the second
	since := time.Since(r.shared.breaker.ClosedAt())
	back := 0
	for i := range clients {
		if m.answers(&entry{spread: uint32(i) << 22}) {
			back++
		}
	}
	elapsed := time.Since(r.shared.breaker.ClosedAt())
	if least, most := int(since*clients/comeback), int(elapsed*clients/comeback)+1; elapsed < comeback && (back < least || back > most) {
		t.Errorf("after %s %d of %d are back, want %d to %d", elapsed, back, clients, least, most)
	}
	r.closed(t)
	if !m.answers(&entry{spread: 1<<32 - 1}) {
		t.Error("the last one is not back")
	}
}
