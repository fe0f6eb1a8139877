package policy

import (
	"net/http"
	"slices"
	"testing"
)

// RFC 9110 section 14.2: Range, on a representation of 11 bytes where the row does not say otherwise.
func TestRFC9110Section14_2Range(t *testing.T) {
	for _, tt := range []struct {
		value  string
		size   int64
		want   []ByteRange
		result RangeResult
	}{
		{"bytes=0-1", 11, []ByteRange{{0, 1}}, RangePartial},
		{"bytes=1-", 11, []ByteRange{{1, 10}}, RangePartial},
		{"bytes=-1", 11, []ByteRange{{10, 10}}, RangePartial},
		{"bytes=-99", 11, []ByteRange{{0, 10}}, RangePartial},
		{"bytes=5-99", 11, []ByteRange{{5, 10}}, RangePartial},
		{"bytes=5-99999999999999999999999", 11, []ByteRange{{5, 10}}, RangePartial},
		{"Bytes = 0-1", 11, []ByteRange{{0, 1}}, RangePartial},
		{"bytes=0-1, 4-5 ,,\t8-", 11, []ByteRange{{0, 1}, {4, 5}, {8, 10}}, RangePartial},
		{"bytes=-1,0-0", 11, []ByteRange{{10, 10}, {0, 0}}, RangePartial},
		{"bytes=0-0,20-30", 11, []ByteRange{{0, 0}}, RangePartial},

		{"bytes=11-", 11, nil, RangeUnsatisfiable},
		{"bytes=11-12,99-", 11, nil, RangeUnsatisfiable},
		{"bytes=-0", 11, nil, RangeUnsatisfiable},
		{"bytes=99999999999999999999999-", 11, nil, RangeUnsatisfiable},
		{"bytes=0-1", 0, nil, RangeWhole},
		{"bytes=-5", 0, nil, RangeWhole},
		{"bytes=0-1", -1, nil, RangeWhole},

		{"", 11, nil, RangeWhole},
		{"bytes", 11, nil, RangeWhole},
		{"bytes=", 11, nil, RangeWhole},
		{"bytes=,", 11, nil, RangeWhole},
		{"bytes=-", 11, nil, RangeWhole},
		{"bytes=5", 11, nil, RangeWhole},
		{"bytes=5-4", 11, nil, RangeWhole},
		{"bytes=0-1,x", 11, nil, RangeWhole},
		{"bytes=0 -1", 11, nil, RangeWhole},
		{"bytes=0-1x", 11, nil, RangeWhole},
		{"bytes=+0-1", 11, nil, RangeWhole},
		{"bytes=0--1", 11, nil, RangeWhole},
		{"items=0-1", 11, nil, RangeWhole},

		{"bytes=0-0,1-1,2-2,3-3", 11, []ByteRange{{0, 0}, {1, 1}, {2, 2}, {3, 3}}, RangePartial},
		{"bytes=0-0,1-1,2-2,3-3,4-4", 11, nil, RangeWhole}, // more than the four allowed
		{"bytes=0-0,20-,20-,20-,20-", 11, nil, RangeWhole}, // those that hold nothing count too
		{"bytes=0-9,0-9", 11, nil, RangeWhole},             // more bytes than the whole
		{"bytes=0-0,0-0,0-0,0-0", 11, nil, RangeWhole},     // the same again and again
		{"bytes=9-9,7-7,5-5,3-3", 11, nil, RangeWhole},     // backwards
		{"bytes=4-5,2-3,0-1", 11, []ByteRange{{4, 5}, {2, 3}, {0, 1}}, RangePartial},
	} {
		got, result := SelectRange(request("GET", "Range: "+tt.value), "", "", "", tt.size, 4)
		if !slices.Equal(got, tt.want) || result != tt.result {
			t.Errorf("%q of %d: %v %v, want %v %v", tt.value, tt.size, got, result, tt.want, tt.result)
		}
	}
	for name, rq := range map[string]Request{
		"no Range":  request("GET"),
		"HEAD":      request("HEAD", "Range: bytes=0-1"),
		"POST":      request("POST", "Range: bytes=0-1"),
		"two lines": request("GET", "Range: bytes=0-1", "Range: bytes=2-3"),
	} {
		if got, result := SelectRange(rq, "", "", "", 11, 4); got != nil || result != RangeWhole {
			t.Errorf("%s: %v %v", name, got, result)
		}
	}
	if _, result := SelectRange(request("GET", "Range: bytes=0-1"), "", "", "", 11, 0); result != RangeWhole {
		t.Errorf("no ranges allowed: %v", result)
	}
}

// RFC 9110 section 13.1.5: If-Range.
func TestRFC9110Section13_1_5IfRange(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		lines                []string
		etag, modified, date string
		want                 RangeResult
	}{
		{"same tag", []string{`If-Range: "a"`}, `"a"`, "", "", RangePartial},
		{"other tag", []string{`If-Range: "b"`}, `"a"`, "", "", RangeWhole},
		{"weak", []string{`If-Range: W/"a"`}, `W/"a"`, "", "", RangeWhole},
		{"weak is stored", []string{`If-Range: "a"`}, `W/"a"`, "", "", RangeWhole},
		{"unquoted", []string{"If-Range: a"}, "a", "", "", RangeWhole},
		{"nothing stored", []string{`If-Range: "a"`}, "", "", "", RangeWhole},
		{"empty", []string{"If-Range: "}, "", "", "", RangeWhole},
		{"twice", []string{`If-Range: "a"`, `If-Range: "a"`}, `"a"`, "", "", RangeWhole},
		{"date", []string{"If-Range: @-60"}, "", at(-60), at(0), RangePartial},
		{"date, as a tag is there", []string{"If-Range: @-60"}, `"a"`, at(-60), at(0), RangePartial},
		{"later date", []string{"If-Range: @-50"}, "", at(-60), at(0), RangeWhole},
		{"date within the second", []string{"If-Range: @0"}, "", at(0), at(0), RangeWhole},
		{"date, a second before", []string{"If-Range: @-1"}, "", at(-1), at(0), RangePartial},
		{"date, no Date", []string{"If-Range: @-60"}, "", at(-60), "", RangeWhole},
		{"no date", []string{"If-Range: x"}, "", "x", at(0), RangeWhole},
	} {
		rq := request("GET", append(tt.lines, "Range: bytes=0-1")...)
		if _, got := SelectRange(rq, tt.etag, tt.modified, tt.date, 11, 4); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// RFC 9110 section 14.4: Content-Range.
func TestRFC9110Section14_4ContentRange(t *testing.T) {
	for _, tt := range []struct {
		value              string
		first, last, total int64
		ok                 bool
	}{
		{"bytes 0-4/10", 0, 4, 10, true},
		{"BYTES 9-9/10", 9, 9, 10, true},
		{"bytes 0-4/*", 0, 4, -1, true},
		{"bytes */10", -1, -1, 10, true},
		{"bytes */*", 0, 0, 0, false},
		{"bytes 0-10/10", 0, 0, 0, false},
		{"bytes 4-0/10", 0, 0, 0, false},
		{"bytes 0-4", 0, 0, 0, false},
		{"bytes 0/10", 0, 0, 0, false},
		{"bytes -4/10", 0, 0, 0, false},
		{"bytes 0-/10", 0, 0, 0, false},
		{"bytes=0-4/10", 0, 0, 0, false},
		{"bytes  0-4/10", 0, 0, 0, false},
		{"items 0-4/10", 0, 0, 0, false},
		{"bytes 0-4/ten", 0, 0, 0, false},
		{"bytes 0-99999999999999999999/*", 0, 0, 0, false},
		{"bytes 0-4/99999999999999999999", 0, 0, 0, false},
		{"bytes */99999999999999999999", -1, -1, 9223372036854775807, false},
		{"QWERTY", 0, 0, 0, false},
		{"", 0, 0, 0, false},
	} {
		first, last, total, ok := ParseContentRange(tt.value)
		if ok != tt.ok || ok && (first != tt.first || last != tt.last || total != tt.total) {
			t.Errorf("%q: %d-%d/%d %v", tt.value, first, last, total, ok)
		}
	}
}

// RFC 9111 section 3.3: storing incomplete responses.
func TestRFC9111Section3_3PartOf(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		body  int64
		want  Part
		ok    bool
	}{
		{[]string{"Content-Range: bytes 0-4/10"}, 5, Part{ByteRange{0, 4}, 10}, true},
		{[]string{"Content-Range: bytes 4-9/10"}, 5, Part{}, false},
		{[]string{"Content-Range: bytes 0-4/*"}, 5, Part{}, false},
		{[]string{"Content-Range: bytes */10"}, 1, Part{}, false},
		{[]string{"Content-Range: bytes 0-4/10", "Content-Range: bytes 0-4/10"}, 5, Part{}, false},
		{nil, 5, Part{}, false},
	} {
		if got, ok := PartOf(header(tt.lines...), tt.body); got != tt.want || ok != tt.ok {
			t.Errorf("%q, %d bytes: %v %v", tt.lines, tt.body, got, ok)
		}
	}
	part := Part{ByteRange{2, 5}, 10}
	for r, want := range map[ByteRange]bool{{2, 5}: true, {3, 3}: true, {1, 5}: false, {2, 6}: false, {7, 8}: false} {
		if part.Covers(r) != want {
			t.Errorf("%v covers %v: %v", part, r, !want)
		}
	}
}

// RFC 9111 section 3.4: combining partial content.
func TestRFC9111Section3_4Combine(t *testing.T) {
	part := func(first, last, total int64) Part { return Part{ByteRange{first, last}, total} }
	for _, tt := range []struct {
		a, b       Part
		aTag, bTag string
		want       Part
		ok         bool
	}{
		{part(0, 4, 10), part(5, 9, 10), `"a"`, `"a"`, part(0, 9, 10), true},
		{part(5, 9, 10), part(0, 4, 10), `"a"`, `"a"`, part(0, 9, 10), true},
		{part(0, 6, 10), part(5, 7, 10), `"a"`, `"a"`, part(0, 7, 10), true},
		{part(0, 9, 10), part(5, 7, 10), `"a"`, `"a"`, part(0, 9, 10), true},
		{part(0, 3, 10), part(5, 9, 10), `"a"`, `"a"`, Part{}, false},
		{part(5, 9, 10), part(0, 3, 10), `"a"`, `"a"`, Part{}, false},
		{part(0, 4, 10), part(5, 10, 11), `"a"`, `"a"`, Part{}, false},
		{part(0, 4, -1), part(5, 9, -1), `"a"`, `"a"`, Part{}, false},
		{part(0, 4, 10), part(5, 9, 10), `"a"`, `"b"`, Part{}, false},
		{part(0, 4, 10), part(5, 9, 10), `W/"a"`, `W/"a"`, Part{}, false},
		{part(0, 4, 10), part(5, 9, 10), "", "", Part{}, false},
	} {
		if got, ok := Combine(tt.a, tt.aTag, tt.b, tt.bTag); got != tt.want || ok != tt.ok {
			t.Errorf("%v %s and %v %s: %v %v", tt.a, tt.aTag, tt.b, tt.bTag, got, ok)
		}
	}
	for p, want := range map[Part]string{
		part(0, 4, 10): "bytes=5-", part(4, 9, 10): "bytes=0-3", part(3, 5, 10): "", part(0, 9, 10): "", part(0, 4, -1): "",
	} {
		if got, ok := MissingRange(p); got != want || ok != (want != "") {
			t.Errorf("%v: %q %v, want %q", p, got, ok, want)
		}
	}
}

// RFC 9530 section 2: a part has another Content-Digest than the whole, and the same Repr-Digest.
func TestRFC9530Section2ContentDigests(t *testing.T) {
	h := http.Header{"Content-Digest": {"sha-256=:YQ==:"}, "Content-Md5": {"YQ=="}, "Repr-Digest": {"sha-256=:YQ==:"}}
	RemoveContentDigests(h)
	if len(h) != 1 || h["Repr-Digest"] == nil {
		t.Errorf("%v", h)
	}
}
