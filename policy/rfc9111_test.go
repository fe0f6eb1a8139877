package policy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The tests of the HTTP rules stand in files named after the RFC and the section that they are about. Time is always a value in
// the row; t0 is when a response arrives.

var t0 = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// testURL is the cache URL of every request here.
const testURL = "https://shop.example/a?b=c"

// header builds fields from "Name: value" lines. A value "@N" is the HTTP-date N seconds after t0.
func header(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		if strings.HasPrefix(value, "@") {
			var n int
			if _, err := fmt.Sscanf(value, "@%d", &n); err != nil {
				panic(err)
			}
			value = at(n)
		}
		h.Add(name, value)
	}
	return h
}

// at is the HTTP-date n seconds after t0.
func at(n int) string { return headerDate(t0.Add(time.Duration(n) * time.Second)) }

func request(method string, lines ...string) Request { return NewRequest(method, header(lines...)) }

// response arrives at t0, 200 ms after it was asked for.
func response(status int, lines ...string) Response {
	return Response{
		Status: status, Header: header(lines...),
		RequestTime: t0.Add(-200 * time.Millisecond), ResponseTime: t0,
	}
}

// after returns t0 and n seconds.
func after(n float64) time.Time { return t0.Add(time.Duration(n * float64(time.Second))) }

func sec(n int) time.Duration { return time.Duration(n) * time.Second }

func ptr[T any](v T) *T { return &v }

// withRule is DefaultRule with something else.
func withRule(change func(*Rule)) *Rule {
	r := *DefaultRule
	change(&r)
	return &r
}

func ignoring(bits Ignore) *Rule { return withRule(func(r *Rule) { r.Ignore = bits }) }

var testOptions = StoreOptions{Targets: []string{"Cacheproxy-Cache-Control", "Cdn-Cache-Control"}, Heuristic: true}

// suiteUse is what the cache does with a second request for a response, some seconds after the first.
func suiteUse(rs Response, rule *Rule, wait float64) string {
	f, reason := Storable(request("GET"), rs, rule, testURL, testOptions)
	if reason != None || f.Retention(t0, time.Hour) <= 0 {
		return "not_cached"
	}
	decision := Evaluate(request("GET"), f, after(wait), rule)
	switch {
	case decision.Action == Fresh:
		return "cached"
	case decision.Action == Revalidate && f.Validator:
		return "validated"
	}
	return "not_cached"
}

// TestSuiteFreshness repeats what the public suite http-cache-tests asks about freshness and statuses, by its test ids.
func TestSuiteFreshness(t *testing.T) {
	suite := ignoring(IgnoreSetCookie | IgnoreSetCookieOn304 | IgnoreErrorStatus)
	for _, tt := range []struct {
		id     string
		status int
		lines  []string
		wait   float64
		want   string
	}{
		{"freshness-none", 200, nil, 3, "not_cached"},
		{"freshness-max-age", 200, []string{"Cache-Control: max-age=3600"}, 3, "cached"},
		{"freshness-max-age-0", 200, []string{"Cache-Control: max-age=0"}, 3, "not_cached"},
		{"freshness-max-age-max", 200, []string{"Cache-Control: max-age=2147483648"}, 3, "cached"},
		{"freshness-max-age-max-plus", 200, []string{"Cache-Control: max-age=99999999999"}, 3, "cached"},
		{"freshness-max-age-age", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: 7200"}, 3, "not_cached"},
		{"freshness-max-age-date", 200, []string{"Date: @-7200", "Cache-Control: max-age=3600"}, 3, "not_cached"},
		{"freshness-max-age-expires", 200, []string{"Cache-Control: max-age=3600", "Expires: @-7200", "Date: @0"}, 3, "cached"},
		{"freshness-max-age-expires-invalid", 200, []string{"Cache-Control: max-age=3600", "Expires: 0", "Date: @0"}, 3, "cached"},
		{"freshness-max-age-0-expires", 200, []string{"Expires: @3600", "Cache-Control: max-age=0", "Date: @0"}, 3, "not_cached"},
		{"freshness-max-age-extension", 200, []string{"Cache-Control: foobar, max-age=3600"}, 3, "cached"},
		{"freshness-max-age-case-insenstive", 200, []string{"Cache-Control: MaX-aGe=3600"}, 3, "cached"},
		{"freshness-max-age-negative", 200, []string{"Cache-Control: max-age=-3600"}, 3, "not_cached"},
		{"freshness-s-maxage-shared", 200, []string{"Cache-Control: s-maxage=3600"}, 3, "cached"},
		{"freshness-max-age-s-maxage-shared-longer", 200, []string{"Cache-Control: max-age=3600, s-maxage=1"}, 3, "not_cached"},
		{"freshness-max-age-s-maxage-shared-shorter", 200, []string{"Cache-Control: max-age=1, s-maxage=3600"}, 3, "cached"},
		{"freshness-max-age-s-maxage-shared-shorter-expires", 200,
			[]string{"Expires: @-10", "Cache-Control: max-age=0, s-maxage=3600"}, 3, "cached"},
		{"freshness-max-age-quoted", 200, []string{`Cache-Control: max-age="3600"`}, 3, "cached"},
		{"freshness-max-age-single-quoted", 200, []string{"Cache-Control: max-age='3600'"}, 3, "not_cached"},
		{"freshness-max-age-ignore-quoted", 200, []string{`Cache-Control: extension="max-age=3600", max-age=1`}, 3, "not_cached"},
		{"freshness-max-age-ignore-quoted-rev", 200, []string{`Cache-Control: max-age=1, extension="max-age=3600"`}, 3, "not_cached"},
		{"freshness-max-age-ignore-quoted-all", 200, []string{`Cache-Control: extension="max-age=3600", max-age="1"`}, 3, "not_cached"},
		{"freshness-max-age-leading-zero", 200, []string{"Cache-Control: max-age=003600"}, 3, "cached"},
		{"freshness-max-age-decimal-zero", 200, []string{"Cache-Control: max-age=3600.0"}, 3, "not_cached"},
		{"freshness-max-age-space-before-equals", 200, []string{"Cache-Control: max-age =3600"}, 3, "not_cached"},
		{"freshness-max-age-space-after-equals", 200, []string{"Cache-Control: max-age= 3600"}, 3, "not_cached"},
		{"freshness-max-age-two-fresh-stale-sepline", 200,
			[]string{"Cache-Control: max-age=1800", "Cache-Control: max-age=1"}, 3, "not_cached"},
		{"freshness-max-age-two-stale-fresh-sameline", 200, []string{"Cache-Control: max-age=1, max-age=1800"}, 3, "not_cached"},

		{"age-parse-nonnumeric", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: abc"}, 3, "not_cached"},
		{"age-parse-negative", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: -7200"}, 3, "not_cached"},
		{"age-parse-float", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: 7200.0"}, 3, "not_cached"},
		{"age-parse-suffix", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: 7200,0"}, 3, "not_cached"},
		{"age-parse-prefix", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: 0,7200"}, 3, "cached"},
		{"age-parse-suffix-twoline", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: 7200", "Age: 0"}, 3, "not_cached"},
		{"age-parse-prefix-twoline", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: 0", "Age: 7200"}, 3, "not_cached"},
		{"age-parse-dup-0", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: 0, 0"}, 3, "not_cached"},
		{"age-parse-dup-0-twoline", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: 0", "Age: 0"}, 3, "not_cached"},
		{"age-parse-dup-old", 200, []string{"Date: @0", "Cache-Control: max-age=10000", "Age: 3600, 3600"}, 3, "not_cached"},
		{"age-parse-parameter", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: 7200;foo=bar"}, 3, "not_cached"},
		{"age-parse-numeric-parameter", 200, []string{"Date: @0", "Cache-Control: max-age=3600", "Age: 7200;foo=111"}, 3, "not_cached"},

		{"freshness-expires-future", 200, []string{"Expires: @2592000", "Date: @0"}, 3, "cached"},
		{"freshness-expires-past", 200, []string{"Expires: @-2592000", "Date: @0"}, 3, "not_cached"},
		{"freshness-expires-present", 200, []string{"Expires: @0", "Date: @0"}, 0, "not_cached"},
		{"freshness-expires-old-date", 200, []string{"Expires: @300", "Date: @400"}, 3, "not_cached"},
		{"freshness-expires-invalid", 200, []string{"Expires: 0", "Date: @0"}, 3, "not_cached"},
		{"freshness-expires-invalid-date", 200, []string{"Date: foo", "Expires: @10"}, 0, "cached"},
		{"freshness-expires-age-slow-date", 200, []string{"Date: @-10", "Expires: @10", "Age: 25"}, 0, "not_cached"},
		{"freshness-expires-age-fast-date", 200, []string{"Date: @10", "Expires: @20", "Age: 15"}, 0, "not_cached"},
		{"freshness-expires-rfc850", 200, []string{"Expires: Thursday, 18-Aug-50 02:01:18 GMT", "Date: @0"}, 3, "cached"},
		{"freshness-expires-ansi-c", 200, []string{"Expires: Thu Aug  8 02:01:18 2050", "Date: @0"}, 3, "cached"},
		{"freshness-expires-invalid-utc", 200, []string{"Expires: Thu, 18 Aug 2050 02:01:18 UTC", "Date: @0"}, 3, "not_cached"},
		{"freshness-expires-invalid-multiple-lines", 200, []string{"Expires: @9", "Expires: @9", "Date: @0"}, 0, "not_cached"},

		{"heuristic-200-cached", 200, []string{"Last-Modified: @-86400", "Date: @0"}, 0, "cached"},
		{"heuristic-201-not_cached", 201, []string{"Last-Modified: @-86400", "Date: @0"}, 0, "not_cached"},
		{"heuristic-204-cached", 204, []string{"Last-Modified: @-86400", "Date: @0"}, 0, "cached"},
		{"heuristic-403-not_cached", 403, []string{"Last-Modified: @-86400", "Date: @0"}, 0, "not_cached"},
		{"heuristic-404-cached", 404, []string{"Last-Modified: @-86400", "Date: @0"}, 0, "cached"},
		{"heuristic-414-cached", 414, []string{"Last-Modified: @-86400", "Date: @0"}, 0, "cached"},
		{"heuristic-501-cached", 501, []string{"Last-Modified: @-86400", "Date: @0"}, 0, "cached"},
		{"heuristic-503-not_cached", 503, []string{"Last-Modified: @-86400", "Date: @0"}, 0, "not_cached"},
		{"heuristic-599-not_cached", 599, []string{"Last-Modified: @-86400", "Date: @0"}, 0, "not_cached"},
		{"heuristic-599-cached", 599, []string{"Last-Modified: @-86400", "Date: @0", "Cache-Control: public"}, 0, "cached"},

		{"status-299-fresh", 299, []string{"Expires: @100000", "Last-Modified: @0", "Date: @0"}, 0, "cached"},
		{"status-303-fresh", 303, []string{"Expires: @100000", "Last-Modified: @0", "Date: @0"}, 0, "cached"},
		{"status-400-fresh", 400, []string{"Expires: @100000", "Last-Modified: @0", "Date: @0"}, 0, "cached"},
		{"status-599-fresh", 599, []string{"Expires: @100000", "Last-Modified: @0", "Date: @0"}, 0, "cached"},
		{"status-200-stale", 200, []string{"Expires: @-5000", "Last-Modified: @-100000", "Date: @0"}, 0, "validated"},
		{"status-599-must-understand", 599, []string{"Cache-Control: max-age=3600, must-understand"}, 0, "not_cached"},

		{"cc-resp-private-shared", 200, []string{"Cache-Control: private, max-age=3600"}, 0, "not_cached"},
		{"cc-resp-no-store", 200, []string{"Cache-Control: No-StOrE"}, 0, "not_cached"},
		{"cc-resp-no-store-fresh", 200, []string{"Cache-Control: max-age=10000, no-store", "Expires: @10000"}, 0, "not_cached"},
		{"cc-resp-no-cache", 200, []string{"Cache-Control: max-age=10000, no-cache", "Expires: @10000"}, 0, "not_cached"},
		{"cc-resp-no-cache-revalidate", 200, []string{"Cache-Control: no-cache", `ETag: "abcd"`}, 0, "validated"},
		{"cc-resp-no-cache-revalidate-fresh", 200,
			[]string{"Cache-Control: max-age=10000, no-cache", `ETag: "abcd"`}, 0, "validated"},
		{"cc-resp-must-revalidate-fresh", 200,
			[]string{"Cache-Control: max-age=10000, must-revalidate", `ETag: "abcd"`}, 0, "cached"},
		{"cc-resp-must-revalidate-stale", 200,
			[]string{"Cache-Control: max-age=2, must-revalidate", `ETag: "abcd"`}, 3, "validated"},
		{"pragma-response-no-cache", 200, []string{"Cache-Control: max-age=3600", "Pragma: no-cache"}, 0, "cached"},
		{"pragma-response-no-cache-heuristic", 200, []string{"Last-Modified: @-10000", "Pragma: no-cache"}, 0, "validated"},
		{"other-set-cookie", 200, []string{"Cache-Control: max-age=3600", "Set-Cookie: a=b"}, 0, "cached"},
	} {
		t.Run(tt.id, func(t *testing.T) {
			if got := suiteUse(response(tt.status, tt.lines...), suite, tt.wait); got != tt.want {
				t.Errorf("%q: %s, want %s", tt.lines, got, tt.want)
			}
		})
	}
}
