package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime/debug"
	"strconv"
	"strings"
)

// FromHandler makes an http.RoundTripper of a handler, so that New can wrap a cache around any Go service. The handler runs in
// a goroutine of its own for each request that reaches it; its response streams as it is written, and is what net/http would
// make of it: Content-Type is guessed, Content-Length holds. A handler that panics gives an error before the head, and a body
// that ends badly after it. Hijacking is not possible, so no protocol upgrades. The context of a fetch that is shared is not
// the client's: a handler that looks at values of the context must be bypassed.
func FromHandler(h http.Handler) http.RoundTripper { return handlerTripper{h} }

type handlerTripper struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t handlerTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	in := r.Clone(ctx)
	if in.Body == nil {
		in.Body = http.NoBody
		in.Form, in.PostForm, in.MultipartForm = nil, nil, nil // of the query as it was before us
	}
	in.RequestURI = r.URL.RequestURI()
	in.URL.Scheme, in.URL.Host, in.URL.Opaque = "", "", ""
	in.Trailer = r.Trailer // filled in when the content ends; a copy would not be
	pr, pw := io.Pipe()
	w := &pipeWriter{r: r, header: make(http.Header), pipe: pw, length: -1, head: make(chan struct{})}
	w.body = &handlerBody{PipeReader: pr, w: w, cancel: cancel}
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

// handlerBody is the body of a handler's response. Like net/http's, it adds the trailers when its end is read.
type handlerBody struct {
	*io.PipeReader
	w      *pipeWriter
	cancel context.CancelFunc
}

func (b *handlerBody) Read(p []byte) (int, error) {
	n, err := b.PipeReader.Read(p)
	if err == io.EOF && b.w.length < 0 { // with a length the end comes before the handler's, and without trailers
		b.w.trailers()
	}
	return n, err
}

func (b *handlerBody) Close() error {
	defer b.cancel()
	return b.PipeReader.Close()
}

// pipeWriter is the http.ResponseWriter of a handler whose response is read as an http.Response. All but head, response and err
// belong to the handler until the body has ended.
type pipeWriter struct {
	r       *http.Request
	header  http.Header
	pipe    *io.PipeWriter
	body    *handlerBody
	status  int         // 0 before WriteHeader
	sealed  http.Header // the fields as of WriteHeader
	length  int64       // as Content-Length says; -1 = it does not
	written int64

	head     chan struct{} // closed when response or err is set
	response *http.Response
	err      error
}

func (w *pipeWriter) run(h http.Handler, in *http.Request) {
	defer in.Body.Close()
	defer func() {
		if p := recover(); p != nil {
			w.panicked(p)
			return
		}
		w.publish(nil)
		if w.length > w.written && w.hasBody() {
			_ = w.pipe.CloseWithError(io.ErrUnexpectedEOF)
		}
		_ = w.pipe.Close()
	}()
	h.ServeHTTP(w, in)
}

func (w *pipeWriter) panicked(p any) {
	if p != http.ErrAbortHandler { //nolint:errorlint // the very value is what net/http looks for
		slog.Error("a handler panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	}
	err := fmt.Errorf("proxy: the handler panicked: %v", p)
	if w.response == nil {
		w.err = err
		close(w.head)
	}
	_ = w.pipe.CloseWithError(err)
}

// Header implements http.ResponseWriter.
func (w *pipeWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter; a 1xx goes to the client at once, the head with what follows it.
func (w *pipeWriter) WriteHeader(status int) {
	if status >= 100 && status < 200 {
		if trace := httptrace.ContextClientTrace(w.r.Context()); trace != nil && trace.Got1xxResponse != nil {
			_ = trace.Got1xxResponse(status, textproto.MIMEHeader(w.header.Clone()))
		}
		return
	}
	if w.status == 0 {
		w.status, w.sealed = status, w.header.Clone()
	}
}

// publish makes the response of the head, once; p is what the body begins with.
func (w *pipeWriter) publish(p []byte) {
	if w.response != nil {
		return
	}
	w.WriteHeader(http.StatusOK)
	h := w.sealed
	if _, said := h["Content-Type"]; !said && len(p) > 0 && h.Get("Content-Encoding") == "" && bodyAllowed(w.status) {
		h["Content-Type"] = []string{http.DetectContentType(p)}
	}
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		w.length = n
	} else {
		delete(h, "Content-Length")
	}
	trailer := announced(h)
	for name, values := range h {
		if len(values) == 0 || strings.HasPrefix(name, http.TrailerPrefix) {
			delete(h, name)
		}
	}
	w.response = &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: w.body, ContentLength: w.length, Request: w.r, Trailer: trailer,
	}
	close(w.head)
}

// announced are the trailers that the head names; nil for none.
func announced(h http.Header) http.Header {
	var t http.Header
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			if t == nil {
				t = make(http.Header)
			}
			t[http.CanonicalHeaderKey(strings.TrimSpace(name))] = nil
		}
	}
	return t
}

// trailers gives the response the trailers that the handler has set by its end: announced ones, and those with http.TrailerPrefix.
func (w *pipeWriter) trailers() {
	t := w.response.Trailer
	for name := range t {
		t[name] = w.header[name]
	}
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			if t == nil {
				t = make(http.Header)
				w.response.Trailer = t
			}
			t[http.CanonicalHeaderKey(name)] = values
		}
	}
}

func (w *pipeWriter) hasBody() bool { return w.r.Method != http.MethodHead && bodyAllowed(w.status) }

// Write implements http.ResponseWriter. The body ends where Content-Length says, whatever the handler does afterwards.
func (w *pipeWriter) Write(p []byte) (int, error) {
	w.publish(p)
	switch {
	case !bodyAllowed(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.written+int64(len(p)) > w.length:
		return 0, http.ErrContentLength
	case !w.hasBody():
		return len(p), nil
	}
	n, err := w.pipe.Write(p)
	if w.written += int64(n); w.written == w.length {
		_ = w.pipe.Close()
	}
	return n, err
}

// Flush implements http.Flusher: the head goes out; every Write has gone out already.
func (w *pipeWriter) Flush() { w.publish(nil) }
