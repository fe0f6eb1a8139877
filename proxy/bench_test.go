package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"testing"

	"cacheproxy/metrics"
)

// BenchmarkHitAlone and BenchmarkBareAlone leave net/http out and show our own part of a hit and its allocations; BenchmarkCost
// measures whole requests.

var payload = bytes.Repeat([]byte("x"), 1024)

func sameFields(h http.Header) {
	h["Cache-Control"] = []string{"max-age=31536000"}
	h["Content-Type"] = []string{"text/plain"}
	h["Content-Length"] = []string{"1024"}
	h["Etag"] = []string{`"v1"`}
	h["Date"] = []string{"Sun, 22 Nov 2026 12:00:00 GMT"}
}

func serveOrigin(w http.ResponseWriter, _ *http.Request) {
	sameFields(w.Header())
	_, _ = w.Write(payload)
}

// bare writes what a hit writes.
func bare(w http.ResponseWriter, _ *http.Request) {
	bareFields(w.Header())
	_, _ = w.Write(payload)
}

func bareFields(h http.Header) {
	sameFields(h)
	h["Age"] = []string{"0"}
	h["Cache-Status"] = []string{"cacheproxy; hit; ttl=31536000"}
}

func newBenchHandler(b *testing.B, next http.RoundTripper) *Handler {
	h, err := New(Options{Next: next, Metrics: metrics.New()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = h.Close(context.Background()) })
	return h
}

var serial atomic.Int64

func same(int64) string        { return "/page" }
func different(n int64) string { return fmt.Sprintf("/page/%d", n) }

// nobody is a ResponseWriter that costs nothing.
type nobody struct{ h http.Header }

func (w *nobody) Header() http.Header         { return w.h }
func (w *nobody) Write(p []byte) (int, error) { return len(p), nil }
func (w *nobody) WriteHeader(int)             {}

func BenchmarkHitAlone(b *testing.B) {
	h := newBenchHandler(b, FromHandler(http.HandlerFunc(serveOrigin)))
	r := httptest.NewRequest("GET", "http://example.com/page", nil)
	r.Header.Set("User-Agent", "bench")
	r.Header.Set("Accept", "*/*")
	w := &nobody{make(http.Header)}
	h.ServeHTTP(w, r)
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		h.ServeHTTP(w, r)
	}
}

func BenchmarkBareAlone(b *testing.B) {
	r := httptest.NewRequest("GET", "http://example.com/page", nil)
	w := &nobody{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		bare(w, r)
	}
}

// TestAllocationsOfAHit holds the hit path to what it costs now.
func TestAllocationsOfAHit(t *testing.T) {
	h, err := New(Options{Next: FromHandler(http.HandlerFunc(serveOrigin)), Metrics: metrics.New()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(context.Background())
	r := httptest.NewRequest("GET", "http://example.com/page", nil)
	w := &nobody{make(http.Header)}
	h.ServeHTTP(w, r)
	h.fills.under.Wait()
	if n := testing.AllocsPerRun(1000, func() { clear(w.h); h.ServeHTTP(w, r) }); n > 5 {
		t.Errorf("%v allocations for a hit, want 5 at the most", n)
	}
	if got := w.h.Get("Cache-Status"); !strings.HasPrefix(got, "cacheproxy; hit; ttl=") {
		t.Errorf("it is no hit: %s", got)
	}
}

// An access log that has no use for hits is called for none, and costs them nothing.
func TestAHitThatIsNotLogged(t *testing.T) {
	outcomes := []string{}
	h, err := New(Options{
		Next:      FromHandler(http.HandlerFunc(serveOrigin)),
		AccessLog: func(a *Access) { outcomes = append(outcomes, a.Outcome.Label()) },
		Logs:      func(hit bool) bool { return !hit },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(context.Background())
	r := httptest.NewRequest("GET", "http://example.com/page", nil)
	w := &nobody{make(http.Header)}
	h.ServeHTTP(w, r)
	h.fills.under.Wait()
	logged := testing.AllocsPerRun(1000, func() { clear(w.h); h.ServeHTTP(w, r) })
	h.opt.AccessLog = nil
	if without := testing.AllocsPerRun(1000, func() { clear(w.h); h.ServeHTTP(w, r) }); logged > without {
		t.Errorf("%v allocations for a hit with an access log for others, %v without", logged, without)
	}
	if strings.Join(outcomes, " ") != "uri-miss" {
		t.Errorf("logged: %v", outcomes)
	}
}

// canned answers at once, without a network.
type canned struct{}

func (canned) RoundTrip(r *http.Request) (*http.Response, error) {
	h := make(http.Header, 8)
	sameFields(h)
	return &http.Response{
		StatusCode: 200, Header: h, Body: io.NopCloser(bytes.NewReader(payload)), ContentLength: int64(len(payload)), Request: r,
		ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

func BenchmarkMissAlone(b *testing.B) {
	h := newBenchHandler(b, canned{})
	w := &nobody{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		r := httptest.NewRequest("GET", different(serial.Add(1)), nil)
		h.ServeHTTP(w, r)
	}
}

func BenchmarkBareMissAlone(b *testing.B) {
	rp := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL.Host = "x"; r.SetXForwarded() },
		Transport: canned{}, BufferPool: copyBuffers,
	}
	w := &nobody{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		r := httptest.NewRequest("GET", different(serial.Add(1)), nil)
		rp.ServeHTTP(w, r)
	}
}
