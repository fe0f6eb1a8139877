package policy

import (
	"net/http"
	"testing"
)

// RFC 9111 section 4.3.1: sending a validation request.
func TestRFC9111Section4_3_1SetConditionals(t *testing.T) {
	h := header(`If-None-Match: "client"`, "If-Modified-Since: @0", `If-Match: "x"`, "If-Unmodified-Since: @0", `If-Range: "y"`,
		"Range: bytes=0-1", "Abc: 123")
	SetConditionals(h, `W/"a"`, at(-5))
	if want := header(`If-None-Match: W/"a"`, "If-Modified-Since: @-5", "Abc: 123"); !equalHeaders(h, want) {
		t.Errorf("%v", h)
	}
	SetConditionals(h, "", at(-6))
	if want := header("If-Modified-Since: @-6", "Abc: 123"); !equalHeaders(h, want) {
		t.Errorf("%v", h)
	}
	SetConditionals(h, "unquoted", "")
	if want := header("If-None-Match: unquoted", "Abc: 123"); !equalHeaders(h, want) {
		t.Errorf("%v", h)
	}
	if !ClearConditionals(h) || ClearConditionals(h) || len(h) != 1 {
		t.Errorf("%v", h)
	}
}

// RFC 9111 section 4.3.4: freshening stored responses upon validation.
func TestRFC9111Section4_3_4Freshens(t *testing.T) {
	for _, tt := range []struct {
		name        string
		stored, new []string
		want        bool
	}{
		{"same tag", []string{`ETag: "a"`}, []string{`ETag: "a"`}, true},
		{"same tag, weak", []string{`ETag: "a"`}, []string{`ETag: W/"a"`}, true},
		{"same tag, other date", []string{`ETag: "a"`, "Last-Modified: @1"}, []string{`ETag: "a"`, "Last-Modified: @2"}, true},
		{"other tag", []string{`ETag: "a"`}, []string{`ETag: "b"`}, true},
		{"other tag, same date", []string{`ETag: "a"`, "Last-Modified: @1"}, []string{`ETag: "b"`, "Last-Modified: @1"}, true},
		{"other tag, other date", []string{`ETag: "a"`, "Last-Modified: @1"}, []string{`ETag: "b"`, "Last-Modified: @2"}, false},
		{"tag is new", []string{"Last-Modified: @1"}, []string{`ETag: "b"`}, false},
		{"tag is new, same date", []string{"Last-Modified: @1"}, []string{`ETag: "b"`, "Last-Modified: @1"}, true},
		{"tag is new, other date", []string{"Last-Modified: @1"}, []string{`ETag: "b"`, "Last-Modified: @2"}, false},
		{"no validators", []string{`ETag: "a"`, "Last-Modified: @1"}, nil, true},
		{"same date", []string{"Last-Modified: @1"}, []string{"Last-Modified: @1"}, true},
		{"other date", []string{"Last-Modified: @1"}, []string{"Last-Modified: @2"}, false},
	} {
		if got := Freshens(header(tt.stored...), header(tt.new...)); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// RFC 9111 section 3.2: updating stored header fields; the fields are those of the suite's update304.
func TestRFC9111Section3_2Freshen(t *testing.T) {
	for _, tt := range []struct {
		name    string
		a, b    string
		updates bool
	}{
		{"Test-Header", "a", "b", true},
		{"Content-Foo", "a", "b", true},
		{"Cache-Control", "max-age=1", "max-age=3600", true},
		{"Content-Encoding", "a", "b", false},
		{"Content-Length", "5", "10", false},
		{"Content-Location", "/foo", "/bar", true},
		{"Content-MD5", "a", "b", false},
		{"Content-Digest", "a", "b", false},
		{"Content-Range", "a", "b", false},
		{"Content-Type", "text/plain", "text/plain;charset=utf-8", true},
		{"ETag", `"abcdef"`, `"ghijkl"`, false},
		{"Last-Modified", at(-9), at(-8), true},
		{"Expires", at(9), at(8), true},
		{"Set-Cookie", "a=b", "a=c", true},
		{"Set-Cookie2", "a=b", "a=c", true},
	} {
		suite := ignoring(IgnoreSetCookie | IgnoreSetCookieOn304)
		stored, update := header(tt.name+": "+tt.a, "Other: kept"), header(tt.name+": "+tt.b)
		got := Freshen(stored, update, suite, testOptions, t0)
		want := tt.a
		if tt.updates {
			want = tt.b
		}
		if got.Get(tt.name) != want || got.Get("Other") != "kept" || got.Get("Date") != at(0) {
			t.Errorf("%s: %v, want %q", tt.name, got, want)
		}
		if stored.Get(tt.name) != tt.a || update.Get(tt.name) != tt.b {
			t.Errorf("%s: an argument was changed", tt.name)
		}
	}
	got := Freshen(header("A: 1", "B: 1", "C: 1", "Set-Cookie: a=1", "Date: @-50", "Last-Modified: @-60"),
		header(`Cache-Control: no-cache="a", private="b"`, "Connection: c", "A: 2", "B: 2", "C: 2", "Set-Cookie: a=2", "Age: 9",
			"Keep-Alive: 3", "Date: @-1", `ETag: "new"`), DefaultRule, testOptions, t0)
	want := header("A: 1", "B: 1", "C: 1", "Set-Cookie: a=1", "Last-Modified: @-60",
		`Cache-Control: no-cache="a", private="b"`, "Date: @-1", `ETag: "new"`)
	if !equalHeaders(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, rule := range []*Rule{DefaultRule, ignoring(IgnoreSetCookie), ignoring(IgnoreSetCookieOn304)} {
		if got := Freshen(header(), header("Set-Cookie: a=2"), rule, testOptions, t0); got.Get("Set-Cookie") != "" {
			t.Errorf("a 304 added a cookie under ignore %b", rule.Ignore)
		}
	}
}

func TestRefreshed(t *testing.T) {
	stored := header("Cache-Control: max-age=2", "Date: @-100", `ETag: "a"`, "Content-Length: 5", "A: 1")
	for _, tt := range []struct {
		name     string
		rq       Request
		status   int
		update   []string
		lifetime int
		age      float64
		reason   Reason
	}{
		{"says nothing", request("GET"), 200, nil, 2, 0.2, None},
		{"longer", request("GET"), 200, []string{"Cache-Control: max-age=9", "Date: @0"}, 9, 0.2, None},
		{"older", request("GET"), 200, []string{"Age: 1"}, 2, 1.2, None},
		{"HEAD", request("HEAD"), 200, []string{"Cache-Control: max-age=9"}, 9, 0.2, None},
		{"no-store", request("GET"), 200, []string{"Cache-Control: no-store"}, 0, 0, NoStore},
		{"Vary: *", request("GET"), 200, []string{"Vary: *"}, 0, 0, VaryStar},
		{"error", request("GET"), 400, nil, 0, 0, ErrorStatus},
	} {
		h, f, reason := Refreshed(tt.rq, tt.status, stored, response(304, tt.update...), DefaultRule, testURL, testOptions)
		if reason != tt.reason {
			t.Errorf("%s: %q, want %q", tt.name, reason, tt.reason)
			continue
		}
		if reason != None {
			continue
		}
		if f.Lifetime != sec(tt.lifetime) || f.Age(t0) != after(tt.age).Sub(t0) {
			t.Errorf("%s: lifetime %v, age %v", tt.name, f.Lifetime, f.Age(t0))
		}
		if h.Get("Age") != "" || h.Get("A") != "1" || h.Get("Content-Length") != "5" || h.Get("Date") != at(0) {
			t.Errorf("%s: %v", tt.name, h)
		}
	}
}

// RFC 9111 section 4.3.5: freshening responses with HEAD.
func TestRFC9111Section4_3_5HeadUpdates(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		stored []string
		headed int
		head   []string
		want   HeadEffect
	}{
		{"no validators", 200, nil, 200, nil, HeadFreshens},
		{"same", 200, []string{`ETag: "a"`, "Content-Length: 5"}, 200, []string{`ETag: "a"`, "Content-Length: 5"}, HeadFreshens},
		{"other tag", 200, []string{`ETag: "a"`}, 200, []string{`ETag: "b"`}, HeadInvalidates},
		{"new tag", 200, nil, 200, []string{`ETag: "b"`}, HeadInvalidates},
		{"other date", 200, []string{"Last-Modified: @1"}, 200, []string{"Last-Modified: @2"}, HeadInvalidates},
		{"other length", 200, []string{"Content-Length: 5"}, 200, []string{"Content-Length: 6"}, HeadInvalidates},
		{"length not known", 200, nil, 200, []string{"Content-Length: 6"}, HeadInvalidates},
		{"length not known, same tag", 200, []string{`ETag: "a"`}, 200, []string{`ETag: "a"`, "Content-Length: 6"}, HeadFreshens},
		{"part, same total", 206, []string{"Content-Range: bytes 0-1/9", "Content-Length: 2"}, 200, []string{"Content-Length: 9"},
			HeadFreshens},
		{"part, other total", 206, []string{"Content-Range: bytes 0-1/9", "Content-Length: 2"}, 200, []string{"Content-Length: 2"},
			HeadInvalidates},
		{"was an error", 404, nil, 200, nil, HeadInvalidates},
		{"gone", 200, nil, 410, nil, HeadInvalidates},
		{"still gone", 410, nil, 410, nil, HeadNothing},
		{"server error", 200, nil, 503, nil, HeadNothing},
		{"304", 200, []string{`ETag: "a"`}, 304, []string{`ETag: "a"`}, HeadNothing},
	} {
		if got := HeadUpdates(tt.status, header(tt.stored...), tt.headed, header(tt.head...)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// RFC 9110 section 7.6.1: Connection.
func TestRFC9110Section7_6_1HopByHop(t *testing.T) {
	h := header("Connection: a, B", "Connection: close", "A: 1", "B: 2", "C: 3", "Te: trailers", "Upgrade: h2c")
	RemoveHopByHop(h)
	if want := header("C: 3"); !equalHeaders(h, want) {
		t.Errorf("%v", h)
	}
	RemoveHopByHop(http.Header{})
}
