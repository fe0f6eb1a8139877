package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"sync"

	"cacheproxy/policy"
)

// errStored is returned by RoundTrip when there is no response to stream because a stored one answers: ReverseProxy then
// calls our ErrorHandler, which serves it.
var errStored = errors.New("proxy: answered from the store")

// fetch forwards the request through a ReverseProxy value of its own, whose hooks are the journey's methods: ReverseProxy
// knows hop-by-hop fields, upgrades, trailers and interim responses; we are its Transport.
func (j *journey) fetch() {
	if p, refused := j.refusal(); refused {
		j.outcome.Fwd = policy.FwdNone
		j.problem(p)
		return
	}
	j.out = &recorder{ResponseWriter: j.w, finalOnly: !j.r.ProtoAtLeast(1, 1)}
	j.w = j.out
	r := j.r
	if asksForUpgrade(r) { // a hijacked connection outlives the server's Shutdown
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(j.h.stop, cancel)()
		if isWebSocket(r.Header) {
			j.out.webSocket = j.h.leaving
		}
		r = r.WithContext(ctx)
	}
	rp := httputil.ReverseProxy{
		Rewrite:        j.rewrite,
		Transport:      j,
		ModifyResponse: j.modifyResponse,
		ErrorHandler:   j.fail,
		BufferPool:     copyBuffers,
		ErrorLog:       j.h.errorLog,
	}
	defer func() {
		if j.open != nil {
			_ = j.open.Close() // ReverseProxy leaves it open when it panics or refuses a switch of protocols
		}
	}()
	rp.ServeHTTP(j.out, r)
}

// refusal is what is answered in place of a fetch that must not be, or could not.
func (j *journey) refusal() (p problem, refused bool) {
	switch {
	case j.rq.Directives.OnlyIfCached && j.unstored == policy.None:
		return problem{status: http.StatusGatewayTimeout, reason: policy.OnlyIfCached, detail: "nothing stored can answer this request"}, true
	case asksForUpgrade(j.r) && !isProtocol(j.r.Header.Get("Upgrade")):
		return problem{status: http.StatusBadRequest, reason: policy.Upgrade, detail: "the Upgrade field names no protocol"}, true
	}
	return p, false
}

// rewrite makes the outbound request from ReverseProxy's copy of the client's.
func (j *journey) rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	if j.changed {
		j.clean(out.Header)
	}
	if j.trusted {
		// ReverseProxy has dropped these three; addHopFields continues them.
		restore(out.Header, j.r.Header, "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For")
	}
	if len(out.Header["Upgrade"]) > 0 && !asksForUpgrade(j.r) {
		delete(out.Header, "Upgrade")
		delete(out.Header, "Connection")
	}
	j.addHopFields(out.Header)
	if j.forwards != "" {
		out.Header["Max-Forwards"] = []string{j.forwards}
	}
	out.URL.RawQuery = j.query // ReverseProxy has cleaned it; the upstream gets the client's bytes
	out.URL.ForceQuery = j.r.URL.ForceQuery
	if j.opaque {
		out.URL.Opaque = j.rawPath
	}
	out.URL.Scheme, out.URL.Host = j.scheme, j.host
	out.Trailer = j.r.Trailer // net/http fills in the client's map, not a copy of it, when the content ends
	out.Host = j.host
}

func restore(to, from http.Header, names ...string) {
	for _, name := range names {
		if v, ok := from[name]; ok {
			to[name] = v
		}
	}
}

// RoundTrip implements http.RoundTripper for the journey's own ReverseProxy: it joins or leads a fill where the response may
// be of use to others, and goes alone where not.
func (j *journey) RoundTrip(out *http.Request) (*http.Response, error) {
	send := j.goAlone
	switch j.sharing() {
	case together:
		send = j.throughFill
	case notShared:
		j.goesAlone()
	}
	res, err := send(out)
	if err == nil {
		j.open = res.Body
	}
	return res, err
}

// asksOrigin reports whether the request has a condition that only the origin can evaluate, and therefore must be given.
func (j *journey) asksOrigin() bool {
	return policy.Precondition(j.rq, 0, "", "", "") == policy.PreconditionOrigin
}

// validates reports whether the fetch will carry the stored response's validators.
func (j *journey) validates() bool {
	if j.stored == nil || !j.stored.Freshness().Validator {
		return false
	}
	_, partial := j.stored.Part()
	return !partial
}

// modifyResponse adds our fields to a response that is streamed to the client. They are set here and not on the
// ResponseWriter, because an interim response would send them early and ReverseProxy would then drop them.
func (j *journey) modifyResponse(res *http.Response) error {
	if res.StatusCode == http.StatusSwitchingProtocols {
		j.out.status = res.StatusCode // is written past the recorder
		return nil
	}
	j.hideTags(res.Header)
	if j.tells() {
		var buf [160]byte
		res.Header["Cache-Status"] = append(res.Header["Cache-Status"], string(j.outcome.AppendCacheStatus(buf[:0], j.h.opt.Cache.Name)))
	}
	j.tellLimits(res.Header)
	if _, ok := res.Header["Content-Type"]; !ok {
		j.w.Header()["Content-Type"] = nil // an absent Content-Type stays absent: net/http would guess one
	}
	if !policy.IsEventStream(res.Header) { // ReverseProxy has to see its type, and then flushes the head at once
		moveFields(j.w.Header(), res.Header)
	}
	return nil
}

// moveFields gives the client's response the fields, with one allocation for all values: ReverseProxy, which would copy them right after,
// makes one for each. Those that are there already, from a handler around ours, are left to it: it adds to them. The values are copied
// because that handler may write to them, while what is stored has them too.
func moveFields(to, from http.Header) {
	n := 0
	for _, values := range from {
		n += len(values)
	}
	lines := make([]string, 0, n)
	for name, values := range from {
		if _, there := to[name]; !there {
			first := len(lines)
			lines = append(lines, values...)
			to[name] = lines[first:len(lines):len(lines)]
			delete(from, name)
		}
	}
}

// fail is ReverseProxy's ErrorHandler: RoundTrip gave no response.
func (j *journey) fail(_ http.ResponseWriter, _ *http.Request, err error) {
	if errors.Is(err, errStored) {
		j.serve()
		return
	}
	j.failure = err
	ctx := j.r.Context()
	if errors.Is(ctx.Err(), context.Canceled) && ctx.Value(http.ServerContextKey) != nil {
		if detail := j.malformed(); detail != "" {
			j.problem(problem{status: http.StatusBadRequest, reason: policy.MalformedContent, detail: detail})
			return
		}
		panic(http.ErrAbortHandler) // the client has gone; to return without an answer would be one: 200, and empty
	}
	j.problem(upstreamProblem(err, j.r.Method))
}

// malformed says why the request's content is malformed; "" where it is not.
func (j *journey) malformed() string {
	if j.h.opt.Malformed == nil {
		return ""
	}
	return j.h.opt.Malformed(j.r)
}

// recorder counts what is sent. Unwrap lets http.ResponseController reach what the real writer can do.
type recorder struct {
	http.ResponseWriter
	status    int
	bytes     int64
	webSocket context.Context // of a request for one: done when it is to be told that we leave
	finalOnly bool            // the client speaks HTTP/1.0, and would take an interim response for the final one
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	switch interim := status < 200 && status != http.StatusSwitchingProtocols; {
	case !interim:
		w.status = status
	case w.finalOnly:
		return // RFC 9110 section 15.2
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// copyBuffers lends ReverseProxy its copy buffers.
var copyBuffers = &bufferPool{}

type bufferPool struct{ pool sync.Pool }

const copyBufferSize = 32 << 10

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[copyBufferSize]byte); ok {
		return b[:]
	}
	return make([]byte, copyBufferSize)
}

func (p *bufferPool) Put(b []byte) {
	p.pool.Put((*[copyBufferSize]byte)(b))
}
