package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// balancer sends each request to a process that says that it is ready, in turn, over the protocol that the request has come by. It looks
// at /readyz as a kubelet does, only oftener.
type balancer struct {
	mu        sync.Mutex
	processes []*process
	ready     []*process
	turn      int
	h1, h2    *http.Transport
	probe     *http.Client
}

func newBalancer() *balancer {
	return &balancer{h1: transportOf(false, false), h2: transportOf(true, false), probe: &http.Client{Transport: transportOf(false, true), Timeout: limit}}
}

// look asks all processes whether they are ready.
func (b *balancer) look() {
	b.mu.Lock()
	all := slices.Clone(b.processes)
	b.mu.Unlock()
	var ready []*process
	for _, p := range all {
		if r, err := b.probe.Get(p.operator + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				ready = append(ready, p)
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = ready
}

// RoundTrip implements http.RoundTripper.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	if len(b.ready) == 0 {
		b.mu.Unlock()
		return nil, errors.New("no process is ready")
	}
	b.turn++
	p := b.ready[b.turn%len(b.ready)]
	b.mu.Unlock()
	r.URL.Scheme, r.URL.Host = "http", p.public[len("http://"):]
	if r.Header.Get("X-Over") == "TLS" {
		r.URL.Scheme, r.URL.Host = "https", p.secureOf()[len("https://"):]
	}
	if r.Header.Get("X-Proto") == "HTTP/2.0" {
		return b.h2.RoundTrip(r)
	}
	return b.h1.RoundTrip(r)
}

// serve is the balancer's own server, in cleartext and with TLS.
func (b *balancer) serve(t *testing.T) (plain, secure string) {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Transport:     b,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.Header.Set("X-Proto", r.In.Proto)
			if r.In.TLS != nil {
				r.Out.Header.Set("X-Over", "TLS")
			}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	one, two := httptest.NewUnstartedServer(proxy), httptest.NewUnstartedServer(proxy)
	one.Config.Protocols, two.Config.Protocols = protocols, protocols
	one.Start()
	two.EnableHTTP2 = true
	two.TLS = &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	two.StartTLS()
	t.Cleanup(func() { one.Close(); two.Close(); b.h1.CloseIdleConnections(); b.h2.CloseIdleConnections() })
	return one.URL, two.URL
}

// replace ends a process as a rolling restart does, and puts a new one in its place.
func (b *balancer) replace(t *testing.T, i int, with *process) {
	t.Helper()
	b.mu.Lock()
	old := b.processes[i]
	b.mu.Unlock()
	old.signal(syscall.SIGTERM)
	if code := old.end(); code != exitFine {
		t.Errorf("exit code %d:\n%s", code, old.text())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.processes[i] = with
}

// Two processes behind a balancer are replaced one after the other, several times, under load of every kind: nothing fails.
func TestRollingRestart(t *testing.T) {
	origin := newClientsOrigin(t)
	begin := func() *process {
		p, _, _ := startSecure(t, origin, "", "CACHEPROXY_DRAIN_DELAY=300ms")
		return p
	}
	b := newBalancer()
	b.processes = []*process{begin(), begin()}
	b.look()
	ctx, stop := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	looking.Go(func() {
		for ; ctx.Err() == nil; sleep(ctx, 20*time.Millisecond) {
			b.look()
		}
	})
	c := new(clients)
	c.plain, c.secure = b.serve(t)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { c.run(done); close(ended) }()
	for range 2 {
		for i := range b.processes {
			b.replace(t, i, begin())
		}
	}
	close(done)
	<-ended
	stop()
	looking.Wait()
	if c.check(t); c.streams.Load() == 0 {
		t.Error("no event stream was told to end")
	}
}
