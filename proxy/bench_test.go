package proxy

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"cacheproxy/metrics"
)

// The benchmarks come in pairs, to be read as a ratio within one run:
//
//	go test ./proxy -run '^$' -bench 'Hit|Miss' -count 10 | benchstat -col /by -
//
// A hit through net/http beside a bare handler that writes the same bytes; a miss stored in near memory beside a bare ReverseProxy
// with pooled buffers over the same tuned Transport. Client and server share the process, so half of each figure is the
// client's; BenchmarkHitAlone and BenchmarkBareAlone leave net/http out of it and count our own allocations.

var payload = bytes.Repeat([]byte("x"), 1024)

func sameFields(h http.Header) {
	h["Cache-Control"] = []string{"max-age=31536000"}
	h["Content-Type"] = []string{"text/plain"}
	h["Content-Length"] = []string{"1024"}
	h["Etag"] = []string{`"v1"`}
	h["Date"] = []string{"Sun, 22 Nov 2026 12:00:00 GMT"}
}

func origin(w http.ResponseWriter, _ *http.Request) {
	sameFields(w.Header())
	_, _ = w.Write(payload)
}

// bare writes what a hit writes.
func bare(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	sameFields(h)
	h["Age"] = []string{"0"}
	h["Cache-Status"] = []string{"cacheproxy; hit; ttl=31536000"}
	_, _ = w.Write(payload)
}

func newBenchHandler(b *testing.B, next http.RoundTripper) *Handler {
	h, err := New(Options{Next: next, Metrics: metrics.New()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = h.Close(context.Background()) })
	return h
}

// overTheWire measures requests on one kept-alive connection with a client that does as little as it can.
func overTheWire(b *testing.B, h http.Handler, target func(int64) string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 8<<10)
	end := []byte("xxxx")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: example.com\r\n\r\n", target(serial.Add(1)))
		for n := 0; ; {
			k, err := c.Read(buf[n:])
			if err != nil {
				b.Fatal(err)
			}
			if n += k; n > 1024 && bytes.HasSuffix(buf[:n], end) && bytes.Contains(buf[:n], []byte("\r\n\r\n")) {
				break
			}
		}
	}
}

var serial atomic.Int64

func same(int64) string        { return "/page" }
func different(n int64) string { return fmt.Sprintf("/page/%d", n) }

func BenchmarkHit(b *testing.B) {
	b.Run("by=bare", func(b *testing.B) { overTheWire(b, http.HandlerFunc(bare), same) })
	b.Run("by=cacheproxy", func(b *testing.B) {
		overTheWire(b, newBenchHandler(b, FromHandler(http.HandlerFunc(origin))), same)
	})
}

func BenchmarkMiss(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(origin))
	b.Cleanup(server.Close)
	u, _ := url.Parse(server.URL)
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 256, WriteBufferSize: 4 << 10, ReadBufferSize: 4 << 10}
	b.Cleanup(transport.CloseIdleConnections)
	b.Run("by=bare", func(b *testing.B) {
		rp := &httputil.ReverseProxy{
			Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(u); r.SetXForwarded() },
			Transport:  transport,
			BufferPool: copyBuffers,
		}
		overTheWire(b, rp, different)
	})
	b.Run("by=cacheproxy", func(b *testing.B) {
		overTheWire(b, newBenchHandler(b, toServer{u, transport}), different)
	})
}

// nobody is a ResponseWriter that costs nothing.
type nobody struct{ h http.Header }

func (w *nobody) Header() http.Header         { return w.h }
func (w *nobody) Write(p []byte) (int, error) { return len(p), nil }
func (w *nobody) WriteHeader(int)             {}

func BenchmarkHitAlone(b *testing.B) {
	h := newBenchHandler(b, FromHandler(http.HandlerFunc(origin)))
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
	h, err := New(Options{Next: FromHandler(http.HandlerFunc(origin)), Metrics: metrics.New()})
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
