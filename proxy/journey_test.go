package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
)

func cacheable(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Etag", `"v1"`)
	w.Header().Set("Content-Type", "text/plain")
	_, _ = fmt.Fprint(w, "0123456789")
}

func TestSecondRequestIsAHit(t *testing.T) {
	r := newRig(t, cacheable)
	r.get("/a").is(t, 200, "0123456789").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
	r.clock.advance(7 * time.Second)
	hit := r.get("/a").is(t, 200, "0123456789").status(t, "cacheproxy; hit; ttl=53")
	if hit.Header.Get("Age") != "7" || hit.Header.Get("Content-Length") != "10" || hit.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("fields of the hit: %v", hit.Header)
	}
	r.do("HEAD", "/a", nil).is(t, 200, "").status(t, "cacheproxy; hit; ttl=53")
	r.wantHits(1)
}

func TestStaleIsRevalidated(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"v1"`)
		if req.Header.Get("If-None-Match") == `"v1"` {
			w.Header().Set("X-New", "yes")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = fmt.Fprint(w, "body")
	})
	r.get("/")
	r.clock.advance(61 * time.Second)
	got := r.get("/").is(t, 200, "body").status(t, "cacheproxy; fwd=stale; fwd-status=304; ttl=60; stored; detail=stale")
	if got.Header.Get("X-New") != "yes" || got.Header.Get("Age") != "0" {
		t.Errorf("the 304's fields did not freshen the stored ones: %v", got.Header)
	}
	r.get("/").is(t, 200, "body").status(t, "cacheproxy; hit; ttl=60")
	r.wantHits(2)
}

func TestConditionalAndRangeOnStored(t *testing.T) {
	r := newRig(t, cacheable)
	r.get("/")
	r.get("/", `If-None-Match: "v1"`).is(t, 304, "")
	r.get("/", `If-None-Match: "v2"`).is(t, 200, "0123456789")
	if got := r.get("/", "Range: bytes=2-4").is(t, 206, "234"); got.Header.Get("Content-Range") != "bytes 2-4/10" {
		t.Error(got.Header)
	}
	r.get("/", "Range: bytes=2-4", `If-Range: "v2"`).is(t, 200, "0123456789")
	r.get("/", "Range: bytes=2-4", `If-Range: "v1"`).is(t, 206, "234")
	if got := r.get("/", "Range: bytes=10-").is(t, 416, ""); got.Header.Get("Content-Range") != "bytes */10" || got.Header.Get("Cache-Control") != "no-store" || got.Header["Etag"] != nil {
		t.Error(got.Header)
	}
	multi := r.get("/", "Range: bytes=0-1,8-")
	if multi.StatusCode != 206 || !strings.HasPrefix(multi.Header.Get("Content-Type"), "multipart/byteranges; boundary=") ||
		!strings.Contains(multi.body, "Content-Range: bytes 0-1/10\r\n\r\n01\r\n") || !strings.Contains(multi.body, "Content-Range: bytes 8-9/10\r\n\r\n89\r\n") {
		t.Errorf("%d %v %q", multi.StatusCode, multi.Header, multi.body)
	}
	r.wantHits(1)
}

func TestPartialIsStoredCombinedAndCompleted(t *testing.T) {
	const whole = "0123456789"
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"v1"`)
		http.ServeContent(w, req, "x.txt", time.Time{}, strings.NewReader(whole))
	})
	r.get("/", "Range: bytes=0-3").is(t, 206, "0123").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
	r.get("/", "Range: bytes=1-2").is(t, 206, "12").status(t, "cacheproxy; hit; ttl=60")
	r.get("/", "Range: bytes=4-5").is(t, 206, "45").status(t, "cacheproxy; fwd=partial; ttl=60; stored")
	r.get("/", "Range: bytes=0-5").is(t, 206, "012345").status(t, "cacheproxy; hit; ttl=60")
	r.get("/").is(t, 200, whole).status(t, "cacheproxy; fwd=partial; ttl=60; stored")
	if got := r.lastSeen().Header; got.Get("Range") != "bytes=6-" || got.Get("If-Range") != `"v1"` {
		t.Errorf("the rest was asked for with %v", got)
	}
	r.get("/").is(t, 200, whole).status(t, "cacheproxy; hit; ttl=60")
	r.wantHits(3)
}

func TestStaleWhileRevalidate(t *testing.T) {
	done := make(chan struct{}, 1)
	n := 0
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		n++
		w.Header().Set("Cache-Control", "max-age=10, stale-while-revalidate=60")
		_, _ = fmt.Fprint(w, n)
		if n > 1 {
			done <- struct{}{}
		}
	})
	r.get("/").is(t, 200, "1")
	r.clock.advance(11 * time.Second)
	r.get("/").is(t, 200, "1").status(t, "cacheproxy; hit; ttl=-1; detail=stale-while-revalidate")
	<-done
	r.h.work.Wait()
	r.get("/").is(t, 200, "2").status(t, "cacheproxy; hit; ttl=10")
}

// A response that the upstream cut is told apart in the access log from one that was sent whole.
func TestCutResponseIsLogged(t *testing.T) {
	for _, cc := range []string{"max-age=60", "private"} {
		r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", cc)
			w.Header().Set("Content-Length", "10")
			_, _ = fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		if a, err := r.try("GET", "/", nil); err == nil {
			t.Errorf("%s: %d %q", cc, a.StatusCode, a.body)
		}
		r.proxy.Close() // waits for the request's end
		if len(r.logs) != 1 || r.logs[0].Err == nil || r.logs[0].Bytes != 4 || r.logs[0].Outcome.Stored {
			t.Errorf("%s: %+v", cc, r.logs)
		}
	}
}

func TestStaleIfError(t *testing.T) {
	broken := false
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		if broken && req.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
		if broken {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Cache-Control", "max-age=10, stale-if-error=60")
		_, _ = fmt.Fprint(w, "good")
	})
	r.get("/")
	r.get("/cut")
	broken = true
	r.clock.advance(11 * time.Second)
	r.get("/").is(t, 200, "good").status(t, "cacheproxy; fwd=stale; fwd-status=503; ttl=-1; detail=stale-if-error")
	r.get("/cut").is(t, 200, "good").status(t, "cacheproxy; fwd=stale; ttl=-1; detail=stale-if-error")
	r.clock.advance(60 * time.Second)
	if got := r.get("/"); got.StatusCode != 503 {
		t.Errorf("past the window: %d", got.StatusCode)
	}
	got := r.get("/cut")
	if got.StatusCode != 502 || !strings.Contains(got.Header.Get("Proxy-Status"), "cacheproxy; error=") || got.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v %s", got.StatusCode, got.Header, got.body)
	}
}

func TestUnsafeMethodInvalidates(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == "POST" {
			w.Header().Set("Location", "/other")
			return
		}
		cacheable(w, req)
	})
	r.get("/")
	r.get("/other")
	r.get("/third")
	r.do("POST", "/", strings.NewReader("x")).status(t, "cacheproxy; fwd=method")
	r.get("/").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
	r.get("/other").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
	r.get("/third").status(t, "cacheproxy; hit; ttl=60")
}

func TestOutcomesOfTheRequest(t *testing.T) {
	ttl := time.Minute
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/private":
			w.Header().Set("Cache-Control", "private, max-age=60")
		case "/cookie":
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Set-Cookie", "a=b")
		case "/silent", "/bypass":
		default:
			cacheable(w, req)
		}
	}, withRules(t, policy.RuleSpec{Match: policy.MatchSpec{Path: "/bypass"}, Bypass: true},
		policy.RuleSpec{Match: policy.MatchSpec{Path: "/ttl"}, TTL: &ttl}))
	for _, c := range []struct {
		target string
		fields []string
		want   string
	}{
		{"/private", nil, "cacheproxy; fwd=uri-miss; detail=private"},
		{"/cookie", nil, "cacheproxy; fwd=uri-miss; detail=set-cookie"},
		{"/silent", nil, "cacheproxy; fwd=uri-miss; detail=no-freshness"},
		{"/bypass", nil, "cacheproxy; fwd=bypass; detail=bypass"},
		{"/a%2fb", nil, "cacheproxy; fwd=bypass; detail=ambiguous-path"},
		{"/a;b", nil, "cacheproxy; fwd=bypass; detail=ambiguous-path"},
		{"/a?\xe9", nil, "cacheproxy; fwd=bypass; detail=unnameable-url"},
		{"/a?\xe9", nil, "cacheproxy; fwd=bypass; detail=unnameable-url"}, // nothing was stored
		{"/a?\u00e9%e9", nil, "cacheproxy; fwd=uri-miss; ttl=60; stored"},
		{"/" + strings.Repeat("x", invalidation.MaxURLsSize), nil, "cacheproxy; fwd=bypass; detail=unnameable-url"},
		{"/", []string{"Authorization: Basic x"}, "cacheproxy; fwd=uri-miss; detail=authorization"},
		{"/", []string{"Cache-Control: no-store"}, "cacheproxy; fwd=uri-miss; detail=request-no-store"},
		{"/", nil, "cacheproxy; fwd=uri-miss; ttl=60; stored"},
		{"/", []string{"Cache-Control: no-cache"}, "cacheproxy; fwd=request; ttl=60; stored"},
	} {
		r.get(c.target, c.fields...).status(t, c.want)
	}
	r.get("/nothing", "Cache-Control: only-if-cached").status(t, "cacheproxy; detail=only-if-cached")
}

// If-Match and If-Unmodified-Since are for the origin (RFC 9111 section 4.3.2), whatever is stored.
func TestIfMatchReachesTheOrigin(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=60")
		if m := req.Header.Get("If-Match"); m != "" && m != `"1"` {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		_, _ = io.WriteString(w, "body")
	})
	r.get("/", `If-Match: "2"`).is(t, 412, "")
	r.get("/").is(t, 200, "body")
	r.get("/", `If-Match: "2"`).is(t, 412, "")
	r.get("/", `If-Match: "1"`).is(t, 200, "body")
}

// Clients differ in how they write what Location names.
func TestUnsafeRequestForgetsLocationHoweverItIsWritten(t *testing.T) {
	for _, location := range []string{"/a|b?q", "/a%7Cb?q", "http://shop.example/a|b?q#f", "//shop.example/a|b?q"} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			if req.Method == "POST" {
				w.Header()["Location"] = []string{location}
				return
			}
			cacheable(w, req)
		})
		ask := func(path string) string {
			return r.raw("GET " + path + " HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
		}
		for _, path := range []string{"/a|b?q", "/a%7Cb?q"} {
			if written := strings.Contains(location, "|"); path == "/a|b?q" && !written {
				continue // nobody who is sent to %7C asks for the bare character
			}
			ask(path)
			if !strings.Contains(ask(path), "cacheproxy; hit") {
				t.Fatalf("%s is not stored", path)
			}
			r.do("POST", "/", strings.NewReader("x"), "Host: shop.example")
			if strings.Contains(ask(path), "cacheproxy; hit") {
				t.Errorf("Location %s: %s is still stored", location, path)
			}
		}
	}
}

func TestUnsafeRequestForgetsAnEmptyQueryToo(t *testing.T) {
	r := newRig(t, cacheable)
	r.get("/a?")
	r.get("/a?").status(t, "cacheproxy; hit; ttl=60")
	r.do("POST", "/a?", strings.NewReader("x"))
	r.get("/a?").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
}
