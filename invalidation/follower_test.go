package invalidation

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"cacheproxy/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit bounds every wait of these tests; nothing comes near it unless something hangs.
const limit = 20 * time.Second

// fleet starts so many followers on one Redis.
func newFleet(t *testing.T, url func() string, n int, change ...func(*Options)) []*Follower {
	t.Helper()
	list := make([]*Follower, n)
	for i := range list {
		o := Options{
			Redis: client(t, url()), Waiting: client(t, url()), Prefix: "cp", Instance: fmt.Sprint("r", i), Version: "test",
			Log: slog.New(slog.DiscardHandler),
		}
		for _, f := range change {
			f(&o)
		}
		f, err := Start(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			_ = f.Close(ctx) // some tests have no Redis at the end
		})
		list[i] = f
	}
	for _, f := range list {
		await(t, "registered", f.Registered)
	}
	return list
}

func client(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.DialerRetries, o.DialTimeout, o.DisableIdentity = -1, 1, time.Second, true
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s", what)
		}
	}
}

func purge(t *testing.T, f *Follower, p Purge, wait time.Duration) *Receipt {
	t.Helper()
	r, err := f.Purge(t.Context(), p, wait)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// forbids reports whether the follower's table forbids what was fetched at a mark.
func forbids(f *Follower, m Mark, url string) bool {
	return f.Table().Judge(&Subject{URL: url, BodyAsOf: m.Seq, ValidAsOf: m.Seq}, 0).Verdict == Forgotten
}

func TestPurgeReachesAll(t *testing.T) {
	server := redistest.StartSettled(t)
	all := newFleet(t, server.URL, 3)
	marks := make([]Mark, len(all))
	for i, f := range all {
		marks[i] = f.Table().Mark()
	}
	r := purge(t, all[0], Purge{Kind: KindURL, Selector: "http://a.example/"}, limit)
	if !r.Complete() || len(r.Applied) != 3 {
		t.Errorf("%+v", r)
	}
	for i, f := range all {
		if !slices.Contains(r.Applied, f.ID()) || !forbids(f, marks[i], "http://a.example/") || forbids(f, marks[i], "http://a.example/b") {
			t.Errorf("%s: %+v", f.ID(), r)
		}
		if m := f.Table().Mark(); m.Seq != r.Sequence || forbids(f, m, "http://a.example/") {
			t.Errorf("%s is at %v", f.ID(), m)
		}
	}
}

// One that has stopped is named as lagging, then as silent, and no more waited for; a new incarnation takes its place.
func TestReceiptNamesWhoHasNotApplied(t *testing.T) {
	server := redistest.StartSettled(t)
	all := newFleet(t, server.URL, 2)
	all[1].cancel() // as if it were stopped: it does not leave
	all[1].working.Wait()
	r := purge(t, all[0], Purge{Kind: KindAll}, 50*time.Millisecond)
	if r.Complete() || !slices.Equal(r.Applied, []string{all[0].ID()}) || !slices.Equal(r.Lagging, []string{all[1].ID()}) {
		t.Errorf("%+v", r)
	}
	await(t, "silent", func() bool {
		return slices.Equal(purge(t, all[0], Purge{Kind: KindAll}, 0).Silent, []string{all[1].ID()})
	})
	o := all[1].opt
	o.Waiting = client(t, server.URL())
	again, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(context.Background())
	await(t, "registered", again.Registered)
	if r := purge(t, all[0], Purge{Kind: KindAll}, limit); !r.Complete() || len(r.Applied) != 2 || slices.Contains(r.Applied, all[1].ID()) {
		t.Errorf("%+v", r)
	}
	list, err := all[0].Replicas(t.Context())
	if err != nil || len(list) != 2 || !strings.HasPrefix(list[1].ID, "r1#") || list[1].Version != "test" {
		t.Errorf("%+v, %v", list, err)
	}
}

// Whatever the log loses, the replicas notice: they doubt what they hold, and the purges that somebody was told of are appended again.
func TestRedisGoingBackwards(t *testing.T) {
	lose := map[string]func(*testing.T, redis.UniversalClient, *Receipt){
		"all": func(t *testing.T, c redis.UniversalClient, _ *Receipt) { c.FlushAll(t.Context()) },
		"the last record": func(t *testing.T, c redis.UniversalClient, r *Receipt) {
			c.XDel(t.Context(), "cp:{inv}:log", r.Sequence.String()+"-0")
		},
		"the last record, and another has its sequence": func(t *testing.T, c redis.UniversalClient, r *Receipt) {
			last := c.XRevRangeN(t.Context(), "cp:{inv}:log", "+", "-", 2).Val()
			values := map[string]any{}
			for k, v := range last[0].Values {
				values[k] = v
			}
			values["n"] = "00000000000000aa"
			values["r"] = `{"kind":"url","selector":"http://other.example/"}`
			c.Del(t.Context(), "cp:{inv}:log") // a stream gives no ID twice
			for _, m := range []redis.XMessage{last[1], {ID: last[0].ID, Values: values}} {
				if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: "cp:{inv}:log", ID: m.ID, Values: m.Values}).Err(); err != nil {
					t.Fatal(err)
				}
			}
		},
	}
	for name, losing := range lose {
		t.Run(name, func(t *testing.T) {
			server := redistest.StartSettled(t)
			doubts := make(chan bool, 100)
			all := newFleet(t, server.URL, 2, func(o *Options) { o.Doubted = func() { doubts <- true } })
			for range all {
				<-doubts // of joining
			}
			m := all[1].Table().Mark()
			r := purge(t, all[0], Purge{Kind: KindURL, Selector: "http://a.example/"}, limit)
			losing(t, server.Admin(), r)
			for range all {
				select {
				case <-doubts:
				case <-time.After(limit):
					t.Fatal("nobody doubts")
				}
			}
			for _, f := range all {
				await(t, "registered again", f.Registered)
				if f.Table().Floor() <= m.Number {
					t.Error("what was held before is not below the floor")
				}
				await(t, "appended again", func() bool { return forbids(f, m, "http://a.example/") })
			}
			if r := purge(t, all[1], Purge{Kind: KindAll}, limit); !r.Complete() || len(r.Applied) != 2 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A Redis that cannot be reached stops nothing: what was missed is applied when it is back, without a doubt.
func TestFollowingThroughAnOutage(t *testing.T) {
	server := redistest.StartSettled(t)
	fault := server.Fault()
	all := newFleet(t, server.URL, 1)
	cut := newFleet(t, fault.URL, 1, func(o *Options) { o.Instance = "cut" })
	floor := cut[0].Table().Floor()
	fault.Cut()
	m := cut[0].Table().Mark()
	if r := purge(t, all[0], Purge{Kind: KindAll}, 10*time.Millisecond); r.Complete() {
		t.Errorf("%+v", r)
	}
	fault.Heal()
	await(t, "applied", func() bool { return forbids(cut[0], m, "http://a.example/") })
	if cut[0].Table().Floor() != floor {
		t.Error("an outage was taken for a loss")
	}
}

// nothingToSweep is a Sweeper of one who stores nothing.
type nothingToSweep struct{}

func (nothingToSweep) Sweep(context.Context, *Record, func(Tally) error) (Tally, error) {
	return Tally{}, nil
}
func (nothingToSweep) Advance(context.Context) {}

// Records are forgotten past the horizon, when they have been swept twice and trimmed, and the floor says so. The last one stays.
func TestHorizon(t *testing.T) {
	server := redistest.StartSettled(t)
	all := newFleet(t, server.URL, 1, func(o *Options) { o.Horizon = time.Second })
	m := all[0].Table().Mark()
	for range 3 {
		purge(t, all[0], Purge{Kind: KindAll}, limit)
	}
	time.Sleep(1500 * time.Millisecond) // longer than the horizon, and nobody sweeps
	if all[0].Table().Len() != 3 {
		t.Error("forgotten before it was swept")
	}
	all[0].Sweep(nothingToSweep{})
	await(t, "forgotten", func() bool { return all[0].Table().Len() == 1 })
	if all[0].Table().Floor() <= m.Number {
		t.Error("the floor has not risen")
	}
}

// What every lookup does waits for nobody, least of all for a purge that is being applied.
func TestLookupsTakeNoLock(t *testing.T) {
	f := newFleet(t, redistest.StartSettled(t).URL, 1)[0]
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.mu.Lock()
	defer f.table.mu.Unlock()
	done := make(chan bool)
	go func() {
		defer close(done)
		m := f.Table().Mark()
		if at, ok := f.NotAfter(); !ok || at == 0 || m.Number != f.Table().Head() || f.Fenced() || !f.Registered() {
			t.Errorf("%v, %d, %v", m, at, ok)
		}
	}()
	select {
	case <-done:
	case <-time.After(limit / 4):
		t.Error("a lookup waits")
	}
}

func TestLogInThisProcess(t *testing.T) {
	f, err := Start(Options{Instance: "alone"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close(t.Context())
	m := f.Table().Mark()
	for range 2 {
		r := purge(t, f, Purge{Kind: KindTag, Tags: []string{"x"}}, 0)
		if !r.Complete() || !slices.Equal(r.Applied, []string{f.ID()}) || f.Table().Mark().Seq != r.Sequence || r.Sequence <= m.Seq {
			t.Errorf("%+v", r)
		}
	}
	if v := f.Table().Judge(&Subject{Tags: []string{"x"}, BodyAsOf: m.Seq}, 0); v.Verdict != Forgotten {
		t.Error(v)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { purge(t, f, Purge{Kind: KindTag, Tags: []string{"y"}}, 0) })
	}
	if all.Wait(); f.Table().Len() != 52 {
		t.Errorf("%d records", f.Table().Len())
	}
	if _, err := f.Purge(t.Context(), Purge{Kind: KindURL}, 0); err == nil {
		t.Error("an empty URL was purged")
	}
}
