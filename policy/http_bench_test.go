package policy

import (
	"net/http"
	"testing"
)

// hitPath is what every hit asks of the HTTP rules. None of it may allocate.
func hitPath() map[string]func() {
	browser := request("GET", "Accept-Encoding: gzip, deflate, br;q=0.9", "Accept-Language: en-GB,en;q=0.8", "Foo: a, b", "User-Agent: x")
	reload := header("Cache-Control: max-age=0, no-cache", "Pragma: no-cache")
	conditional := request("GET", `If-None-Match: "1234", W/"abcdef"`)
	since := request("GET", "If-Modified-Since: @-3000")
	ranged := request("GET", "Range: bytes=2-5", `If-Range: "abcdef"`)
	f := Freshness{Born: t0, Lifetime: sec(60), Validator: true}
	now, date, modified := after(30), at(0), at(-3000)
	nomination := Nomination("accept-encoding,accept-language,user-agent")
	dst := make([]byte, 0, 512)
	return map[string]func(){
		"ParseRequestDirectives":         func() { _ = ParseRequestDirectives(browser.Header) },
		"ParseRequestDirectives/reload":  func() { _ = ParseRequestDirectives(reload) },
		"Evaluate":                       func() { _ = Evaluate(browser, f, now, DefaultRule) },
		"MayServeIfError":                func() { _ = MayServeIfError(browser.Directives, f, now, DefaultRule) },
		"AppendSelection/none":           func() { dst = Nomination("").AppendSelection(dst[:0], browser.Header) },
		"AppendSelection":                func() { dst = nomination.AppendSelection(dst[:0], browser.Header) },
		"Precondition":                   func() { _ = Precondition(browser, 200, `"abcdef"`, modified, date) },
		"Precondition/If-None-Match":     func() { _ = Precondition(conditional, 200, `"abcdef"`, modified, date) },
		"Precondition/If-Modified-Since": func() { _ = Precondition(since, 200, "", modified, date) },
		"SelectRange/none":               func() { _, _ = SelectRange(browser, `"abcdef"`, modified, date, 11, 4) },
		"SelectRange":                    func() { _, _ = SelectRange(ranged, `"abcdef"`, modified, date, 11, 4) },
		"Freshness.TTL":                  func() { _ = f.TTL(now) },
	}
}

func TestHitPathDoesNotAllocate(t *testing.T) {
	for name, fn := range hitPath() {
		if n := testing.AllocsPerRun(100, fn); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkHitPath(b *testing.B) {
	for name, fn := range hitPath() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fn()
			}
		})
	}
}

// usualMiss is a request and its response as they mostly are.
func usualMiss() (Request, Response) {
	return request("GET", "Accept-Encoding: gzip", "User-Agent: x"),
		response(200, "Date: @0", "Cache-Control: public, max-age=60, stale-while-revalidate=30", "Content-Type: text/html; charset=utf-8",
			"Vary: Accept-Encoding", `ETag: "abcdef"`, "Content-Length: 1024")
}

func TestStorableDoesNotAllocate(t *testing.T) {
	rq, rs := usualMiss()
	if n := testing.AllocsPerRun(100, func() { _, _ = Storable(rq, rs, DefaultRule, testURL, testOptions) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkStorable is what a miss asks.
func BenchmarkStorable(b *testing.B) {
	rq, rs := usualMiss()
	b.ReportAllocs()
	for b.Loop() {
		if _, reason := Storable(rq, rs, DefaultRule, testURL, testOptions); reason != None {
			b.Fatal(reason)
		}
	}
}

// BenchmarkStoredHeader is the other half of it.
func BenchmarkStoredHeader(b *testing.B) {
	rs := response(200, "Date: @0", "Cache-Control: public, max-age=60", "Content-Type: text/html; charset=utf-8",
		"Vary: Accept-Encoding", `ETag: "abcdef"`, "Content-Length: 1024", "Connection: close")
	b.ReportAllocs()
	for b.Loop() {
		var h http.Header = StoredHeader(rs, DefaultRule, testOptions)
		if len(h) == 0 {
			b.Fatal("nothing")
		}
	}
}
