package policy

import (
	"math"
	"net/http"
	"strings"
	"time"
)

// This file reads Range and If-Range (RFC 9110 sections 14.2 and 13.1.5) and selects from a stored body.
//
//	Range      = "bytes=" 1#( first "-" [ last ] / "-" suffix-length )
//	If-Range   = entity-tag / HTTP-date
//
// A Range may always be ignored, so everything that is unclear or abusive is answered with the whole.

// ByteRange is a range of a body; both ends are included, the first byte is byte 0.
type ByteRange struct{ First, Last int64 }

// Len returns the number of bytes in the range.
func (r ByteRange) Len() int64 { return r.Last - r.First + 1 }

// RangeResult is how a request with Range is to be answered.
type RangeResult uint8

// The results.
const (
	RangeWhole         RangeResult = iota // there is no Range, or it is to be ignored: 200
	RangePartial                          // 206 with these ranges
	RangeUnsatisfiable                    // 416: there is nothing where it points
)

// maxDisorder is how many ranges may start before the end of the one named before them. A client that has lost a few pieces
// asks in order; one that asks many times for the same bytes wants to make work (RFC 9110 section 14.2).
const maxDisorder = 2

// SelectRange evaluates Range and If-Range of a GET against a stored representation of size bytes with those fields ("" for one
// that it does not have). More than maxRanges ranges are not served. The ranges are as the client ordered them, within
// [0, size). One range costs no allocation where the caller does not keep it.
func SelectRange(rq Request, etag, lastModified, date string, size int64, maxRanges int) ([]ByteRange, RangeResult) {
	return selectRange(make([]ByteRange, 0, 1), &rq, etag, lastModified, date, size, maxRanges) // small enough to be inlined
}

// selectRange is SelectRange; the ranges are appended to dst.
func selectRange(dst []ByteRange, rq *Request, etag, lastModified, date string, size int64, maxRanges int,
) ([]ByteRange, RangeResult) {
	lines := rq.Header["Range"]
	if len(lines) != 1 || rq.Method != http.MethodGet || size <= 0 {
		return nil, RangeWhole
	}
	if !ifRange(rq.Header["If-Range"], etag, lastModified, date) {
		return nil, RangeWhole
	}
	unit, rest, ok := strings.Cut(lines[0], "=")
	if !ok || !strings.EqualFold(trimSpace(unit), "bytes") {
		return nil, RangeWhole
	}
	asked, disorder := 0, 0
	var total int64
	for more := true; more; {
		var spec string
		spec, rest, more = strings.Cut(rest, ",")
		if spec = trimSpace(spec); spec == "" {
			continue
		}
		r, ok := parseRangeSpec(spec, size)
		if asked++; !ok || asked > maxRanges {
			return nil, RangeWhole
		}
		if r.First >= size || r.Last < r.First {
			continue // there is nothing there
		}
		if len(dst) > 0 && r.First <= dst[len(dst)-1].Last {
			disorder++
		}
		total += r.Len()
		if disorder > maxDisorder || total > size {
			return nil, RangeWhole
		}
		dst = append(dst, r)
	}
	switch {
	case asked == 0:
		return nil, RangeWhole
	case len(dst) == 0:
		return nil, RangeUnsatisfiable
	}
	return dst, RangePartial
}

// parseRangeSpec resolves one int-range or suffix-range (RFC 9110 section 14.1.1) against size, which is not zero. A range that
// points at nothing comes back with First at size or more, or with Last before First; false is for a syntax error.
func parseRangeSpec(spec string, size int64) (ByteRange, bool) {
	a, b, ok := strings.Cut(spec, "-")
	if !ok {
		return ByteRange{}, false
	}
	if a == "" {
		n, ok := parseBytes(b)
		return ByteRange{size - min(n, size), size - 1}, ok
	}
	first, ok := parseBytes(a)
	if !ok {
		return ByteRange{}, false
	}
	if b == "" {
		return ByteRange{first, size - 1}, true
	}
	last, ok := parseBytes(b)
	return ByteRange{first, min(last, size-1)}, ok && first <= last
}

// parseBytes parses digits, saturating at the greatest int64.
func parseBytes(v string) (int64, bool) {
	var n int64
	for i := range len(v) {
		c := v[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + int64(c-'0')
	}
	return n, v != ""
}

// ifRange reports whether Range counts: there is no If-Range, or it names exactly what is stored (RFC 9110 section 13.1.5). Both
// tags must be strong. A date is strong only if the response was generated at least a second after it, so that it cannot have
// changed twice within (section 8.8.2.2).
func ifRange(lines []string, etag, lastModified, date string) bool {
	if len(lines) == 0 {
		return true
	}
	value := trimSpace(lines[0])
	if len(lines) > 1 || value == "" {
		return false
	}
	if stronglyEqual(value, etag) {
		return true
	}
	if value != lastModified {
		return false
	}
	modified, okModified := parseDate(lastModified, time.Time{})
	generated, okDate := parseDate(date, time.Time{})
	return okModified && okDate && generated.Sub(modified) >= time.Second
}
