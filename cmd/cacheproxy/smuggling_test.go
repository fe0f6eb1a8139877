package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/cmd/cacheproxy/internal/witness"
)

var update = flag.Bool("update-shapes", false, "write what came of the shapes into testdata/shapes; to be read before it is believed")

// The whole stack as `cacheproxy serve` builds it stands between raw sockets and a witness. Each shape is sent with another request
// right behind it, on a connection of its own, while other connections ask for pages of their own; then the three sides are compared:
// what the clients were told, what the upstream received, and what is stored under which key.
func TestShapes(t *testing.T) {
	var mu sync.Mutex
	came := map[string]*outcome{}
	t.Run("all", func(t *testing.T) {
		for _, s := range readShapes(t) {
			t.Run(s.class+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				o := s.run(t)
				mu.Lock()
				came[s.class+"/"+s.name] = o
				mu.Unlock()
				want := &outcome{responses: s.responses, requests: s.requests, stored: s.stored}
				if got, want := strings.Join(o.lines(), "\n"), strings.Join(want.lines(), "\n"); got != want && !*update {
					t.Errorf("testdata/shapes/%s.txt:%d: came\n%s\nwant\n%s", s.class, s.line, got, want)
				}
			})
		}
	})
	if *update {
		rewriteShapes(t, shapeFiles, came)
	}
}

// There are as many as were promised, and each has a name of its own.
func TestShapesAreMany(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range readShapes(t) {
		if seen[s.class+s.name] {
			t.Errorf("%s/%s is there twice", s.class, s.name)
		}
		seen[s.class+s.name] = true
	}
	if len(seen) < 150 {
		t.Errorf("%d shapes", len(seen))
	}
}

// outcome is what came of a shape, on the three sides.
type outcome struct{ responses, requests, stored []string }

func (o *outcome) lines() (all []string) {
	for _, r := range o.responses {
		all = append(all, "-> "+r)
	}
	for _, r := range o.requests {
		all = append(all, "=> "+r)
	}
	for _, r := range o.stored {
		all = append(all, "* "+r)
	}
	return all
}

// stack is a server of this process in front of a witness.
type stack struct {
	*server
	address  string
	upstream *witness.Server
	log      *strings.Builder // to be read after close
}

// stackOptions are what is not as it is by default.
type stackOptions struct {
	trusted bool // the client is client.trusted
	secure  bool // TLS
	flags   []config.Flag
}

func newStack(t testing.TB, answer func(*witness.Message) witness.Reply, trusted bool) *stack {
	t.Helper()
	return newStackOn(t, answer, stackOptions{trusted: trusted})
}

func newStackOn(t testing.TB, answer func(*witness.Message) witness.Reply, o stackOptions) *stack {
	t.Helper()
	s := &stack{upstream: witness.Start(t, answer), log: new(strings.Builder)}
	flags := []config.Flag{
		{Key: "upstream", Value: s.upstream.URL}, {Key: "listen", Value: "127.0.0.1:0"}, {Key: "admin.listen", Value: ""}, {Key: "near.size", Value: "4MiB"},
	}
	loaded, err := config.Load(config.Options{Flags: append(flags, o.flags...)})
	if err != nil {
		t.Fatal(err)
	}
	loaded.Config.Log.Access = config.Access{}
	if o.secure {
		loaded.Config.Listen[0].TLS = config.ListenerTLS{selfSigned(t)}
	}
	if o.trusted {
		loaded.Config.Client.Trusted = []string{"127.0.0.0/8"}
	}
	if s.server, err = newServer(loaded, nil, newLogger(loaded.Config.Log, s.log)); err != nil {
		t.Fatal(err)
	}
	s.run()
	s.address = address(s.listeners[0])
	return s
}

// close ends the server, all that is in flight included. What is stored can be read afterwards.
func (s *stack) close(t testing.TB) {
	t.Helper()
	if err := s.drain(context.Background(), 0, limit); err != nil {
		t.Error(err)
	}
	if strings.Contains(s.log.String(), "panic") {
		t.Errorf("the log says:\n%s", s.log)
	}
}

// peer is a raw connection to the server.
type peer struct {
	*net.TCPConn
	r *bufio.Reader
}

func (s *stack) dial(t testing.TB) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(limit))
	return &peer{conn.(*net.TCPConn), bufio.NewReader(conn)}
}

// page asks for a page, and wants what the upstream says to nobody but who asks for it.
func (p *peer) page(t testing.TB, name string) {
	t.Helper()
	_, _ = io.WriteString(p, pageRequest(name))
	if got := p.read("GET"); got != "200 "+pageBody(name) {
		t.Errorf("another connection asked for %s and got %s", name, got)
	}
}

func pageRequest(name string) string {
	return "GET /" + name + " HTTP/1.1\r\nHost: " + name + ".example\r\n\r\n"
}
func pageBody(name string) string { return "GET /" + name + " " + name + ".example" }

// read reads a response, and says of it what shapes do: the status, and what it says itself of why.
func (p *peer) read(method string) string {
	if _, err := p.r.Peek(1); err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return "silent"
		}
		return "closed"
	}
	r, err := http.ReadResponse(p.r, &http.Request{Method: method})
	if err != nil {
		return "no response: " + err.Error()
	}
	if r.StatusCode < 200 {
		return strconv.Itoa(r.StatusCode)
	}
	body, err := io.ReadAll(r.Body)
	text := strconv.Itoa(r.StatusCode)
	if detail := ownWords.FindStringSubmatch(r.Header.Get("Cache-Status")); detail != nil && r.StatusCode >= 400 {
		text += " " + detail[1]
	} else if len(body) > 0 {
		text += " " + readable(body)
	}
	if failure := r.Header.Get("Proxy-Status"); failure != "" {
		text += " " + strings.TrimPrefix(failure, "cacheproxy; error=")
	}
	if err != nil {
		return "cut"
	}
	return text
}

var ownWords = regexp.MustCompile(`; detail=([a-z-]+)`)

// readable is a body as it is, where it is a short line, or quoted.
func readable(body []byte) string {
	switch quoted := strconv.Quote(string(body)); {
	case len(body) > 80:
		return fmt.Sprintf("%d bytes", len(body))
	case quoted[1:len(quoted)-1] != strings.ReplaceAll(string(body), `"`, `\"`):
		return quoted
	}
	return string(body)
}

// run sends the shape and watches all sides.
func (s *shape) run(t *testing.T) *outcome {
	var mu sync.Mutex
	answered := 0
	k := newStack(t, func(m *witness.Message) witness.Reply {
		mu.Lock()
		defer mu.Unlock()
		if isPage(m) || answered == len(s.answers) {
			return witness.Echo(m)
		}
		answered++
		return witness.Reply{Bytes: s.answers[answered-1], Close: s.closes && answered == len(s.answers)}
	}, s.trusted)
	o := &outcome{}
	before, attacker := k.dial(t), k.dial(t)
	before.page(t, "before") // and leaves a connection to the upstream
	s.attack(attacker, o)
	attacker.Close() // the server waits a moment for clients that it has refused
	before.page(t, "victim")
	after := k.dial(t)
	after.page(t, "after")
	for _, p := range []*peer{before, after} {
		p.Close()
	}
	k.close(t)
	s.received(t, k, o)
	s.kept(t, k, o)
	for _, lines := range [][]string{o.responses, o.requests} {
		for i := range lines { // a request of HTTP/1.0 without a host is for the upstream's own
			lines[i] = strings.ReplaceAll(lines[i], strings.TrimPrefix(k.upstream.URL, "http://"), "UPSTREAM")
		}
	}
	return o
}

// attack sends the shape, with a page behind it, and reads until the page comes or the connection ends.
func (s *shape) attack(p *peer, o *outcome) {
	sends := s.sends
	if !s.unfinished {
		sends = append(bytes.Clone(sends), pageRequest("next")...)
	}
	_, _ = p.Write(sends) // what cannot be written, as the other side has seen enough, is read
	if s.unfinished {
		_ = p.CloseWrite()
	}
	methods := s.methods
	for {
		_ = p.SetDeadline(time.Now().Add(5 * time.Second))
		method := http.MethodGet
		if len(methods) > 0 {
			method = methods[0]
		}
		got := p.read(method)
		if got == "200 "+pageBody("next") {
			return
		}
		if got == "closed" && len(o.responses) == 0 && len(s.answers) > 0 {
			o.responses = append(o.responses, "cut") // before its head had gone out
		}
		if o.responses = append(o.responses, got); got == "silent" || got == "closed" || strings.HasPrefix(got, "no response") {
			return
		}
		if len(methods) > 0 && !strings.HasPrefix(got, "1") {
			methods = methods[1:]
		}
	}
}

// isPage reports whether a request is one of those that go with every shape.
func isPage(m *witness.Message) bool {
	return slices.ContainsFunc([]string{"before", "victim", "after", "next"}, func(name string) bool { return m.String() == pageBody(name) })
}

// received is the upstream's side. Whatever a page of somebody else became there is listed too.
func (s *shape) received(t *testing.T, k *stack, o *outcome) {
	pages := map[string]int{}
	var lines []string
	for _, m := range k.upstream.Messages() {
		if isPage(m) {
			pages[m.Path()]++
			continue
		}
		o.requests = append(o.requests, m.String())
		for _, f := range m.Fields {
			lines = append(lines, f.Name+": "+f.Value)
		}
	}
	for path, n := range pages {
		if n != 1 {
			t.Errorf("%d requests for %s reached the upstream", n, path)
		}
	}
	if doubts := k.upstream.Doubts(); len(doubts) > 0 {
		t.Errorf("in doubt at the upstream: %s", strings.Join(doubts, "\n"))
	}
	for _, line := range s.has {
		if !slices.Contains(lines, line) {
			t.Errorf("%q did not reach the upstream, which has %q", line, lines)
		}
	}
	for _, begin := range s.not {
		for _, line := range lines {
			if strings.HasPrefix(strings.ToLower(line), strings.ToLower(begin)) {
				t.Errorf("%q reached the upstream", line)
			}
		}
	}
}

// kept is what is stored, but for the pages. What the witness has echoed must be what belongs under the key.
func (s *shape) kept(t *testing.T, k *stack, o *outcome) {
	for e := range k.store.Near() {
		u, err := url.Parse(e.URL())
		if err != nil {
			t.Errorf("stored under %q", e.URL())
			continue
		}
		_, rest, _ := strings.Cut(e.URL(), "://")
		host, path := rest[:strings.IndexByte(rest, '/')], rest[strings.IndexByte(rest, '/'):]
		body := string(e.Body())
		if echo := "GET " + path + " " + host; strings.HasPrefix(body, "GET /") && !strings.EqualFold(body, echo) {
			t.Errorf("under %s is stored %q", e.URL(), body)
		}
		if strings.HasSuffix(u.Host, ".example") && strings.HasPrefix(body, "GET /"+strings.TrimSuffix(u.Host, ".example")+" ") {
			continue
		}
		o.stored = append(o.stored, e.URL())
	}
	slices.Sort(o.stored)
}
