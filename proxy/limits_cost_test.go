package proxy

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"cacheproxy/limiter"
	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/redistest"
	"cacheproxy/store"
)

// limited is the Handler, every request of which is held to one leased limit, or to none, and what closes it. fields are what clients are told.
func limited(on bool, redis string, fields []string, origin http.HandlerFunc) (http.Handler, func(context.Context)) {
	m := metrics.New()
	sites, _ := policy.CompileSites([]policy.SiteSpec{{Rules: []policy.RuleSpec{{Match: policy.MatchSpec{Path: "/**"}, Limit: []string{"per-client"}}}}})
	o := Options{Next: FromHandler(origin), Metrics: m, Sites: sites}
	end := func(context.Context) {}
	if on {
		client, err := store.Dial("redis://"+redis, store.DialOptions{Timeout: time.Second})
		if err != nil {
			panic(err)
		}
		l, err := limiter.New(limiter.Options{
			Redis: client, Timeout: time.Second, Metrics: m,
			Limits: []limiter.Spec{{Name: "per-client", Limit: 1_000_000_000, Window: time.Hour, Fields: fields}},
		})
		if err != nil {
			panic(err)
		}
		o.Limits = l.Current()
		end = func(ctx context.Context) { _, _ = l.Close(ctx), client.Close() }
	}
	h, err := New(o)
	if err != nil {
		panic(err)
	}
	return h, func(ctx context.Context) { _ = h.Close(ctx); end(ctx) }
}

// BenchmarkCostOfLimits compares hits in near memory that are held to a leased limit with hits that are held to none: with the fields that
// tell clients where they stand, and without them. A hit of the other benchmarks has seven fields; the ninth makes the map of net/http grow,
// whoever sets it, which is most of what telling costs: so it is measured where there are more as well.
func BenchmarkCostOfLimits(b *testing.B) {
	server := redistest.Start(b)
	b.Run("told-beside-more", func(b *testing.B) { compare(b, "limits/off-more", "limits/on-more "+server.Addr(), same) })
	b.Run("told", func(b *testing.B) { compare(b, "limits/off", "limits/on "+server.Addr(), same) })
	b.Run("untold", func(b *testing.B) { compare(b, "limits/off", "limits/silent "+server.Addr(), same) })
}

// BenchmarkLimitedHitAlone leaves net/http out, as BenchmarkHitAlone does.
func BenchmarkLimitedHitAlone(b *testing.B) {
	server := redistest.Start(b)
	for name, fields := range map[string][]string{"told": nil, "untold": {}} {
		b.Run(name, func(b *testing.B) {
			h, end := limited(true, server.Addr(), fields, serveOrigin)
			defer end(context.Background())
			r := httptest.NewRequest("GET", "http://example.com/page", nil)
			r.RemoteAddr = "192.0.2.7:1234"
			w := &nobody{make(http.Header)}
			h.ServeHTTP(w, r)
			b.ReportAllocs()
			for b.Loop() {
				clear(w.h)
				h.ServeHTTP(w, r)
			}
		})
	}
}

// serveMore has the fields of an application beside those of serveOrigin.
func serveMore(w http.ResponseWriter, r *http.Request) {
	for _, name := range []string{"Content-Language", "Referrer-Policy", "Strict-Transport-Security", "X-Content-Type-Options"} {
		w.Header()[name] = []string{"value"}
	}
	serveOrigin(w, r)
}
