package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"cacheproxy/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustNew(t *testing.T, o Options) *Upstream {
	t.Helper()
	u, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// rawServer runs serve for each connection to a loopback port and returns the address.
func rawServer(t *testing.T, serve func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, serve)
	return l.Addr().String()
}

func serveOn(t *testing.T, l net.Listener, serve func(net.Conn, *bufio.Reader)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
}

// readHead returns the bytes of a request's head, or what came before the connection ended.
func readHead(r *bufio.Reader) string {
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String()
		}
	}
}

// answer serves one connection: each request's head is answered with the same bytes; then the connection ends if they say so.
func answer(response string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		for readHead(r) != "" {
			io.WriteString(c, response)
			if strings.Contains(response, "Connection: close") {
				return
			}
		}
	}
}

// pipeUpstream returns an upstream whose connections are pipes to serve, so that time in a synctest bubble is the only
// clock. The bubble must wait for it: call the returned function at the end.
func pipeUpstream(t *testing.T, o Options, serve func(net.Conn, *bufio.Reader)) (*Upstream, func()) {
	t.Helper()
	u, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	u.member.transport.DialContext = dialTo(u.member.address, func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		mu.Lock()
		conns = append(conns, client, server)
		mu.Unlock()
		wg.Go(func() {
			defer server.Close()
			serve(server, bufio.NewReader(server))
		})
		return client, nil
	})
	return u, func() {
		u.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	}
}

// received returns a request as net/http's server would have it from a request line and a Host, prepared as the proxy
// prepares it: Opaque holds the path where url.URL would change it.
func received(t *testing.T, method, rawTarget, host string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + rawTarget + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	path, _, _ := strings.Cut(rawTarget, "?")
	if r.URL.EscapedPath() != path {
		r.URL.Opaque = path
	}
	return r.WithContext(t.Context())
}

// get returns a plain request for /.
func get(t *testing.T) *http.Request {
	return (&http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: "/"}, Host: "client.example", Header: http.Header{},
	}).WithContext(t.Context())
}

// exchangeBody sends r and reads the whole body.
func exchangeBody(t *testing.T, u *Upstream, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := u.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// counted returns the value of cacheproxy_upstream_errors_total for each cause, and how many heads came.
func counted(t *testing.T, m *metrics.Metrics) (errs map[string]float64, heads uint64) {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	errs = map[string]float64{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			switch f.GetName() {
			case "cacheproxy_upstream_errors_total":
				errs[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
			case "cacheproxy_upstream_seconds":
				heads += metric.GetHistogram().GetSampleCount()
			}
		}
	}
	return errs, heads
}
