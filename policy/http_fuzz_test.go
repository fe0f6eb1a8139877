package policy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// FuzzDirectives: whatever a line says, numbers stay in their bounds, nothing panics, and what forbids cannot be hidden behind it.
func FuzzDirectives(f *testing.F) {
	for _, seed := range []string{
		"max-age=3600, public", `no-cache="a, b", private=c`, `x="max-age=1\", no-store`, "max-age =1; private", "a=\"", "a=\"\\", ",,=,=",
		"max-stale, min-fresh=5", "max-age=99999999999999999999999", "\xff=\"\x00\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		h := http.Header{"Cache-Control": {line}, "Cdn-Cache-Control": {line}}
		check := func(deltas ...Delta) {
			for _, d := range deltas {
				if d.D < 0 || d.D > MaxDelta || !d.Set && d.D != 0 {
					t.Errorf("%q: %+v", line, d)
				}
			}
		}
		rq := ParseRequestDirectives(h)
		check(rq.MaxAge, rq.MinFresh, rq.MaxStale, rq.StaleIfError)
		targeted := ParseResponseDirectives(h, testOptions.Targets)
		check(targeted.MaxAge, targeted.SMaxAge, targeted.StaleWhileRevalidate, targeted.StaleIfError)
		plain := ParseResponseDirectives(h, nil)
		check(plain.MaxAge, plain.SMaxAge, plain.StaleWhileRevalidate, plain.StaleIfError)
		for _, name := range append(plain.NoCacheFields, plain.PrivateFields...) {
			if !isToken(name) || name != http.CanonicalHeaderKey(name) {
				t.Errorf("%q: field name %q", line, name)
			}
		}
		h.Set("Cache-Control", line+", no-store, private, max-age=0")
		if d := ParseResponseDirectives(h, nil); !d.NoStore || !d.Private || !d.MaxAge.Set || d.MaxAge.D != 0 {
			t.Errorf("%q hides what follows: %+v", line, d)
		}
		h.Set("Cache-Control", line)
		h.Add("Cache-Control", "public, s-maxage=7")
		if d := ParseResponseDirectives(h, nil); !d.Public || d.SMaxAge.D > sec(7) || d.NoStore != plain.NoStore || d.NoCache != plain.NoCache {
			t.Errorf("%q changes another line: %+v", line, d)
		}
	})
}

// FuzzVary: normalising twice changes nothing more, and two requests have the same selection only if they mean the same.
func FuzzVary(f *testing.F) {
	f.Add("gzip, br;q=0.5", "BR ; q=0.50,x-gzip", "Accept-Encoding, Foo")
	f.Add(`"a , b", c `, `"a , b",c`, "Foo")
	f.Add("en,de", "de, EN;q=1.0", "accept-language,*")
	f.Add("a\"", "a\" ", "cookie")
	f.Add("", ",", "Foo,Foo,foo")
	f.Fuzz(func(t *testing.T, a, b, vary string) {
		if strings.ContainsAny(a+b, "\r\n\x00") {
			return // no field value
		}
		n := ParseVary(http.Header{"Vary": {vary}})
		if again := ParseVary(http.Header{"Vary": {string(n)}}); again != n {
			t.Errorf("nomination of %q: %q, then %q", vary, n, again)
		}
		for _, name := range []string{"accept-encoding", "accept-language", "foo", "cookie"} {
			x, y := appendNormalised(nil, name, []string{a}), appendNormalised(nil, name, []string{b})
			if again := appendNormalised(nil, name, []string{string(x)}); !bytes.Equal(again, x) {
				t.Errorf("%s %q: %q, then %q", name, a, x, again)
			}
			if bytes.Equal(x, y) && !sameMeaning(name, a, b) {
				t.Errorf("%s: %q and %q are both %q", name, a, b, x)
			}
			if prefix := appendNormalised([]byte("p ,"), name, []string{a}); string(prefix) != "p ,"+string(x) {
				t.Errorf("%s %q: what was there before has changed: %q", name, a, prefix)
			}
		}
		both := Nomination("bar,foo")
		x := both.AppendSelection(nil, http.Header{"Foo": {a}, "Bar": {b}})
		y := both.AppendSelection(nil, http.Header{"Foo": {a}})
		z := both.AppendSelection(nil, http.Header{"Foo": {a, b}})
		if bytes.Equal(x, y) || bytes.Equal(x, z) || len(x) < 4*4+6 {
			t.Errorf("%q %q: %q %q %q", a, b, x, y, z)
		}
		n.AppendSelection(nil, http.Header{"Foo": {a}, "Accept-Encoding": {b}})
	})
}

// sameMeaning is a slow and plain idea of when two values of a field mean the same.
func sameMeaning(name, a, b string) bool {
	if name == "cookie" {
		return strings.Trim(a, " \t") == strings.Trim(b, " \t")
	}
	if name != "foo" {
		x, okA := weights(name, a)
		y, okB := weights(name, b)
		if okA != okB {
			return false
		}
		if okA {
			return fmt.Sprint(x) == fmt.Sprint(y)
		}
	}
	squeeze := strings.NewReplacer(" ", "", "\t", "")
	return squeeze.Replace(a) == squeeze.Replace(b)
}

// weights reads a list of names with weights into a map; false where it is none.
func weights(name, v string) (map[string]float64, bool) {
	m := map[string]float64{}
	for member := range strings.SplitSeq(v, ",") {
		member = strings.Trim(member, " \t")
		if member == "" {
			continue
		}
		what, param, weighted := strings.Cut(member, ";")
		what = strings.ToLower(strings.TrimRight(what, " \t"))
		if name == "accept-encoding" && (what == "x-gzip" || what == "x-compress") {
			what = what[2:]
		}
		q := 1.0
		if weighted {
			param = strings.TrimLeft(param, " \t")
			if len(param) < 3 || param[:2] != "q=" && param[:2] != "Q=" {
				return nil, false
			}
			if _, ok := parseWeight(param[2:]); !ok {
				return nil, false
			}
			if _, err := fmt.Sscanf(strings.TrimSuffix(param[2:], "."), "%g", &q); err != nil {
				return nil, false
			}
		}
		if _, twice := m[what]; twice || !isToken(what) || len(m) == maxPreferences {
			return nil, false
		}
		m[what] = q
	}
	return m, true
}

// FuzzRanges: what is selected lies inside, is not more than the whole, and not more pieces than allowed.
func FuzzRanges(f *testing.F) {
	f.Add("bytes=0-1", `"a"`, int64(11))
	f.Add("bytes=-5, 3-, 7-9", "", int64(10))
	f.Add("bytes=9223372036854775807-9223372036854775807", "", int64(1))
	f.Add("bytes=-9223372036854775808", "x", int64(9223372036854775807))
	f.Fuzz(func(t *testing.T, value, condition string, size int64) {
		h := http.Header{"Range": {value}}
		if condition != "" {
			h["If-Range"] = []string{condition}
		}
		got, result := SelectRange(NewRequest("GET", h), `"a"`, "", "", size, 8)
		if (result == RangePartial) != (len(got) > 0) || len(got) > 8 {
			t.Fatalf("%q of %d: %v %v", value, size, got, result)
		}
		var total int64
		for _, r := range got {
			if r.First < 0 || r.Last < r.First || r.Last >= size {
				t.Errorf("%q of %d: %v", value, size, r)
			}
			total += r.Len()
		}
		if total < 0 || total > max(size, 0) {
			t.Errorf("%q of %d: %d bytes", value, size, total)
		}
	})
}

// FuzzContentRange: what parses is consistent, and is written back to something that parses the same.
func FuzzContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 0-4/10", "bytes 0-4/*", "bytes */10", "bytes 4-0/10", "bytes 0-9223372036854775807/*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v string) {
		first, last, total, ok := ParseContentRange(v)
		if !ok {
			return
		}
		again := fmt.Sprintf("bytes %d-%d/%d", first, last, total)
		switch {
		case first == -1 && last == -1 && total >= 0:
			again = fmt.Sprintf("bytes */%d", total)
		case first < 0 || last < first || total >= 0 && last >= total || last-first+1 <= 0:
			t.Fatalf("%q: %d-%d/%d", v, first, last, total)
		case total == -1:
			again = fmt.Sprintf("bytes %d-%d/*", first, last)
		}
		if a, b, c, ok := ParseContentRange(again); !ok || a != first || b != last || c != total {
			t.Errorf("%q is %q is %d-%d/%d %v", v, again, a, b, c, ok)
		}
	})
}
