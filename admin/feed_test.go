package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"cacheproxy/internal/bubble"
)

// line is a request as the access log has it, by what filters look at.
func line(p *Passed) []byte {
	host, target, _ := strings.Cut(p.URL, "/")
	l := map[string]any{
		"outcome": p.Outcome, "detail": p.Detail, "method": p.Method, "host": host, "target": "/" + target, "status": p.Status, "tier": p.Tier,
		"ms": float64(p.Duration.Microseconds()) / 1000,
	}
	if p.Client.IsValid() {
		l["client"] = p.Client
	}
	text, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	return text
}

func (f *Feed) publish(p *Passed) {
	f.Publish(p.Hit, func() *Passed { return p }, func() []byte { return line(p) })
}

func get(f *Feed, query string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/log?"+query, nil))
	return w
}

// What was no hit can be asked for later, oldest first, the newest being the last to be forgotten.
func TestRecent(t *testing.T) {
	f := NewFeed()
	for n := range maxRecent + 3 {
		f.publish(&Passed{Outcome: "uri-miss", URL: fmt.Sprintf("shop.example/%d", n), Status: 200 + n%2})
		f.publish(&Passed{Outcome: "hit", Hit: true, URL: "shop.example/hit"})
	}
	lines := strings.Split(strings.TrimSuffix(get(f, "follow=false").Body.String(), "\n"), "\n")
	if len(lines) != maxRecent || !strings.Contains(lines[0], `"/3"`) || !strings.Contains(lines[maxRecent-1], `"/1002"`) {
		t.Errorf("%d lines from %s to %s", len(lines), lines[0], lines[len(lines)-1])
	}
	w := get(f, "follow=false&limit=2&status=201")
	if got := w.Body.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `"/999"`) || !strings.Contains(got, `"/1001"`) {
		t.Errorf("the last two of status 201: %s", got)
	}
	if got := w.Header().Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("Content-Type %q", got)
	}
}

func TestRecentIsBoundedInBytes(t *testing.T) {
	var r recent
	held := func() (bytes int) {
		for _, l := range r.ring {
			bytes += len(l)
		}
		return bytes
	}
	long := make([]byte, maxRecentBytes/10)
	for range 25 {
		r.add(long)
	}
	if got := len(r.lines()); got != 10 || held() != r.bytes || r.bytes > maxRecentBytes {
		t.Errorf("%d lines, %d bytes held, %d accounted for", got, held(), r.bytes)
	}
	r.add(make([]byte, maxRecentBytes+1))
	if got := len(r.lines()); got != 10 {
		t.Errorf("what does not fit at all left %d lines", got)
	}
	for range maxRecent {
		r.add([]byte("{}"))
	}
	if got := len(r.lines()); got != maxRecent || held() != 2*maxRecent || r.bytes != held() {
		t.Errorf("%d lines, %d bytes held, %d accounted for", got, held(), r.bytes)
	}
}

// Nothing is encoded, or even looked at, for a hit that nobody listens to.
func TestWants(t *testing.T) {
	var none *Feed
	if none.Wants(false) || none.Wants(true) {
		t.Error("no feed wants something")
	}
	none.Close()
	f := NewFeed()
	if f.Wants(true) || !f.Wants(false) {
		t.Error("without listeners it wants hits, or not the others")
	}
	if n := testing.AllocsPerRun(100, func() { f.Wants(true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	l := newListener(new(filter))
	f.enter(l)
	if !f.Wants(true) {
		t.Error("with a listener it does not want hits")
	}
	f.leave(l)
	if f.Wants(true) {
		t.Error("it wants hits for a listener that left")
	}
}

// follower is a client of GET /v1/log over a connection of its own.
type follower struct {
	t     *testing.T
	body  io.ReadCloser
	lines *bufio.Scanner
}

func follow(t *testing.T, address, query string) *follower {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	r, err := (&http.Client{Transport: transport}).Get(address + "/v1/log?" + query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Body.Close() })
	if r.StatusCode != http.StatusOK {
		t.Fatalf("status %d", r.StatusCode)
	}
	return &follower{t: t, body: r.Body, lines: bufio.NewScanner(r.Body)}
}

// next returns the next line, "" at the end.
func (f *follower) next() string {
	if !f.lines.Scan() {
		return ""
	}
	return f.lines.Text()
}

func serveFeed(t *testing.T, f *Feed) (address string) {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return server.URL
}

// Each listener gets what it asked for, as it passes, and is sent away after its limit.
func TestFollow(t *testing.T) {
	f := NewFeed()
	address := serveFeed(t, f)
	all, posts := follow(t, address, ""), follow(t, address, "method=POST&limit=1")
	for i := range passing {
		f.publish(&passing[i].Passed)
		if got, want := all.next(), string(line(&passing[i].Passed)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := posts.next(); !strings.Contains(got, `"POST"`) {
		t.Error(got)
	}
	if got := posts.next(); got != "" {
		t.Errorf("after its limit: %s", got)
	}
}

// blockedWriter is the connection of a client that reads nothing until it is told to.
type blockedWriter struct {
	header  http.Header
	flushed chan struct{} // takes one for each Flush
	writing chan struct{} // takes one when a Write has begun
	release chan struct{} // lets all Writes go on when closed
	text    strings.Builder
}

func (w *blockedWriter) Header() http.Header { return w.header }
func (w *blockedWriter) WriteHeader(int)     {}
func (w *blockedWriter) Flush()              { w.flushed <- struct{}{} }
func (w *blockedWriter) Write(p []byte) (int, error) {
	w.writing <- struct{}{}
	<-w.release
	return w.text.Write(p)
}

// A request never waits for a reader: what the queue does not hold is dropped, and how much is told where it is missing.
func TestSlowReader(t *testing.T) {
	f := NewFeed()
	w := &blockedWriter{http.Header{}, make(chan struct{}, 9), make(chan struct{}, 9), make(chan struct{}), strings.Builder{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/log", nil))
	}()
	<-w.flushed // the head: it is a listener from here on
	hit := &Passed{Hit: true, Outcome: "hit"}
	f.Publish(hit.Hit, func() *Passed { return hit }, func() []byte { return []byte(`"first"`) })
	<-w.writing
	for n := range maxQueued + 12 {
		f.Publish(hit.Hit, func() *Passed { return hit }, func() []byte { return fmt.Append(nil, n) })
	}
	close(w.release)
	<-w.flushed // the first line
	<-w.flushed // and what had queued up
	f.Publish(hit.Hit, func() *Passed { return hit }, func() []byte { return []byte(`"next"`) })
	<-w.flushed
	f.Close()
	<-done
	lines := strings.Split(w.text.String(), "\n")
	want := []string{`"first"`}
	for n := range maxQueued {
		want = append(want, fmt.Sprint(n))
	}
	want = append(want, `{"dropped":12}`, `"next"`, `{"ended":"the process is ending"}`, "")
	if !slices.Equal(lines, want) {
		t.Errorf("%d lines, want %d; the last: %q", len(lines), len(want), lines[max(0, len(lines)-5):])
	}
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	l := newListener(new(filter))
	for range 25 {
		l.offer(make([]byte, maxQueuedBytes/10))
	}
	l.offer([]byte("short enough, but it would stand before what was dropped"))
	if lines, dropped, _ := l.take(); len(lines) != 10 || dropped != 16 {
		t.Errorf("%d lines and %d dropped", len(lines), dropped)
	}
	l.offer([]byte("{}"))
	if lines, dropped, _ := l.take(); len(lines) != 1 || dropped != 0 {
		t.Errorf("afterwards %d lines and %d dropped", len(lines), dropped)
	}
}

// The number of listeners is bounded; the place of one that leaves is free again.
func TestListenersAreBounded(t *testing.T) {
	f := NewFeed()
	address := serveFeed(t, f)
	var followers []*follower
	for range maxListeners {
		followers = append(followers, follow(t, address, ""))
	}
	if w := get(f, ""); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "16 are following the log already") {
		t.Errorf("one more: %d %s", w.Code, w.Body)
	}
	if w := get(f, "follow=false"); w.Code != http.StatusOK {
		t.Errorf("what is kept: %d %s", w.Code, w.Body)
	}
	for _, one := range followers {
		one.body.Close()
	}
	f.handlers.Wait()
	if f.listeners.Load() != nil {
		t.Error("listeners that left are still there")
	}
	follow(t, address, "")
}

// Who follows sees all that ended before the process does, and is told why there is no more.
func TestCloseSendsWhatIsQueued(t *testing.T) {
	f := NewFeed()
	one := follow(t, serveFeed(t, f), "outcome=error")
	f.publish(&passing[4].Passed)
	f.Close()
	if got := one.next(); got != string(line(&passing[4].Passed)) {
		t.Errorf("%q", got)
	}
	if got := one.next(); got != `{"ended":"the process is ending"}` {
		t.Errorf("%q", got)
	}
	if got := one.next(); got != "" {
		t.Errorf("%q", got)
	}
	if w := get(f, ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("after Close: %d", w.Code)
	}
	f.publish(&passing[4].Passed) // the last requests may end later
}

// pipes is a listener whose connections are in memory, so that they may live in a bubble of synctest.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Net: "pipe", Name: "pipe"} }

// The bounds of the server around it on reading a request, and its own on writing, do not end a stream on which nothing passes for a
// while; a reader that stops reading is let go.
func TestQuietStreamLives(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		f := NewFeed()
		listener := make(pipes)
		server := &http.Server{Handler: f, ReadTimeout: 30 * time.Second}
		go server.Serve(listener)
		ours, theirs := net.Pipe()
		listener <- theirs
		io.WriteString(ours, "GET /v1/log HTTP/1.1\r\nHost: localhost\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(ours), nil)
		if err != nil {
			t.Fatal(err)
		}
		one := &follower{t: t, lines: bufio.NewScanner(r.Body)}
		for i := range 2 {
			time.Sleep(10 * time.Minute)
			f.publish(&passing[i].Passed)
			if got := one.next(); got != string(line(&passing[i].Passed)) {
				t.Errorf("after %d minutes: %q", 10*(i+1), got)
			}
		}
		f.publish(&passing[0].Passed) // which nobody reads
		time.Sleep(patience + time.Second)
		if f.listeners.Load() != nil {
			t.Error("a reader that does not read is still waited for")
		}
		ours.Close()
		server.Shutdown(context.Background())
	})
}

// The route is guarded as all that reveal what passes.
func TestFeedIsGuarded(t *testing.T) {
	f := NewFeed()
	h := mustNew(t, Options{Listen: everywhere, Token: "t", Handle: func(mux *http.ServeMux) { mux.Handle("GET /v1/log", f) }})
	for authorization, want := range map[string]int{"": 401, "Bearer u": 401, "Bearer t": 200} {
		if w := ask(h, "GET", "/v1/log?follow=false", "pod.example", authorization); w.Code != want {
			t.Errorf("%q: %d, want %d", authorization, w.Code, want)
		}
	}
	if w := ask(h, "HEAD", "/v1/log", "pod.example", "Bearer t"); w.Code != 200 || w.Header().Get("Content-Type") != ndjson {
		t.Errorf("HEAD: %d", w.Code)
	}
}

func BenchmarkWantsNoHit(b *testing.B) {
	f := NewFeed()
	b.ReportAllocs()
	for b.Loop() {
		if f.Wants(true) {
			b.Fatal("it wants a hit")
		}
	}
}
