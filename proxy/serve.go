package proxy

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// serve answers from the stored response: whole, a part of it, or "you have it already". A stale one that may be served while
// it is revalidated starts that in the background first, so that the client's pace does not delay it.
func (j *journey) serve() {
	if j.decision.Action == policy.ServeStaleAndRevalidate {
		j.refresh()
	}
	e := j.stored
	if j.hasIt(e) {
		j.serveNotModified(e)
		return
	}
	if j.mayServeRanges(e) && j.serveRanges(e) {
		return
	}
	j.serveWhole(e)
}

// hasIt reports whether the client has the stored response already: its precondition says so.
func (j *journey) hasIt(e *store.Entry) bool {
	return policy.Precondition(j.rq, e.Status(), e.ETag(), e.LastModified(), e.Date()) == policy.NotModified
}

// mayServeRanges reports whether a Range of the request is to be looked at.
func (j *journey) mayServeRanges(e *store.Entry) bool {
	return j.r.Method == http.MethodGet && len(j.rq.Header["Range"]) > 0 && rangeable(e.Status())
}

// rangeable: ranges are defined for a representation that was asked for with GET and answered with 200 (or a part of it).
func rangeable(status int) bool {
	return status == http.StatusOK || status == http.StatusPartialContent
}

// serveWhole is the hit itself. Two allocations: the strings of Age and Cache-Status share one, all field values the other.
func (j *journey) serveWhole(e *store.Entry) {
	c, ok := j.content(e, 0, e.BodyLen())
	if !ok {
		return
	}
	h := j.w.Header()
	slots := e.AppendTo(h, 2)
	j.describe(h, e, slots)
	j.send(e.Status(), c)
}

// serveNotModified answers 304 with the fields that RFC 9110 section 15.4.5 asks for, and those that a cache downstream needs
// to freshen what it has.
func (j *journey) serveNotModified(e *store.Entry) {
	h := j.w.Header()
	slots := e.AppendTo(h, 2)
	for _, name := range [...]string{"Content-Length", "Content-Encoding", "Content-Type", "Content-Range", "Content-Language"} {
		delete(h, name)
	}
	policy.RemoveContentDigests(h)
	j.describe(h, e, slots)
	j.write(http.StatusNotModified, nil)
}

// describe adds what the cache has to say to a response made from e: Age (RFC 9111 section 5.1) and Cache-Status (RFC 9211).
// slots are at least two strings of a shared array.
func (j *journey) describe(h http.Header, e *store.Entry, slots []string) {
	if e.Tagged() {
		j.hideTags(h)
	}
	now := j.start
	if j.out != nil {
		now = j.h.opt.Now() // a fetch has taken its time
	}
	age := e.Freshness().Age(now)
	var buf [160]byte
	text := strconv.AppendInt(buf[:0], int64(age/time.Second), 10)
	ageEnd := len(text)
	tell := j.tells()
	if tell {
		text = j.outcome.AppendCacheStatus(text, j.h.opt.Cache.Name)
	}
	joined := string(text)
	slots[0] = joined[:ageEnd]
	h["Age"] = slots[0:1:1]
	if tell {
		if before := h["Cache-Status"]; len(before) > 0 {
			h["Cache-Status"] = append(before, joined[ageEnd:])
		} else {
			slots[1] = joined[ageEnd:]
			h["Cache-Status"] = slots[1:2:2]
		}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // an absent Content-Type stays absent: net/http would guess one
	}
	j.tellLimits(h)
}

// hideTags takes from a response what it says to caches alone, unless this client is a trusted peer. What is stored keeps it.
func (j *journey) hideTags(h http.Header) {
	if !j.trusted && j.h.opt.Cache.TagFields != TagKeep {
		j.h.tagFields.Strip(h)
	}
}

// tells reports whether this client is told the Cache-Status.
func (j *journey) tells() bool {
	switch j.h.opt.Cache.StatusField {
	case StatusNever:
		return false
	case StatusTrusted:
		return j.trusted
	default:
		return true
	}
}

// write sends status and body; HEAD gets the fields alone.
func (j *journey) write(status int, body []byte) { j.send(status, content{bytes: body}) }

// content is what is sent of a stored body: bytes in memory, then what is read from Redis.
type content struct {
	bytes []byte
	body  *store.Body // nil = nothing
}

// openBody opens the bytes [first, end) of the stored body.
func (j *journey) openBody(e *store.Entry, first, end int64) (content, error) {
	switch {
	case !e.Chunked():
		return content{bytes: e.Body()[first:end]}, nil
	case j.r.Method == http.MethodHead:
		return content{}, nil
	}
	body, err := j.h.opt.Store.Open(j.r.Context(), e, first, end)
	return content{body: body}, err
}

// content is openBody before anything has been sent. It reports false when the bytes are gone, and has then answered otherwise.
func (j *journey) content(e *store.Entry, first, end int64) (content, bool) {
	c, err := j.openBody(e, first, end)
	if err != nil {
		j.lost(err)
	}
	return c, err == nil
}

// lost answers in place of a stored response whose body can no longer be read: from upstream, unless this is what the upstream's
// answer was about.
func (j *journey) lost(err error) {
	j.failure = err
	if j.out != nil {
		j.problem(problem{status: http.StatusBadGateway, reason: policy.StoreUnavailable, detail: "the stored response can no longer be read"})
		return
	}
	j.stored, j.tier, j.decision = nil, store.TierNone, policy.Decision{}
	j.outcome = policy.Outcome{Fwd: policy.FwdMiss, Detail: policy.StoreUnavailable}
	j.fetch()
}

// send sends status and content; HEAD gets the fields alone.
func (j *journey) send(status int, c content) {
	j.status = status
	j.w.WriteHeader(status)
	if j.r.Method != http.MethodHead {
		j.sendContent(c)
	}
}

// sendContent sends more. Where the rest of a body is gone, the connection is aborted, so that nobody takes the beginning for the whole.
func (j *journey) sendContent(c content) {
	if c.body != nil {
		defer c.body.Close()
	}
	if !j.sendBytes(c.bytes) || c.body == nil {
		return
	}
	for {
		piece, err := c.body.Next(j.r.Context())
		if err == io.EOF {
			return
		}
		if err != nil {
			j.abort(err)
		}
		if !j.sendBytes(piece) {
			return
		}
	}
}

// abort cuts the connection, because what has been sent cannot be completed.
func (j *journey) abort(why error) {
	j.failure = why
	panic(http.ErrAbortHandler)
}

// sendBytes reports false when the client has gone.
func (j *journey) sendBytes(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	n, err := j.w.Write(p)
	j.bytes += int64(n)
	return err == nil
}
