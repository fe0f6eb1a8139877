package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"cacheproxy/policy"
)

// A 304 that makes what is stored unfit to be stored answers its own request with all the fields, and nobody else.
func TestFreshenedIntoPrivateKeepsItsFields(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Etag", `"1"`)
		if req.Header.Get("If-None-Match") != "" {
			w.Header().Set("Cache-Control", "private")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Cache-Control", "max-age=10")
		w.Header().Set("Content-Type", "text/x-test")
		_, _ = io.WriteString(w, "body")
	})
	r.get("/")
	r.clock.advance(11 * time.Second)
	a := r.get("/").is(t, 200, "body")
	if a.Header.Get("Content-Type") != "text/x-test" || a.Header.Get("Etag") != `"1"` || a.Header.Get("Cache-Control") != "private" || a.Header.Get("Age") != "0" {
		t.Errorf("%v", a.Header)
	}
}

func TestFreshenedIntoPrivateIsSharedWithNobody(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		(<-s.calls).whole(200, "one", "Cache-Control: max-age=10", `ETag: "1"`)
		wantAll(t, []*asker{a}, 200, "one")
		time.Sleep(11 * time.Second)
		all := s.askMany(3, "/")
		synctest.Wait()
		(<-s.calls).whole(304, "", "Cache-Control: private", `ETag: "1"`)
		for range 2 {
			(<-s.calls).whole(200, "own", "Cache-Control: private", `ETag: "1"`)
		}
		ones := 0
		for _, a := range all {
			if <-a.done; a.body.String() == "one" {
				ones++
			}
		}
		if ones != 1 {
			t.Errorf("%d askers got what was for one", ones)
		}
	})
}

// What a request says of itself must not empty the cache for the others.
func TestRequestThatMayNotBeStoredForgetsNothing(t *testing.T) {
	for _, field := range []string{"Cache-Control: no-store", "Authorization: Basic x"} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			w.Header().Set("Etag", `"1"`)
			if req.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = io.WriteString(w, "body")
		})
		r.get("/")
		r.clock.advance(11 * time.Second)
		r.get("/", field).is(t, 200, "body")
		r.get("/").is(t, 200, "body").status(t, "cacheproxy; fwd=stale; fwd-status=304; ttl=10; stored; detail=stale")
	}
}

// Who did not ask for it does not get a stale response because the one did whose request was sent.
func TestStaleIfErrorOfARequestIsForThatRequest(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		(<-s.calls).whole(200, "old", "Cache-Control: max-age=10", `ETag: "1"`)
		wantAll(t, []*asker{a}, 200, "old")
		time.Sleep(11 * time.Second)
		lenient := s.ask("/", "Cache-Control: stale-if-error=600")
		synctest.Wait()
		c := <-s.calls
		strict := s.ask("/")
		synctest.Wait()
		c.reply <- result{err: errors.New("refused")}
		(<-s.calls).reply <- result{err: errors.New("refused")}
		wantAll(t, []*asker{lenient}, 200, "old")
		if <-strict.done; strict.code != 502 {
			t.Errorf("%d %q", strict.code, strict.body.String())
		}
	})
}

// A stored part is no answer to what it does not hold, not even when upstream fails.
func TestStoredPartIsNoAnswerToAnErrorElsewhere(t *testing.T) {
	for _, field := range []string{"X-Plain: 1", "Range: bytes=0-1"} {
		fail := false
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			if fail {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Cache-Control", "max-age=10, stale-if-error=600")
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("Content-Range", "bytes 5-9/10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "56789")
		})
		r.get("/", "Range: bytes=5-9").is(t, 206, "56789")
		fail = true
		r.get("/", field).is(t, 503, "")
		r.clock.advance(11 * time.Second)
		r.get("/", "Range: bytes=6-7").is(t, 206, "67")
	}
}

// A 206 that answers If-Range may leave out the fields which the client has already (RFC 9110 section 15.3.7).
func TestCombinedPartsKeepTheFieldsOfTheFirst(t *testing.T) {
	for _, second := range []string{"", "bytes=5-9"} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header()["Content-Type"] = nil
			first, last := 5, 9
			if req.Header.Get("Range") == "bytes=0-4" {
				w.Header().Set("Content-Type", "text/x-test")
				first, last = 0, 4
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/10", first, last))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "0123456789"[first:last+1])
		})
		r.get("/", "Range: bytes=0-4").is(t, 206, "01234")
		if second == "" {
			if a := r.get("/").is(t, 200, "0123456789"); a.Header.Get("Content-Type") != "text/x-test" {
				t.Errorf("%v", a.Header)
			}
		} else {
			r.get("/", "Range: "+second)
		}
		if a := r.get("/").is(t, 200, "0123456789"); a.Header.Get("Content-Type") != "text/x-test" || a.Header.Get("Cache-Status") != "cacheproxy; hit; ttl=60" {
			t.Errorf("%v", a.Header)
		}
	}
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

// strip_cookies takes Set-Cookie from the response too: the one that is streamed as the one that is stored.
func TestStrippedCookiesReachNobody(t *testing.T) {
	for _, cc := range []string{"max-age=60", "private"} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Cache-Control", cc)
			w.Header().Set("Set-Cookie", "id="+req.Header.Get("Cookie"))
		}, withRules(t, policy.RuleSpec{StripCookies: true}))
		for range 2 {
			if a := r.get("/", "Cookie: a=b"); a.Header["Set-Cookie"] != nil {
				t.Errorf("%v", a.Header)
			}
		}
	}
}

// A switch of protocols that nobody asked for is an error, and its connection is closed.
func TestUnaskedSwitchOfProtocols(t *testing.T) {
	for _, field := range []string{"X-Plain: 1", "Upgrade: websocket"} {
		closed := make(chan bool, 1)
		r := newRig(t, nil, func(o *Options) {
			o.Next = roundTripper(func(*http.Request) (*http.Response, error) {
				pr, pw := io.Pipe()
				return &http.Response{
					StatusCode: 101, Header: http.Header{"Upgrade": {"something"}, "Connection": {"Upgrade"}},
					Body: switched{pr, pw, closed},
				}, nil
			})
		})
		fields := []string{field}
		if field != "X-Plain: 1" {
			fields = append(fields, "Connection: Upgrade")
		}
		if a := r.get("/", fields...); a.StatusCode != 502 {
			t.Errorf("%d", a.StatusCode)
		}
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Error("the connection to upstream is left open")
		}
	}
}

type switched struct {
	*io.PipeReader
	w      *io.PipeWriter
	closed chan bool
}

func (s switched) Write(p []byte) (int, error) { return s.w.Write(p) }
func (s switched) Close() error {
	select {
	case s.closed <- true:
	default:
	}
	_ = s.w.Close()
	return s.PipeReader.Close()
}
