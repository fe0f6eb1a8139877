package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"sync"
)

// FromHandler makes an http.RoundTripper of a handler, so that New can wrap a cache around any Go service. The handler runs in
// a goroutine of its own for each request that reaches it; its response streams as it is written. A handler that panics
// gives an error before the head, and a body that ends badly after it. Hijacking is not possible, so no protocol upgrades.
func FromHandler(h http.Handler) http.RoundTripper { return handlerTripper{h} }

type handlerTripper struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t handlerTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	in := r.Clone(ctx)
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI = r.URL.RequestURI()
	in.URL.Scheme, in.URL.Host = "", ""
	pr, pw := io.Pipe()
	w := &pipeWriter{r: r, header: make(http.Header), pipe: pw, head: make(chan struct{})}
	w.body = &owned{pr, cancel}
	go w.run(t.handler, in)
	select {
	case <-w.head:
		if w.err != nil {
			cancel()
			return nil, w.err
		}
		return w.response, nil
	case <-ctx.Done():
		cancel()
		_ = pr.CloseWithError(ctx.Err())
		return nil, context.Cause(ctx)
	}
}

// pipeWriter is the http.ResponseWriter of a handler whose response is read as an http.Response.
type pipeWriter struct {
	r        *http.Request
	header   http.Header
	pipe     *io.PipeWriter
	body     io.ReadCloser
	once     sync.Once
	head     chan struct{} // closed when response or err is set
	response *http.Response
	err      error
}

func (w *pipeWriter) run(h http.Handler, in *http.Request) {
	defer func() {
		p := recover()
		if p != nil {
			err := fmt.Errorf("proxy: the handler panicked: %v", p)
			w.once.Do(func() {
				w.err = err
				close(w.head)
			})
			_ = w.pipe.CloseWithError(err)
			return
		}
		w.WriteHeader(http.StatusOK)
		w.trailers()
		_ = w.pipe.Close()
	}()
	h.ServeHTTP(w, in)
}

// Header implements http.ResponseWriter.
func (w *pipeWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter; a 1xx goes to the client at once.
func (w *pipeWriter) WriteHeader(status int) {
	if status >= 100 && status < 200 {
		if trace := httptrace.ContextClientTrace(w.r.Context()); trace != nil && trace.Got1xxResponse != nil {
			_ = trace.Got1xxResponse(status, textproto.MIMEHeader(w.header.Clone()))
		}
		return
	}
	w.once.Do(func() {
		h := w.header.Clone()
		length := int64(-1)
		if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
			length = n
		}
		w.response = &http.Response{
			Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: h, Body: w.body, ContentLength: length, Request: w.r, Trailer: announced(h),
		}
		close(w.head)
	})
}

// announced are the trailers that the head names.
func announced(h http.Header) http.Header {
	names := h["Trailer"]
	if len(names) == 0 {
		return nil
	}
	t := make(http.Header)
	for _, name := range names {
		t[http.CanonicalHeaderKey(name)] = nil
	}
	return t
}

// trailers gives the announced trailers the values that the handler has set by its end.
func (w *pipeWriter) trailers() {
	for name := range w.response.Trailer {
		w.response.Trailer[name] = w.header[name]
	}
}

// Write implements http.ResponseWriter.
func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.r.Method == http.MethodHead {
		return len(p), nil
	}
	return w.pipe.Write(p)
}

// Flush implements http.Flusher: the head goes out; every Write has gone out already.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }
