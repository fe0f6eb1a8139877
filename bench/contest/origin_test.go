package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"cacheproxy/bench/body"
)

// countingOrigin answers with package body's responses and counts who asks.
type countingOrigin struct {
	requests atomic.Int64 // all
	slow     chan struct{}
}

// startOrigin returns a running one and its port.
func startOrigin(t *testing.T) (*countingOrigin, int) {
	o := &countingOrigin{slow: make(chan struct{})}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	return o, server.Listener.Addr().(*net.TCPAddr).Port
}

func (o *countingOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.requests.Add(1)
	resource, err := body.Parse(r.URL.Path)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", resource.Kind.CacheControl())
	h.Set("ETag", resource.ETag())
	h.Set("Last-Modified", body.Modified)
	if resource.Kind == body.Slow {
		<-o.slow
	}
	if strings.Contains(r.Header.Get("If-None-Match"), resource.ETag()) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(resource.Size))
	_, _ = w.Write(resource.AppendBody(nil)) // a client that has gone is its own affair
}

// freePorts returns n that nobody listened on a moment ago.
func freePorts(t *testing.T, n int) (ports []int) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
