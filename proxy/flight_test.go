package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cacheproxy/internal/bubble"
	"cacheproxy/store"
)

// The tests of fills run in a synctest bubble, with an upstream whose every step the test takes itself: synctest.Wait returns
// when nobody can go on, so "500 askers are waiting" is a fact and not a hope.

// stage is a Handler whose upstream the test plays.
type stage struct {
	t     *testing.T
	h     *Handler
	calls chan *call // each upstream request, as it comes
	mu    sync.Mutex
	count int
}

// call is one upstream request and what the test answers.
type call struct {
	*http.Request
	reply chan result
}

type result struct {
	res *http.Response
	err error
}

func (s *stage) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.count++
	s.mu.Unlock()
	c := &call{r, make(chan result, 1)}
	select {
	case s.calls <- c:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	select {
	case res := <-c.reply:
		if res.res != nil {
			res.res.Request = r
		}
		return res.res, res.err
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (s *stage) wantCalls(n int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count != n {
		s.t.Errorf("%d upstream requests, want %d", s.count, n)
	}
}

// onStage runs f in a bubble with a Handler.
func onStage(t *testing.T, f func(*stage), change ...func(*Options)) {
	t.Helper()
	bubble.Run(t, func(t *testing.T) {
		s := &stage{t: t, calls: make(chan *call)}
		st, err := store.New(store.Options{NearSize: 32 << 20})
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Next: s, Store: st, Log: slog.New(slog.DiscardHandler)}
		for _, c := range change {
			c(&o)
		}
		if s.h, err = New(o); err != nil {
			t.Fatal(err)
		}
		f(s)
		if err := errors.Join(s.h.Close(context.Background()), st.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
}

// asker is a client and all that it was sent.
type asker struct {
	mu      sync.Mutex
	header  http.Header
	sent    http.Header // as of WriteHeader
	code    int
	body    bytes.Buffer
	flushed int
	hints   []string
	aborted any
	left    context.CancelFunc
	done    chan struct{}
	block   chan struct{} // non-nil: every Write but the first waits for it

	blockHints chan struct{} // non-nil: every interim response waits for it
}

func (a *asker) Header() http.Header { return a.header }

func (a *asker) WriteHeader(code int) {
	if code < 200 && a.blockHints != nil {
		<-a.blockHints
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if code < 200 {
		a.hints = append(a.hints, a.header.Get("Link"))
		return
	}
	a.code, a.sent = code, a.header.Clone()
}

func (a *asker) Write(p []byte) (int, error) {
	if a.block != nil && a.body.Len() > 0 {
		<-a.block
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.code == 0 {
		a.code, a.sent = 200, a.header.Clone()
	}
	return a.body.Write(p)
}

func (a *asker) Flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flushed = a.body.Len()
}

// ask starts a request; fields are "Name: value".
func (s *stage) ask(target string, fields ...string) *asker {
	return s.asking(&asker{}, target, fields...)
}

func (s *stage) asking(a *asker, target string, fields ...string) *asker {
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), http.ServerContextKey, &http.Server{}))
	a.header, a.left, a.done = make(http.Header), cancel, make(chan struct{})
	r := httptest.NewRequest("GET", "http://example.com"+target, nil).WithContext(ctx)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	go func() {
		defer close(a.done)
		defer func() { a.aborted = recover() }()
		s.h.ServeHTTP(a, r)
	}()
	return a
}

func (s *stage) askMany(n int, target string, fields ...string) []*asker {
	all := make([]*asker, n)
	for i := range all {
		all[i] = s.ask(target, fields...)
	}
	return all
}

// answer sends a head with a body that the test writes; fields are "Name: value".
func (c *call) answer(status int, fields ...string) *io.PipeWriter {
	pr, pw := io.Pipe()
	h := make(http.Header)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h.Add(name, value)
	}
	c.reply <- result{res: &http.Response{StatusCode: status, Header: h, Body: pr, ContentLength: -1, ProtoMajor: 1, ProtoMinor: 1}}
	return pw
}

// whole answers with a complete response.
func (c *call) whole(status int, body string, fields ...string) {
	pw := c.answer(status, fields...)
	go func() {
		_, _ = io.WriteString(pw, body)
		_ = pw.Close()
	}()
}

func wantAll(t *testing.T, all []*asker, code int, body string) {
	t.Helper()
	for i, a := range all {
		<-a.done
		if a.code != code || a.body.String() != body || a.aborted != nil {
			t.Fatalf("asker %d: %d %q (%v), want %d %q", i, a.code, a.body.String(), a.aborted, code, body)
		}
	}
}

func TestFillAnswersThoseBeforeTheHeadAndDuringTheBody(t *testing.T) {
	onStage(t, func(s *stage) {
		before := s.askMany(500, "/")
		synctest.Wait()
		c := <-s.calls
		body := c.answer(200, "Cache-Control: max-age=60")
		_, _ = io.WriteString(body, "first ")
		synctest.Wait()
		during := s.askMany(500, "/")
		synctest.Wait()
		for i, a := range append(before, during...) {
			if a.flushed != len("first ") {
				t.Fatalf("asker %d has been sent %d bytes before the last one came from upstream", i, a.flushed)
			}
		}
		_, _ = io.WriteString(body, "last")
		_ = body.Close()
		wantAll(t, before, 200, "first last")
		wantAll(t, during, 200, "first last")
		s.wantCalls(1)
		led := 0
		for _, a := range append(before, during...) {
			switch cs := a.sent.Get("Cache-Status"); cs {
			case "cacheproxy; fwd=uri-miss; ttl=60; stored":
				led++
			case "cacheproxy; fwd=uri-miss; ttl=60; collapsed":
			default:
				t.Fatalf("Cache-Status: %s", cs)
			}
		}
		if led != 1 {
			t.Errorf("%d askers led", led)
		}
		synctest.Wait()
		wantAll(t, s.askMany(1, "/"), 200, "first last")
		s.wantCalls(1)
	})
}

func TestFillIsNotSharedWhereHTTPForbids(t *testing.T) {
	for _, c := range []struct{ name, field string }{
		{"private", "Cache-Control: private, max-age=60"},
		{"no-store", "Cache-Control: no-store"},
		{"no-cache", "Cache-Control: no-cache, max-age=60"},
		{"silent", "X-Nothing: 1"},
		{"set-cookie", "Set-Cookie: a=b"},
		{"vary star", "Vary: *"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				all := s.askMany(3, "/")
				synctest.Wait()
				(<-s.calls).whole(200, "one", c.field)
				for range 2 {
					(<-s.calls).whole(200, "more", c.field)
				}
				ones := 0
				for _, a := range all {
					<-a.done
					if a.body.String() == "one" {
						ones++
					}
				}
				if ones != 1 {
					t.Errorf("%d askers got the response that was for one", ones)
				}
				s.wantCalls(3)
				later := s.askMany(2, "/") // remembered: they do not wait for each other
				synctest.Wait()
				(<-s.calls).whole(200, "alone", c.field)
				(<-s.calls).whole(200, "alone", c.field)
				wantAll(t, later, 200, "alone")
			})
		})
	}
}

func TestFillIsSharedByThoseWhomVarySelects(t *testing.T) {
	onStage(t, func(s *stage) {
		gzip := s.askMany(20, "/", "Accept-Encoding: gzip")
		synctest.Wait()
		first := <-s.calls
		br := s.askMany(20, "/", "Accept-Encoding: br")
		synctest.Wait()
		first.whole(200, first.Header.Get("Accept-Encoding"), "Cache-Control: max-age=60", "Vary: Accept-Encoding")
		second := <-s.calls
		second.whole(200, second.Header.Get("Accept-Encoding"), "Cache-Control: max-age=60", "Vary: Accept-Encoding")
		wantAll(t, gzip, 200, "gzip")
		wantAll(t, br, 200, "br")
		s.wantCalls(2)
	})
}

func TestFillOutlivesItsLeader(t *testing.T) {
	onStage(t, func(s *stage) {
		leader := s.ask("/")
		synctest.Wait()
		c := <-s.calls
		others := s.askMany(3, "/")
		synctest.Wait()
		leader.left()
		synctest.Wait()
		body := c.answer(200, "Cache-Control: max-age=60")
		_, _ = io.WriteString(body, "a")
		synctest.Wait()
		others[0].left()
		synctest.Wait()
		_, _ = io.WriteString(body, "b")
		_ = body.Close()
		wantAll(t, others[1:], 200, "ab")
		s.wantCalls(1)
	})
}

func TestFillIsKeptWhenAllLeaveDuringTheBody(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		body := (<-s.calls).answer(200, "Cache-Control: max-age=60")
		_, _ = io.WriteString(body, "a")
		synctest.Wait()
		a.left()
		synctest.Wait()
		_, _ = io.WriteString(body, "b")
		_ = body.Close()
		synctest.Wait()
		wantAll(t, s.askMany(1, "/"), 200, "ab")
		s.wantCalls(1)
	})
}

func TestFillEndsWhenAllLeaveBeforeTheHead(t *testing.T) {
	onStage(t, func(s *stage) {
		all := s.askMany(2, "/")
		synctest.Wait()
		c := <-s.calls
		for _, a := range all {
			a.left()
		}
		<-c.Context().Done()
		for _, a := range all {
			<-a.done
		}
		synctest.Wait()
		next := s.ask("/")
		(<-s.calls).whole(200, "x", "Cache-Control: max-age=60")
		wantAll(t, []*asker{next}, 200, "x")
	})
}

func TestUnsharedResponseOfALeaderWhoLeft(t *testing.T) {
	onStage(t, func(s *stage) {
		leader := s.ask("/")
		synctest.Wait()
		c := <-s.calls
		other := s.ask("/")
		synctest.Wait()
		leader.left()
		synctest.Wait()
		body := c.answer(200, "Cache-Control: private")
		alone := <-s.calls
		if _, err := io.WriteString(body, "not for anybody here"); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the body that is for nobody is still read: %v", err)
		}
		alone.whole(200, "own", "Cache-Control: private")
		wantAll(t, []*asker{other}, 200, "own")
	})
}

func TestUpstreamErrorEndsAllWaiters(t *testing.T) {
	onStage(t, func(s *stage) {
		all := s.askMany(3, "/")
		synctest.Wait()
		(<-s.calls).reply <- result{err: errors.New("refused")}
		for _, a := range all {
			if <-a.done; a.code != 502 {
				t.Errorf("%d", a.code)
			}
		}
		s.wantCalls(1)
	})
}

type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("on purpose") }

func TestPanicInTheRoundTripIsAnError(t *testing.T) {
	onStage(t, func(s *stage) {
		for _, a := range s.askMany(3, "/") {
			if <-a.done; a.code != 502 || a.aborted != nil {
				t.Errorf("%d %v", a.code, a.aborted)
			}
		}
	}, func(o *Options) { o.Next = panicking{} })
}

func TestUpstreamCutAbortsEveryWaiterAndStoresNothing(t *testing.T) {
	onStage(t, func(s *stage) {
		all := s.askMany(3, "/")
		synctest.Wait()
		body := (<-s.calls).answer(200, "Cache-Control: max-age=60")
		_, _ = io.WriteString(body, "half")
		synctest.Wait()
		_ = body.CloseWithError(io.ErrUnexpectedEOF)
		for _, a := range all {
			if <-a.done; a.aborted != http.ErrAbortHandler { //nolint:errorlint // the very value is what net/http looks for
				t.Errorf("ended with %v", a.aborted)
			}
		}
		synctest.Wait()
		s.ask("/")
		synctest.Wait()
		(<-s.calls).whole(200, "again", "Cache-Control: max-age=60")
		s.wantCalls(2)
		synctest.Wait()
	})
}

func TestEveryWaiterGetsTheInterimResponses(t *testing.T) {
	onStage(t, func(s *stage) {
		early := s.askMany(3, "/")
		synctest.Wait()
		c := <-s.calls
		hint := textproto.MIMEHeader{"Link": {"</style.css>; rel=preload"}}
		_ = httptrace.ContextClientTrace(c.Context()).Got1xxResponse(103, hint)
		synctest.Wait()
		late := s.ask("/")
		synctest.Wait()
		c.whole(200, "x", "Cache-Control: max-age=60", "X-Final: 1")
		for _, a := range append(early, late) {
			<-a.done
			if len(a.hints) != 1 || a.hints[0] != "</style.css>; rel=preload" || a.sent.Get("X-Final") != "1" || a.sent.Get("Link") != "" {
				t.Errorf("hints %q, then %v", a.hints, a.sent)
			}
		}
	})
}

// The leader's client may be one that does not read what it is sent.
func TestLeaderStuckInAnInterimResponseKeepsTheHeadFromNobody(t *testing.T) {
	onStage(t, func(s *stage) {
		stuck := s.asking(&asker{blockHints: make(chan struct{})}, "/")
		synctest.Wait()
		other := s.ask("/")
		synctest.Wait()
		c := <-s.calls
		hook := httptrace.ContextClientTrace(c.Context()).Got1xxResponse
		for range 2 * maxInterims {
			_ = hook(103, textproto.MIMEHeader{"Link": {"</style.css>; rel=preload"}})
		}
		c.whole(200, "x", "Cache-Control: max-age=60")
		wantAll(t, []*asker{other}, 200, "x")
		close(stuck.blockHints)
		wantAll(t, []*asker{stuck}, 200, "x")
		for _, a := range []*asker{stuck, other} {
			if len(a.hints) != maxInterims {
				t.Errorf("%d interim responses", len(a.hints))
			}
		}
	})
}

// The schedule in the comment of fills: A looks up, F stores and leaves the table, A joins.
func TestSecondLookFindsWhatWasStoredMeanwhile(t *testing.T) {
	onStage(t, func(s *stage) {
		w := httptest.NewRecorder()
		a := s.h.begin(w, httptest.NewRequest("GET", "http://example.com/", nil))
		a.client()
		a.rule()
		a.outbound()
		a.key()
		if a.lookup(); a.evaluate() {
			t.Fatal("there should be nothing")
		}
		b := s.ask("/")
		(<-s.calls).whole(200, "x", "Cache-Control: max-age=60")
		<-b.done
		synctest.Wait()
		a.fetch()
		if w.Body.String() != "x" || w.Header().Get("Cache-Status") != "cacheproxy; hit; ttl=60" {
			t.Errorf("%q %v", w.Body, w.Header())
		}
		s.wantCalls(1)
	})
}

func TestForgottenWhileFilling(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		old := <-s.calls
		s.h.opt.Store.Forget("http://example.com/")
		b := s.ask("/") // must not get what was fetched before
		(<-s.calls).whole(200, "new", "Cache-Control: max-age=60")
		wantAll(t, []*asker{b}, 200, "new")
		old.whole(200, "old", "Cache-Control: max-age=60")
		wantAll(t, []*asker{a}, 200, "old")
		synctest.Wait()
		wantAll(t, s.askMany(1, "/"), 200, "new")
		s.wantCalls(2)
	})
}

func TestStampedeOnAStaleResponseRefreshesOnce(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		(<-s.calls).whole(200, "1", "Cache-Control: max-age=10, stale-while-revalidate=60")
		wantAll(t, []*asker{a}, 200, "1")
		time.Sleep(11 * time.Second) // the bubble's clock
		wantAll(t, s.askMany(50, "/"), 200, "1")
		(<-s.calls).whole(200, "2", "Cache-Control: max-age=10")
		synctest.Wait()
		wantAll(t, s.askMany(1, "/"), 200, "2")
		s.wantCalls(2)
	})
}
