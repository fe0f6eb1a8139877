package proxy

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"cacheproxy/policy"
)

// fewPerClient admits so many requests of each client and remembers what it was told.
type fewPerClient struct {
	mu      sync.Mutex
	left    int
	askers  []Asker
	settled []string
}

func (l *fewPerClient) Reserve(_ context.Context, a Asker) Reservation {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.askers = append(l.askers, a)
	fields := http.Header{"Ratelimit": {fmt.Sprintf(`"few";r=%d`, max(0, l.left-1))}}
	if l.left--; l.left < 0 {
		return Reservation{Refused: true, RetryAfter: 1500 * time.Millisecond, Header: fields}
	}
	return Reservation{Header: fields, Settle: func(o policy.Outcome) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.settled = append(l.settled, o.Label())
	}}
}

func TestLimiterAdmitsRefusesAndIsSettled(t *testing.T) {
	limiter := &fewPerClient{left: 2}
	r := newRig(t, cacheable, withRules(t, policy.RuleSpec{Match: policy.MatchSpec{Path: "/limited"}, Limit: []string{"few"}}),
		func(o *Options) { o.Limiter = limiter })
	for _, want := range []struct {
		code   int
		status string
		fields string
	}{
		{200, "cacheproxy; fwd=uri-miss; ttl=60; stored", `"few";r=1`},
		{200, "cacheproxy; hit; ttl=60", `"few";r=0`},
		{429, "cacheproxy; detail=limit-exceeded", `"few";r=0`},
	} {
		got := r.get("/limited").status(t, want.status)
		if got.StatusCode != want.code || got.Header.Get("RateLimit") != want.fields {
			t.Errorf("%d %v", got.StatusCode, got.Header)
		}
		if want.code == 429 && (got.Header.Get("Retry-After") != "2" || got.Header.Get("Cache-Control") != "no-store") {
			t.Errorf("the refusal: %v", got.Header)
		}
	}
	r.get("/free").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
	limiter.mu.Lock()
	defer limiter.mu.Unlock()
	if len(limiter.askers) != 3 || limiter.askers[0].Client != netip.MustParseAddr("127.0.0.1") || limiter.askers[0].Rule.Limits[0] != "few" {
		t.Errorf("asked for %v", limiter.askers)
	}
	if fmt.Sprint(limiter.settled) != "[uri-miss hit]" {
		t.Errorf("settled %v", limiter.settled)
	}
}

// byField takes the session from a field.
type byField struct{}

func (byField) Resolve(_ context.Context, r *http.Request) (map[string]string, bool) {
	user := r.Header.Get("X-Session")
	return map[string]string{"user": user}, user != ""
}

func TestSessionsKeyResponsesAndKeepOthersOut(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = fmt.Fprint(w, req.Header.Get("X-Session"))
	}, withRules(t,
		policy.RuleSpec{Match: policy.MatchSpec{Path: "/keyed"}, RequireSession: true, Key: policy.KeySpec{Session: []string{"user"}}},
		policy.RuleSpec{Match: policy.MatchSpec{Path: "/unkeyed"}, RequireSession: true},
	), func(o *Options) { o.Sessions = byField{} })
	r.get("/keyed", "X-Session: a").is(t, 200, "a")
	r.get("/keyed", "X-Session: b").is(t, 200, "b")
	r.get("/keyed", "X-Session: a").is(t, 200, "a").status(t, "cacheproxy; hit; ttl=60")
	if got := r.get("/keyed").status(t, "cacheproxy; detail=session-missing"); got.StatusCode != 401 {
		t.Errorf("%d", got.StatusCode)
	}
	r.get("/unkeyed", "X-Session: a").is(t, 200, "a").status(t, "cacheproxy; fwd=uri-miss; detail=authorization")
	r.get("/unkeyed", "X-Session: b").is(t, 200, "b")
}

type asked struct {
	mu   sync.Mutex
	urls []string
}

func (a *asked) Asked(url string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.urls = append(a.urls, url)
}

func TestRankingIsToldWhatIsAsked(t *testing.T) {
	ranking := new(asked)
	r := newRig(t, cacheable, func(o *Options) { o.Ranking = ranking })
	r.get("/a", "Host: shop.example")
	r.get("/a", "Host: shop.example")
	ranking.mu.Lock()
	defer ranking.mu.Unlock()
	if fmt.Sprint(ranking.urls) != "[http://shop.example/a http://shop.example/a]" {
		t.Errorf("%v", ranking.urls)
	}
}
