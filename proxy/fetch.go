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
	if j.rq.Directives.OnlyIfCached && j.unstored == policy.None {
		j.outcome.Fwd = policy.FwdNone
		j.problem(problem{status: http.StatusGatewayTimeout, reason: policy.OnlyIfCached, detail: "nothing stored can answer this request"})
		return
	}
	j.out = &recorder{ResponseWriter: j.w}
	j.w = j.out
	r := j.r
	if isUpgrade(r.Header) { // a hijacked connection outlives the server's Shutdown
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(j.h.stop, cancel)()
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
	if len(out.Header["Upgrade"]) > 0 && !isUpgrade(j.r.Header) {
		delete(out.Header, "Upgrade")
		delete(out.Header, "Connection")
	}
	j.addHopFields(out.Header)
	out.URL.RawQuery = j.query // ReverseProxy has cleaned it; the upstream gets the client's bytes
	out.URL.ForceQuery = j.r.URL.ForceQuery
	if j.opaque {
		out.URL.Opaque = j.rawPath
	}
	out.URL.Scheme, out.URL.Host = j.scheme, j.r.Host
	out.Trailer = j.r.Trailer // net/http fills in the client's map, not a copy of it, when the content ends
	out.Host = j.r.Host
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
	if j.collapses() {
		send = j.throughFill
	}
	res, err := send(out)
	if err == nil {
		j.open = res.Body
	}
	return res, err
}

// collapses reports whether the request may share its fetch with others.
func (j *journey) collapses() bool {
	switch {
	case j.unstored != policy.None, j.r.Method != http.MethodGet, !j.matched.Collapse:
		return false
	case j.rq.Directives.NoStore, j.outcome.Fwd == policy.FwdRequest, j.asksOrigin(), j.wantsNews():
		return false // it wants an answer of its own
	case len(j.rq.Header["Range"]) > 0 && !j.wantsFromStart() && !j.validates():
		return false
	case !j.validates() && j.h.alone.holds(j.shareKey()):
		return false
	}
	return true
}

// asksOrigin reports whether the request has a condition that only the origin can evaluate, and therefore must be given.
func (j *journey) asksOrigin() bool {
	return policy.Precondition(j.rq, 0, "", "", "") == policy.PreconditionOrigin
}

// wantsNews reports whether the request would refuse a response of this very moment: one that asks for validation (no-cache, max-age=0)
// may not be answered by a fetch that began before it (RFC 9111 section 4).
func (j *journey) wantsNews() bool {
	now := j.start
	ideal := policy.Freshness{Born: now, Lifetime: policy.MaxDelta}
	return policy.Evaluate(j.rq, ideal, now, j.matched).Action != policy.Fresh
}

// wantsFromStart: a range from the first byte to the end is the whole, and worth fetching as such.
func (j *journey) wantsFromStart() bool {
	v := j.rq.Header["Range"]
	return len(v) == 1 && v[0] == "bytes=0-"
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
	if j.tells() {
		var buf [160]byte
		res.Header["Cache-Status"] = append(res.Header["Cache-Status"], string(j.outcome.AppendCacheStatus(buf[:0], j.h.opt.Cache.Name)))
	}
	for name, values := range j.limitHeader {
		res.Header[name] = values
	}
	if _, ok := res.Header["Content-Type"]; !ok {
		j.w.Header()["Content-Type"] = nil // an absent Content-Type stays absent: net/http would guess one
	}
	return nil
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
		panic(http.ErrAbortHandler) // the client has gone; to return without an answer would be one: 200, and empty
	}
	j.problem(upstreamProblem(err, j.r.Method))
}

// recorder counts what is sent. Unwrap lets http.ResponseController reach what the real writer can do.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.status = status
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
