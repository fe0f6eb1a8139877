package proxy

import (
	"errors"
	"io"
	"net/http"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// goAlone sends the request for this client only: methods other than GET, bypass rules, uploads and upgrades, ranges, reloads, and
// whatever turned out not to be shareable. The exchange ends with its client. Where the response may be stored, a copy of its
// body is taken as it streams by.
func (j *journey) goAlone(out *http.Request) (*http.Response, error) {
	x := j.exchange()
	if j.mayAskOurs() {
		x.ask(out.Header)
	}
	return j.take(x.do(out))
}

// mayAskOurs reports whether a request that goes alone may carry our question beside what its client asks.
func (j *journey) mayAskOurs() bool {
	return j.r.Method == http.MethodGet && j.unstored == policy.None && !j.asksOrigin()
}

// ask puts our own question on a request whose answer may be stored: is what we have still good (RFC 9111 section 4.3.1).
func (x *exchange) ask(h http.Header) {
	if x.stored == nil || !x.stored.Freshness().Validator {
		return
	}
	if _, partial := x.stored.Part(); partial {
		return
	}
	policy.SetConditionals(h, x.stored.ETag(), x.stored.LastModified())
	x.conditional = true
}

// take makes of an answer what RoundTrip returns, and records the outcome.
func (j *journey) take(a answer) (*http.Response, error) {
	switch {
	case a.entry != nil:
		return nil, j.takeStored(a)
	case a.err != nil:
		return nil, a.err
	}
	j.told(a)
	if a.res.StatusCode == http.StatusSwitchingProtocols {
		return a.res, nil
	}
	if a.plan == nil && policy.IsEventStream(a.res.Header) {
		a.res.Body = newEventStream(a.res.Body, j.h.leaving)
	}
	s := &stream{body: a.res.Body, j: j, length: a.res.ContentLength}
	if a.plan != nil && bodyless(a.res, j.r.Method) {
		a.plan.store(nil)
	} else if a.plan != nil {
		s.copy = newBodyCopy(j.h, a.plan, a.res.ContentLength)
	}
	a.res.Body = s
	return a.res, nil
}

// takeStored makes the answer's stored response the one that is served.
func (j *journey) takeStored(a answer) error {
	j.stored = a.entry
	j.decision = policy.Decision{}
	j.outcome.FwdStatus = a.status
	j.outcome.HasTTL, j.outcome.TTL = true, a.entry.Freshness().TTL(j.h.opt.Now())
	j.outcome.Stored = a.saved && !j.outcome.Collapsed
	j.failure = a.err
	if a.reason != policy.None {
		j.outcome.Detail = a.reason
	}
	return errStored
}

// told records the outcome of a response that is streamed. That the store could not be asked explains more than what became of
// the response, and stays; that the request went alone stays where the response leaves nothing to explain.
func (j *journey) told(a answer) {
	detail := a.reason
	if a.plan != nil {
		j.outcome.Stored = true
		j.outcome.HasTTL, j.outcome.TTL = true, a.plan.fresh.TTL(j.h.opt.Now())
		detail = policy.None
	}
	if detail == policy.None && j.outcome.Detail == policy.NotShareable {
		return
	}
	if j.outcome.Detail != policy.StoreUnavailable && j.outcome.Fwd != policy.FwdMethod {
		j.outcome.Detail = detail
	}
}

// bodyless reports whether the response has no body to wait for.
func bodyless(res *http.Response, method string) bool {
	return res.Body == http.NoBody || method == http.MethodHead || !bodyAllowed(res.StatusCode)
}

// stream is the body of a response that goes to one client. It is read by ReverseProxy in the goroutine that writes, so before a
// read that may wait it flushes what was written: the client has every byte that we have. (ReverseProxy does so itself where
// the length is unknown.)
type stream struct {
	body   io.ReadCloser
	j      *journey
	length int64
	read   int64
	copy   *bodyCopy // nil when the body is not kept
}

func (s *stream) Read(p []byte) (int, error) {
	if s.read > 0 && s.length > s.read {
		flush(s.j.w)
	}
	n, err := s.body.Read(p)
	s.read += int64(n)
	if err == nil && s.copy != nil && s.read == s.length {
		err = atEnd(s.body) // so that the copy is stored before the client has the last byte
	}
	if err == io.EOF && s.copy != nil && s.length >= 0 && s.read != s.length {
		err = io.ErrUnexpectedEOF
	}
	if s.copy != nil && !s.copy.add(p[:n], err) {
		s.copy = nil
	}
	s.j.cut(err)
	return n, err
}

func (s *stream) Close() error {
	if s.copy != nil {
		s.copy.drop(policy.Truncated)
		s.copy = nil
	}
	return s.body.Close()
}

// cut notes for the access log that the upstream's body ended too early, and that therefore what Cache-Status said would be stored is
// not. A client that has left is no failure of the upstream.
func (j *journey) cut(err error) {
	if err == nil || err == io.EOF || j.r.Context().Err() != nil {
		return
	}
	j.failure = err
	if j.outcome.Stored && !errors.Is(err, errLeftBehind) { // what one client read too slowly may be stored for others
		j.outcome.Stored, j.outcome.Detail = false, policy.Truncated
	}
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// bodyCopy keeps a body that streams by: whole, within the plan's limit and the memory of all fills, or uploading it as it comes where it
// is larger than that.
type bodyCopy struct {
	h      *Handler
	plan   *plan
	buf    []byte
	held   int64 // reserved of the fills' memory
	upload *store.Upload
}

func newBodyCopy(h *Handler, p *plan, length int64) *bodyCopy {
	c := &bodyCopy{h: h, plan: p}
	switch {
	case length > p.limit:
		if c.upload = p.upload(); c.upload == nil {
			p.x.refused(policy.StoreUnavailable)
			return nil
		}
	case length > 0 && c.reserve(length):
		c.buf = make([]byte, 0, length)
	}
	return c
}

func (c *bodyCopy) reserve(n int64) bool {
	if n <= c.held {
		return true
	}
	if !c.h.fills.reserve(n - c.held) {
		return false
	}
	c.held = n
	return true
}

// add takes what was read and how the read ended. It reports whether there is more to come.
func (c *bodyCopy) add(p []byte, err error) bool {
	if why := c.take(p); why != policy.None {
		return c.drop(why)
	}
	switch {
	case err == nil:
		return true
	case err != io.EOF:
		return c.drop(policy.Truncated)
	case c.upload != nil:
		c.plan.storeUploaded(c.upload)
		c.upload = nil
	default:
		c.plan.store(c.buf)
	}
	return c.drop(policy.None)
}

// take keeps the next bytes, or says why the body is not kept.
func (c *bodyCopy) take(p []byte) policy.Reason {
	if c.upload == nil && int64(len(c.buf)+len(p)) > c.plan.limit {
		if c.plan.most == c.plan.limit {
			return policy.TooLarge
		}
		if c.upload = c.plan.upload(); c.upload == nil {
			return policy.StoreUnavailable
		}
		c.upload.Write(c.buf)
		c.release()
	}
	switch {
	case c.upload == nil:
		if !c.reserve(int64(len(c.buf) + len(p))) {
			return policy.StoreFull
		}
		c.buf = append(c.buf, p...)
	case c.upload.Len()+int64(len(p)) > c.plan.most:
		return policy.TooLarge
	case !c.upload.Write(p):
		return policy.StoreFull
	}
	return policy.None
}

func (c *bodyCopy) release() {
	c.h.fills.release(c.held)
	c.held, c.buf = 0, nil
}

// drop gives the memory back and counts why the copy was not kept. It returns false, for add.
func (c *bodyCopy) drop(why policy.Reason) bool {
	if c.upload != nil {
		c.upload.Abort()
		c.upload = nil
	}
	if why != policy.None {
		c.plan.x.refused(why)
	}
	c.release()
	return false
}
