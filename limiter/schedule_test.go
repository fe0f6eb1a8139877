package limiter

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/breaker"
)

// Orders of events that a limit must come through, each of which it once did not.

// Many requests of one client at once wait for one question, which is for all of them: none waits until its time is over and is then admitted
// without Redis, at the end of a limit least of all.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	s := server(t)
	for _, accuracy := range []Accuracy{Leased, Exact} {
		for _, limit := range []int64{100, 1000} {
			t.Run(fmt.Sprint(accuracy, limit), func(t *testing.T) {
				name := fmt.Sprint(accuracy, limit)
				all := make([]*replica, 4)
				for i := range all {
					fault := s.Fault()
					fault.Delay(time.Millisecond)
					all[i] = newReplica(t, fault.Addr(), nil, Spec{Name: name, Limit: limit, Window: time.Hour, Accuracy: accuracy})
				}
				var admitted, asked atomic.Int64
				var work sync.WaitGroup
				for _, r := range all {
					for range 100 {
						work.Go(func() {
							for range 10 {
								if !r.reserve(t, from("192.0.2.7")).Refused() {
									admitted.Add(1)
								}
							}
						})
					}
				}
				work.Wait()
				for _, r := range all {
					asked.Add(r.asked.scripts.Load())
				}
				if n := admitted.Load(); n != limit {
					t.Errorf("%d admitted, want %d", n, limit)
				}
				if n := asked.Load(); n > limit/2 {
					t.Errorf("Redis was asked %d times", n)
				}
			})
		}
	}
}

// A token is good until the window ends in Redis, and not a moment longer, whatever Redis rounds.
func TestLeasesEndWithTheirWindow(t *testing.T) {
	t.Parallel()
	s := server(t)
	client := s.Client()
	r := newReplica(t, s.Addr(), nil, Spec{Name: "a", Limit: 1000, Window: time.Hour})
	for i := range 200 {
		who := fmt.Sprintf("192.0.2.%d", i)
		r.admitted(t, who, 2)
		last, err := client.PExpireTime(t.Context(), "cp:r:{a:"+who+"}").Result() // the last millisecond in which the key is there
		if err != nil {
			t.Fatal(err)
		}
		shard, e := r.Current().all[0].table.find(who)
		ends := r.started.Add(time.Duration(e.ends-1) * time.Microsecond)
		shard.mu.Unlock()
		if end := time.UnixMilli(last.Milliseconds() + 1); ends.After(end) {
			t.Fatalf("a lease outlives its window by %s", ends.Sub(end))
		}
	}
}

// Clients are not held to a window that is not configured any more.
func TestShorterWindow(t *testing.T) {
	t.Parallel()
	s := server(t)
	for _, algorithm := range []Algorithm{Fixed, Sliding, GCRA} {
		spec := Spec{Name: string(algorithm), Limit: 3, Window: time.Hour, Accuracy: Exact, Algorithm: algorithm}
		r := newReplica(t, s.Addr(), nil, spec)
		r.admitted(t, "192.0.2.7", 10)
		spec.Window = time.Second
		next, err := r.Compile([]Spec{spec})
		if err != nil {
			t.Fatal(err)
		}
		r.Adopt(next)
		if held := r.reserve(t, from("192.0.2.7")); held.RetryAfter() > time.Second {
			t.Errorf("%s: refused for %s", algorithm, held.RetryAfter())
		}
	}
}

// A clock of Redis that is set back, as by a failover, blocks nobody.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	s := server(t)
	client := s.Client()
	r := newReplica(t, s.Addr(), nil, Spec{Name: "a", Limit: 100, Window: time.Second, Accuracy: Exact, Algorithm: GCRA})
	r.admitted(t, "192.0.2.7", 1000)
	const key = "cp:r:{a:192.0.2.7}"
	at, err := client.HGet(t.Context(), key, "t").Int64()
	if err != nil {
		t.Fatal(err)
	}
	client.HSet(t.Context(), key, "t", at+time.Hour.Microseconds())
	client.PExpire(t.Context(), key, time.Hour)
	await(t, "admitted", func() bool { return r.admits(t, "192.0.2.7") })
}

// What was too much is given back to the window that it was taken from, and to no other.
func TestRefundOfAnEarlierWindow(t *testing.T) {
	t.Parallel()
	s := server(t)
	for _, address := range []string{"", s.Addr()} {
		for _, algorithm := range []Algorithm{Fixed, Sliding} {
			name := "of-" + string(algorithm)
			r := newReplica(t, address, nil, Spec{
				Name: name, Limit: 100, Window: 300 * time.Millisecond, Algorithm: algorithm, Cost: map[string]int64{"miss": 10, "hit": 0, "error": 10},
			})
			var slow []*Reservation
			for range 10 {
				slow = append(slow, r.reserve(t, from("192.0.2.7")))
			}
			await(t, "in another window", func() bool { return r.admits(t, "192.0.2.7") })
			await(t, "in another window by far", func() bool { return r.Summaries()[0].Clients == 0 })
			spent := 0
			first := new(Reservation)
			spend := func(n int) {
				for range n {
					held := r.reserve(t, from("192.0.2.7"))
					if spent == 0 {
						*first = *held
					}
					if held.claims[0].tag == first.claims[0].tag && !held.Refused() {
						spent += 10
					}
				}
			}
			spend(10)
			for _, held := range slow {
				held.Settle(Hit)
			}
			spend(20)
			if spent > 100 {
				t.Errorf("%s over %q: %d spent in one window of 100", algorithm, address, spent)
			}
		}
	}
}

// What was admitted in a long outage counts afterwards as far as it would count by then, and no more.
func TestLongOutage(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []Algorithm{Sliding, GCRA} {
		r, _, fault := away(t, nil, Spec{Name: "a", Limit: 100, Window: 400 * time.Millisecond, Algorithm: algorithm, Accuracy: Exact})
		fault.Cut()
		r.opened(t)
		for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(10 * time.Millisecond) { // 40 in a window, at the most
			if !r.admits(t, "192.0.2.7") {
				t.Fatalf("%s: refused in the outage", algorithm)
			}
		}
		fault.Heal()
		r.closed(t)
		if held := r.reserve(t, from("192.0.2.7")); held.Refused() {
			t.Errorf("%s: refused after it, for %s", algorithm, held.RetryAfter())
		}
	}
}

// A script that runs and whose answer is lost may be counted or not; a window with several such outages admits at most twice the limit all the
// same.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	r, _, fault := away(t, func(o *Options) { o.Timeout = 50 * time.Millisecond }, Spec{Name: "per-client", Limit: 100, Window: time.Hour, Accuracy: Exact})
	total := 0
	for range 3 {
		fault.Cut()
		r.opened(t)
		total += r.admitted(t, "192.0.2.7", 200)
		fault.Heal()
		await(t, "closed", r.shared.breaker.Allow)
		fault.Mute()
		r.opened(t)
		fault.Cut()
		fault.Heal()
		r.closed(t)
		total += r.admitted(t, "192.0.2.7", 200)
	}
	if total > 200 {
		t.Errorf("%d admitted in a window of 100", total)
	}
}

// A client whose first question takes long is not forgotten meanwhile.
func TestEntryWithAQuestionUnderWay(t *testing.T) {
	t.Parallel()
	r, _, fault := away(t, func(o *Options) { o.Timeout = 2500 * time.Millisecond; o.Breaker = breaker.Options{Failures: 1000} },
		Spec{Name: "per-client", Limit: 10, Window: time.Hour, Accuracy: Exact})
	r.admits(t, "192.0.2.1") // there is a connection
	fault.Hold()
	var admitted atomic.Int64
	var work sync.WaitGroup
	for range 20 {
		work.Go(func() {
			if r.admits(t, "192.0.2.7") {
				admitted.Add(1)
			}
		})
	}
	work.Wait()
	fault.Cut()
	r.shared.breaker.Failure(context.DeadlineExceeded)
	for range 20 {
		if r.admits(t, "192.0.2.7") {
			admitted.Add(1)
		}
	}
	if n := admitted.Load(); n != 10 {
		t.Errorf("%d admitted, want 10", n)
	}
}

// panics panics once.
type panics struct{ done atomic.Bool }

func (*panics) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p *panics) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" && p.done.CompareAndSwap(false, true) {
			panic("once")
		}
		return next(ctx, cmd)
	}
}

func (*panics) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A question that panics leaves nobody waiting for it.
func TestQuestionThatPanics(t *testing.T) {
	t.Parallel()
	s := server(t)
	client := dial(t, s.Addr(), patience)
	client.AddHook(new(panics))
	r := newReplica(t, "", func(o *Options) { o.Redis = client }, Spec{Name: "a", Limit: 5, Window: time.Hour, OnOutage: Closed})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("it does not panic")
			}
		}()
		r.admits(t, "192.0.2.7")
	}()
	if n := r.admitted(t, "192.0.2.7", 10); n != 5 {
		t.Errorf("%d admitted after it, want 5", n)
	}
}

// A limit that was not asked, because another had refused before, tells nothing; and what it had given and got back, it tells as it is.
func TestFieldsOfARefusal(t *testing.T) {
	t.Parallel()
	s := server(t)
	r := newReplica(t, s.Addr(), nil, Spec{Name: "few", Limit: 1, Window: time.Hour, Accuracy: Exact}, Spec{Name: "many", Limit: 1000, Window: time.Hour, Accuracy: Exact})
	const both, one = `"few";q=1;w=3600, "many";q=1000;w=3600`, `"few";q=1;w=3600`
	for _, want := range []map[string]string{
		{"Ratelimit": `"few";r=0;t=3600, "many";r=999;t=3600`, "Ratelimit-Policy": both},
		{"Ratelimit": `"few";r=0;t=3600, "many";r=999;t=3600`, "Ratelimit-Policy": both},
		{"Ratelimit": `"few";r=0;t=3600`, "Ratelimit-Policy": one},
	} {
		wantFields(t, r.reserve(t, from("192.0.2.7")), want)
	}
}

// One address of a network can be exempt.
func TestExemptAddress(t *testing.T) {
	r := newReplica(t, "", nil, Spec{Name: "a", Limit: 1, Window: time.Hour, ExemptClients: prefixes("2001:db8::5/128")})
	served := map[string]int{}
	h := r.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { served[q.RemoteAddr]++ }))
	for range 5 {
		for _, peer := range []string{"[2001:db8::5]:1", "[2001:db8::6]:1", "[2001:db8::7]:1"} {
			q := httptest.NewRequest(http.MethodGet, "/", nil)
			q.RemoteAddr = peer
			h.ServeHTTP(httptest.NewRecorder(), q)
		}
	}
	if served["[2001:db8::5]:1"] != 5 || served["[2001:db8::6]:1"]+served["[2001:db8::7]:1"] != 1 {
		t.Errorf("served %v", served)
	}
}

// What one limit has taken for requests that another one refuses comes back, and nobody is refused until the end of the window because it was
// not back yet.
func TestRefusedByAnother(t *testing.T) {
	t.Parallel()
	s := server(t)
	specs := []Spec{
		{Name: "hour", Limit: 100, Window: time.Hour, Accuracy: Exact},
		{Name: "second", Limit: 10, Window: time.Second, Accuracy: Exact},
	}
	all := fleet(t, 2, s.Addr(), specs...)
	offer(t, all, 2000, nil)
	admitted := 0
	await(t, "nearly all of the hour's admitted", func() bool {
		for _, r := range all {
			if r.admits(t, "192.0.2.7") {
				admitted++
			}
		}
		return admitted >= 60
	})
}

// A question of a request that had little time left when it was asked, fails for that request alone.
func TestHastyQuestion(t *testing.T) {
	t.Parallel()
	r, _, fault := away(t, func(o *Options) { o.Timeout = patience; o.Breaker = breaker.Options{Failures: 1} },
		Spec{Name: "a", Limit: 5, Window: time.Hour, Accuracy: Exact, OnOutage: Closed})
	r.admits(t, "192.0.2.7")
	fault.Delay(100 * time.Millisecond)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	m := r.Current().all[0]
	r.shared.exchange(short, []inquiry{{limit: m, key: m.redisKey("192.0.2.7")}})
	if !r.shared.breaker.Allow() {
		t.Error("it has opened the breaker")
	}
	fault.Heal()
	if n := r.admitted(t, "192.0.2.7", 10); n != 4 {
		t.Errorf("%d admitted after it, want 4", n)
	}
}
