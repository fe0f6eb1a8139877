package upstream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// targets are request targets and what reaches the server, without and with the base path /base%2F1.
var targets = []struct{ name, in, plain, based string }{
	{"plain", "/a/b?x=1", "/a/b?x=1", "/base%2F1/a/b?x=1"},
	{"root", "/", "/", "/base%2F1/"},
	{"bytes that RFC 3986 does not allow", `/a|b^"c`, `/a|b^"c`, `/base%2F1/a|b^"c`},
	{"above ASCII", "/caf\xc3\xa9/\xff", "/caf\xc3\xa9/\xff", "/base%2F1/caf\xc3\xa9/\xff"},
	{"encoded slash, both cases", "/a%2fb%2Fc", "/a%2fb%2Fc", "/base%2F1/a%2fb%2Fc"},
	{"needlessly encoded", "/%61%7e", "/%61%7e", "/base%2F1/%61%7e"},
	{"dot segments", "/a/../b/./c", "/a/../b/./c", "/base%2F1/a/../b/./c"},
	{"empty segments", "//a//b", "//a//b", "/base%2F1//a//b"},
	{"sub-delimiters", "/a;v=1,2!$&'()*+:@=", "/a;v=1,2!$&'()*+:@=", "/base%2F1/a;v=1,2!$&'()*+:@="},
	{"hash", "/a#b", "/a#b", "/base%2F1/a#b"},
	{"query as it came", "/?b=2;c=3&a=%zz", "/?b=2;c=3&a=%zz", "/base%2F1/?b=2;c=3&a=%zz"},
	{"query with odd bytes", "/?q=\"<|>\xff", "/?q=\"<|>\xff", "/base%2F1/?q=\"<|>\xff"},
	{"empty query", "/a?", "/a?", "/base%2F1/a?"},
	{"question mark in the query", "/a?b?c=/d", "/a?b?c=/d", "/base%2F1/a?b?c=/d"},
	{"odd bytes and a query", `/a|b?c|d`, `/a|b?c|d`, `/base%2F1/a|b?c|d`},
	{"odd bytes after two slashes", "//a|b", "//a%7Cb", "/base%2F1//a|b"}, // see target.go
}

func TestTargetReachesTheServerByteForByte(t *testing.T) {
	lines := make(chan string, 1)
	raw := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		for {
			line, _, _ := strings.Cut(readHead(r), "\r\n")
			if line == "" {
				return
			}
			lines <- strings.TrimSuffix(strings.TrimPrefix(line, "GET "), " HTTP/1.1")
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	h2 := h2cServer(t, func(w http.ResponseWriter, r *http.Request) { lines <- r.RequestURI })
	for _, server := range []string{"http://" + raw, "h2c://" + h2} {
		plain := mustNew(t, Options{URL: server})
		based := mustNew(t, Options{URL: server + "/base%2F1/"})
		scheme, _, _ := strings.Cut(server, ":")
		for _, tt := range targets {
			t.Run(scheme+" "+tt.name, func(t *testing.T) {
				exchangeBody(t, plain, received(t, "GET", tt.in, "h"))
				if got := <-lines; got != tt.plain {
					t.Errorf("%s arrived as %s, want %s", tt.in, got, tt.plain)
				}
				exchangeBody(t, based, received(t, "GET", tt.in, "h"))
				if got := <-lines; got != tt.based {
					t.Errorf("%s arrived with a base path as %s, want %s", tt.in, got, tt.based)
				}
			})
		}
	}
}

// h2cServer runs a net/http server that speaks cleartext HTTP/2 only, and returns its address.
func h2cServer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestAsteriskHasNoBase(t *testing.T) {
	heads := make(chan string, 1)
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		heads <- readHead(r)
		io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})
	u := mustNew(t, Options{URL: "http://" + addr + "/base"})
	exchangeBody(t, u, received(t, "OPTIONS", "*", "h"))
	if head := <-heads; !strings.HasPrefix(head, "OPTIONS * HTTP/1.1\r\n") {
		t.Errorf("arrived as %q", head)
	}
}

// closeRecorder is a request body that notices its Close.
type closeRecorder struct {
	io.Reader
	closed bool
}

func (c *closeRecorder) Close() error { c.closed = true; return nil }

func TestTargetsThatAreRefused(t *testing.T) {
	addr := rawServer(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	u := mustNew(t, Options{URL: "http://" + addr})
	for _, tt := range []struct {
		name, method string
		url          url.URL
	}{
		{"space in the path", "GET", url.URL{Opaque: "/a HTTP/1.1"}},
		{"line break in the path", "GET", url.URL{Opaque: "/a\r\nX: y"}},
		{"line break in the query", "GET", url.URL{Path: "/a", RawQuery: "b\r\nX: y"}},
		{"space in the query", "GET", url.URL{Path: "/a", RawQuery: "b HTTP/1.1"}},
		{"NUL in the path", "GET", url.URL{Opaque: "/a\x00"}},
		{"DEL in the query", "GET", url.URL{Path: "/a", RawQuery: "\x7f"}},
		{"no path", "GET", url.URL{Opaque: "other.example:80"}},
		{"tunnel", "CONNECT", url.URL{Host: "other.example:80"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, body := get(t), &closeRecorder{Reader: strings.NewReader("x")}
			r.Method, r.URL, r.Body = tt.method, &tt.url, body
			_, err := u.RoundTrip(r)
			if CauseOf(err) != HTTPRequestError {
				t.Errorf("error %v, want http_request_error", err)
			}
			if !body.closed {
				t.Error("the request's body was not closed")
			}
		})
	}
}

func TestHost(t *testing.T) {
	addr := rawServer(t, echoHost)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, echoHost)
	for _, tt := range []struct{ name, url, option, host, want string }{
		{"preserved", "http://" + addr, "", "Shop.example:8080", "Shop.example:8080"},
		{"replaced", "http://" + addr, "inner.example", "shop.example", "inner.example"},
		{"absent", "http://" + addr, "", "", addr},
		{"preserved over unix", "unix:" + socket, "", "shop.example", "shop.example"},
		{"absent over unix", "unix:" + socket + ":/base", "", "", "localhost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := mustNew(t, Options{URL: tt.url, Host: tt.option})
			r := get(t)
			r.Host = tt.host
			if _, got := exchangeBody(t, u, r); got != tt.want {
				t.Errorf("Host %q, want %q", got, tt.want)
			}
			if r.Host != tt.host || r.URL.Host != "" || len(r.Header) != 0 {
				t.Errorf("RoundTrip changed the request: %+v", r)
			}
		})
	}
}

// echoHost answers with the request's Host field.
func echoHost(c net.Conn, r *bufio.Reader) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+req.Host)
}

// TestNothingIsAdded compares the whole head: no User-Agent, no Accept-Encoding of our own.
func TestNothingIsAdded(t *testing.T) {
	heads := make(chan string, 1)
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		heads <- readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\n\r\nnot really gzip")
	})
	u := mustNew(t, Options{URL: "http://" + addr})
	resp, body := exchangeBody(t, u, received(t, "GET", "/", "h"))
	if got, want := <-heads, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"; got != want {
		t.Errorf("head %q, want %q", got, want)
	}
	if body != "not really gzip" || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("the body was decoded: %q, %v", body, resp.Header)
	}
}
