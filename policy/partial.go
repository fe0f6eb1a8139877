package policy

import (
	"math"
	"net/http"
	"strconv"
	"strings"
)

// This file is about storing parts of a representation and making a whole of them (RFC 9111 sections 3.3 and 3.4, RFC 9110
// sections 14.4 and 15.3.7).

// ParseContentRange parses a Content-Range in bytes: "bytes 0-4/10", "bytes 0-4/*" (total is -1), and "bytes */10", which a 416
// carries (first and last are -1).
func ParseContentRange(v string) (first, last, total int64, ok bool) {
	unit, rest, _ := strings.Cut(v, " ")
	span, size, found := strings.Cut(rest, "/")
	if !found || !strings.EqualFold(unit, "bytes") {
		return 0, 0, 0, false
	}
	total, okTotal := parseBytes(size)
	if size == "*" {
		total, okTotal = -1, span != "*"
	}
	if span == "*" {
		return -1, -1, total, okTotal && total < math.MaxInt64
	}
	a, b, _ := strings.Cut(span, "-")
	first, okFirst := parseBytes(a)
	last, okLast := parseBytes(b)
	inside := first <= last && last < math.MaxInt64 && (total < 0 || last < total && total < math.MaxInt64)
	if !okTotal || !okFirst || !okLast || !inside {
		return 0, 0, 0, false
	}
	return first, last, total, true
}

// Part is what a stored partial response holds: one range of a representation.
type Part struct {
	ByteRange
	Total int64 // length of the whole representation; -1 is not known
}

// PartOf returns the part that a 206 with those fields and a body of that many bytes holds. It is false where they do not agree,
// where Content-Range is not there exactly once (as with multipart/byteranges), or where the total length is not known.
func PartOf(h http.Header, bodyLen int64) (Part, bool) {
	p, ok := partOf(h)
	if !ok || p.Len() != bodyLen {
		return Part{}, false
	}
	return p, true
}

// partOf is PartOf before the body is known.
func partOf(h http.Header) (Part, bool) {
	lines := h["Content-Range"]
	if len(lines) != 1 {
		return Part{}, false
	}
	first, last, total, ok := ParseContentRange(lines[0])
	if !ok || first < 0 || total < 0 {
		return Part{}, false
	}
	return Part{ByteRange{first, last}, total}, true
}

// contentLength returns the value of Content-Length; false where it is absent or none.
func contentLength(h http.Header) (int64, bool) {
	lines := h["Content-Length"]
	if len(lines) != 1 {
		return 0, false
	}
	return parseBytes(lines[0])
}

// Covers reports whether the part holds all of r.
func (p Part) Covers(r ByteRange) bool { return p.First <= r.First && r.Last <= p.Last }

// Whole reports whether the part is the complete representation.
func (p Part) Whole() bool { return p.First == 0 && p.Last == p.Total-1 }

// Combine returns the part that two responses hold together (RFC 9111 section 3.4). It is false unless both carry the same
// strong entity tag, are of the same length in total, and leave no gap.
func Combine(a Part, aTag string, b Part, bTag string) (Part, bool) {
	if !stronglyEqual(aTag, bTag) || a.Total != b.Total || a.Total < 0 {
		return Part{}, false
	}
	if a.First > b.Last+1 || b.First > a.Last+1 {
		return Part{}, false
	}
	return Part{ByteRange{min(a.First, b.First), max(a.Last, b.Last)}, a.Total}, true
}

// MissingRange returns the value of a Range field that asks for the rest of the representation. It is false where nothing is
// missing, where the total is not known, and where a piece is missing on both sides: that is no single range.
func MissingRange(p Part) (header string, ok bool) {
	switch {
	case p.Total < 0 || p.Whole():
		return "", false
	case p.First == 0:
		return "bytes=" + strconv.FormatInt(p.Last+1, 10) + "-", true
	case p.Last == p.Total-1:
		return "bytes=0-" + strconv.FormatInt(p.First-1, 10), true
	}
	return "", false
}
