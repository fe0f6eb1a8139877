package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
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

// What a request wants of a stored response it wants of another one's fetch.
func TestRequestDirectivesHoldForAFetchThatIsUnderWay(t *testing.T) {
	for _, c := range []struct {
		field string
		joins bool
	}{
		{"Cache-Control: no-cache", false}, {"Cache-Control: max-age=0", false}, {"Pragma: no-cache", false},
		{"Cache-Control: max-age=5", false}, {"Cache-Control: max-age=50", true}, {"Cache-Control: min-fresh=55", false},
		{"X-Plain: 1", true},
	} {
		t.Run(c.field, func(t *testing.T) {
			onStage(t, func(s *stage) {
				a := s.ask("/")
				body := (<-s.calls).answer(200, "Cache-Control: max-age=60")
				synctest.Wait()
				time.Sleep(10 * time.Second)
				b := s.ask("/", c.field)
				synctest.Wait()
				if !c.joins {
					(<-s.calls).whole(200, "new", "Cache-Control: max-age=60")
					wantAll(t, []*asker{b}, 200, "new")
				}
				_, _ = io.WriteString(body, "old")
				_ = body.Close()
				wantAll(t, []*asker{a}, 200, "old")
				if c.joins {
					wantAll(t, []*asker{b}, 200, "old")
				}
			})
		})
	}
}

func TestStaleFetchIsNotJoined(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		body := (<-s.calls).answer(200, "Cache-Control: max-age=10")
		synctest.Wait()
		time.Sleep(11 * time.Second)
		b := s.ask("/")
		(<-s.calls).whole(200, "new", "Cache-Control: max-age=10")
		wantAll(t, []*asker{b}, 200, "new")
		_, _ = io.WriteString(body, "old")
		_ = body.Close()
		wantAll(t, []*asker{a}, 200, "old")
	})
}

// Readers that stand still at one and the same place are left behind together.
func TestTwoStalledReadersHoldNobodyBack(t *testing.T) {
	onStage(t, func(s *stage) {
		stalled := []*asker{{block: make(chan struct{})}, {block: make(chan struct{})}}
		for _, a := range stalled {
			s.asking(a, "/")
		}
		fast := s.ask("/")
		synctest.Wait()
		body := (<-s.calls).answer(200, "Cache-Control: max-age=60")
		want := strings.Repeat("0123456789abcdef", 1<<14)
		begin(body, want)
		go func() {
			_, _ = io.WriteString(body, want[1:])
			_ = body.Close()
		}()
		select {
		case <-fast.done:
		case <-time.After(time.Hour): // the bubble's clock
			t.Error("the fast reader waits")
		}
		for _, a := range stalled {
			close(a.block)
			<-a.done
		}
		wantAll(t, []*asker{fast}, 200, want)
	}, small)
}

// The client who reads from upstream for all may leave while upstream is silent.
func TestPullingClientLeavesASilentUpstream(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		c := <-s.calls
		body := c.answer(200, "Cache-Control: max-age=600")
		_, _ = io.WriteString(body, "a")
		synctest.Wait()
		a.left()
		synctest.Wait()
		b := s.ask("/")
		synctest.Wait()
		_, _ = io.WriteString(body, "b")
		synctest.Wait()
		b.left()
		synctest.Wait()
		if c.Context().Err() != nil {
			t.Error("it was worth keeping")
		}
		time.Sleep(61 * time.Second) // more than it may take to be stored
		<-c.Context().Done()
		_ = body.CloseWithError(c.Context().Err()) // as a transport does
		<-a.done
		<-b.done
		synctest.Wait()
		if held := s.h.fills.memory.Load(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
}

func TestPullingClientWhoLeavesHandsOver(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		body := (<-s.calls).answer(200, "Cache-Control: max-age=600")
		_, _ = io.WriteString(body, "a")
		synctest.Wait()
		a.left()
		synctest.Wait()
		_, _ = io.WriteString(body, "b")
		_, _ = io.WriteString(body, "c")
		_ = body.Close()
		<-a.done
		synctest.Wait()
		wantAll(t, s.askMany(1, "/"), 200, "abc")
		s.wantCalls(1)
	})
}

// Nobody reads a window on behalf of a client who has left.
func TestPullingClientOfAWindowLeaves(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		c := <-s.calls
		body := c.answer(200, "Cache-Control: max-age=600")
		begin(body, "x")
		_, _ = body.Write(make([]byte, 100<<10))
		synctest.Wait()
		a.left()
		synctest.Wait()
		if c.Context().Err() == nil {
			t.Error("the request goes on for nobody")
		}
		_ = body.CloseWithError(io.ErrClosedPipe)
		<-a.done
	}, small)
}

type panickingBody struct{ io.ReadCloser }

func (panickingBody) Read([]byte) (int, error) { panic("on purpose") }

func TestPanicInABodyEndsAllWaiters(t *testing.T) {
	onStage(t, func(s *stage) {
		all := s.askMany(3, "/")
		synctest.Wait()
		h := http.Header{"Cache-Control": {"max-age=60"}}
		(<-s.calls).reply <- result{res: &http.Response{StatusCode: 200, Header: h, Body: panickingBody{http.NoBody}, ContentLength: -1}}
		for _, a := range all {
			if <-a.done; a.aborted != http.ErrAbortHandler { //nolint:errorlint // the very value is what net/http looks for
				t.Errorf("ended with %v", a.aborted)
			}
		}
		synctest.Wait()
		if held := s.h.fills.memory.Load(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
}

// A fill that has lost its place in the table ends with the Handler all the same.
func TestCloseEndsAFillThatWasReplaced(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		old := <-s.calls
		body := old.answer(200, "Cache-Control: max-age=600")
		_, _ = io.WriteString(body, "x")
		synctest.Wait()
		a.left()
		synctest.Wait()
		s.h.opt.Store.Forget("http://example.com/")
		b := s.ask("/")
		(<-s.calls).whole(200, "new", "Cache-Control: max-age=60")
		wantAll(t, []*asker{b}, 200, "new")
		go func() {
			<-old.Context().Done()
			_ = body.CloseWithError(io.ErrUnexpectedEOF)
		}()
	})
}

// The rest that is fetched for a slow reader alone is the whole rest, or it is an error.
func TestSlowReaderIsNotGivenHalfOfTheRest(t *testing.T) {
	onStage(t, func(s *stage) {
		slow := &asker{block: make(chan struct{})}
		s.asking(slow, "/")
		fast := s.ask("/")
		synctest.Wait()
		body := (<-s.calls).answer(200, "Cache-Control: max-age=60", `ETag: "v1"`)
		want := strings.Repeat("0123456789abcdef", 1<<14)
		begin(body, want)
		go func() {
			_, _ = io.WriteString(body, want[1:])
			_ = body.Close()
		}()
		<-fast.done
		close(slow.block)
		again := <-s.calls
		var from int
		if _, err := parseFrom(again.Header.Get("Range"), &from); err != nil {
			t.Fatal(err)
		}
		again.whole(206, want[from:from+10], `ETag: "v1"`, "Content-Range: "+contentRange(policy.ByteRange{First: int64(from), Last: int64(from) + 9}, int64(len(want))))
		if <-slow.done; slow.aborted == nil {
			t.Errorf("ended well after %d of %d bytes", slow.body.Len(), len(want))
		}
	}, small)
}

// ReverseProxy flushes a body of unknown length after each write and, from a goroutine of its own, once more at the start: a flush
// of ours beside that would be a race.
func TestFlushesAreNotDoubled(t *testing.T) {
	onStage(t, func(s *stage) {
		a := &countingFlushes{asker: &asker{}}
		done := make(chan struct{})
		a.header = make(http.Header)
		r, _ := http.NewRequest("GET", "http://example.com/", nil)
		go func() {
			defer close(done)
			s.h.ServeHTTP(a, r)
		}()
		body := (<-s.calls).answer(200, "Cache-Control: max-age=60")
		for range 5 {
			_, _ = io.WriteString(body, "x")
			synctest.Wait()
		}
		_ = body.Close()
		<-done
		if n := a.flushes.Load(); n > 6 {
			t.Errorf("%d flushes of 5 writes", n)
		}
	})
}

type countingFlushes struct {
	*asker
	flushes atomic.Int64
}

func (c *countingFlushes) Flush() { c.flushes.Add(1) }

// HTTP2-Settings and "Upgrade: h2c", which curl --http2 sends, are neither passed on nor a reason not to answer from the store.
func TestUpgradeToAnotherHTTPIsNotPassedOn(t *testing.T) {
	r := newRig(t, cacheable)
	request := "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
	r.raw(request)
	if h := r.lastSeen().Header; h["Upgrade"] != nil || h["Http2-Settings"] != nil || h["Connection"] != nil {
		t.Errorf("%v", h)
	}
	if out := r.raw(request); !strings.Contains(out, "cacheproxy; hit") {
		t.Errorf("%q", out)
	}
}

func TestCloseEndsUpgradedConnectionsOfBypassedPaths(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = buffered.ReadByte()
	}, withRules(t, policy.RuleSpec{Bypass: true}))
	c, err := net.Dial("tcp", r.proxy.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 || res.Header["Cache-Status"] != nil {
		t.Fatalf("%v %v", res, err)
	}
	r.h.cancel()
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("the connection has not been ended: %v", err)
	}
}

// To return without an answer is one: net/http makes an empty 200 of it.
func TestRequestThatEndsIsNotAnsweredWithAnEmpty200(t *testing.T) {
	onStage(t, func(s *stage) {
		gone := s.ask("/", "Cache-Control: no-store")
		<-s.calls
		gone.left()
		if <-gone.done; gone.aborted != http.ErrAbortHandler { //nolint:errorlint // the very value is what net/http looks for
			t.Errorf("%v", gone.aborted)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		go func() { <-s.calls }()
		s.h.ServeHTTP(w, httptest.NewRequest("GET", "http://example.com/", nil).WithContext(ctx))
		if w.Code != 502 {
			t.Errorf("%d", w.Code)
		}
	})
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

func TestUnsafeRequestForgetsAnEmptyQueryToo(t *testing.T) {
	r := newRig(t, cacheable)
	r.get("/a?")
	r.get("/a?").status(t, "cacheproxy; hit; ttl=60")
	r.do("POST", "/a?", strings.NewReader("x"))
	r.get("/a?").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
}

// One refresh at a time for what is stored under one key, even where nothing is collapsed; and without the wishes of the client
// who was served meanwhile.
func TestOneRefreshAtATime(t *testing.T) {
	no := false
	onStage(t, func(s *stage) {
		a := s.ask("/")
		(<-s.calls).whole(200, "1", "Cache-Control: max-age=10, stale-while-revalidate=60")
		wantAll(t, []*asker{a}, 200, "1")
		time.Sleep(11 * time.Second)
		wantAll(t, s.askMany(20, "/", "Cache-Control: only-if-cached"), 200, "1")
		c := <-s.calls
		synctest.Wait()
		s.wantCalls(2)
		if c.Header["Cache-Control"] != nil {
			t.Errorf("%v", c.Header)
		}
		c.whole(200, "2", "Cache-Control: max-age=10, stale-while-revalidate=60")
		synctest.Wait()
		wantAll(t, s.askMany(1, "/"), 200, "2")
	}, withRules(t, policy.RuleSpec{Collapse: &no}))
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
