package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// recordingServer answers every request on a raw connection and keeps the request line and head as they came.
type recordingServer struct {
	listener net.Listener
	mu       sync.Mutex
	heads    []string
	wg       sync.WaitGroup
}

func newRecordingServer(t *testing.T, response string) *recordingServer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &recordingServer{listener: l}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Add(1)
			go s.serve(c, response)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); s.wg.Wait() })
	return s
}

func (s *recordingServer) serve(c net.Conn, response string) {
	defer s.wg.Done()
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		var head strings.Builder
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
			head.WriteString(line)
		}
		s.mu.Lock()
		s.heads = append(s.heads, head.String())
		s.mu.Unlock()
		if _, err := io.WriteString(c, response); err != nil {
			return
		}
	}
}

func (s *recordingServer) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads[len(s.heads)-1]
}

// The host does so in lower case, as the key has it.
func TestTargetsReachTheUpstreamByteForByte(t *testing.T) {
	s := newRecordingServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\nok")
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	r := newRig(t, func(http.ResponseWriter, *http.Request) {}, func(o *Options) { o.Next = directTo(s.listener.Addr().String(), transport) })
	for _, target := range []string{
		"/?b=2;c=3&a=%zz", "/a|b^\"c", "/a%7cb", "/a%7Cb", "/%2e%2e/x", "/a/../b", "/a//b", "/?", "/a?", "/?a=1&a=2&&", "/a%2fb", "/a;b=1",
		"/a%20b?c+d", "/%F0%9F%98%80", "/a'b(c)!*", "/a?x=<y>", "/[x]", "/a?b?c", "/a\\b", "/{a}", "/%00", "/a%25b", "//a/b",
	} {
		for _, host := range []string{"example.com", "EXAMPLE.com:8080"} {
			r.raw("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
			line, rest, _ := strings.Cut(s.last(), "\r\n")
			if line != "GET "+target+" HTTP/1.1" || !strings.Contains(rest, "Host: "+strings.ToLower(host)+"\r\n") {
				t.Errorf("%s at %s: the upstream got %q, %q", target, host, line, rest)
			}
		}
	}
}

// directTo sends everything to one address, whatever the URL says.
func directTo(addr string, transport *http.Transport) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		out := *r
		u := *r.URL
		u.Scheme, u.Host = "http", addr
		out.URL = &u
		return transport.RoundTrip(&out)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestHopFields(t *testing.T) {
	r := newRig(t, cacheable)
	r.get("/1", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil", "Forwarded: for=6.6.6.6", "X-Forwarded-Proto: https", "Host: shop.example")
	h := r.lastSeen().Header
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "http",
		"Forwarded": `for=127.0.0.1;host="shop.example";proto=http`, "Via": "1.1 cacheproxy",
	} {
		if got := strings.Join(h.Values(name), " | "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if r.lastSeen().Host != "shop.example" {
		t.Errorf("Host: %s", r.lastSeen().Host)
	}
}

func TestHopFieldsOfTrustedPeersAreContinued(t *testing.T) {
	r := newRig(t, cacheable, trustLoopback)
	r.get("/", "X-Forwarded-For: 6.6.6.6, 7.7.7.7", "X-Forwarded-Proto: https", "Forwarded: for=7.7.7.7", "Via: 1.1 edge", "Host: shop.example")
	h := r.lastSeen().Header
	for name, want := range map[string]string{
		"X-Forwarded-For": "6.6.6.6, 7.7.7.7, 127.0.0.1", "X-Forwarded-Proto": "https",
		"Forwarded": `for=7.7.7.7, for=127.0.0.1;host="shop.example";proto=https`, "Via": "1.1 edge, 1.1 cacheproxy",
	} {
		if got := strings.Join(h.Values(name), " | "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.logs[0]; a.Client.String() != "7.7.7.7" || !strings.HasPrefix(a.Key, "https://shop.example/") {
		t.Errorf("client %v, key %s", a.Client, a.Key)
	}
}

func TestAbsentContentTypeStaysAbsent(t *testing.T) {
	s := newRecordingServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nCache-Control: max-age=60\r\n\r\n<html>")
	transport := &http.Transport{DisableKeepAlives: true}
	r := newRig(t, nil, func(o *Options) { o.Next = directTo(s.listener.Addr().String(), transport) })
	for range 2 {
		if got := r.get("/"); got.Header["Content-Type"] != nil || got.body != "<html>" {
			t.Errorf("%v", got.Header)
		}
	}
}
