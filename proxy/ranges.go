package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strconv"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// serveRanges answers a Range request from e (RFC 9110 section 14), and reports false where the whole is to be sent instead.
func (j *journey) serveRanges(e *store.Entry) bool {
	part := held(e)
	ranges, result := policy.SelectRange(j.rq, e.ETag(), e.LastModified(), e.Date(), part.Total, j.h.opt.Cache.MaxRanges)
	switch result {
	case policy.RangeUnsatisfiable:
		j.serveUnsatisfiable(e, part.Total)
	case policy.RangePartial:
		if len(ranges) == 1 {
			j.serveRange(e, part, ranges[0])
		} else {
			j.serveMultipart(e, part, ranges)
		}
	default:
		return false
	}
	return true
}

// held is the range of the representation that e holds, be it the whole.
func held(e *store.Entry) policy.Part {
	part, partial := e.Part()
	if !partial {
		size := e.BodyLen()
		part = policy.Part{ByteRange: policy.ByteRange{First: 0, Last: size - 1}, Total: size}
	}
	return part
}

func contentRange(r policy.ByteRange, total int64) string {
	b := append(make([]byte, 0, 64), "bytes "...)
	b = strconv.AppendInt(b, r.First, 10)
	b = strconv.AppendInt(append(b, '-'), r.Last, 10)
	b = strconv.AppendInt(append(b, '/'), total, 10)
	return string(b)
}

func (j *journey) serveRange(e *store.Entry, part policy.Part, r policy.ByteRange) {
	c, ok := j.content(e, r.First-part.First, r.Last-part.First+1)
	if !ok {
		return
	}
	h := j.w.Header()
	slots := e.AppendTo(h, 2)
	policy.RemoveContentDigests(h)
	h["Content-Range"] = []string{contentRange(r, part.Total)}
	h["Content-Length"] = []string{strconv.FormatInt(r.Last-r.First+1, 10)}
	j.describe(h, e, slots)
	j.send(http.StatusPartialContent, c)
}

// serveMultipart answers several ranges as multipart/byteranges (RFC 9110 section 14.6). Only the first is opened before the head is
// sent.
func (j *journey) serveMultipart(e *store.Entry, part policy.Part, ranges []policy.ByteRange) {
	c, ok := j.content(e, ranges[0].First-part.First, ranges[0].Last-part.First+1)
	if !ok {
		return
	}
	boundary := newBoundary()
	heads := make([]string, len(ranges))
	end := "\r\n--" + boundary + "--\r\n"
	length := int64(len(end))
	for i, r := range ranges {
		head := "--" + boundary + "\r\n"
		if i > 0 {
			head = "\r\n" + head
		}
		if ct, ok := e.Field("Content-Type"); ok {
			head += "Content-Type: " + ct + "\r\n"
		}
		heads[i] = head + "Content-Range: " + contentRange(r, part.Total) + "\r\n\r\n"
		length += int64(len(heads[i])) + r.Last - r.First + 1
	}
	h := j.w.Header()
	slots := e.AppendTo(h, 2)
	policy.RemoveContentDigests(h)
	delete(h, "Content-Range") // belongs to each part, not to the whole
	h["Content-Type"] = []string{"multipart/byteranges; boundary=" + boundary}
	h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	j.describe(h, e, slots)
	j.send(http.StatusPartialContent, content{bytes: []byte(heads[0])})
	if j.r.Method == http.MethodHead {
		return
	}
	j.sendContent(c)
	for i, r := range ranges[1:] {
		j.sendBytes([]byte(heads[i+1]))
		c, err := j.openBody(e, r.First-part.First, r.Last-part.First+1)
		if err != nil {
			j.abort(err)
		}
		j.sendContent(c)
	}
	j.sendBytes([]byte(end))
}

// newBoundary is unguessable, so that a body cannot be made to contain it.
func newBoundary() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

// serveUnsatisfiable answers with an error of our own: what the stored response says about itself, and for how long it may be
// kept, is not said of this one.
func (j *journey) serveUnsatisfiable(e *store.Entry, total int64) {
	h := j.w.Header()
	slots := e.AppendTo(h, 2)
	for _, name := range [...]string{
		"Content-Encoding", "Content-Type", "Content-Language", "Content-Disposition", "Etag", "Last-Modified", "Expires", "Pragma", "Surrogate-Control",
	} {
		delete(h, name)
	}
	policy.RemoveContentDigests(h)
	for _, name := range j.h.opt.Cache.Targets {
		delete(h, http.CanonicalHeaderKey(name))
	}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Range"] = []string{"bytes */" + strconv.FormatInt(total, 10)}
	h["Content-Length"] = []string{"0"}
	j.describe(h, e, slots)
	j.write(http.StatusRequestedRangeNotSatisfiable, nil)
}
