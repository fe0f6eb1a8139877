package limiter

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// offer has each replica send its part of n requests of one client, some at once, and returns how many were admitted. meanwhile runs beside.
func offer(t *testing.T, replicas []*replica, n int, meanwhile func()) int64 {
	t.Helper()
	const atOnce = 4
	var admitted atomic.Int64
	var left atomic.Int64
	left.Store(int64(n))
	var work sync.WaitGroup
	for _, r := range replicas {
		for range atOnce {
			work.Go(func() {
				a := from("192.0.2.7")
				for left.Add(-1) >= 0 {
					if !r.reserve(t, a).Refused() {
						admitted.Add(1)
					}
				}
			})
		}
	}
	if meanwhile != nil {
		meanwhile()
	}
	work.Wait()
	return admitted.Load()
}

// Four replicas admit together what the limit says, whatever time they think it is.
func TestReplicasShareAnExactLimit(t *testing.T) {
	t.Parallel()
	s := server(t)
	all := fleet(t, 4, s.Addr(), Spec{Name: "per-client", Limit: 1000, Window: time.Hour, Accuracy: Exact})
	if n := offer(t, all, 20_000, nil); n != 1000 {
		t.Errorf("%d of 20,000 requests were admitted, want 1000", n)
	}
	for i, r := range all {
		r.admits(t, "192.0.2.7") // this one may not have been refused yet
		before := r.asked.scripts.Load()
		r.admitted(t, "192.0.2.7", 100)
		if asked := r.asked.scripts.Load() - before; asked > 1 { // one more, if the refusal is older than recheck
			t.Errorf("replica %d asked Redis %d times for a client that it refuses", i, asked)
		}
	}
}

// A lease is never of more than the limit has, and little is left over: what replicas hold when one of them is the last to be asked.
func TestReplicasShareALeasedLimit(t *testing.T) {
	t.Parallel()
	s := server(t)
	admin := s.Client()
	all := fleet(t, 4, s.Addr(), Spec{Name: "per-client", Limit: 1000, Window: time.Hour})
	n := offer(t, all, 20_000, func() {
		for range 20 {
			if err := admin.ScriptFlush(context.Background()).Err(); err != nil {
				t.Error(err)
			}
		}
	})
	var held int64
	for _, r := range all {
		told, err := r.Standing(t.Context(), "per-client", "192.0.2.7")
		if err != nil {
			t.Fatal(err)
		}
		held += told.Leased
	}
	if n > 1000 || n+held != 1000 {
		t.Errorf("%d of 20,000 requests were admitted, and %d tokens are leased: want 1000 together", n, held)
	}
	if n < 800 {
		t.Errorf("%d were admitted: what is leased is more than a twentieth for each", n)
	}
	t.Logf("%d admitted of 1000, %d leased at the end", n, held)
	// What is leased comes back, and is then admitted: by whoever asks Redis again.
	await(t, "all admitted", func() bool {
		for _, r := range all {
			n += int64(r.admitted(t, "192.0.2.7", 10))
		}
		return n >= 1000
	})
	if n != 1000 {
		t.Errorf("%d were admitted in all, want 1000", n)
	}
}

// A replica that dies takes its leases with it; the window admits fewer then, and never more.
func TestReplicaThatDies(t *testing.T) {
	t.Parallel()
	s := server(t)
	all := fleet(t, 4, s.Addr(), Spec{Name: "per-client", Limit: 1000, Window: time.Hour})
	dead, alive := all[:1], all[1:]
	n := offer(t, dead, 100, nil)
	told, err := dead[0].Standing(t.Context(), "per-client", "192.0.2.7")
	if err != nil {
		t.Fatal(err)
	}
	lost := told.Leased
	shard, e := dead[0].Current().all[0].table.find("192.0.2.7")
	e.tokens = 0 // it tells nobody any more
	shard.mu.Unlock()
	n += offer(t, alive, 20_000, nil)
	var held int64
	for _, r := range alive {
		told, _ := r.Standing(t.Context(), "per-client", "192.0.2.7")
		held += told.Leased
	}
	if lost == 0 || n+held+lost != 1000 {
		t.Errorf("%d admitted, %d leased, %d lost: want 1000 together", n, held, lost)
	}
}

// In exact mode sliding and gcra decide as the specification does at the time of Redis, on whatever replica.
func TestExactDecisionsAreTheSpecifications(t *testing.T) {
	t.Parallel()
	s := server(t)
	clock := s.Client()
	for _, spec := range []Spec{
		{Name: "sliding", Limit: 20, Window: 300 * time.Millisecond, Algorithm: Sliding, Accuracy: Exact},
		{Name: "gcra", Limit: 20, Window: 500 * time.Millisecond, Burst: 7, Algorithm: GCRA, Accuracy: Exact},
	} {
		t.Run(spec.Name, func(t *testing.T) {
			all := fleet(t, 4, s.Addr(), spec)
			m := measureOf(&spec)
			var known state
			unsure, refused := 0, 0
			for i := range 1500 {
				at := redisTime(t, clock)
				got := all[i%4].admits(t, "192.0.2.7")
				then := redisTime(t, clock)
				early, late := known, known
				was := m.take(&early, at/m.tick, question{cost: 1, most: 1}).granted > 0
				is := m.take(&late, then/m.tick, question{cost: 1, most: 1}).granted > 0
				switch {
				case was != is: // it may have been one or the other
					unsure++
				case was != got:
					t.Fatalf("request %d: admitted %v, want %v", i, got, was)
				}
				if !got {
					refused++
					continue
				}
				// When exactly it was counted is in Redis.
				known = kept(t, clock, m, spec.Name)
			}
			if refused < 20 || unsure > 500 {
				t.Errorf("%d were refused, and of %d nothing can be said: nothing is shown", refused, unsure)
			}
		})
	}
}

func redisTime(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	now, err := c.Time(context.Background()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return now.UnixMicro()
}

// kept is the state of the client as Redis has it.
func kept(t *testing.T, c *redis.Client, m measure, name string) (s state) {
	t.Helper()
	key := "cp:r:{" + name + ":192.0.2.7}"
	fields := []string{"c", "p", "n"}
	if m.algorithm == GCRA {
		fields = []string{"l", "l", "t"}
	}
	values, err := c.HMGet(context.Background(), key, fields...).Result()
	if err != nil {
		t.Fatal(err)
	}
	numbers := [3]int64{}
	for i, v := range values {
		text, _ := v.(string)
		for _, digit := range text {
			numbers[i] = numbers[i]*10 + int64(digit-'0')
		}
	}
	s = state{count: numbers[0], mark: numbers[2]}
	if m.algorithm == Sliding {
		s.previous = numbers[1]
	}
	return s
}

// Leased sliding and gcra admit at the most what is leased out beyond the limit.
func TestLeasedBounds(t *testing.T) {
	t.Parallel()
	s := server(t)
	for _, spec := range []Spec{
		{Name: "sliding", Limit: 400, Window: 2 * time.Second, Algorithm: Sliding},
		{Name: "gcra", Limit: 400, Window: 2 * time.Second, Burst: 400, Algorithm: GCRA},
	} {
		t.Run(spec.Name, func(t *testing.T) {
			all := fleet(t, 4, s.Addr(), spec)
			began := time.Now()
			var admitted int64
			for time.Since(began) < 2500*time.Millisecond {
				r := all[rand.N(4)]
				if r.admits(t, "192.0.2.7") {
					admitted++
				}
			}
			elapsed := time.Since(began)
			out := int64(4 * 400 / leaseShare)
			most := int64(400) + out + int64(float64(400)*elapsed.Seconds()/2)
			if spec.Algorithm == Sliding { // two windows at the most, each with what is leased
				most = 2*(400+out) + int64(float64(400)*(elapsed.Seconds()-2)/2)
			}
			if admitted > most || admitted < 400 {
				t.Errorf("%d were admitted in %s, want from 400 to %d", admitted, elapsed, most)
			}
			t.Logf("%d admitted in %s, %d at the most", admitted, elapsed, most)
		})
	}
}

// Several limits of a request are asked in one round trip, and what one of them refuses costs the others nothing.
func TestSeveralLimits(t *testing.T) {
	t.Parallel()
	s := server(t)
	r := newReplica(t, s.Addr(), nil,
		Spec{Name: "many", Limit: 100, Window: time.Hour, Accuracy: Exact},
		Spec{Name: "bucket", Limit: 100, Window: time.Hour, Algorithm: GCRA, Accuracy: Exact},
		Spec{Name: "few", Limit: 3, Window: time.Hour, Algorithm: Sliding, Accuracy: Exact},
	)
	if n := r.admitted(t, "192.0.2.7", 10); n != 3 {
		t.Errorf("%d admitted, want 3", n)
	}
	trips, scripts := r.asked.trips.Load(), r.asked.scripts.Load()
	// The first trip is made again, since Redis does not know the scripts.
	if trips != 5 || scripts != 15 {
		t.Errorf("%d scripts in %d round trips, want 15 in 5", scripts, trips)
	}
	held := r.reserve(t, from("192.0.2.7"))
	if !held.Refused() || held.Limit() != "few" {
		t.Errorf("refused %v by %q", held.Refused(), held.Limit())
	}
	await(t, "given back", func() bool {
		told, err := r.Standing(t.Context(), "many", "192.0.2.7")
		bucket, err2 := r.Standing(t.Context(), "bucket", "192.0.2.7")
		return err == nil && err2 == nil && told.Remaining == 97 && bucket.Remaining == 97
	})
}
