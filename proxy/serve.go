package proxy

import (
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
	switch policy.Precondition(j.rq, e.Status(), e.ETag(), e.LastModified(), e.Date()) {
	case policy.NotModified:
		j.serveNotModified(e)
		return
	}
	if j.r.Method == http.MethodGet && len(j.rq.Header["Range"]) > 0 && rangeable(e.Status()) {
		if j.serveRanges(e) {
			return
		}
	}
	j.serveWhole(e)
}

// rangeable: ranges are defined for a representation that was asked for with GET and answered with 200 (or a part of it).
func rangeable(status int) bool {
	return status == http.StatusOK || status == http.StatusPartialContent
}

// serveWhole is the hit itself. Two allocations: the strings of Age and Cache-Status share one, all field values the other.
func (j *journey) serveWhole(e *store.Entry) {
	h := j.w.Header()
	slots := e.AppendTo(h, 2)
	j.describe(h, e, slots)
	j.write(e.Status(), e.Body())
}

// serveNotModified answers 304 with the fields that RFC 9110 section 15.4.5 asks for, and those that a cache downstream needs
// to freshen what it has.
func (j *journey) serveNotModified(e *store.Entry) {
	h := j.w.Header()
	slots := e.AppendTo(h, 2)
	for _, name := range [...]string{"Content-Length", "Content-Encoding", "Content-Type", "Content-Range", "Content-Language"} {
		delete(h, name)
	}
	j.describe(h, e, slots)
	j.write(http.StatusNotModified, nil)
}

// describe adds what the cache has to say to a response made from e: Age (RFC 9111 section 5.1) and Cache-Status (RFC 9211).
// slots are at least two strings of a shared array.
func (j *journey) describe(h http.Header, e *store.Entry, slots []string) {
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
	for name, values := range j.limitHeader {
		h[name] = values
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
func (j *journey) write(status int, body []byte) {
	j.status = status
	j.w.WriteHeader(status)
	if len(body) == 0 || j.r.Method == http.MethodHead {
		return
	}
	n, _ := j.w.Write(body) // an error means that the client has gone
	j.bytes += int64(n)
}
