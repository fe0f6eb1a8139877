package store

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// replicaAt is a replica that follows the log at a URL, whose purges nobody sweeps but the test.
func replicaAt(t testing.TB, url string, change ...func(*Options)) replica {
	t.Helper()
	o := Options{NearSize: 1 << 20, NearMaxObject: 1, Redis: dial(t, url, DialOptions{Timeout: patience}), Prefix: "cp", Timeout: patience}
	for _, f := range change {
		f(&o)
	}
	waiting, err := Dial(url, DialOptions{Timeout: patience}) // the follower closes it
	if err != nil {
		t.Fatal(err)
	}
	follower, err := invalidation.Start(invalidation.Options{
		Redis: dial(t, url, DialOptions{Timeout: patience}), Waiting: waiting, Prefix: "cp", Instance: "a", Timeout: patience, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Follower = follower
	r := replica{newStore(t, o), follower}
	t.Cleanup(func() { _ = follower.Close(context.Background()) })
	for end := time.Now().Add(2 * patience); !follower.Registered(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not registered")
		}
	}
	return r
}

// sweeps sweeps a purge as if it were appended now.
func (r replica) sweeps(t testing.TB, p invalidation.Purge) int {
	t.Helper()
	found, err := r.Sweep(t.Context(), r.recordOf(p), nil)
	if err != nil {
		t.Fatal(err)
	}
	return int(found.Swept)
}

func (r replica) recordOf(p invalidation.Purge) *invalidation.Record {
	return &invalidation.Record{Purge: p, Epoch: r.follower.Table().Epoch(), Seq: invalidation.Seq(time.Now().Add(time.Hour).UnixMicro())}
}

func (r replica) entryKey(e *Entry) string { return r.far.keys.of(e.URL()).entryKey(e.variant()) }

func withTags(tags ...string) func(*Draft) { return func(d *Draft) { d.Tags = tags } }

func byTag(tags ...string) invalidation.Purge {
	return invalidation.Purge{Kind: invalidation.KindTag, Tags: tags}
}

// Each save with tags is in their indexes for as long as it lives, one without costs nothing, and a save again raises the score.
func TestIndexOfASave(t *testing.T) {
	server := redistest.StartSettled(t)
	var told commands
	r := replicaAt(t, server.URL(), func(o *Options) { o.Redis.AddHook(&told) })
	admin, ctx := server.Admin(), t.Context()
	eventually(t, "trimmed", func() bool { return told.taken("scan") > 0 })
	r.stored(t, other) // loads the scripts
	r.stored(t, other, withTags("warm"))
	told.taken("trips")
	r.stored(t, "http://a.example/1")
	plain := told.taken("trips")
	e := r.stored(t, purged, withTags("x", "a:{b}%", policy.GroupTag("g:1"), policy.GroupTag(strings.Repeat("long ", 300))))
	if tagged := told.taken("trips"); tagged != plain+2 {
		t.Errorf("a save takes %d round trips, one with tags %d", plain, tagged)
	}
	const hour = float64(time.Hour/time.Microsecond + time.Minute/time.Microsecond)
	keys := []string{"cp:t:{x}", "cp:t:{a%3A%7Bb%7D%25}", "cp:g:{http%3A//a.example:g%3A1}"}
	for _, key := range keys {
		score, err := admin.ZScore(ctx, key, r.entryKey(e)).Result()
		if from := float64(time.Now().UnixMicro()) + hour; err != nil || score > from || score < from-60e6 {
			t.Errorf("%s: %f, %v", key, score, err)
		}
	}
	indexes := admin.Keys(ctx, "cp:[tg]:*").Val()
	if len(indexes) != 5 {
		t.Errorf("%q", indexes)
	}
	for _, key := range indexes {
		if len(key) > 1100 {
			t.Errorf("a key of %d bytes", len(key))
		}
	}
	before := admin.ZScore(ctx, "cp:t:{x}", r.entryKey(e)).Val()
	stamp := r.Mark()
	d := e.Redraft()
	d.ValidatedSince(stamp)
	d.Tags, d.KeepUntil, d.ResponseTime = []string{"x", "new"}, time.Now().Add(2*time.Hour), time.Now()
	r.SaveSince(mustEntry(t, d), stamp)
	flush(t, r.Store)
	if after := admin.ZScore(ctx, "cp:t:{x}", r.entryKey(e)).Val(); after < before+hour-120e6 {
		t.Errorf("freshened: %f, before %f", after, before)
	}
	if admin.ZScore(ctx, "cp:t:{new}", r.entryKey(e)).Val() == 0 {
		t.Error("a tag that came with a validation is not entered")
	}
}

// What cannot be entered is not stored.
func TestSaveThatCannotBeEntered(t *testing.T) {
	server, state := redistest.StartSettled(t), redistest.Start(t)
	m := metrics.New()
	r := replicaAt(t, server.URL(), func(o *Options) {
		o.State, o.Metrics, o.Timeout = dial(t, state.URL(), DialOptions{}), m, time.Second
	})
	state.Stop()
	e := r.stored(t, purged, withTags("x"))
	if got := count(t, m, "saves_total", "result", savedUnindexed); got != 1 {
		t.Errorf("counted %v times", got)
	}
	if server.Admin().Exists(t.Context(), r.entryKey(e)).Val() != 0 {
		t.Error("it is stored")
	}
	r.stored(t, other)
	if got := count(t, m, "saves_total", "result", savedOK); got != 1 {
		t.Errorf("without tags: stored %v times", got)
	}
	if !r.far.breaker.Allow() {
		t.Error("the breaker of another Redis has opened")
	}
}

// A sweep that finds the index as it should be looks at nothing else. Whatever may have been lost, it looks at everything, and only then at
// the index again.
func TestSweepByTheIndex(t *testing.T) {
	server, state := redistest.StartSettled(t), redistest.Start(t)
	var told commands
	r := replicaAt(t, server.URL(), func(o *Options) {
		o.Redis.AddHook(&told)
		o.State = dial(t, state.URL(), DialOptions{Timeout: patience})
	})
	admin, ctx := state.Admin(), t.Context()
	sweep := func(what string, scans bool) {
		t.Helper()
		e := r.stored(t, purged, withTags("x", "y"))
		kept := r.stored(t, other, withTags("y"))
		told.taken("scan")
		if n := r.sweeps(t, byTag("x")); n != 1 {
			t.Errorf("%s: swept %d", what, n)
		}
		if server.Admin().Exists(ctx, r.entryKey(e)).Val() != 0 || server.Admin().Exists(ctx, r.entryKey(kept)).Val() != 1 {
			t.Errorf("%s: the wrong one is gone, or none", what)
		}
		if got := told.taken("scan") > 0; got != scans {
			t.Errorf("%s: scanned %v", what, got)
		}
	}
	sweep("no marks", true)
	sweep("marked", false)
	if admin.Exists(ctx, "cp:t:{x}").Val() != 0 {
		t.Error("what is gone is still in the index")
	}
	lost := func(what string, lose func()) {
		t.Helper()
		r.stored(t, "http://a.example/lost", withTags("lost"))
		lose()
		if n := r.sweeps(t, byTag("lost")); n != 1 {
			t.Errorf("%s: swept %d", what, n)
		}
		sweep(what+", then", false)
	}
	lost("emptied", func() { admin.FlushAll(ctx) })
	lost("restarted without its data", state.RestartEmpty)
	lost("a mark of before", func() {
		mark := admin.Get(ctx, "cp:i:{0}").Val()
		state.RestartEmpty()
		admin.Set(ctx, "cp:i:{0}", mark, 0)
	})
	lost("doubted", func() {
		admin.Del(ctx, "cp:t:{lost}")
		if err := r.far.index.doubt(ctx); err != nil {
			t.Fatal(err)
		}
	})
	lost("the entries come back", func() { // the second sweep of a purge, after a Redis of entries that went back
		admin.Del(ctx, "cp:t:{lost}")
		server.Restart()
	})
	for _, order := range [][]any{{"maxmemory", "1gb", true}, {"maxmemory-policy", "allkeys-lru", true}, {"maxmemory-policy", "volatile-lru", false}} {
		admin.ConfigSet(ctx, order[0].(string), order[1].(string))
		sweep(fmt.Sprint(order), order[1] == "allkeys-lru" || order[1] == "volatile-lru")
		sweep(fmt.Sprint(order, " again"), order[1] == "allkeys-lru")
	}
}

// A replica that finds that the index is in other hands raises a doubt.
func TestJanitorRaisesADoubt(t *testing.T) {
	server, state := redistest.StartSettled(t), redistest.Start(t)
	r := replicaAt(t, server.URL(), func(o *Options) { o.State = dial(t, state.URL(), DialOptions{Timeout: patience}) })
	j := newJanitor(r.far.index, r.follower)
	j.cancel() // the test looks
	j.working.Wait()
	admin := state.Admin()
	doubt := func() string { return admin.Get(t.Context(), "cp:i:{doubt}").Val() }
	j.ctx = t.Context()
	j.watch()
	j.watch()
	if got := doubt(); got != "" && got == j.seen {
		t.Errorf("doubted: %q", got)
	}
	before := doubt()
	state.RestartEmpty()
	j.watch()
	if got := doubt(); got == "" || got == before {
		t.Errorf("after a restart the doubt is %q", got)
	}
}

// Sweeps of several tags, filters, soft ones, and what they leave in the index.
func TestSweepByTheIndexIsJudgedByThePurge(t *testing.T) {
	server := redistest.StartSettled(t)
	r := replicaAt(t, server.URL())
	r.sweeps(t, byTag("none")) // makes the marks
	admin, ctx := server.Admin(), t.Context()
	for name, c := range map[string]struct {
		purge invalidation.Purge
		gone  string // of the pages
		left  string // in the index of tag x
	}{
		"any":      {byTag("x", "y"), "x y xy g", ""},
		"all":      {invalidation.Purge{Kind: invalidation.KindTag, Tags: []string{"x", "y"}, MatchAll: true}, "xy", "x g"},
		"filtered": {invalidation.Purge{Kind: invalidation.KindTag, Tags: []string{"x"}, Filters: invalidation.Filters{Status: []int{404}}}, "x", "xy g"},
		"soft":     {invalidation.Purge{Kind: invalidation.KindTag, Tags: []string{"x"}, Soft: true}, "", "x xy g"},
		"group":    {invalidation.Purge{Kind: invalidation.KindGroup, Origin: "http://a.example", Group: "g"}, "g", "x xy g"},
		"another":  {invalidation.Purge{Kind: invalidation.KindGroup, Origin: "http://b.example", Group: "g"}, "", "x xy g"},
	} {
		t.Run(name, func(t *testing.T) {
			pages := map[string][]string{"x": {"x"}, "y": {"y"}, "xy": {"y", "x"}, "g": {"x", policy.GroupTag("g")}, "none": nil}
			keys := map[string]string{}
			for page, tags := range pages {
				keys[page] = r.entryKey(r.stored(t, "http://a.example/"+page, withTags(tags...), func(d *Draft) {
					if page == "x" {
						d.Status = 404
					}
				}))
			}
			r.sweeps(t, c.purge)
			for page, key := range keys {
				gone := admin.Exists(ctx, key).Val() == 0
				if want := strings.Contains(" "+c.gone+" ", " "+page+" "); gone != want {
					t.Errorf("%s is gone: %v", page, gone)
				}
				marked := !gone && admin.GetRange(ctx, key, atStaleSince, atStaleSince+7).Val() != "\x00\x00\x00\x00\x00\x00\x00\x00"
				if want := c.purge.Soft && strings.Contains(strings.Join(pages[page], " "), "x"); marked != want {
					t.Errorf("%s is marked: %v", page, marked)
				}
				if in := admin.ZScore(ctx, "cp:t:{x}", key).Err() == nil; strings.Contains(" "+c.left+" ", " "+page+" ") && !in {
					t.Errorf("%s is not in the index any more", page)
				}
			}
		})
	}
}

// A member that was entered again since it was read stays, whatever was found then.
func TestDropComparesScores(t *testing.T) {
	server := redistest.StartSettled(t)
	r := replicaAt(t, server.URL())
	e := r.stored(t, purged, withTags("x"))
	admin, ctx := server.Admin(), t.Context()
	score := func() string {
		pairs, _ := admin.ZScan(ctx, "cp:t:{x}", 0, "", 10).Val()
		return pairs[1]
	}
	read := score()
	b := batch{far: r.far, gone: map[string]bool{r.entryKey(e): true}}
	drop := func(score string) {
		t.Helper()
		if err := b.drop(ctx, "cp:t:{x}", map[string]string{r.entryKey(e): score}); err != nil {
			t.Fatal(err)
		}
	}
	r.far.index.clock = func() time.Time { return time.Unix(1, 0) } // and even then the score rises
	if err := r.far.index.enter(ctx, e, r.entryKey(e), time.Hour); err != nil {
		t.Fatal(err)
	}
	if drop(read); admin.ZCard(ctx, "cp:t:{x}").Val() != 1 {
		t.Error("it was dropped although it was entered again")
	}
	if drop(score()); admin.ZCard(ctx, "cp:t:{x}").Val() != 0 {
		t.Error("it was not dropped")
	}
}

// After a day of saves that expire the index holds what is stored, and at the end nothing.
func TestNoOrphansInTheIndexAfterADay(t *testing.T) {
	server := redistest.StartSettled(t)
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	r := replicaAt(t, server.URL(), func(o *Options) { o.Now = clock })
	r.far.index.clock = clock
	admin, ctx := server.Admin(), t.Context()
	until := map[string]time.Time{}
	pass := func(d time.Duration) {
		t.Helper()
		mu.Lock()
		now = now.Add(d)
		mu.Unlock()
		if err := r.far.index.trim(ctx); err != nil {
			t.Fatal(err)
		}
		live := 0
		for key, end := range until {
			if !clock().After(end) {
				live++
				continue
			}
			delete(until, key)
		}
		if got := int(admin.ZCard(ctx, "cp:t:{every}").Val()); got != live {
			t.Fatalf("%d in the index, %d are stored", got, live)
		}
	}
	for hour := range 24 {
		for i := range 40 {
			keep := time.Duration(1+i%5) * 30 * time.Minute
			e := r.stored(t, fmt.Sprintf("http://a.example/%d/%d", hour%7, i), withTags("every", "n"+strconv.Itoa(i), policy.GroupTag("g")), func(d *Draft) {
				d.KeepUntil, d.ResponseTime, d.Freshness.Born = clock().Add(keep), clock(), clock()
			})
			if end := clock().Add(keep + indexMargin); end.After(until[r.entryKey(e)]) {
				until[r.entryKey(e)] = end
			}
		}
		pass(time.Hour)
	}
	pass(3 * time.Hour)
	if left := admin.Keys(ctx, "cp:[tg]:*").Val(); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	// More at once than one step takes.
	pipe := admin.Pipeline()
	for i := range 2*trimBatch + 1 {
		pipe.ZAdd(ctx, "cp:t:{many}", redis.Z{Score: 1, Member: i})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	pass(time.Second)
	if n := admin.Exists(ctx, "cp:t:{many}").Val(); n != 0 {
		t.Error("an index of many is left")
	}
}
