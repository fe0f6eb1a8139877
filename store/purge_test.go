package store

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// replica is a store with a follower.
type replica struct {
	*Store
	follower *invalidation.Follower
}

// newReplicas makes replicas on one Redis; without one, a single replica whose log is in the process.
func newReplicas(t *testing.T, server *redistest.Server, n int, change ...func(*Options)) []replica {
	t.Helper()
	return newReplicasWith(t, server, n, time.Minute, change...)
}

func newReplicasWith(t *testing.T, server *redistest.Server, n int, horizon time.Duration, change ...func(*Options)) []replica {
	t.Helper()
	list := make([]replica, n)
	for i := range list {
		fo := invalidation.Options{Instance: fmt.Sprint("r", i), Prefix: "cp", Log: slog.New(slog.DiscardHandler), Horizon: horizon}
		so := Options{NearSize: 16 << 20}
		if server != nil {
			fo.Redis, fo.Waiting = dial(t, server.URL(), DialOptions{Timeout: patience}), dial(t, server.URL(), DialOptions{Timeout: patience})
			so.Redis, so.Prefix, so.Timeout = dial(t, server.URL(), DialOptions{Timeout: patience}), "cp", patience
		}
		for _, f := range change {
			f(&so)
		}
		follower, err := invalidation.Start(fo)
		if err != nil {
			t.Fatal(err)
		}
		so.Follower = follower
		list[i] = replica{newStore(t, so), follower}
		follower.Sweep(list[i].Store)
		t.Cleanup(func() { _ = follower.Close(context.Background()) })
		for end := time.Now().Add(patience); !follower.Registered(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not registered")
			}
		}
	}
	return list
}

// stored stores a response of url as if it were fetched now.
func (r replica) stored(t *testing.T, url string, change ...func(*Draft)) *Entry {
	t.Helper()
	return r.storedSince(t, r.Mark(), url, change...)
}

func (r replica) storedSince(t *testing.T, stamp Stamp, url string, change ...func(*Draft)) *Entry {
	t.Helper()
	d := draft(url)
	d.FetchedSince(stamp)
	for _, f := range change {
		f(&d)
	}
	e := mustEntry(t, d)
	r.SaveSince(e, stamp)
	flush(t, r.Store)
	return e
}

func (r replica) has(t *testing.T, url string) *Entry {
	t.Helper()
	return r.Lookup(t.Context(), policy.Key{URL: url}, nil).Entry
}

func (r replica) purge(t *testing.T, p invalidation.Purge) {
	t.Helper()
	receipt, err := r.follower.Purge(t.Context(), p, patience)
	if err != nil || !receipt.Complete() {
		t.Fatalf("%+v, %v", receipt, err)
	}
}

const purged, other = "http://a.example/purged", "http://a.example/other"

func byURL(soft bool) invalidation.Purge {
	return invalidation.Purge{Kind: invalidation.KindURL, Selector: purged, Soft: soft}
}

// After the receipt nobody serves what was fetched before it, from near memory or from Redis; what was fetched after it is served, and what was
// not selected was never gone.
func TestPurge(t *testing.T) {
	for _, where := range []string{"in this process", "with Redis", "from Redis alone"} {
		t.Run(where, func(t *testing.T) {
			var server *redistest.Server
			n := 1
			var change []func(*Options)
			if where != "in this process" {
				server, n = redistest.StartSettled(t), 2
			}
			if where == "from Redis alone" {
				change = append(change, func(o *Options) { o.NearMaxObject = 1 })
			}
			all := newReplicas(t, server, n, change...)
			all[0].stored(t, purged)
			all[0].stored(t, other)
			for _, r := range all {
				if r.has(t, purged) == nil || r.has(t, other) == nil {
					t.Fatal("not stored")
				}
			}
			all[0].purge(t, byURL(false))
			for i, r := range all {
				if r.has(t, purged) != nil {
					t.Errorf("replica %d serves what was purged", i)
				}
				if r.has(t, other) == nil {
					t.Errorf("replica %d has lost what was not", i)
				}
			}
			all[n-1].stored(t, purged)
			for i, r := range all {
				if r.has(t, purged) == nil {
					t.Errorf("replica %d does not serve what was fetched since", i)
				}
			}
		})
	}
}

func TestSoftPurge(t *testing.T) {
	all := newReplicas(t, redistest.StartSettled(t), 2)
	all[0].stored(t, purged)
	all[1].has(t, purged)
	all[0].purge(t, byURL(true))
	for i, r := range all {
		e := r.has(t, purged)
		if e == nil || e.Freshness().TTL(time.Now()) > 0 {
			t.Fatalf("replica %d: %v", i, e)
		}
		if got := -e.Freshness().TTL(time.Now()); got > patience {
			t.Errorf("stale for %v, not since the purge", got)
		}
	}
	// Validated since: fresh again, with the body of before.
	stamp := all[0].Mark()
	d := all[0].has(t, purged).Redraft()
	d.ValidatedSince(stamp)
	d.Freshness.Lifetime = time.Hour
	d.ResponseTime = time.Now()
	all[0].SaveSince(mustEntry(t, d), stamp)
	flush(t, all[0].Store)
	for i, r := range all {
		if e := r.has(t, purged); e == nil || i == 0 && e.Freshness().TTL(time.Now()) <= 0 {
			t.Errorf("replica %d: not fresh again", i)
		}
	}
	all[0].purge(t, byURL(false))
	if all[0].has(t, purged) != nil {
		t.Error("what was validated since the soft purge is served after a hard one")
	}
}

// A fetch that began before a purge is not stored after it, in neither tier, whatever its tags are found to be.
func TestFetchOfBeforeAPurge(t *testing.T) {
	server := redistest.StartSettled(t)
	all := newReplicas(t, server, 2)
	stamp := all[0].Mark()
	all[1].purge(t, invalidation.Purge{Kind: invalidation.KindTag, Tags: []string{"x"}})
	all[0].storedSince(t, stamp, purged, func(d *Draft) { d.Tags = []string{"x"} })
	all[0].storedSince(t, stamp, other, func(d *Draft) { d.Tags = []string{"y"} })
	for i, r := range all {
		if r.has(t, purged) != nil || r.has(t, other) == nil {
			t.Errorf("replica %d: %v, %v", i, r.has(t, purged), r.has(t, other))
		}
	}
}

// What is in Redis but not confirmed is gone soon; what is confirmed lives as long as it should.
func TestSavesAreChecked(t *testing.T) {
	server := redistest.StartSettled(t)
	r := newReplicas(t, server, 1)[0]
	e := r.stored(t, purged)
	keys := r.far.keys.of(purged)
	admin := server.Admin()
	for _, key := range []string{keys.entryKey(e.variant()), keys.root} {
		if ttl := admin.PTTL(t.Context(), key).Val(); ttl < 30*time.Minute {
			t.Errorf("%s lives for %v", key, ttl)
		}
	}
	// The record comes between the two steps: the entry is deleted by who saves it.
	task := &task{kind: taskSave, url: purged, entry: e, stamp: r.Mark()}
	r.purge(t, byURL(false))
	if got := r.far.saver.check(task, keys, e.variant(), time.Hour); got != savedRefused {
		t.Errorf("checked: %s", got)
	}
	if n := admin.Exists(t.Context(), keys.entryKey(e.variant())).Val(); n != 0 {
		t.Error("what a purge forbids is still there")
	}
	// A save that comes too late is refused.
	stamp := r.Mark()
	stamp.notAfter = 1
	late := r.storedSince(t, stamp, other)
	if n := admin.Exists(t.Context(), r.far.keys.of(other).entryKey(late.variant())).Val(); n != 0 {
		t.Error("what comes too late is written")
	}
}

// A log that has gone back leaves nothing that was held before.
func TestDoubtEndsWhatIsHeld(t *testing.T) {
	server := redistest.StartSettled(t)
	r := newReplicas(t, server, 1)[0]
	stamp := r.Mark()
	r.stored(t, other)
	server.Admin().FlushAll(t.Context())
	floor := r.follower.Table().Floor()
	for end := time.Now().Add(patience); r.follower.Table().Floor() == floor || !r.follower.Registered(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no doubt")
		}
	}
	if r.has(t, other) != nil {
		t.Error("near memory serves on")
	}
	if r.storedSince(t, stamp, purged); r.has(t, purged) != nil {
		t.Error("a fetch that was under way is stored")
	}
	if r.stored(t, purged); r.has(t, purged) == nil {
		t.Error("nothing is stored any more")
	}
}

// eventually waits until is says so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s", what)
		}
	}
}

// Whatever a purge selects is taken out of Redis, or marked there, and nothing else.
func TestSweep(t *testing.T) {
	long := "http://a.example/long/" + strings.Repeat("x", 2000)
	tagged := func(d *Draft) { d.Tags = []string{"x", policy.GroupTag("g")} }
	redirect := "http://a.example/go?u=https://b.example/"
	for name, p := range map[string]invalidation.Purge{
		"redirect":          {Kind: invalidation.KindURL, Selector: "a.example/go?u=https://b.example/"},
		"redirects":         {Kind: invalidation.KindPattern, Selector: "a.example/go?u=https://*"},
		"URL":               {Kind: invalidation.KindURL, Selector: purged},
		"URL of any scheme": {Kind: invalidation.KindURL, Selector: "a.example/purged"},
		"long URL":          {Kind: invalidation.KindURL, Selector: long},
		"URLs":              {Kind: invalidation.KindURL, URLs: []string{"http://a.example/none", purged, "http://b.example/none"}},
		"pattern":           {Kind: invalidation.KindPattern, Selector: "*/purged"},
		"long pattern":      {Kind: invalidation.KindPattern, Selector: "a.example/long/*x"},
		"tag":               {Kind: invalidation.KindTag, Tags: []string{"x"}},
		"group":             {Kind: invalidation.KindGroup, Origin: "http://a.example", Group: "g"},
		"all of a type":     {Kind: invalidation.KindAll, Filters: invalidation.Filters{ContentType: []string{"text/purged"}}},
	} {
		for _, soft := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, soft %v", name, soft), func(t *testing.T) {
				server := redistest.StartSettled(t)
				r := newReplicas(t, server, 1)[0]
				selected := purged
				switch {
				case strings.HasPrefix(name, "long"):
					selected = long
				case strings.HasPrefix(name, "redirect"):
					selected = redirect
				}
				e := r.stored(t, selected, tagged, func(d *Draft) { d.Header.Set("Content-Type", "text/purged") })
				kept := r.stored(t, other, func(d *Draft) { d.Tags = []string{"y"} })
				p.Soft = soft
				r.purge(t, p)
				admin := server.Admin()
				value := func(e *Entry) string {
					return admin.Get(t.Context(), r.far.keys.of(e.URL()).entryKey(e.variant())).Val()
				}
				eventually(t, "swept", func() bool {
					now := value(e)
					return !soft && now == "" || soft && len(now) > 16 && now[8:16] != "\x00\x00\x00\x00\x00\x00\x00\x00"
				})
				if !soft && admin.Exists(t.Context(), r.far.keys.of(selected).root).Val() != 0 {
					t.Error("the root is left")
				}
				if got := value(kept); got == "" || got[8:16] != "\x00\x00\x00\x00\x00\x00\x00\x00" {
					t.Error("another entry is gone, or marked")
				}
				r.near.cache.InvalidateAll()
				switch found := r.has(t, selected); {
				case !soft && found != nil, soft && (found == nil || found.Freshness().TTL(time.Now()) > 0):
					t.Errorf("found %v", found)
				}
			})
		}
	}
}

// When the horizon is over a purge has been swept twice and is forgotten, by the log and by the tables, and that costs nobody a hit.
func TestForgettingAPurgeCostsNoHit(t *testing.T) {
	server := redistest.StartSettled(t)
	all := newReplicasWith(t, server, 2, 2*time.Second)
	const n = 200
	name := func(i int) string { return fmt.Sprintf("http://a.example/%d", i) }
	for i := range n {
		all[0].SaveSince(mustEntry(t, func() Draft { d := draft(name(i)); d.FetchedSince(all[0].Mark()); return d }()), all[0].Mark())
	}
	flush(t, all[0].Store)
	for i := range n {
		if all[1].has(t, name(i)) == nil {
			t.Fatal("not stored")
		}
	}
	all[0].purge(t, byURL(false))
	all[0].purge(t, byURL(false)) // the last one stays
	admin := server.Admin()
	eventually(t, "forgotten", func() bool {
		return all[0].follower.Table().Len()+all[1].follower.Table().Len() == 2 && admin.XLen(t.Context(), "cp:{inv}:log").Val() == 1 &&
			admin.HLen(t.Context(), "cp:{inv}:swept").Val() <= 2
	})
	for i := range n {
		for k, r := range all {
			if e, _ := r.near.get(policy.Key{URL: name(i)}, nil); e == nil {
				t.Fatalf("replica %d has lost %s from near memory", k, name(i))
			}
		}
	}
	server.Admin().Del(t.Context(), "cp:{inv}:replicas") // nobody is lost for good
	eventually(t, "registered again", func() bool {
		list, err := all[0].follower.Replicas(t.Context())
		return err == nil && len(list) == 2
	})
}

// What a replica that died had in hand is swept by another.
func TestSweepOfADeadReplica(t *testing.T) {
	server := redistest.StartSettled(t)
	admin := server.Admin()
	r := newReplicas(t, server, 1)[0]
	e := r.stored(t, purged)
	key := r.far.keys.of(purged).entryKey(e.variant())
	value := admin.Get(t.Context(), key).Val()
	r.purge(t, byURL(false))
	seq := strings.TrimSuffix(admin.XRevRangeN(t.Context(), "cp:{inv}:log", "+", "-", 1).Val()[0].ID, "-0")
	eventually(t, "swept, and noted", func() bool {
		return admin.Exists(t.Context(), key).Val() == 0 && strings.Contains(admin.HGet(t.Context(), "cp:{inv}:swept", seq).Val(), `"passes":1`)
	})
	// As if the first had not been swept, but taken by one that died.
	admin.Set(t.Context(), key, value, time.Hour)
	admin.HSet(t.Context(), r.far.keys.of(purged).root, e.variant(), fillHex(e.Fill())+" 99999999999999 1 ")
	admin.HDel(t.Context(), "cp:{inv}:swept", seq)
	admin.SAdd(t.Context(), "cp:{inv}:workers", "dead#1")
	admin.RPush(t.Context(), "cp:{inv}:sweeps:dead#1", seq)
	eventually(t, "swept by another", func() bool {
		return admin.Exists(t.Context(), key).Val() == 0 && admin.Exists(t.Context(), "cp:{inv}:sweeps:dead#1").Val() == 0
	})
}

// A strict replica that hears nothing serves nothing, and the others need not wait for it; when it hears again it has applied what it missed before
// it serves.
func TestStrict(t *testing.T) {
	server := redistest.StartSettled(t)
	fault := server.Fault()
	const lease = 500 * time.Millisecond
	one := newReplicas(t, server, 1)[0]
	follower, err := invalidation.Start(invalidation.Options{
		Instance: "strict", Prefix: "cp", Lease: lease, Horizon: time.Minute, Log: slog.New(slog.DiscardHandler), Timeout: 200 * time.Millisecond,
		Redis: dial(t, fault.URL(), DialOptions{}), Waiting: dial(t, fault.URL(), DialOptions{Timeout: patience}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = follower.Close(context.Background()) })
	strict := replica{newStore(t, Options{Follower: follower, Strict: true, Redis: dial(t, server.URL(), DialOptions{}), Prefix: "cp"}), follower}
	eventually(t, "serving", func() bool { return !follower.Fenced() })
	strict.stored(t, purged)
	eventually(t, "served", func() bool { return strict.has(t, purged) != nil })
	fault.Cut()
	eventually(t, "fenced", func() bool { return strict.has(t, purged) == nil })
	eventually(t, "known to be fenced", func() bool {
		receipt, err := one.follower.Purge(t.Context(), byURL(false), 0)
		return err == nil && receipt.Complete() && len(receipt.Fenced) == 1
	})
	fault.Heal()
	eventually(t, "serving again", func() bool { return !follower.Fenced() })
	if strict.has(t, purged) != nil {
		t.Error("it serves what was purged while it was away")
	}
}

// Nor does it serve what waits to be saved, or let a fetch from before be joined.
func TestStrictWhileSaving(t *testing.T) {
	server := redistest.StartSettled(t)
	log, saves := server.Fault(), server.Fault()
	follower, err := invalidation.Start(invalidation.Options{
		Instance: "strict", Prefix: "cp", Lease: 500 * time.Millisecond, Horizon: time.Minute, Log: slog.New(slog.DiscardHandler), Timeout: 200 * time.Millisecond,
		Redis: dial(t, log.URL(), DialOptions{}), Waiting: dial(t, log.URL(), DialOptions{Timeout: patience}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = follower.Close(context.Background()) })
	s := newStore(t, Options{Follower: follower, Strict: true, Redis: dial(t, saves.URL(), DialOptions{Timeout: patience}), Prefix: "cp", Timeout: patience})
	eventually(t, "serving", func() bool { return !follower.Fenced() })
	save := saves.Catch("eval", "cp:v:")
	stamp := s.Mark()
	d := draft(purged)
	d.FetchedSince(stamp)
	s.SaveSince(mustEntry(t, d), stamp)
	<-save.Caught()
	if e, ok := s.LookupNear(policy.Key{URL: purged}, nil); !ok || e == nil || !s.Current(purged, stamp) {
		t.Fatal("it does not serve")
	}
	log.Cut()
	eventually(t, "fenced", follower.Fenced)
	if e, _ := s.LookupNear(policy.Key{URL: purged}, nil); e != nil {
		t.Error("what waits to be saved is served")
	}
	if s.Current(purged, stamp) {
		t.Error("a fetch from before may be joined")
	}
	log.Heal()
	save.Release()
}

// What a soft purge has made stale is stale at once, also where the clock of Redis, which its time is from, is ahead of this one.
func TestSoftPurgeFromTheFuture(t *testing.T) {
	table := invalidation.NewTable()
	begin := invalidation.Record{Epoch: 1, Seq: 1}
	table.Doubt(begin.Position())
	d := draft(purged)
	d.Epoch, d.BodyAsOf, d.ValidAsOf = 1, 1, 1
	e := mustEntry(t, d)
	if !judge(table, e) || e.Freshness().TTL(d.ResponseTime) <= 0 {
		t.Fatal("not fresh to begin with")
	}
	table.Apply(&invalidation.Record{
		Purge: invalidation.Purge{Kind: invalidation.KindURL, Selector: purged, Soft: true}, Epoch: 1, Prev: 1,
		Seq: invalidation.Seq(d.ResponseTime.Add(time.Minute).UnixMicro()),
	})
	if !judge(table, e) {
		t.Fatal("a soft purge forgets")
	}
	if ttl := e.Freshness().TTL(d.ResponseTime); ttl > 0 {
		t.Errorf("still fresh for %v", ttl)
	}
}

// What obeying purges costs a hit: nothing when none has come since it was looked at, and one look when one has.
func BenchmarkHitWithPurges(b *testing.B) {
	for name, remembered := range map[string]int{"no follower": -1, "none remembered": 0, "10,000 remembered": 10_000} {
		b.Run(name, func(b *testing.B) {
			o := Options{}
			if remembered >= 0 {
				follower, err := invalidation.Start(invalidation.Options{Instance: "a"})
				if err != nil {
					b.Fatal(err)
				}
				defer follower.Close(b.Context())
				o.Follower = follower
				for i := range remembered {
					_, _ = follower.Purge(b.Context(), invalidation.Purge{Kind: invalidation.KindURL, Selector: fmt.Sprint("http://b.example/", i)}, 0)
				}
			}
			s := newStore(b, o)
			stamp := s.Mark()
			d := draft(purged)
			d.FetchedSince(stamp)
			s.SaveSince(mustEntry(b, d), stamp)
			key := policy.Key{URL: purged}
			b.ReportAllocs()
			for b.Loop() {
				if e, ok := s.LookupNear(key, nil); !ok || e == nil {
					b.Fatal("a miss")
				}
			}
		})
	}
}
