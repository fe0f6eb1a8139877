package store

import (
	"context"
	"net/http"
	"testing"
	"time"

	"cacheproxy/policy"
)

func draft(url string) Draft {
	now := time.Now()
	return Draft{
		Key: policy.Key{URL: url}, Status: 200,
		Header:       http.Header{"Content-Type": {"text/plain"}, "Etag": {`"v1"`}, "Link": {"</a>", "</b>"}, "Date": {"Sun, 06 Nov 1994 08:49:37 GMT"}},
		Body:         []byte("hello"),
		Freshness:    policy.Freshness{Born: now, Lifetime: time.Minute, Validator: true},
		ResponseTime: now, KeepUntil: now.Add(time.Hour),
	}
}

func mustEntry(t testing.TB, d Draft) *Entry {
	t.Helper()
	e, err := NewEntry(d)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func newStore(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestNearSaveLookupForget(t *testing.T) {
	s := newStore(t, Options{})
	const url = "http://a.example/x"
	key := policy.Key{URL: url}
	if r := s.Lookup(t.Context(), key, nil); r.Entry != nil || r.VaryMiss || r.Reason != policy.None || r.Tier != TierNone {
		t.Fatalf("empty store: %+v", r)
	}
	stamp := s.Mark()
	e := mustEntry(t, draft(url))
	if r := s.Save(e); r != policy.None {
		t.Fatal(r)
	}
	if r := s.Lookup(t.Context(), key, nil); r.Entry != e || r.Tier != TierNear {
		t.Fatalf("after save: %+v", r)
	}
	if r := s.Lookup(t.Context(), policy.Key{URL: url, Extras: "x"}, nil); r.Entry != nil || !r.VaryMiss {
		t.Fatalf("other extras: %+v", r)
	}
	s.Forget(url)
	if r := s.Lookup(t.Context(), key, nil); r.Entry != nil {
		t.Fatalf("after forget: %+v", r)
	}
	if r := s.SaveSince(e, stamp); r == policy.None {
		t.Fatal("a fetch from before the forget was saved")
	}
	if _, ok := s.LookupNear(key, nil); ok {
		t.Fatal("a fetch from before the forget is in near memory")
	}
	if r := s.SaveSince(e, s.Mark()); r != policy.None {
		t.Fatal(r)
	}
	s.ForgetEntry(mustEntry(t, draft(url)))
	if got, _ := s.LookupNear(key, nil); got != e {
		t.Fatal("ForgetEntry of another fill forgot this one")
	}
	s.ForgetEntry(e)
	if _, ok := s.LookupNear(key, nil); ok {
		t.Fatal("ForgetEntry did not forget")
	}
}

func TestTierString(t *testing.T) {
	for tier, want := range map[Tier]string{TierNone: "none", TierNear: "near", TierRedis: "redis", 9: "none"} {
		if got := tier.String(); got != want {
			t.Errorf("%d: %q", tier, got)
		}
	}
}

func TestNewRefusesPrefix(t *testing.T) {
	client := dial(t, "redis://127.0.0.1:1", DialOptions{})
	for _, prefix := range []string{"", "a{b}"} {
		if _, err := New(Options{Redis: client, Prefix: prefix}); err == nil {
			t.Errorf("%q was taken", prefix)
		}
	}
}

func TestWhatAFetcherAsks(t *testing.T) {
	s := newStore(t, Options{})
	const url = "http://a.example/v"
	red := header("Color", "red")
	e := mustEntry(t, varied(url, "Color", red))
	stamp := s.Mark()
	if s.Nominated(url) != "" || !s.Current(url, stamp) || s.MaxBody() != 4<<20 {
		t.Errorf("nothing stored: %q %v %d", s.Nominated(url), s.Current(url, stamp), s.MaxBody())
	}
	s.Save(e)
	if got := s.Nominated(url); got != e.Nomination() {
		t.Errorf("nominated %q", got)
	}
	if !e.Selects("", red) || e.Selects("x", red) || e.Selects("", nil) {
		t.Error("selects the wrong requests")
	}
	s.Forget(url)
	if s.Current(url, stamp) || s.Nominated(url) != "" {
		t.Error("forgotten, and still current")
	}
	client := dial(t, "redis://127.0.0.1:1", DialOptions{})
	if got := newStore(t, farOptions(client)).MaxBody(); got != maxRedisBody {
		t.Errorf("with Redis: %d", got)
	}
}

func TestForgetEntryLeavesTheOthersInNear(t *testing.T) {
	s := newStore(t, Options{})
	const url = "http://a.example/v"
	key, red, blue := policy.Key{URL: url}, header("Color", "red"), header("Color", "blue")
	first, second := mustEntry(t, varied(url, "Color", red)), mustEntry(t, varied(url, "Color", blue))
	s.Save(first)
	s.Save(second)
	s.ForgetEntry(first)
	if _, ok := s.LookupNear(key, red); ok {
		t.Error("not forgotten")
	}
	if e, _ := s.LookupNear(key, blue); e != second {
		t.Error("the other variant went too")
	}
}
