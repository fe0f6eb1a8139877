package limiter

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"cacheproxy/internal/breaker"
)

// crowd has each of n clients ask k times.
func (r *replica) crowd(t *testing.T, n, k int) {
	t.Helper()
	a := from("10.0.0.0")
	for range n {
		a.Client = a.Client.Next()
		for range k {
			if r.reserve(t, a).Refused() {
				t.Fatalf("%v is refused", a.Client)
			}
		}
	}
}

// told is how many tokens of n clients Redis has counted.
func (r *replica) told(t *testing.T, n int) (sum int64) {
	t.Helper()
	m := r.Current().all[0]
	list := make([]inquiry, n)
	address := netip.MustParseAddr("10.0.0.0")
	for i := range list {
		address = address.Next()
		list[i] = inquiry{limit: m, key: m.redisKey(address.String())}
	}
	r.shared.send(context.Background(), list)
	for i := range list {
		if list[i].err != nil {
			t.Fatal(list[i].err)
		}
		sum += m.measure.limit - list[i].answer.left
	}
	return sum
}

// What thousands of clients were admitted in an outage is counted afterwards, however far away Redis is, and that is no reason to take it for
// gone again.
func TestDebtsOfACrowd(t *testing.T) {
	t.Parallel()
	const n = 2000
	r, _, fault := away(t, func(o *Options) {
		o.Timeout = 2 * time.Second
		o.Breaker = breaker.Options{Failures: 2, Cooldown: 20 * time.Millisecond}
	},
		Spec{Name: "a", Limit: 100, Window: time.Hour, Accuracy: Exact})
	fault.Cut()
	r.opened(t)
	r.crowd(t, n, 2)
	fault.Heal()
	await(t, "closed", r.shared.breaker.Allow)
	since := r.shared.breaker.ClosedAt()
	fault.Delay(20 * time.Millisecond)
	await(t, "counted", func() bool { return r.told(t, n) == 2*n })
	if r.shared.breaker.ClosedAt() != since {
		t.Error("Redis was taken for gone meanwhile")
	}
}

// All that is leased is given back at the end, and when a limit is changed, however many clients it is of and however far away Redis is.
func TestLeasesOfACrowd(t *testing.T) {
	t.Parallel()
	const n = 1500
	s := server(t)
	fault := s.Fault()
	r := newReplica(t, fault.Addr(), nil, Spec{Name: "a", Limit: 1000, Window: time.Hour})
	watch := newReplica(t, s.Addr(), nil, Spec{Name: "a", Limit: 1000, Window: time.Hour})
	r.crowd(t, n, 2)
	if watch.told(t, n) == 2*n {
		t.Error("nothing was leased")
	}
	fault.Delay(10 * time.Millisecond)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, want := watch.told(t, n), int64(2*n); n != want {
		t.Errorf("%d tokens are counted at the end, and %d were used", n, want)
	}
}

// Whom Redis has refused stays refused in an outage until the time that Redis has said, also where it would be asked again before.
func TestRefusedBeforeAnOutage(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	r, _, fault := away(t, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) } },
		Spec{Name: "a", Limit: 10, Window: time.Hour, Cost: map[string]int64{"hit": 0}})
	other := newReplica(t, fault.Addr(), nil, Spec{Name: "a", Limit: 10, Window: time.Hour, Cost: map[string]int64{"hit": 0}})
	for range 20 {
		other.admits(t, "192.0.2.7")
	}
	if r.admits(t, "192.0.2.7") {
		t.Fatal("admitted")
	}
	fault.Cut()
	r.opened(t)
	later.Store(int64(2 * refundable))
	if n := r.admitted(t, "192.0.2.7", 20); n > 0 {
		t.Errorf("%d admitted in the outage", n)
	}
}
