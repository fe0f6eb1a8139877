package limiter

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestDecisionsDoNotAllocate holds what is decided without Redis to no allocation: by a lease, by a refusal, and in the process.
func TestDecisionsDoNotAllocate(t *testing.T) {
	s := server(t)
	leased := newReplica(t, s.Addr(), nil, Spec{Name: "leased", Limit: 1_000_000_000, Window: 24 * time.Hour})
	for range 40 { // until leases are of their full size
		leased.admitted(t, "192.0.2.7", 1000)
	}
	refused := newReplica(t, s.Addr(), nil, Spec{Name: "refused", Limit: 1, Window: time.Hour, Accuracy: Exact})
	alone := newReplica(t, "", nil, Spec{Name: "alone", Key: []string{"client", "header.Tier", "cookie.id"}, Limit: 10, Window: time.Hour, Algorithm: Sliding})
	for name, r := range map[string]*replica{"leased": leased, "refused": refused, "in the process": alone} {
		set, _ := r.Current().All()
		a := from("192.0.2.7")
		a.Request.Header = http.Header{"Tier": {"gold"}, "Cookie": {"a=b; id=1"}}
		held := new(Reservation)
		decide := func() { set.Reserve(context.Background(), a, held); held.Settle(Hit) }
		decide()
		before := r.asked.scripts.Load()
		if n := testing.AllocsPerRun(1000, decide); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if asked := r.asked.scripts.Load() - before; asked > 1 { // a lease may have become a second old
			t.Errorf("%s: asked Redis %d times", name, asked)
		}
	}
}

func BenchmarkDecision(b *testing.B) {
	s := server(b)
	for name, r := range map[string]*replica{
		"leased":  newReplica(b, s.Addr(), nil, Spec{Name: "leased", Limit: 1_000_000_000, Window: 24 * time.Hour}),
		"refused": newReplica(b, s.Addr(), nil, Spec{Name: "refused", Limit: 1, Window: time.Hour, Accuracy: Exact}),
		"process": newReplica(b, "", nil, Spec{Name: "process", Limit: 1_000_000_000, Window: time.Hour}),
	} {
		b.Run(name, func(b *testing.B) {
			set, _ := r.Current().All()
			a, held := from("192.0.2.7"), new(Reservation)
			b.ReportAllocs()
			for b.Loop() {
				set.Reserve(context.Background(), a, held)
			}
		})
	}
}

// BenchmarkExact compares a decision of Redis with a bare EVALSHA of a script that counts, by turns, so that both have the same machine.
func BenchmarkExact(b *testing.B) {
	s := server(b)
	client := dial(b, s.Addr(), patience)
	r := newReplica(b, s.Addr(), nil, Spec{Name: "exact", Limit: 1_000_000_000, Window: 24 * time.Hour, Accuracy: Exact})
	set, _ := r.Current().All()
	a, held := from("192.0.2.7"), new(Reservation)
	bare := redis.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1])")
	ctx := context.Background()
	_ = bare.Run(ctx, client, []string{"bare"}, 1).Err()
	set.Reserve(ctx, a, held)
	var ours, theirs []time.Duration
	before := r.asked.scripts.Load()
	for b.Loop() {
		began := time.Now()
		set.Reserve(ctx, a, held)
		then := time.Now()
		limited, cancel := context.WithTimeout(ctx, patience)
		_ = client.EvalSha(limited, bare.Hash(), []string{"bare"}, 1).Err()
		cancel()
		ours, theirs = append(ours, then.Sub(began)), append(theirs, time.Since(then))
	}
	b.ReportMetric(median(ours)/median(theirs), "of-bare")
	b.ReportMetric(float64(r.asked.scripts.Load()-before)/float64(len(ours)), "asks/op")
}

func median(list []time.Duration) float64 {
	slices.Sort(list)
	return float64(list[len(list)/2])
}

// BenchmarkOverload offers four replicas seven times what a limit of 1,000 a second admits, for some seconds, and reports what a decision asks
// of Redis and takes, and what a window admits: never more than the limit.
func BenchmarkOverload(b *testing.B) {
	for _, accuracy := range []Accuracy{Leased, Exact} {
		b.Run(string(accuracy), func(b *testing.B) { overload(b, accuracy) })
	}
}

func overload(b *testing.B, accuracy Accuracy) {
	const offered, seconds, limit = 7000, 6, 1000
	s := server(b)
	all := make([]*replica, 4)
	for i := range all {
		all[i] = newReplica(b, s.Addr(), nil, Spec{Name: "overload", Limit: limit, Window: time.Second, Accuracy: accuracy})
	}
	for range b.N {
		var mu sync.Mutex
		var took []time.Duration
		windows := map[int64]int{}
		var work sync.WaitGroup
		for i, r := range all {
			work.Go(func() {
				set, _ := r.Current().All()
				a, held := from("192.0.2.7"), new(Reservation)
				began, n := time.Now(), 0
				for time.Since(began) < seconds*time.Second {
					due := int(time.Since(began).Seconds() * offered / 4)
					for ; n < due; n++ {
						start := time.Now()
						set.Reserve(context.Background(), a, held)
						d := time.Since(start)
						mu.Lock()
						took = append(took, d)
						if !held.Refused() {
							windows[held.claims[0].tag]++
						}
						mu.Unlock()
					}
					time.Sleep(time.Millisecond + time.Duration(rand.N(200))*time.Microsecond*time.Duration(i%2))
				}
			})
		}
		work.Wait()
		asked := int64(0)
		for _, r := range all {
			asked += r.asked.scripts.Swap(0)
		}
		most, full := 0, 0
		for _, n := range windows {
			if most = max(most, n); n >= limit*95/100 {
				full++
			}
		}
		slices.Sort(took)
		b.ReportMetric(float64(asked)/float64(len(took)), "asks/decision")
		b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
		b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
		b.ReportMetric(float64(most), "most-a-window")
		b.ReportMetric(float64(full)/float64(len(windows)), "windows-95%-full")
		if most > limit {
			b.Errorf("a window admitted %d", most)
		}
	}
}
