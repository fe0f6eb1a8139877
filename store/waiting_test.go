package store

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// Between SaveSince and the worker's write an entry is in neither tier where near memory does not take it. These tests
// hold the worker there.

// A gate holds back commands of one name: those before they are sent, or their replies. Once opened it holds nothing.
type gate struct {
	command string
	replies bool
	reached chan struct{} // a value for each command held
	opened  chan struct{}
}

func newGate(command string, replies bool) *gate {
	return &gate{command: command, replies: replies, reached: make(chan struct{}, 100), opened: make(chan struct{})}
}

func (g *gate) open() { close(g.opened) }

func (g *gate) wait(cmds ...redis.Cmder) {
	if !slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Name() == g.command }) {
		return
	}
	g.reached <- struct{}{}
	<-g.opened
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook { return next }
func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if g.replies {
			defer g.wait(cmd)
		} else {
			g.wait(cmd)
		}
		return next(ctx, cmd)
	}
}
func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if g.replies {
			defer g.wait(cmds...)
		} else {
			g.wait(cmds...)
		}
		return next(ctx, cmds)
	}
}

// holdingSaves makes a store with one worker whose saves wait at the gate.
func holdingSaves(t *testing.T, change func(*Options)) (*Store, *metrics.Metrics, *gate) {
	t.Helper()
	server := redistest.Start(t)
	s, m := troubled(t, server.URL(), func(o *Options) {
		o.Timeout = patience
		o.SaveWorkers = 1
		if change != nil {
			change(o)
		}
	})
	g := newGate("evalsha", false)
	s.far.client.AddHook(g)
	return s, m, g
}

func save(t *testing.T, s *Store, d Draft) *Entry {
	t.Helper()
	e := mustEntry(t, d)
	if r := s.Save(e); r != policy.None {
		t.Fatal(r)
	}
	return e
}

// look looks in both ways, which must agree, and returns what there is in the memory of this process.
func look(t *testing.T, s *Store, key policy.Key, h http.Header) *Entry {
	t.Helper()
	e, _ := s.LookupNear(key, h)
	if r := s.Lookup(t.Context(), key, h); e != nil && (r.Entry != e || r.Tier != TierNear) || e == nil && r.Tier == TierNear {
		t.Errorf("LookupNear has %v, Lookup %+v", e, r)
	}
	return e
}

// noneWaits fails if an entry can be found in a queue after its save has ended.
func noneWaits(t *testing.T, s *Store) {
	t.Helper()
	for _, l := range s.far.saver.lanes {
		l.mu.Lock()
		if len(l.saves) != 0 {
			t.Errorf("%d URLs still wait", len(l.saves))
		}
		l.mu.Unlock()
	}
}

func TestSavesThatWaitAreFound(t *testing.T) {
	server := redistest.Start(t)
	s, m := troubled(t, server.URL(), patiently)
	server.Pause()
	e := save(t, s, draft("http://a.example/x"))
	if got := look(t, s, e.Key(), nil); got != e {
		t.Errorf("found %v", got)
	}
	if n := count(t, m, "redis_seconds", "op", "lookup"); n != 0 {
		t.Error("asked Redis")
	}
	server.Resume()
	flush(t, s)
	noneWaits(t, s)
	if r := s.Lookup(t.Context(), e.Key(), nil); r.Tier != TierRedis || r.Entry.Fill() != e.Fill() {
		t.Errorf("written: %+v", r)
	}
}

func TestSavesThatWaitAreSelectedByVary(t *testing.T) {
	s, _, g := holdingSaves(t, nil)
	defer g.open()
	testVary(t, func(d Draft) *Entry { return save(t, s, d) }, func(key policy.Key, h http.Header) Result {
		look(t, s, key, h)
		return s.Lookup(t.Context(), key, h)
	})
}

// What waits replaces what Redis has: the response as a 304 has freshened it.
func TestSavesThatWaitWinOverRedis(t *testing.T) {
	s, _, g := holdingSaves(t, nil)
	g.open()
	d := draft("http://a.example/x")
	old := saved(t, s, d)

	again := newGate("evalsha", false)
	s.far.client.AddHook(again)
	d = old.Redraft()
	d.ResponseTime = d.ResponseTime.Add(time.Second)
	first := save(t, s, d)
	<-again.reached // the worker has it in hand
	if got := look(t, s, d.Key, nil); got != first {
		t.Errorf("under way: %v", got)
	}
	d.ResponseTime = d.ResponseTime.Add(time.Second)
	second := save(t, s, d)
	if got := look(t, s, d.Key, nil); got != second {
		t.Errorf("two wait: %v", got)
	}
	again.open()
	flush(t, s)
	noneWaits(t, s)
	if r := s.Lookup(t.Context(), d.Key, nil); r.Tier != TierRedis || !r.Entry.ResponseTime().Equal(second.ResponseTime()) {
		t.Errorf("written: %+v", r)
	}
}

func TestForgetHidesSavesThatWait(t *testing.T) {
	s, _, g := holdingSaves(t, nil)
	const url = "http://a.example/v"
	key, red, blue := policy.Key{URL: url}, header("Color", "red"), header("Color", "blue")
	before := s.Mark()
	first := save(t, s, varied(url, "Color", red))
	<-g.reached
	second := save(t, s, varied(url, "Color", blue))

	s.ForgetEntry(mustEntry(t, varied(url, "Color", red))) // another fill
	if look(t, s, key, red) != first {
		t.Error("forgot what had replaced the entry")
	}
	s.ForgetEntry(first) // under way
	if look(t, s, key, red) != nil || look(t, s, key, blue) != second {
		t.Error("ForgetEntry did not forget the one, or forgot the other")
	}
	s.Forget(url)
	if look(t, s, key, blue) != nil {
		t.Error("found after Forget")
	}
	s.SaveSince(mustEntry(t, varied(url, "Color", blue)), before)
	if look(t, s, key, blue) != nil {
		t.Error("a fetch from before the forget is found")
	}
	third := save(t, s, varied(url, "Color", blue))
	if look(t, s, key, blue) != third {
		t.Error("a save after the forget is not found while the forget waits")
	}
	g.open()
	flush(t, s)
	noneWaits(t, s)
	if r := s.Lookup(t.Context(), key, blue); r.Tier != TierRedis || r.Entry.Fill() != third.Fill() {
		t.Errorf("written: %+v", r)
	}
	if r := s.Lookup(t.Context(), key, red); r.Entry != nil {
		t.Errorf("forgotten: %+v", r)
	}
}

// A save that comes to its lane after the forget that it does not know of is not shown.
func TestSaveThatForgetHasOvertakenIsNotShown(t *testing.T) {
	s, _, g := holdingSaves(t, nil)
	defer g.open()
	e := mustEntry(t, draft("http://a.example/x"))
	stamp := s.Mark()
	s.Forget(e.URL())
	s.far.save(e, stamp, nil)
	if look(t, s, e.Key(), nil) != nil {
		t.Error("found")
	}
}

func TestSavesThatEndUnwrittenAreNotFound(t *testing.T) {
	for _, c := range []struct {
		name, result string
		change       func(*Options)
		meanwhile    func(*Store, *Entry)
	}{
		{"dropped", savedDroppedSlow, func(o *Options) { o.SaveWait = time.Nanosecond }, nil},
		{"refused", savedRefused, nil, func(s *Store, e *Entry) { s.forgets.forget(e.URL()) }},
		{"failed", savedError, nil, func(s *Store, _ *Entry) {
			for s.far.breaker.Allow() {
				s.far.breaker.Failure(errors.New("down"))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, m, g := holdingSaves(t, c.change)
			if c.result != savedDroppedSlow { // there, no save gets as far as the gate
				save(t, s, draft("http://a.example/first"))
				<-g.reached
			}
			e := save(t, s, draft("http://a.example/x"))
			if c.meanwhile != nil {
				c.meanwhile(s, e)
			}
			g.open()
			flush(t, s)
			noneWaits(t, s)
			if look(t, s, e.Key(), nil) != nil {
				t.Error("found")
			}
			if got := count(t, m, "saves_total", "result", c.result); got != 1 {
				t.Errorf("%s counted %v times", c.result, got)
			}
		})
	}
}

func TestSavesThatWaitPastTheirTimeAreNotFound(t *testing.T) {
	var ahead atomic.Int64
	s, _, g := holdingSaves(t, func(o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	defer g.open()
	e := save(t, s, draft("http://a.example/x"))
	ahead.Store(int64(2 * time.Hour))
	if look(t, s, e.Key(), nil) != nil {
		t.Error("found past its time")
	}
}

// A response too large for near memory takes the place of the one that was small enough, in whatever order they are looked at.
func TestResponseThatOutgrowsNearMemory(t *testing.T) {
	const url = "http://a.example/v"
	red := header("Color", "red", "Size", "s")
	now := time.Now()
	at := func(d Draft, age time.Duration, size int) Draft {
		d.ResponseTime, d.Body = now.Add(-age), make([]byte, size)
		return d
	}
	for _, c := range []struct {
		name   string
		before Draft
		stays  bool
	}{
		{"the same variant", at(varied(url, "Color", red), 5*time.Second, 1), false},
		{"another nomination", at(varied(url, "Size", red), 5*time.Second, 1), false},
		{"another nomination, later", at(varied(url, "Size", red), 0, 1), true},
		{"another variant", at(varied(url, "Color", header("Color", "blue")), 5*time.Second, 1), true},
		{"other extras", func() Draft {
			d := at(varied(url, "Color", red), 5*time.Second, 1)
			d.Key.Extras = "x"
			return d
		}(), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, g := holdingSaves(t, func(o *Options) { o.NearMaxObject = 10 << 10 })
			g.open()
			small := saved(t, s, c.before)
			large := saved(t, s, at(varied(url, "Color", red), time.Second, 20<<10))
			if found := s.near.holds(small); found != c.stays {
				t.Errorf("the small one stays: %v", found)
			}
			if r := s.Lookup(t.Context(), policy.Key{URL: url}, red); c.name == "the same variant" &&
				(r.Entry == nil || r.Entry.Fill() != large.Fill()) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// holds reports whether near memory has this very entry.
func (n *near) holds(e *Entry) bool {
	r, ok := n.resource(e.URL())
	return ok && slices.Contains(r.variants(), e)
}

// The schedule: a lookup reads the old response in Redis, a larger one is saved and written, the lookup promotes.
func TestPromotionDoesNotHideALargerResponse(t *testing.T) {
	s, _, g := holdingSaves(t, func(o *Options) { o.NearMaxObject = 10 << 10 })
	g.open()
	d := draft("http://a.example/x")
	old := saved(t, s, d)
	s.near.cache.InvalidateAll()

	replies := newGate("get", true)
	s.far.client.AddHook(replies)
	looked := make(chan Result)
	go func() { looked <- s.Lookup(context.Background(), d.Key, nil) }()
	<-replies.reached
	d.Body = make([]byte, 20<<10)
	large := saved(t, s, d)
	replies.open()
	if r := <-looked; r.Entry == nil || r.Entry.Fill() != old.Fill() {
		t.Errorf("the lookup that began before the save: %+v", r)
	}
	if r := s.Lookup(t.Context(), d.Key, nil); r.Entry == nil || r.Entry.Fill() != large.Fill() {
		t.Errorf("the one after it: %+v", r)
	}
}

// The schedule: a lookup reads Redis, its URL or entry is forgotten there and here, the lookup promotes.
func TestPromotionDoesNotBringBackWhatIsForgotten(t *testing.T) {
	for name, forget := range map[string]func(*Store, *Entry){
		"Forget":      func(s *Store, e *Entry) { s.Forget(e.URL()) },
		"ForgetEntry": func(s *Store, e *Entry) { s.ForgetEntry(e) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, g := holdingSaves(t, func(o *Options) { o.NearMaxObject = 0 })
			g.open()
			e := saved(t, s, draft("http://a.example/x"))
			s.near.cache.InvalidateAll()

			replies := newGate("get", true)
			s.far.client.AddHook(replies)
			looked := make(chan Result)
			go func() { looked <- s.Lookup(context.Background(), e.Key(), nil) }()
			<-replies.reached
			forget(s, e)
			flush(t, s)
			replies.open()
			if r := <-looked; r.Entry == nil {
				t.Errorf("the lookup that began before: %+v", r)
			}
			if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry != nil {
				t.Errorf("the one that began after: %+v", r)
			}
		})
	}
}
