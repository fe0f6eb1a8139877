package policy

import (
	"reflect"
	"testing"
	"time"
)

func delta(n int) Delta { return Delta{Set: true, D: sec(n)} }

// RFC 9111 sections 5.2.1 and 5.4: request directives and Pragma.
func TestRFC9111Section5_2_1Request(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		want  RequestDirectives
	}{
		{nil, RequestDirectives{}},
		{[]string{"Cache-Control: "}, RequestDirectives{}},
		{[]string{"Cache-Control: nothing-to-see-here", "Pragma: foo"}, RequestDirectives{}},
		{[]string{"Cache-Control: no-cache, no-store,only-if-cached , no-transform"},
			RequestDirectives{NoCache: true, NoStore: true, OnlyIfCached: true, NoTransform: true}},
		{[]string{"Cache-Control: NO-CACHE=x"}, RequestDirectives{NoCache: true}},
		{[]string{"Cache-Control: max-age=1", "Cache-Control: min-fresh=2, max-stale=3, stale-if-error=4"},
			RequestDirectives{MaxAge: delta(1), MinFresh: delta(2), MaxStale: delta(3), StaleIfError: delta(4)}},
		{[]string{"Cache-Control: max-stale"}, RequestDirectives{MaxStale: Delta{Set: true, D: MaxDelta}}},
		{[]string{"Cache-Control: max-stale, max-stale=5"}, RequestDirectives{MaxStale: delta(5)}},
		{[]string{"Cache-Control: max-age=5, max-age=1, max-age=3, min-fresh=2, min-fresh=5, min-fresh=3"},
			RequestDirectives{MaxAge: delta(1), MinFresh: delta(5)}},
		{[]string{"Cache-Control: max-age, max-stale=x, min-fresh=, stale-if-error=-1"}, RequestDirectives{MaxAge: delta(0)}},
		{[]string{"Pragma: no-cache"}, RequestDirectives{NoCache: true}},
		{[]string{"Pragma: foo, No-Cache"}, RequestDirectives{NoCache: true}},
		{[]string{"Pragma: extension"}, RequestDirectives{}},
		{[]string{"Pragma: no-cache", "Cache-Control: max-age=9"}, RequestDirectives{MaxAge: delta(9)}},
	} {
		if got := ParseRequestDirectives(header(tt.lines...)); got != tt.want {
			t.Errorf("%q: %+v", tt.lines, got)
		}
	}
}

// RFC 9111 section 5.2.2: response directives, and what is stricter where they are unclear.
func TestRFC9111Section5_2_2Response(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  ResponseDirectives
	}{
		{"none", nil, ResponseDirectives{}},
		{"all", []string{"Cache-Control: no-store, no-cache, private, public, must-revalidate, proxy-revalidate, must-understand",
			"Cache-Control: no-transform, immutable, max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4"},
			ResponseDirectives{NoStore: true, NoCache: true, Private: true, Public: true, MustRevalidate: true, ProxyRevalidate: true,
				MustUnderstand: true, NoTransform: true, Immutable: true, MaxAge: delta(1), SMaxAge: delta(2),
				StaleWhileRevalidate: delta(3), StaleIfError: delta(4)}},
		{"field names", []string{`Cache-Control: no-cache="a, B" , private="set-cookie",no-cache=c`},
			ResponseDirectives{NoCacheFields: []string{"A", "B", "C"}, PrivateFields: []string{"Set-Cookie"}}},
		{"no field names", []string{`Cache-Control: no-cache="", private=" , "`}, ResponseDirectives{NoCache: true, Private: true}},
		{"not field names", []string{`Cache-Control: no-cache="a b", private="(x)"`}, ResponseDirectives{NoCache: true, Private: true}},
		{"both forms", []string{`Cache-Control: no-cache, no-cache="a"`},
			ResponseDirectives{NoCache: true, NoCacheFields: []string{"A"}}},
		{"arguments where none belong", []string{"Cache-Control: no-store=1, public=1, immutable=yes, must-revalidate=x"},
			ResponseDirectives{NoStore: true, MustRevalidate: true, doubtfulRevalidate: true}},
		{"shorter", []string{"Cache-Control: max-age=5, max-age=3", "Cache-Control: max-age=4"}, ResponseDirectives{MaxAge: delta(3)}},
		{"quoted", []string{`Cache-Control: max-age="5", s-maxage="\7"`}, ResponseDirectives{MaxAge: delta(5), SMaxAge: delta(7)}},
		{"in a quoted string", []string{`Cache-Control: x="no-store, \", private", max-age=5`}, ResponseDirectives{MaxAge: delta(5)}},
		{"empty elements", []string{"Cache-Control: ,, max-age=5,\t, ,public,"}, ResponseDirectives{MaxAge: delta(5), Public: true}},
		{"malformed numbers", []string{"Cache-Control: max-age=-1, s-maxage=1.5, stale-while-revalidate, stale-if-error=''"},
			ResponseDirectives{MaxAge: delta(0), SMaxAge: delta(0), StaleWhileRevalidate: delta(0), StaleIfError: delta(0),
				doubtfulSMaxAge: true}},
		{"whitespace around the equals sign", []string{"Cache-Control: max-age =5"}, ResponseDirectives{MaxAge: delta(0)}},
		{"and after it", []string{"Cache-Control: max-age= 5"}, ResponseDirectives{MaxAge: delta(0)}},

		// After something that is no directive, what permits is not believed any more, and what forbids is.
		{"semicolons", []string{"Cache-Control: public; max-age=5; private"}, ResponseDirectives{Private: true, MaxAge: delta(0)}},
		{"missing comma", []string{"Cache-Control: no-store max-age=5"}, ResponseDirectives{NoStore: true, MaxAge: delta(0)}},
		{"open quote", []string{`Cache-Control: x="a, no-store, max-age=5`}, ResponseDirectives{NoStore: true, MaxAge: delta(0)}},
		{"open quote after escape", []string{`Cache-Control: x="a\`}, ResponseDirectives{}},
		{"open quote of no-cache", []string{`Cache-Control: no-cache="a, b`, "Cache-Control: max-age=5"},
			ResponseDirectives{NoCache: true, MaxAge: delta(5)}},
		{"after a quoted string", []string{`Cache-Control: no-cache="a"b, max-age=5`}, ResponseDirectives{NoCache: true, MaxAge: delta(0)}},
		{"no ASCII", []string{"Cache-Control: \xe2\x80\x9cno-store\xe2\x80\x9d, public"}, ResponseDirectives{NoStore: true}},

		{"Pragma", []string{"Pragma: no-cache"}, ResponseDirectives{NoCache: true}},
		{"Pragma beside Cache-Control", []string{"Pragma: no-cache", "Cache-Control: max-age=5"}, ResponseDirectives{MaxAge: delta(5)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ParseResponseDirectives(header(tt.lines...), testOptions.Targets); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// RFC 9111 section 1.2.2: delta-seconds.
func TestRFC9111Section1_2_2DeltaSeconds(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  time.Duration
		ok    bool
	}{
		{"0", 0, true}, {"007", sec(7), true}, {"2147483647", MaxDelta - time.Second, true}, {"2147483648", MaxDelta, true},
		{"2147483649", MaxDelta, true}, {"999999999999999999999999999", MaxDelta, true},
		{"", 0, false}, {"-1", 0, false}, {"+1", 0, false}, {"1.0", 0, false}, {" 1", 0, false}, {"1a", 0, false},
	} {
		if got, ok := parseDeltaSeconds(tt.value); got != tt.want || ok != tt.ok {
			t.Errorf("%q: %v, %v", tt.value, got, ok)
		}
	}
}

// RFC 9213: targeted cache control.
func TestRFC9213(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  ResponseDirectives
	}{
		{"instead of Cache-Control", []string{"CDN-Cache-Control: max-age=5", "Cache-Control: no-store"},
			ResponseDirectives{MaxAge: delta(5), Targeted: true}},
		{"the most specific", []string{"CDN-Cache-Control: max-age=5", "Cacheproxy-Cache-Control: no-store"},
			ResponseDirectives{NoStore: true, Targeted: true}},
		{"several lines", []string{"CDN-Cache-Control: max-age=5", "CDN-Cache-Control: public"},
			ResponseDirectives{MaxAge: delta(5), Public: true, Targeted: true}},
		{"the last of two members", []string{"CDN-Cache-Control: max-age=5, max-age=9"}, ResponseDirectives{MaxAge: delta(9), Targeted: true}},
		{"parameters", []string{"CDN-Cache-Control: max-age=5;x=y, no-store;z"},
			ResponseDirectives{MaxAge: delta(5), NoStore: true, Targeted: true}},
		{"field names", []string{`CDN-Cache-Control: no-cache="a, b", private=c`},
			ResponseDirectives{NoCacheFields: []string{"A", "B"}, PrivateFields: []string{"C"}, Targeted: true}},
		{"unknown directive", []string{"CDN-Cache-Control: foo"}, ResponseDirectives{Targeted: true}},
		{"false", []string{"CDN-Cache-Control: no-store=?0, private=?1"}, ResponseDirectives{Private: true, Targeted: true}},
		{"String", []string{`CDN-Cache-Control: max-age="5"`}, ResponseDirectives{MaxAge: delta(0), Targeted: true}},
		{"Token", []string{"CDN-Cache-Control: max-age=a"}, ResponseDirectives{MaxAge: delta(0), Targeted: true}},
		{"Decimal", []string{"CDN-Cache-Control: max-age=5.0"}, ResponseDirectives{MaxAge: delta(0), Targeted: true}},
		{"negative", []string{"CDN-Cache-Control: max-age=-5"}, ResponseDirectives{MaxAge: delta(0), Targeted: true}},
		{"no value", []string{"CDN-Cache-Control: max-age"}, ResponseDirectives{MaxAge: delta(0), Targeted: true}},
		{"Inner List", []string{"CDN-Cache-Control: no-cache=(a b)"}, ResponseDirectives{NoCache: true, Targeted: true}},
		{"large", []string{"CDN-Cache-Control: max-age=99999999999"}, ResponseDirectives{MaxAge: Delta{true, MaxDelta}, Targeted: true}},

		{"empty", []string{"CDN-Cache-Control: ", "Cache-Control: max-age=7"}, ResponseDirectives{MaxAge: delta(7)}},
		{"upper case", []string{"CDN-Cache-Control: Max-Age=5", "Cache-Control: max-age=7"}, ResponseDirectives{MaxAge: delta(7)}},
		{"unparsable", []string{"CDN-Cache-Control: max-age=5, &", "Cache-Control: max-age=7"}, ResponseDirectives{MaxAge: delta(7)}},
		{"unparsable, then the next", []string{"Cacheproxy-Cache-Control: =", "CDN-Cache-Control: max-age=5", "Cache-Control: no-store"},
			ResponseDirectives{MaxAge: delta(5), Targeted: true}},
		{"not asked for", []string{"Other-Cache-Control: max-age=5", "Cache-Control: max-age=7"}, ResponseDirectives{MaxAge: delta(7)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ParseResponseDirectives(header(tt.lines...), testOptions.Targets); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
	// Expires does not count beside a targeted field.
	rs := response(200, "CDN-Cache-Control: public", "Expires: @60", `ETag: "a"`)
	if f, reason := Storable(request("GET"), rs, DefaultRule, testURL, testOptions); reason != None || f.Lifetime != 0 {
		t.Errorf("%q, %v", reason, f.Lifetime)
	}
}
