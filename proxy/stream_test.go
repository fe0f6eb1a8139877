package proxy

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

func TestServerSentEventsArriveAsTheyAreSent(t *testing.T) {
	next := make(chan string)
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		for event := range next {
			_, _ = fmt.Fprintf(w, "data: %s\n\n", event)
			_ = http.NewResponseController(w).Flush()
		}
	})
	res := r.open("/events")
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for _, event := range []string{"one", "two", "three"} {
		next <- event // the one after it is not sent before this one has arrived
		if lines.Scan(); lines.Text() != "data: "+event {
			t.Errorf("got %q", lines.Text())
		}
		lines.Scan()
	}
	close(next)
}

// Where an event stream says how long it is, its head too comes before there is any event, and in whatever way its type is written.
func TestTheHeadOfAnEventStreamIsNotHeldBack(t *testing.T) {
	for _, kind := range []string{"text/event-stream", "Text/Event-Stream ;charset=utf-8", "text/event-stream; charset"} {
		for _, control := range []string{"no-store", "max-age=60"} {
			seen := make(chan struct{})
			r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
				h := w.Header()
				h["Content-Type"], h["Cache-Control"], h["Content-Length"] = []string{kind}, []string{control}, []string{"11"}
				_ = http.NewResponseController(w).Flush()
				<-seen // no event comes before the client has seen the head
				_, _ = io.WriteString(w, "data: one\n\n")
			})
			res := r.open("/events")
			close(seen)
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if got := res.Header.Get("Content-Type"); err != nil || string(body) != "data: one\n\n" || got != kind {
				t.Errorf("%s, %s: %q %q %v", kind, control, got, body, err)
			}
		}
	}
}

// open sends a GET and returns with the head.
func (r *rig) open(target string, fields ...string) *http.Response {
	r.t.Helper()
	req, _ := http.NewRequest("GET", r.proxy.URL+target, nil)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return res
}

func TestWebSocketEcho(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		c, err := websocket.Accept(w, req, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		for {
			kind, data, err := c.Read(req.Context())
			if err != nil {
				return
			}
			if err := c.Write(req.Context(), kind, data); err != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.proxy.URL, "http")+"/ws", &websocket.DialOptions{HTTPClient: r.client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	for _, text := range []string{"hello", "again"} {
		if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || string(got) != text {
			t.Fatalf("%q %v", got, err)
		}
	}
	_ = c.Close(websocket.StatusNormalClosure, "")
}

func TestCloseEndsUpgradedConnections(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		c, err := websocket.Accept(w, req, nil)
		if err != nil {
			return
		}
		_, _, _ = c.Read(context.Background())
		_ = c.CloseNow()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.proxy.URL, "http")+"/ws", &websocket.DialOptions{HTTPClient: r.client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	r.h.cancel()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the connection has not been ended: %v", err)
	}
}

func TestChunkedUploadStreams(t *testing.T) {
	got := make(chan string)
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		lines := bufio.NewScanner(req.Body)
		for lines.Scan() {
			got <- lines.Text()
		}
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "thanks")
		w.Header().Set("X-Sum", fmt.Sprint(req.Trailer.Get("X-Client-Sum")))
	})
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", r.proxy.URL+"/upload", pr)
	req.Trailer = http.Header{"X-Client-Sum": nil}
	done := make(chan *http.Response)
	go func() {
		res, err := r.client.Do(req)
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	for _, line := range []string{"one", "two"} {
		_, _ = io.WriteString(pw, line+"\n")
		if l := <-got; l != line { // the upstream has it before the next one is sent
			t.Errorf("got %q", l)
		}
	}
	req.Trailer.Set("X-Client-Sum", "42")
	_ = pw.Close()
	res := <-done
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "thanks" || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("%q, trailers %v", b, res.Trailer)
	}
}

func TestTrailersOfAStoredResponse(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
	})
	res := r.open("/")
	_, _ = io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("trailers %v", res.Trailer)
	}
	r.h.fills.under.Wait()
	r.get("/").is(t, 200, "body").status(t, "cacheproxy; hit; ttl=60")
}

func TestEarlyHintsArriveBeforeTheResponseWhichKeepsItsFields(t *testing.T) {
	release := make(chan struct{})
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		<-release
		w.Header().Del("Link")
		w.Header().Set("X-Final", "1")
		w.Header().Set("Cache-Control", req.URL.Query().Get("cc"))
		_, _ = io.WriteString(w, "x")
	})
	for _, cc := range []string{"max-age=60", "private"} {
		c, err := net.Dial("tcp", r.proxy.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = fmt.Fprintf(c, "GET /?cc=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", cc)
		br := bufio.NewReader(c)
		hint, err := http.ReadResponse(br, nil)
		if err != nil || hint.StatusCode != 103 || hint.Header.Get("Link") != "</a.css>; rel=preload" || hint.Header.Get("Cache-Status") != "" {
			t.Fatalf("%v %v", hint, err)
		}
		release <- struct{}{}
		final, err := http.ReadResponse(br, nil)
		if err != nil || final.StatusCode != 200 || final.Header.Get("X-Final") != "1" || final.Header.Get("Link") != "" || final.Header.Get("Cache-Status") == "" {
			t.Fatalf("%v %v", final, err)
		}
		_ = c.Close()
	}
}

// live is what the heap holds, without garbage.
func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestLargeDownloadNeedsLittleMemory(t *testing.T) {
	const size = 128 << 20 // eight times what the heap may grow by
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7)
	}
	for _, cc := range []string{"private", "max-age=60"} {
		for _, length := range []bool{true, false} {
			r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Cache-Control", cc)
				if length {
					w.Header().Set("Content-Length", fmt.Sprint(size))
				}
				for range size / len(block) {
					if _, err := w.Write(block); err != nil {
						return
					}
				}
			})
			before := live()
			res := r.open("/")
			sum := sha256.New()
			most := uint64(0)
			buf := make([]byte, 64<<10)
			for n := 0; ; n++ {
				k, err := io.ReadFull(res.Body, buf)
				_, _ = sum.Write(buf[:k])
				if n%128 == 0 {
					most = max(most, live())
				}
				if err != nil {
					break
				}
			}
			_ = res.Body.Close()
			want := sha256.New()
			for range size / len(block) {
				_, _ = want.Write(block)
			}
			if string(sum.Sum(nil)) != string(want.Sum(nil)) {
				t.Errorf("%s: the body is wrong", cc)
			}
			if most > before+16<<20 {
				t.Errorf("%s, length known %v: what is held grew from %d to %d MiB", cc, length, before>>20, most>>20)
			}
		}
	}
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

// A 1xx is unknown to HTTP/1.0, whose clients would take it for the response (RFC 9110 section 15.2).
func TestNoInterimResponsesToHTTP10(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Cache-Control", "private")
		_, _ = io.WriteString(w, "body")
	})
	for _, method := range []string{"GET", "POST"} {
		got := r.raw(method + " / HTTP/1.0\r\nHost: a\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.0 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\nbody") {
			t.Errorf("%q", got)
		}
	}
}
