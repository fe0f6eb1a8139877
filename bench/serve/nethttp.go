package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"cacheproxy/bench/body"
)

// NetHTTP answers with the resource that a path names, from a handler of net/http that has made it beforehand: it keeps the one that was asked
// for last.
type NetHTTP struct{ last atomic.Pointer[prebuilt] }

// prebuilt is a response.
type prebuilt struct {
	path         string
	body         []byte
	length       []string // the values of fields that differ, as http.Header has them
	cacheControl []string
	etag         []string
}

var (
	valueType     = []string{contentType}
	valueModified = []string{body.Modified}
	valueAge      = []string{"1"}
)

// ServeHTTP answers a request.
func (n *NetHTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := n.last.Load()
	if p == nil || p.path != r.URL.Path {
		resource, err := body.Parse(r.URL.Path)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		p = &prebuilt{
			r.URL.Path, resource.AppendBody(nil), []string{strconv.Itoa(resource.Size)}, []string{resource.Kind.CacheControl()}, []string{resource.ETag()},
		}
		n.last.Store(p)
	}
	h := w.Header()
	h["Content-Length"], h["Content-Type"], h["Cache-Control"] = p.length, valueType, p.cacheControl
	h["Etag"], h["Last-Modified"], h["Age"] = p.etag, valueModified, valueAge
	if asked := r.Header["If-None-Match"]; len(asked) == 1 && asked[0] == p.etag[0] {
		delete(h, "Content-Length")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(p.body) // the client has gone
}

// Serve accepts connections until ctx is done, and closes them and the listener.
func (n *NetHTTP) Serve(ctx context.Context, l net.Listener) error {
	return n.serve(ctx, func(s *http.Server) error { return s.Serve(l) })
}

// ServeTLS is Serve for TLS, HTTP/2 and HTTP/1.1 by ALPN, with files in PEM.
func (n *NetHTTP) ServeTLS(ctx context.Context, l net.Listener, certFile, keyFile string) error {
	return n.serve(ctx, func(s *http.Server) error { return s.ServeTLS(l, certFile, keyFile) })
}

func (n *NetHTTP) serve(ctx context.Context, serve func(*http.Server) error) error {
	server := &http.Server{Handler: n, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // serve says so
	defer stop()
	if err := serve(server); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
