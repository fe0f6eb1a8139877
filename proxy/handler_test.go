package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"cacheproxy/policy"
)

// meddler is the writer of a handler around ours that writes to the fields it is given.
type meddler struct{ *httptest.ResponseRecorder }

func (m meddler) WriteHeader(status int) {
	m.Header()["X-Two"][0] = "changed"
	m.ResponseRecorder.WriteHeader(status)
}

// What a handler around ours has set is added to, and what is stored is the origin's alone.
func TestFieldsOfAHandlerAround(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Cache-Control"], h["Link"], h["X-Two"] = []string{"max-age=60"}, []string{"</a>"}, []string{"1", "2"}
	})
	w := httptest.NewRecorder()
	w.Header()["Link"] = []string{"</b>"}
	r.h.ServeHTTP(meddler{w}, httptest.NewRequest("GET", "http://example.com/", nil))
	if h := w.Result().Header; !slices.Equal(h["Link"], []string{"</b>", "</a>"}) || !slices.Equal(h["X-Two"], []string{"changed", "2"}) {
		t.Errorf("a miss has %q", h)
	}
	e, ok := r.h.opt.Store.LookupNear(policy.Key{URL: "http://example.com/"}, nil)
	if !ok || !slices.Equal(e.Header()["Link"], []string{"</a>"}) || !slices.Equal(e.Header()["X-Two"], []string{"1", "2"}) {
		t.Errorf("%v: %q", ok, e.Header())
	}
}

// A body that ends short of its Content-Length is not stored, and not taken for the whole.
func TestShortBodyIsNotStored(t *testing.T) {
	short := FromHandler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "short")
	}))
	no := false
	for _, rules := range [][]policy.RuleSpec{nil, {{Collapse: &no}}} {
		r := newRig(t, nil, withRules(t, rules...), func(o *Options) { o.Next = short })
		for range 2 {
			if a, err := r.try("GET", "/", nil); err == nil || a.Header.Get("Cache-Status") == "cacheproxy; hit; ttl=60" {
				t.Errorf("%q %v", a.body, a.Header)
			}
		}
	}
}

// A handler before ours may have changed the path; what it asks for is asked for, and is the key.
func TestPathAsAMiddlewareLeavesIt(t *testing.T) {
	onStage(t, func(s *stage) {
		for _, c := range [][2]string{{"/api/x", "/x"}, {"/api/a|b", "/a%7Cb"}, {"/api/", "/"}} {
			w := httptest.NewRecorder()
			done := make(chan struct{})
			go func() {
				defer close(done)
				http.StripPrefix("/api", s.h).ServeHTTP(w, httptest.NewRequest("GET", c[0], nil))
			}()
			call := <-s.calls
			if got := call.URL.RequestURI(); got != c[1] {
				t.Errorf("%s: %s", c[0], got)
			}
			call.whole(200, "x", "Cache-Control: max-age=60")
			<-done
		}
	})
}

// A service with a cache around it answers as it would without.
func TestHandlerBehindTheCacheIsServedAsByNetHTTP(t *testing.T) {
	for _, c := range []struct {
		name    string
		method  string
		handler http.HandlerFunc
		status  int // 0: the connection is aborted
		body    string
		fields  []string
		absent  string
	}{
		{"content type guessed", "GET", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
			200, "<html>", []string{"Content-Type: text/html; charset=utf-8"}, ""},
		{"after WriteHeader too", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); _, _ = io.WriteString(w, "x") },
			201, "x", []string{"Content-Type: text/plain; charset=utf-8"}, ""},
		{"not where refused", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "<html>")
		}, 200, "<html>", nil, "Content-Type"},
		{"304 with a body", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(304)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Error(err)
			}
		}, 304, "", nil, ""},
		{"too long", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "ab")
			if _, err := io.WriteString(w, "c"); !errors.Is(err, http.ErrContentLength) {
				t.Error(err)
			}
		}, 200, "ab", []string{"Content-Length: 2"}, ""},
		{"too short", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "20")
			_, _ = io.WriteString(w, "ab")
		}, 0, "", nil, ""},
		{"HEAD", "HEAD", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "ab")
		}, 200, "", []string{"Content-Length: 2"}, ""},
		{"fields after the head", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			w.Header().Set("X-Late", "1")
		}, 200, "", nil, "X-Late"},
		{"panic before the head", "GET", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, "", nil, ""},
		{"panic after it", "GET", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "x")
			panic(http.ErrAbortHandler)
		}, 0, "", nil, ""},
	} {
		for _, cc := range []string{"max-age=60", "private"} {
			t.Run(c.name+", "+cc, func(t *testing.T) {
				r := newRig(t, nil, func(o *Options) {
					o.Next = FromHandler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
						w.Header().Set("Cache-Control", cc)
						c.handler(w, req)
					}))
				})
				for range 2 {
					a, err := r.try(c.method, "/", nil)
					if c.status == 0 {
						if err == nil {
							t.Errorf("%d %q", a.StatusCode, a.body)
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					if c.status != 502 {
						a.is(t, c.status, c.body)
					}
					for _, f := range c.fields {
						if name, value, _ := strings.Cut(f, ": "); a.Header.Get(name) != value {
							t.Errorf("%s: %q", name, a.Header[name])
						}
					}
					if a.Header[c.absent] != nil {
						t.Errorf("%v", a.Header)
					}
				}
			})
		}
	}
}

// The trailers come with the end of the body, in whatever way they are named.
func TestTrailersOfAHandler(t *testing.T) {
	for _, cc := range []string{"max-age=60", "private"} {
		r := newRig(t, nil, func(o *Options) {
			o.Next = FromHandler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Cache-Control", cc)
				w.Header().Set("Trailer", "X-A, X-B")
				w.(http.Flusher).Flush()
				w.Header().Set("X-A", "1")
				w.Header().Set("X-B", "2")
				w.Header().Set(http.TrailerPrefix+"X-C", "3")
			}))
		})
		res := r.open("/")
		_, _ = io.ReadAll(res.Body)
		_ = res.Body.Close()
		if h := res.Trailer; h.Get("X-A") != "1" || h.Get("X-B") != "2" || h.Get("X-C") != "3" {
			t.Errorf("%v", h)
		}
	}
}

func TestHandlerSeesTheRequestAsItCame(t *testing.T) {
	r := newRig(t, nil, func(o *Options) {
		o.Next = FromHandler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = fmt.Fprintf(w, "%s %s %s %q %s", req.RequestURI, req.URL, req.Host, req.URL.Opaque, req.Trailer.Get("X-Sum"))
		}))
	})
	if out := r.raw("GET /a|b?x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); !strings.Contains(out, "/a|b?x /a%7Cb?x h \"\"") {
		t.Errorf("%q", out)
	}
	out := r.raw("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 42\r\n\r\n")
	if !strings.Contains(out, "/ / h \"\" 42") {
		t.Errorf("%q", out)
	}
}
