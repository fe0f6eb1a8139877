// Package trial takes written exchanges through a real proxy.Handler: its rules, a clock that only the script moves, an origin that
// answers what the script says, and a memory of its own. It decides nothing itself, opens no connection and needs no Redis.
//
//	trial.go    a Stage: a handler, and what it is asked and given
//	message.go  how requests and responses are written
//	file.go     the file of `cacheproxy test`: cases of steps, and the recorded exchange of `cacheproxy explain`
//	expect.go   what a step expects, and how it is compared with what came
//	run.go      cases are run
package trial

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"cacheproxy/policy"
	"cacheproxy/proxy"
	"cacheproxy/store"
	"cacheproxy/upstream"
)

// Options are what a Stage is made of.
type Options struct {
	Proxy proxy.Options // of the configuration: Next, Route, Store, AccessLog and Now are the stage's own
	Store store.Options // without Redis; Now is the stage's own
	Start time.Time     // when the script begins
}

// A Stage is a proxy with a scripted origin and a clock. One goroutine plays on it.
type Stage struct {
	handler *proxy.Handler
	store   *store.Store
	origin  origin
	access  proxy.Access

	mu  sync.Mutex // fills go on beside the script
	now time.Time
}

// NewStage builds one; it must be closed.
func NewStage(o Options) (*Stage, error) {
	s := &Stage{now: o.Start}
	s.origin.now = s.Now
	o.Store.Now = s.Now
	var err error
	if s.store, err = store.New(o.Store); err != nil {
		return nil, err
	}
	o.Proxy.Next, o.Proxy.Route, o.Proxy.Store, o.Proxy.Now = &s.origin, nil, s.store, s.Now
	o.Proxy.Log = slog.New(slog.DiscardHandler)
	o.Proxy.AccessLog = func(a *proxy.Access) { s.access = *a }
	if s.handler, err = proxy.New(o.Proxy); err != nil {
		return nil, errors.Join(err, s.store.Close(context.Background()))
	}
	return s, nil
}

// Close ends the stage.
func (s *Stage) Close() error {
	return errors.Join(s.handler.Close(context.Background()), s.store.Close(context.Background()))
}

// Now is the time on the stage.
func (s *Stage) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Advance lets time pass.
func (s *Stage) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// Played is what came of one request.
type Played struct {
	Status  int
	Header  http.Header
	Body    string
	Aborted bool // the connection would have been cut

	Outcome policy.Outcome
	Asked   []*http.Request // what reached the origin, in order
	Unmet   bool            // the origin was asked and the script has no response
	Unused  bool            // the script has a response and the origin was not asked
}

// Play sends a request through the proxy; the origin answers with response, once or as often as it is asked. nil is an origin that is
// not expected to be asked. What goes on behind the client's back has ended when it returns.
func (s *Stage) Play(q Request, response *Response) (Played, error) {
	r, err := s.Request(q)
	if err != nil {
		return Played{}, err
	}
	s.origin.begin(response)
	s.access = proxy.Access{}
	w := &recorder{header: make(http.Header)}
	p := Played{Aborted: serve(s.handler, w, r)}
	s.handler.Settle()
	p.Status, p.Header, p.Body = w.status, w.sent, w.body.String()
	p.Outcome = s.access.Outcome
	p.Asked = s.origin.asked
	p.Unmet = response == nil && len(p.Asked) > 0
	p.Unused = response != nil && len(p.Asked) == 0
	return p, nil
}

// Explain says what the request would meet now.
func (s *Stage) Explain(q Request) (proxy.Explanation, error) {
	r, err := s.Request(q)
	if err != nil {
		return proxy.Explanation{}, err
	}
	return s.handler.Explain(r), nil
}

// Request makes the request of this moment.
func (s *Stage) Request(q Request) (*http.Request, error) {
	r, err := q.question(s.Now()).Request(context.Background())
	if err != nil {
		return nil, err
	}
	if q.Body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(q.Body)), int64(len(q.Body))
	}
	return r, nil
}

// serve reports whether the handler has aborted the connection.
func serve(h http.Handler, w http.ResponseWriter, r *http.Request) (aborted bool) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			aborted = true
		default:
			panic(p)
		}
	}()
	h.ServeHTTP(w, r)
	return false
}

// recorder is the client: it keeps what it is sent, and the beginning of the body.
type recorder struct {
	header http.Header
	status int // 0 before the head
	sent   http.Header
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }
func (w *recorder) Flush()              { w.WriteHeader(http.StatusOK) }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if room := maxKept - w.body.Len(); room > 0 {
		w.body.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// maxKept is how much of a body is kept to be compared, in bytes.
const maxKept = 1 << 20

// origin answers what the script says.
type origin struct {
	now func() time.Time

	mu       sync.Mutex
	response *Response
	asked    []*http.Request
}

func (o *origin) begin(response *Response) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.response, o.asked = response, nil
}

// errUnmet is what a request meets that the script has no response for.
var errUnmet = errors.New("trial: the script has no response for this request")

// RoundTrip implements http.RoundTripper.
func (o *origin) RoundTrip(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body) // what a script has written
		_ = r.Body.Close()
	}
	o.asked = append(o.asked, r)
	if o.response == nil {
		return nil, &upstream.Error{Cause: upstream.DestinationUnavailable, Err: errUnmet}
	}
	if cause := o.response.Error; cause != 0 {
		return nil, &upstream.Error{Cause: upstream.Cause(cause), Err: errors.New("as the script says")}
	}
	return o.response.make(r, o.now()), nil
}

// make makes the response to r at now, as a transport would return it. A Date is added where there is none, as origins do.
func (s *Response) make(r *http.Request, now time.Time) *http.Response {
	status := s.Status
	if status == 0 {
		status = http.StatusOK
	}
	h := make(http.Header, len(s.Header)+2)
	for name, values := range s.Header {
		h[http.CanonicalHeaderKey(name)] = expandAll(values, now)
	}
	if _, said := h["Date"]; !said {
		h["Date"] = []string{now.UTC().Format(http.TimeFormat)}
	}
	size := max(int64(len(s.Body)), int64(s.Size))
	if declared, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil { // of a response that was recorded without its content
		size = max(size, declared)
	}
	res := &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: http.NoBody, ContentLength: size, Request: r,
	}
	if status == http.StatusNoContent || status == http.StatusNotModified {
		res.ContentLength = 0
		return res
	}
	if _, said := h["Content-Length"]; !said {
		h["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	}
	if r.Method != http.MethodHead && size > 0 {
		filler := io.LimitReader(zeros{}, size-int64(len(s.Body)))
		res.Body = io.NopCloser(io.MultiReader(strings.NewReader(s.Body), filler))
	}
	return res
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
