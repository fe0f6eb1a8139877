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
		Header:      http.Header{"Content-Type": {"text/plain"}, "Etag": {`"v1"`}, "Link": {"</a>", "</b>"}, "Date": {"Sun, 06 Nov 1994 08:49:37 GMT"}},
		Body:        []byte("hello"),
		Freshness:   policy.Freshness{Born: now, Lifetime: time.Minute, Validator: true},
		RequestTime: now.Add(-time.Millisecond), ResponseTime: now, KeepUntil: now.Add(time.Hour),
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
