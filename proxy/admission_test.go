package proxy

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"cacheproxy/limiter"
	"cacheproxy/policy"
)

// withLimits gives a rig the limits of these specs, in this process alone.
func withLimits(t *testing.T, specs ...limiter.Spec) func(*Options) {
	t.Helper()
	now := time.Now()
	l, err := limiter.New(limiter.Options{Limits: specs, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return func(o *Options) { o.Limits = l.Current() }
}

func TestLimitsAdmitRefuseAndTell(t *testing.T) {
	r := newRig(t, cacheable, withRules(t, policy.RuleSpec{Match: policy.MatchSpec{Path: "/limited"}, Limit: []string{"few"}}),
		withLimits(t, limiter.Spec{Name: "few", Limit: 2, Window: time.Hour}))
	for _, want := range []struct {
		code   int
		status string
		fields string
	}{
		{200, "cacheproxy; fwd=uri-miss; ttl=60; stored", `"few";r=1;t=3600`},
		{200, "cacheproxy; hit; ttl=60", `"few";r=0;t=3600`},
		{429, "cacheproxy; detail=limit-exceeded", `"few";r=0;t=3600`},
	} {
		got := r.get("/limited").status(t, want.status)
		if got.StatusCode != want.code || got.Header.Get("RateLimit") != want.fields || got.Header.Get("RateLimit-Policy") != `"few";q=2;w=3600` {
			t.Errorf("%d %v", got.StatusCode, got.Header)
		}
		if want.code == 429 && (got.Header.Get("Retry-After") != "3600" || got.Header.Get("Cache-Control") != "no-store") {
			t.Errorf("the refusal: %v", got.Header)
		}
	}
	got := r.get("/free").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
	if got.Header.Get("RateLimit") != "" {
		t.Errorf("a rule without limits tells of one: %v", got.Header)
	}
}

// What a request costs depends on how it is answered.
func TestLimitsAreSettledByOutcome(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/broken" {
			w.WriteHeader(500)
			return
		}
		cacheable(w, req)
	}, withRules(t, policy.RuleSpec{Limit: []string{"work"}}),
		withLimits(t, limiter.Spec{Name: "work", Limit: 20, Window: time.Hour, Cost: map[string]int64{"hit": 0, "miss": 5, "error": 2, "POST": 2}}))
	left := func(want string) { // of a hit, which is told before it is settled: until then it costs what a miss does
		t.Helper()
		var got string
		for range 1000 { // the request before may still be on its way to being settled
			if got = r.get("/a").Header.Get("RateLimit"); got == want {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Errorf("%s, want %s", got, want)
	}
	r.get("/a")                      // a miss: 5
	left(`"work";r=10;t=3600`)       // a hit: 0
	left(`"work";r=10;t=3600`)       // the same
	r.get("/broken")                 // an error: 2
	left(`"work";r=8;t=3600`)        // 13 are left, of which a hit holds 5
	r.do(http.MethodPost, "/a", nil) // twice a miss: 10
	if got := r.get("/a"); got.StatusCode != 429 {
		t.Errorf("3 are left, and a request that may cost 5 got %d", got.StatusCode)
	}
}

// Limits by host are by the host that responses are kept under.
func TestLimitsByHost(t *testing.T) {
	r := newRig(t, cacheable, withRules(t, policy.RuleSpec{Limit: []string{"host"}}),
		withLimits(t, limiter.Spec{Name: "host", Key: []string{"host"}, Limit: 3, Window: time.Hour}))
	for i, host := range []string{"shop.example", "SHOP.example", "shop.example:80"} {
		if got := r.get("/", "Host: "+host).Header.Get("RateLimit"); got != fmt.Sprintf(`"host";r=%d;t=3600`, 2-i) {
			t.Errorf("%s: %s", host, got)
		}
	}
	if got := r.get("/", "Host: other.example").Header.Get("RateLimit"); got != `"host";r=2;t=3600` {
		t.Errorf("another host: %s", got)
	}
}

// Who is limited is who asks: what a peer that is not trusted says of it changes nothing, and the addresses of an IPv6 network are one client.
func TestLimitsByClient(t *testing.T) {
	rules := withRules(t, policy.RuleSpec{Limit: []string{"per-client"}})
	limits := func() func(*Options) {
		return withLimits(t, limiter.Spec{Name: "per-client", Limit: 2, Window: time.Hour})
	}
	untrusted := newRig(t, cacheable, rules, limits())
	for i := range 4 {
		got := untrusted.get("/", fmt.Sprintf("X-Forwarded-For: 192.0.2.%d", i), fmt.Sprintf("Forwarded: for=192.0.2.%d", i))
		if refused := got.StatusCode == 429; refused != (i >= 2) {
			t.Errorf("request %d of an untrusted peer: %d", i, got.StatusCode)
		}
	}
	trusted := newRig(t, cacheable, rules, limits(), func(o *Options) { o.Client.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	for _, c := range []struct {
		forwarded string
		code      int
	}{
		{"2001:db8::1", 200}, {"2001:db8:0:0:ffff::2", 200}, {"2001:db8::3", 429}, {"2001:db8:0:1::1", 200},
		{"2001:db8:0:7::7, 2001:db8::4", 429}, // the one before wrote what it liked
		{"192.0.2.7", 200}, {"::ffff:192.0.2.7", 200}, {"192.0.2.7", 429}, {"192.0.2.8", 200},
	} {
		if got := trusted.get("/", "X-Forwarded-For: "+c.forwarded); got.StatusCode != c.code {
			t.Errorf("%s: %d, want %d", c.forwarded, got.StatusCode, c.code)
		}
	}
}

func TestRuleThatNamesNoLimit(t *testing.T) {
	sites, _ := policy.CompileSites([]policy.SiteSpec{{Rules: []policy.RuleSpec{{Limit: []string{"nobody"}}}}})
	o := Options{Next: canned{}, Sites: sites}
	withLimits(t, limiter.Spec{Name: "few", Limit: 2, Window: time.Hour})(&o)
	if _, err := New(o); err == nil || err.Error() != `proxy: rule 0 of site default: limiter: there is no limit "nobody"` {
		t.Errorf("%v", err)
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
