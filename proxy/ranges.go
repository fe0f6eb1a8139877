package proxy

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// serveRanges answers a Range request from e (RFC 9110 section 14), and reports false where the whole is to be sent instead.
func (j *journey) serveRanges(e *store.Entry) bool {
	part, partial := e.Part()
	if !partial {
		size := int64(len(e.Body()))
		part = policy.Part{ByteRange: policy.ByteRange{First: 0, Last: size - 1}, Total: size}
	}
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

// slice is the bytes of r out of what e holds.
func slice(e *store.Entry, part policy.Part, r policy.ByteRange) []byte {
	return e.Body()[r.First-part.First : r.Last-part.First+1]
}

func contentRange(r policy.ByteRange, total int64) string {
	b := append(make([]byte, 0, 64), "bytes "...)
	b = strconv.AppendInt(b, r.First, 10)
	b = strconv.AppendInt(append(b, '-'), r.Last, 10)
	b = strconv.AppendInt(append(b, '/'), total, 10)
	return string(b)
}

func (j *journey) serveRange(e *store.Entry, part policy.Part, r policy.ByteRange) {
	h := j.w.Header()
	slots := e.AppendTo(h, 2)
	body := slice(e, part, r)
	h["Content-Range"] = []string{contentRange(r, part.Total)}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	j.describe(h, e, slots)
	j.write(http.StatusPartialContent, body)
}

// serveMultipart answers several ranges as multipart/byteranges (RFC 9110 section 14.6).
func (j *journey) serveMultipart(e *store.Entry, part policy.Part, ranges []policy.ByteRange) {
	h := j.w.Header()
	slots := e.AppendTo(h, 2)
	boundary := newBoundary()
	var body bytes.Buffer
	for _, r := range ranges {
		fmt.Fprintf(&body, "--%s\r\n", boundary)
		if ct, ok := e.Field("Content-Type"); ok {
			fmt.Fprintf(&body, "Content-Type: %s\r\n", ct)
		}
		fmt.Fprintf(&body, "Content-Range: %s\r\n\r\n", contentRange(r, part.Total))
		body.Write(slice(e, part, r))
		body.WriteString("\r\n")
	}
	fmt.Fprintf(&body, "--%s--\r\n", boundary)
	delete(h, "Content-Range") // belongs to each part, not to the whole
	h["Content-Type"] = []string{"multipart/byteranges; boundary=" + boundary}
	h["Content-Length"] = []string{strconv.Itoa(body.Len())}
	j.describe(h, e, slots)
	j.write(http.StatusPartialContent, body.Bytes())
}

// newBoundary is unguessable, so that a body cannot be made to contain it.
func newBoundary() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

func (j *journey) serveUnsatisfiable(e *store.Entry, total int64) {
	h := j.w.Header()
	slots := e.AppendTo(h, 2)
	for _, name := range [...]string{"Content-Encoding", "Content-Type", "Etag", "Last-Modified"} {
		delete(h, name)
	}
	h["Content-Range"] = []string{"bytes */" + strconv.FormatInt(total, 10)}
	h["Content-Length"] = []string{"0"}
	j.describe(h, e, slots)
	j.write(http.StatusRequestedRangeNotSatisfiable, nil)
}
