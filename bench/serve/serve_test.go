package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/bench/body"
)

type server interface {
	Serve(context.Context, net.Listener) error
}

// start has a server listen until the test ends, and checks that it ends well.
func start(t *testing.T, s server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// read reads a response, and its body.
func read(t *testing.T, in *bufio.Reader, method string) (*http.Response, []byte) {
	t.Helper()
	response, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, b
}

// All three answer with the same body and the same fields, but for Age and Date.
func TestAllAnswerAlike(t *testing.T) {
	for _, size := range []int{0, 5, 1024, copyUpTo + 1, 1 << 20} {
		r := body.Resource{Kind: body.Hit, Size: size}
		want := r.AppendBody(nil)
		for name, s := range map[string]server{"origin": &Origin{}, "floor": &Floor{Size: size}, "nethttp": &NetHTTP{}} {
			conn := dial(t, start(t, s))
			in := bufio.NewReader(conn)
			for range 3 {
				if _, err := io.WriteString(conn, "GET "+r.Path()+" HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				response, got := read(t, in, http.MethodGet)
				if response.StatusCode != 200 || !bytes.Equal(got, want) {
					t.Errorf("%s: %s with %d bytes for %s", name, response.Status, len(got), r.Path())
				}
				h := response.Header
				date, err := http.ParseTime(h.Get("Date"))
				if err != nil || time.Since(date).Abs() > time.Minute {
					t.Errorf("%s: the date is %q", name, h.Get("Date"))
				}
				if (h.Get("Age") == "1") != (name != "origin") {
					t.Errorf("%s: Age is %q", name, h.Get("Age"))
				}
				h.Del("Date")
				h.Del("Age")
				h.Del("Content-Length")
				if len(h) != 4 || h.Get("Content-Type") != contentType || h.Get("Cache-Control") != r.Kind.CacheControl() ||
					h.Get("ETag") != r.ETag() || h.Get("Last-Modified") != body.Modified || response.ContentLength != int64(size) {
					t.Errorf("%s: %d bytes, %v", name, response.ContentLength, h)
				}
			}
		}
	}
}

// With the right condition all three answer with 304, which has the fields and no body, and without one with 200, whoever asked before.
func TestAllKnowConditions(t *testing.T) {
	r := body.Resource{Kind: body.Hit, Size: 100}
	for name, s := range map[string]server{"origin": &Origin{}, "floor": &Floor{Size: r.Size, NotModified: true}, "nethttp": &NetHTTP{}} {
		conn := dial(t, start(t, s))
		in := bufio.NewReader(conn)
		for _, c := range []struct {
			fields string
			status int
		}{{"", 200}, {"If-None-Match: " + r.ETag() + "\r\n", 304}, {"", 200}} {
			if _, err := io.WriteString(conn, "GET "+r.Path()+" HTTP/1.1\r\nHost: x\r\n"+c.fields+"\r\n"); err != nil {
				t.Fatal(err)
			}
			response, got := read(t, in, http.MethodGet)
			if response.StatusCode != c.status || (len(got) == 0) != (c.status == 304) || response.Header.Get("ETag") != r.ETag() {
				t.Errorf("%s: %s with %d bytes, %v", name, response.Status, len(got), response.Header)
			}
		}
	}
}

func TestOriginKnowsItsRequests(t *testing.T) {
	addr := start(t, &Origin{})
	for _, test := range []struct {
		name, request string
		status, size  int
		last          bool
	}{
		{"head", "HEAD /hit/100000/1 HTTP/1.1\r\n\r\n", 200, 0, false},
		{"query", "GET /hit/10/1?a=b HTTP/1.1\r\n\r\n", 200, 10, false},
		{"same", "GET /hit/10/1 HTTP/1.1\r\nIf-None-Match: \"a\", W/\"10-1\"\r\n\r\n", 304, 0, false},
		{"any", "GET /hit/10/1 HTTP/1.1\r\nif-none-match: *\r\n\r\n", 304, 0, false},
		{"changed", "GET /hit/10/1 HTTP/1.1\r\nIf-None-Match: \"10-2\"\r\n\r\n", 200, 10, false},
		{"with a body", "GET /hit/10/1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde", 200, 10, false},
		{"post", "POST /hit/10/1 HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde", 405, 0, false},
		{"nothing", "GET / HTTP/1.1\r\n\r\n", 404, 0, false},
		{"chunked", "GET /hit/10/1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0, true},
		{"junk", "junk\r\n", 400, 0, true},
		{"long", "GET /" + strings.Repeat("a", 5000), 400, 0, true},
		{"close", "GET /hit/10/1 HTTP/1.1\r\nConnection: close\r\n\r\n", 200, 10, true},
		{"old", "GET /hit/10/1 HTTP/1.0\r\n\r\n", 200, 10, true},
		{"old, kept", "GET /hit/10/1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200, 10, false},
	} {
		conn := dial(t, addr)
		in := bufio.NewReader(conn)
		if _, err := io.WriteString(conn, test.request); err != nil {
			t.Fatal(err)
		}
		response, got := read(t, in, test.request[:strings.IndexAny(test.request, " \r")])
		if response.StatusCode != test.status || len(got) != test.size || response.Close != test.last {
			t.Errorf("%s: %s with %d bytes, close %v", test.name, response.Status, len(got), response.Close)
		}
		if test.last {
			if _, err := in.ReadByte(); err == nil {
				t.Errorf("%s: the connection goes on", test.name)
			}
		}
	}
}

func TestOriginCounts(t *testing.T) {
	addr := start(t, &Origin{Slow: 50 * time.Millisecond})
	var all sync.WaitGroup
	for _, path := range []string{"/slow/10/1", "/slow/10/2", "/hit/10/1"} {
		conn := dial(t, addr)
		all.Go(func() {
			_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nConnection: close\r\n\r\n")
			_, _ = io.ReadAll(conn)
		})
	}
	all.Wait()
	conn := dial(t, addr)
	for range 2 {
		if _, err := io.WriteString(conn, "GET "+CountsPath+" HTTP/1.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		_, b := read(t, bufio.NewReader(conn), http.MethodGet)
		var got Counts
		if err := json.Unmarshal(b, &got); err != nil || got != (Counts{3, 2, 2}) {
			t.Errorf("%s, %v", b, err)
		}
	}
}

func BenchmarkOriginAnswer(b *testing.B) {
	for _, path := range []string{"/hit/1024/17", "/hit/1048576/17"} {
		b.Run(path, func(b *testing.B) {
			request := []byte("GET " + path + " HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nAccept-Encoding: gzip\r\n\r\n")
			c := &originConn{Origin: &Origin{}, conn: discard{}, in: bufio.NewReader(&repeat{of: request})}
			b.ReportAllocs()
			for b.Loop() {
				if err := c.exchange(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// discard is a connection that takes everything.
type discard struct{ net.Conn }

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// repeat reads the same again and again.
type repeat struct {
	of []byte
	at int
}

func (r *repeat) Read(b []byte) (int, error) {
	n := copy(b, r.of[r.at:])
	r.at = (r.at + n) % len(r.of)
	return n, nil
}
