package store

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cacheproxy/internal/bubble"
	"cacheproxy/policy"
)

// varied is a draft of a response with Vary, to a request with these fields.
func varied(url, vary string, request http.Header) Draft {
	d := draft(url)
	d.Header = http.Header{"Vary": {vary}}
	d.Nomination = policy.ParseVary(d.Header)
	d.Selection = d.Nomination.AppendSelection(nil, request)
	d.Body = []byte(vary + fmt.Sprint(request))
	return d
}

func header(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// varyCase is a store with responses of several nominations, whatever its tiers.
func testVary(t *testing.T, save func(Draft) *Entry, lookup func(policy.Key, http.Header) Result) {
	const url = "http://a.example/v"
	key := policy.Key{URL: url}
	now := time.Now()
	at := func(d Draft, age time.Duration) Draft { d.ResponseTime = now.Add(-age); return d }

	red := save(at(varied(url, "Color", header("Color", "red")), 5*time.Second))
	blue := save(at(varied(url, "Color", header("Color", "blue")), 4*time.Second))
	large := save(at(varied(url, "Size", header("Size", "large")), 3*time.Second))
	both := save(at(varied(url, "Size, Color", header("Size", "small", "Color", "green")), 2*time.Second))
	extra := at(varied(url, "Color", header("Color", "red")), time.Second)
	extra.Key.Extras = "session"
	own := save(extra)

	for _, c := range []struct {
		name string
		key  policy.Key
		h    http.Header
		want *Entry
	}{
		{"one nomination", key, header("Color", "red"), red},
		{"the other value", key, header("Color", "blue"), blue},
		{"two match, the latest wins", key, header("Color", "blue", "Size", "large"), large},
		{"both fields", key, header("Color", "green", "Size", "small"), both},
		{"extras", policy.Key{URL: url, Extras: "session"}, header("Color", "red"), own},
		{"unknown value", key, header("Color", "grey"), nil},
		{"absent is not unknown", key, nil, nil},
		{"unknown extras", policy.Key{URL: url, Extras: "x"}, header("Color", "red"), nil},
	} {
		r := lookup(c.key, c.h)
		switch {
		case c.want == nil && (r.Entry != nil || !r.VaryMiss):
			t.Errorf("%s: %+v, want a miss for Vary", c.name, r)
		case c.want != nil && (r.Entry == nil || r.Entry.Fill() != c.want.Fill() || r.VaryMiss):
			t.Errorf("%s: %+v, want %s", c.name, r, c.want.Body())
		}
	}
	if r := lookup(policy.Key{URL: url + "2"}, nil); r.Entry != nil || r.VaryMiss {
		t.Errorf("unknown URL: %+v", r)
	}
	again := save(at(varied(url, "Color", header("Color", "red")), 0))
	if r := lookup(key, header("Color", "red", "Size", "large")); r.Entry == nil || r.Entry.Fill() != again.Fill() {
		t.Errorf("saved again: %+v", r)
	}
}

func TestNearVary(t *testing.T) {
	s := newStore(t, Options{})
	testVary(t, func(d Draft) *Entry {
		e := mustEntry(t, d)
		if r := s.Save(e); r != policy.None {
			t.Fatal(r)
		}
		return e
	}, func(key policy.Key, h http.Header) Result { return s.Lookup(t.Context(), key, h) })
}

func TestNearVariantCapDropsTheFirstToExpire(t *testing.T) {
	s := newStore(t, Options{VariantCap: 3})
	const url = "http://a.example/v"
	key := policy.Key{URL: url}
	minutes := map[string]int{"a": 30, "b": 10, "c": 20, "d": 5, "e": 40}
	for _, color := range []string{"a", "b", "c", "d", "e"} {
		d := varied(url, "Color", header("Color", color))
		d.KeepUntil = time.Now().Add(time.Duration(minutes[color]) * time.Minute)
		s.Save(mustEntry(t, d))
		if _, ok := s.LookupNear(key, header("Color", color)); !ok {
			t.Errorf("%s was not kept", color)
		}
	}
	for color, want := range map[string]bool{"a": true, "b": false, "c": true, "d": false, "e": true} {
		if _, ok := s.LookupNear(key, header("Color", color)); ok != want {
			t.Errorf("%s: %v", color, ok)
		}
	}
}

func TestNearExpiry(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		s := newStore(t, Options{})
		const url = "http://a.example/v"
		key := policy.Key{URL: url}
		for color, keep := range map[string]time.Duration{"red": time.Minute, "blue": time.Hour} {
			d := varied(url, "Color", header("Color", color))
			d.KeepUntil = time.Now().Add(keep)
			s.Save(mustEntry(t, d))
		}
		plain := draft("http://a.example/p")
		plain.KeepUntil = time.Now().Add(time.Minute)
		s.Save(mustEntry(t, plain))

		time.Sleep(time.Minute + time.Millisecond)
		if _, ok := s.LookupNear(plain.Key, nil); ok {
			t.Error("expired, and there")
		}
		if _, ok := s.LookupNear(key, header("Color", "red")); ok {
			t.Error("expired variant, and there")
		}
		if _, ok := s.LookupNear(key, header("Color", "blue")); !ok {
			t.Error("the other variant expired too")
		}
		if r := s.Save(mustEntry(t, plain)); r != policy.Stale {
			t.Errorf("saving what has expired: %v", r)
		}
		time.Sleep(time.Hour)
		if _, ok := s.LookupNear(key, header("Color", "blue")); ok {
			t.Error("expired, and there")
		}
	})
}

// Eviction runs beside the saves; once it has caught up, the bound holds.
func TestNearIsBounded(t *testing.T) {
	s := newStore(t, Options{NearSize: 1 << 20, NearMaxObject: 100 << 10})
	for i := range 200 {
		d := draft(fmt.Sprintf("http://a.example/%d", i))
		d.Body = make([]byte, 50<<10)
		if r := s.Save(mustEntry(t, d)); r != policy.None {
			t.Fatal(r)
		}
	}
	s.near.cache.CleanUp()
	if got := s.near.cache.WeightedSize(); got > 1<<20 || got < 512<<10 {
		t.Errorf("%d bytes", got)
	}
	d := draft("http://a.example/large")
	d.Body = make([]byte, 100<<10)
	if r := s.Save(mustEntry(t, d)); r != policy.TooLarge {
		t.Errorf("too large: %v", r)
	}
	if _, ok := s.LookupNear(d.Key, nil); ok {
		t.Error("too large, and there")
	}
}

func TestPromotionNeverReplacesALaterResponse(t *testing.T) {
	s := newStore(t, Options{})
	d := draft("http://a.example/x")
	older := mustEntry(t, d)
	d.ResponseTime = d.ResponseTime.Add(time.Second)
	later := mustEntry(t, d)
	stamp := s.near.recalls.mark()
	s.Save(later)
	s.near.promote(older, stamp)
	if e, _ := s.LookupNear(d.Key, nil); e != later {
		t.Error("an older response came back from Redis")
	}
	s.near.forgetEntry(later)
	s.near.promote(later, stamp)
	if _, ok := s.LookupNear(d.Key, nil); ok {
		t.Error("what was forgotten came back from Redis")
	}
	s.near.promote(older, s.near.recalls.mark())
	if e, _ := s.LookupNear(d.Key, nil); e != older {
		t.Error("not promoted")
	}
	s.Forget(d.Key.URL)
	s.near.promote(older, stamp)
	if _, ok := s.LookupNear(d.Key, nil); ok {
		t.Error("what was forgotten came back from Redis")
	}
}

func TestLookupNearAllocatesNothing(t *testing.T) {
	s := newStore(t, Options{})
	d := draft("http://a.example/x")
	d.Key.Extras = "session"
	s.Save(mustEntry(t, d))
	v := varied("http://a.example/v", "Color", header("Color", "red"))
	s.Save(mustEntry(t, v))
	h := header("Color", "red")
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := s.LookupNear(d.Key, nil); !ok {
			t.Fatal("miss")
		}
		if _, ok := s.LookupNear(policy.Key{URL: "http://a.example/absent"}, nil); ok {
			t.Fatal("hit")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := s.LookupNear(v.Key, h); !ok {
			t.Fatal("miss")
		}
	}); n > 2 {
		t.Errorf("%v allocations with Vary", n)
	}
}

func TestSizeCountsWhatIsHeld(t *testing.T) {
	d := draft("http://a.example/" + strings.Repeat("x", 100))
	d.Body = make([]byte, 1000)
	e := mustEntry(t, d)
	if got := e.Size(); got < int64(len(e.block())) || got > int64(len(e.block()))+300 {
		t.Errorf("%d bytes for a block of %d", got, len(e.block()))
	}
}

func TestForgetIsOrderedWithSaves(t *testing.T) {
	s := newStore(t, Options{})
	d := draft("http://a.example/x")
	e := mustEntry(t, d)
	// A save that has passed its first check when the forget comes is held back by the second, under the lock.
	stamp := s.Mark()
	s.Forget(d.Key.URL)
	if s.near.put(e, stamp) {
		t.Error("stored what was forgotten")
	}
	if r := s.SaveSince(e, Stamp{}); r != policy.Stale {
		t.Errorf("zero stamp: %v", r)
	}
	other := mustEntry(t, draft("http://b.example/other"))
	if r := s.SaveSince(other, stamp); r != policy.None {
		t.Errorf("another URL: %v", r)
	}
}

// Variants that do not fit in near memory together do not drive each other out.
func TestNearKeepsWhatFitsOfManyLargeVariants(t *testing.T) {
	s := newStore(t, Options{NearSize: 1 << 20, NearMaxObject: 300 << 10})
	const url = "http://a.example/v"
	for i := range 10 {
		d := varied(url, "Color", header("Color", fmt.Sprint(i)))
		d.Body = make([]byte, 200<<10)
		s.Save(mustEntry(t, d))
		s.near.cache.CleanUp()
		if _, ok := s.LookupNear(d.Key, header("Color", fmt.Sprint(i))); !ok {
			t.Errorf("variant %d was not kept", i)
		}
	}
}

// Of two fetches, the one that was answered first may end last.
func TestEarlierResponseDoesNotReplaceALaterOne(t *testing.T) {
	var back atomic.Int64 // how far the clock was set back
	now := func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
	s := newStore(t, Options{Now: now})
	at := func(age time.Duration) *Entry {
		d := draft("http://a.example/x")
		d.ResponseTime, d.KeepUntil = now().Add(-age), now().Add(24*time.Hour)
		return mustEntry(t, d)
	}
	key := policy.Key{URL: "http://a.example/x"}
	later, earlier := at(time.Second), at(2*time.Second)
	d := later.Redraft()
	d.Fill = 0
	same := mustEntry(t, d)
	for _, e := range []*Entry{later, earlier} {
		want := policy.None
		if e == earlier {
			want = policy.Stale
		}
		if why := s.Save(e); why != want {
			t.Errorf("%v, want %v", why, want)
		}
	}
	if got := s.Lookup(t.Context(), key, nil).Entry; got == nil || got.Fill() != later.Fill() {
		t.Error("the earlier response is there")
	}
	if why := s.Save(same); why != policy.None {
		t.Errorf("of the same moment: %v", why)
	}
	back.Store(int64(time.Hour))
	if why := s.Save(at(0)); why != policy.None {
		t.Errorf("after the clock was set back: %v", why)
	}
}
