package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"cacheproxy/limiter"
	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/store"
)

// BenchmarkSteps runs each step of a journey on its own, in the order of ServeHTTP and by the names of the package comment, for the request
// that a browser sends and a stored page of 1 KiB; hit and miss are whole journeys of the same request, to be compared with the sum:
//
//	go test ./proxy -run '^$' -bench Steps -cpu 1
//
// A journey is lent by a pool, so its begin is measured with its end. A hit is begin+end, client/direct, rule, session, limit, outbound, key,
// lookup/near, evaluate and serve/200. A miss has lookup/miss and fetch/fill in the place of the last three; fetch/fill contains
// fetch/alone's ReverseProxy and all of store/, since a fill keeps its response before its reader has the last byte. What has a
// benchmark already is not measured again: scanning a head (wire, BenchmarkScan), a metric (metrics, BenchmarkObserve), a line of the access
// log (cmd/cacheproxy, BenchmarkAccess), leases in Redis (limiter, BenchmarkDecision), a hit in Redis (store, BenchmarkRedisHit).
func BenchmarkSteps(b *testing.B) {
	s := newSteps(b)
	s.run(b, "begin+end", s.beginAndEnd)
	s.run(b, "client/direct", s.j.client)
	s.run(b, "client/forwarded", s.forwarded(b).client)
	s.run(b, "rule", s.j.rule)
	s.run(b, "session", func() { s.j.session() })
	s.run(b, "limit", s.limiting())
	s.run(b, "outbound", s.j.outbound)
	s.run(b, "key", s.j.key)
	s.run(b, "lookup/near", s.j.lookup)
	s.run(b, "lookup/miss", s.absent().lookup)
	s.run(b, "evaluate", func() { s.j.evaluate() })
	s.run(b, "serve/200", s.serving(b, s.j.rq.Header, http.StatusOK))
	s.run(b, "serve/206", s.serving(b, http.Header{"Range": {"bytes=100-199"}}, http.StatusPartialContent))
	s.run(b, "serve/304", s.serving(b, http.Header{"If-None-Match": {`"33a64df551425fcc"`}}, http.StatusNotModified))
	s.run(b, "hit", func() { s.h.ServeHTTP(s.w, s.j.r) })
	fresh(b, "fetch/alone", func(b *testing.B, s *steps) func() { return s.fetching(b, policy.NoStore) })
	fresh(b, "fetch/fill", func(b *testing.B, s *steps) func() { return s.fetching(b, policy.None) })
	fresh(b, "store/plan", func(b *testing.B, s *steps) func() { return func() { s.plan(b) } })
	fresh(b, "store/keep", func(b *testing.B, s *steps) func() { return s.keeping(b) })
	fresh(b, "miss", func(_ *testing.B, s *steps) func() { return s.missing() })
}

// nearSize is that of near memory in BenchmarkSteps, in bytes.
const nearSize = 8 << 20

// steps is a Handler and a journey through it that has been taken as far as the last step of a hit.
type steps struct {
	h *Handler
	w *nobody
	j *journey
	n int64 // how many pages have been asked for that are not stored
}

// newSteps has a site with four rules, of which the third governs the page.
func newSteps(b *testing.B) *steps {
	sites, mistakes := policy.CompileSites([]policy.SiteSpec{{Hosts: []string{"shop.example"}, Rules: []policy.RuleSpec{
		{Match: policy.MatchSpec{Path: "/admin/**"}, Bypass: true},
		{Match: policy.MatchSpec{Path: "/api/**", Method: []string{"GET"}}},
		{
			Match: policy.MatchSpec{Path: "/products/**"}, Limit: []string{"per-client"}, Tags: []string{"product-{path.2}"},
			Key: policy.KeySpec{Query: policy.QuerySpec{Ignore: []string{"utm_*"}}},
		},
		{Match: policy.MatchSpec{ContentType: []string{"image/*"}}},
	}}})
	if mistakes != nil {
		b.Fatal(mistakes)
	}
	m := metrics.New()
	limits, err := limiter.New(limiter.Options{
		Metrics: m, Limits: []limiter.Spec{{Name: "per-client", Limit: 1_000_000_000, Window: time.Hour}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = limits.Close(context.Background()) })
	near, err := store.New(store.Options{NearSize: nearSize, Metrics: m})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = near.Close(context.Background()) })
	h, err := New(Options{
		Next: page{}, Store: near, Metrics: m, Sites: sites, Limits: limits.Current(),
		Client: ClientOptions{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = h.Close(context.Background()) })
	s := &steps{h: h, w: &nobody{make(http.Header)}}
	h.ServeHTTP(s.w, browses(b, "192.0.2.7"))
	h.Settle()
	s.j = s.take(b, browses(b, "192.0.2.7"))
	if s.j.matched.Index != 2 || s.j.stored == nil || !s.j.outcome.Hit {
		b.Fatalf("it is no hit: rule %d, %+v", s.j.matched.Index, s.j.outcome)
	}
	return s
}

// take goes through the steps that are before serve.
func (s *steps) take(b *testing.B, r *http.Request) *journey {
	j := &journey{h: s.h, w: s.w, r: r, start: time.Now()}
	j.client()
	j.rule()
	if !j.session() || !j.limit() {
		b.Fatal("it is refused")
	}
	j.outbound()
	j.key()
	j.lookup()
	j.evaluate()
	return j
}

// run is a benchmark of do.
func (s *steps) run(b *testing.B, name string, do func()) {
	b.Run(name, func(b *testing.B) { s.measure(b, do) })
}

// fresh is a benchmark that fills near memory, and so has a Handler of its own: a large heap would make all that comes after slower. It is
// measured when near memory is full, and what is stored displaces something; until then the process's first use of its memory costs more.
func fresh(b *testing.B, name string, prepare func(*testing.B, *steps) func()) {
	b.Run(name, func(b *testing.B) {
		s := newSteps(b)
		do := prepare(b, s)
		for range nearSize / len(payload) {
			do()
		}
		s.measure(b, do)
	})
}

// measure runs do, which finds the response's fields empty.
func (s *steps) measure(b *testing.B, do func()) {
	b.ReportAllocs()
	for b.Loop() {
		clear(s.w.h)
		do()
	}
}

func (s *steps) beginAndEnd() {
	j := s.h.begin(s.w, s.j.r)
	j.outcome, j.tier = s.j.outcome, s.j.tier
	j.end()
}

// limiting asks the limit, and says what came of it.
func (s *steps) limiting() func() {
	j := *s.j
	return func() { j.limit(); j.settleLimits() }
}

// forwarded is the journey of the same request behind two trusted proxies.
func (s *steps) forwarded(b *testing.B) *journey {
	j := &journey{h: s.h, r: browses(b, "10.0.0.2", [2]string{"X-Forwarded-For", "192.0.2.7, 10.0.0.1"}, [2]string{"X-Forwarded-Proto", "https"})}
	if j.client(); j.addr != netip.MustParseAddr("192.0.2.7") || j.scheme != "https" {
		b.Fatal(j.addr, j.scheme)
	}
	return j
}

// absent is the journey of a request for a page that is not stored.
func (s *steps) absent() *journey {
	j := *s.j
	j.cacheKey.URL += "/absent"
	j.stored, j.outcome, j.decision = nil, policy.Outcome{}, policy.Decision{}
	j.lookup()
	return &j
}

// serving serves the stored page for a request with these fields, which is answered with status.
func (s *steps) serving(b *testing.B, fields http.Header, status int) func() {
	j := *s.j
	r := *j.r
	r.Header = fields
	j.r, j.rq = &r, policy.NewRequest(http.MethodGet, fields)
	if j.serve(); j.status != status {
		b.Fatal(j.status)
	}
	return j.serve
}

// fetching fetches the page anew each time, under a key of its own: through a fill, which stores it, or alone where it may not be stored.
// The journey is allocated, because one that has fetched is not lent again.
func (s *steps) fetching(b *testing.B, unstored policy.Reason) func() {
	at := s.absent()
	at.unstored = unstored
	do := func() *journey {
		j := new(journey)
		*j = *at
		j.cacheKey.URL = s.another(at.cacheKey.URL)
		j.fetch()
		return j
	}
	if j := do(); j.out.status != http.StatusOK || j.out.bytes != int64(len(payload)) || j.outcome.Stored != (unstored == policy.None) {
		b.Fatalf("%d, %d bytes, %+v", j.out.status, j.out.bytes, j.outcome)
	}
	return func() { do() }
}

// another makes a text that was not made before, in one allocation.
func (s *steps) another(begin string) string {
	s.n++
	var buf [128]byte
	return string(strconv.AppendInt(append(buf[:0], begin...), s.n, 10))
}

// plan decides whether and how the page is stored, when its head is there.
func (s *steps) plan(b *testing.B) *plan {
	now := time.Now()
	res, _ := page{}.RoundTrip(s.j.r)
	x := s.absent().exchange()
	p, why := x.plan(res, now, now)
	if p == nil {
		b.Fatal(why)
	}
	return p
}

// keeping stores the page under a key of its own each time, when its body is there.
func (s *steps) keeping(b *testing.B) func() {
	p := s.plan(b)
	begin := p.x.key.URL
	return func() {
		p.x.key.URL = s.another(begin)
		if why := p.keep(payload); why != policy.None {
			b.Fatal(why)
		}
	}
}

// missing is the whole journey to a page that is not stored.
func (s *steps) missing() func() {
	r, u := *s.j.r, *s.j.r.URL
	r.URL = &u
	return func() {
		u.Path = s.another("/products/12345/absent")
		r.RequestURI = u.Path
		s.h.ServeHTTP(s.w, &r)
	}
}

// browses is the request of a browser, as net/http reads it.
func browses(b *testing.B, client string, more ...[2]string) *http.Request {
	q := Question{URL: "http://shop.example/products/12345?color=red&utm_source=mail", Client: client, Header: append([][2]string{
		{"User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"},
		{"Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
		{"Accept-Language", "en-US,en;q=0.5"}, {"Accept-Encoding", "gzip, deflate, br, zstd"}, {"Connection", "keep-alive"},
		{"Referer", "http://shop.example/"}, {"Upgrade-Insecure-Requests", "1"},
		{"Sec-Fetch-Dest", "document"}, {"Sec-Fetch-Mode", "navigate"}, {"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-User", "?1"},
	}, more...)}
	r, err := q.Request(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// page is an upstream that answers at once, without a network, with a page as it comes from behind a framework.
type page struct{}

var madeAt = time.Now().UTC().Format(http.TimeFormat)

// RoundTrip implements http.RoundTripper.
func (page) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Body: io.NopCloser(bytes.NewReader(payload)), ContentLength: int64(len(payload)),
		Header: http.Header{
			"Cache-Control": {"public, max-age=86400"}, "Content-Type": {"text/html; charset=utf-8"}, "Date": {madeAt},
			"Etag": {`"33a64df551425fcc"`}, "Last-Modified": {"Sun, 06 Nov 1994 08:49:37 GMT"}, "Server": {"nginx"},
			"X-Content-Type-Options": {"nosniff"}, "Content-Length": {"1024"}, "Vary": {"Accept-Encoding"},
		},
	}, nil
}
