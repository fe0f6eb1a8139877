package policy

import (
	"testing"
	"time"
)

// RFC 9111 section 3: storing responses in caches.
func TestRFC9111Section3Storable(t *testing.T) {
	fresh := "Cache-Control: max-age=60"
	ttl := func(status ...int) *Rule {
		return withRule(func(r *Rule) { r.TTL = ptr(sec(30)); r.match.status = status })
	}
	for _, tt := range []struct {
		name string
		rq   Request
		rs   Response
		rule *Rule
		want Reason
	}{
		{"plain", request("GET"), response(200, fresh), nil, None},
		{"HEAD", request("HEAD"), response(200, fresh), nil, MethodNotStored},
		{"PUT", request("PUT"), response(200, fresh), nil, MethodNotStored},
		{"POST without Content-Location", request("POST"), response(200, fresh), nil, MethodNotStored},
		{"POST, absolute", request("POST"), response(200, fresh, "Content-Location: "+testURL), nil, None},
		{"POST, relative", request("POST"), response(200, fresh, "Content-Location: /a?b=c"), nil, None},
		{"POST, empty", request("POST"), response(200, fresh, "Content-Location: "), nil, None},
		{"POST, default port", request("POST"), response(200, fresh, "Content-Location: HTTPS://Shop.Example:443/a?b=c"), nil, None},
		{"POST, elsewhere", request("POST"), response(200, fresh, "Content-Location: /b"), nil, MethodNotStored},
		{"POST, other host", request("POST"), response(200, fresh, "Content-Location: //evil.example/a?b=c"), nil, MethodNotStored},
		{"POST, no URL", request("POST"), response(200, fresh, "Content-Location: %zz:"), nil, MethodNotStored},
		{"POST, twice", request("POST"), response(200, fresh, "Content-Location: /a?b=c", "Content-Location: /a?b=c"), nil, MethodNotStored},
		{"POST, guessed", request("POST"), response(200, "Last-Modified: @-9000", "Content-Location: "+testURL), nil, MethodNotStored},
		{"POST, not found", request("POST"), response(404, fresh, "Content-Location: "+testURL), nil, MethodNotStored},
		{"POST, partial", request("POST"), response(206, fresh, "Content-Range: bytes 0-1/9", "Content-Location: "+testURL), nil,
			MethodNotStored},

		{"interim", request("GET"), response(103, fresh), nil, StatusNotStored},
		{"101", request("GET"), response(101, fresh), nil, StatusNotStored},
		{"304", request("GET"), response(304, fresh), nil, StatusNotStored},
		{"999", request("GET"), response(999, fresh), nil, StatusNotStored},
		{"unknown success", request("GET"), response(299, fresh), nil, None},
		{"created, explicit", request("GET"), response(201, fresh), nil, None},
		{"created, validator", request("GET"), response(201, `ETag: "a"`), nil, NoFreshness},
		{"created, public", request("GET"), response(201, `ETag: "a"`, "Cache-Control: public"), nil, None},
		{"found, silent", request("GET"), response(302), nil, NoFreshness},

		{"400", request("GET"), response(400, fresh), nil, ErrorStatus},
		{"401", request("GET"), response(401, fresh), nil, ErrorStatus},
		{"429", request("GET"), response(429, fresh), nil, ErrorStatus},
		{"503", request("GET"), response(503, fresh), nil, ErrorStatus},
		{"404", request("GET"), response(404, fresh), nil, None},
		{"405", request("GET"), response(405, fresh), nil, None},
		{"410", request("GET"), response(410, fresh), nil, None},
		{"414", request("GET"), response(414, fresh), nil, None},
		{"501", request("GET"), response(501, fresh), nil, None},
		{"400 ignored", request("GET"), response(400, fresh), ignoring(IgnoreErrorStatus), None},
		{"400 ignored, silent", request("GET"), response(400, `ETag: "a"`), ignoring(IgnoreErrorStatus), NoFreshness},
		{"400 by status and ttl", request("GET"), response(400), ttl(400, 500), None},
		{"428 ignored", request("GET"), response(428, fresh), ignoring(IgnoreErrorStatus), ErrorStatus}, // RFC 6585 section 3
		{"429 ignored", request("GET"), response(429, fresh), ignoring(IgnoreErrorStatus), ErrorStatus}, // section 4
		{"431 ignored", request("GET"), response(431, fresh), ignoring(IgnoreErrorStatus), ErrorStatus}, // section 5
		{"511 ignored", request("GET"), response(511, fresh), ignoring(IgnoreErrorStatus), ErrorStatus}, // section 6
		{"429 by status and ttl", request("GET"), response(429, fresh), ttl(429), ErrorStatus},
		{"400 by another status", request("GET"), response(400), ttl(500), ErrorStatus},

		{"206", request("GET"), response(206, fresh, "Content-Range: bytes 0-4/10"), nil, None},
		{"206, length agrees", request("GET"), response(206, fresh, "Content-Range: bytes 0-4/10", "Content-Length: 5"), nil, None},
		{"206, length contradicts", request("GET"), response(206, fresh, "Content-Range: bytes 4-9/10", "Content-Length: 5"), nil,
			BadContentRange},
		{"206, no range", request("GET"), response(206, fresh), nil, BadContentRange},
		{"206, total unknown", request("GET"), response(206, fresh, "Content-Range: bytes 0-4/*"), nil, BadContentRange},
		{"206, multipart", request("GET"), response(206, fresh, "Content-Type: multipart/byteranges; boundary=a"), nil, BadContentRange},

		{"no-store", request("GET"), response(200, "Cache-Control: max-age=60, no-store"), nil, NoStore},
		{"no-store ignored", request("GET"), response(200, "Cache-Control: max-age=60, no-store"), ignoring(IgnoreNoStore), None},
		{"no-store, must-understand", request("GET"), response(200, "Cache-Control: max-age=60, no-store, must-understand"), nil, None},
		{"no-store, must-understand with an argument", request("GET"), response(200, "Cache-Control: max-age=60, no-store, must-understand=1"),
			nil, NoStore},
		{"no-store, must-understand in doubt", request("GET"), response(200, `Cache-Control: max-age=60, no-store, x="must-understand`),
			nil, NoStore},
		{"must-understand, not understood", request("GET"), response(298, "Cache-Control: max-age=60, must-understand"), nil,
			StatusNotUnderstood},
		{"request no-store", request("GET", "Cache-Control: no-store"), response(200, fresh), ignoring(IgnoreClientReload), RequestNoStore},
		{"private", request("GET"), response(200, "Cache-Control: max-age=60, private"), nil, Private},
		{"private ignored", request("GET"), response(200, "Cache-Control: max-age=60, private"), ignoring(IgnorePrivate), None},
		{"private, fields", request("GET"), response(200, `Cache-Control: max-age=60, private="x"`), nil, None},
		{"private, no fields", request("GET"), response(200, `Cache-Control: max-age=60, private=""`), nil, Private},
		{"ttl does not lift private", request("GET"), response(200, "Cache-Control: private"), ttl(), Private},
		{"ttl does not lift no-store", request("GET"), response(200, "Cache-Control: no-store"), ttl(), NoStore},
		{"ttl", request("GET"), response(200), ttl(), None},
		{"ttl on a redirect", request("GET"), response(302), ttl(), None},
		{"bypass", request("GET"), response(200, fresh), withRule(func(r *Rule) { r.Bypass = true }), Bypass},

		{"Set-Cookie", request("GET"), response(200, fresh, "Set-Cookie: a=b"), nil, SetCookie},
		{"Set-Cookie2", request("GET"), response(200, fresh, "Set-Cookie2: a=b"), nil, SetCookie},
		{"Set-Cookie and ttl", request("GET"), response(200, "Set-Cookie: a=b"), ttl(), SetCookie},
		{"Set-Cookie ignored", request("GET"), response(200, fresh, "Set-Cookie: a=b"), ignoring(IgnoreSetCookie), None},
		{"Set-Cookie stripped", request("GET"), response(200, fresh, "Set-Cookie: a=b"),
			withRule(func(r *Rule) { r.StripCookies = true }), None},
		{"Set-Cookie not stored", request("GET"), response(200, fresh, `Cache-Control: no-cache="set-cookie"`, "Set-Cookie: a=b"), nil, None},

		{"Vary: *", request("GET"), response(200, fresh, "Vary: *"), nil, VaryStar},
		{"Vary may not be stored", request("GET"), response(200, fresh, "Vary: Foo", `Cache-Control: private="vary"`), nil, VaryStar},
		{"Vary is no name", request("GET"), response(200, fresh, "Vary: Accept Encoding"), nil, VaryStar},
		{"Vary on the client's address", request("GET"), response(200, fresh, "Vary: Accept, X-Forwarded-For"), nil, VaryStar},
		{"Vary on Forwarded", request("GET"), response(200, fresh, "Vary: forwarded"), nil, VaryStar},
		{"Vary on a field with an alias", request("GET", "X_Lang: de"), response(200, fresh, "Vary: Accept, X-Lang"), nil, VaryStar},
		{"Vary on an alias", request("GET", "X-Lang: de"), response(200, fresh, "Vary: X_Lang"), nil, VaryStar},
		{"Vary on the alias that is there", request("GET", "X_Lang: de"), response(200, fresh, "Vary: X_Lang"), nil, None},
		{"Vary on another field", request("GET", "X_Lang: de"), response(200, fresh, "Vary: Accept, X-Long"), nil, None},
		{"event stream", request("GET"), response(200, "Content-Type: Text/Event-Stream; charset=utf-8", `ETag: "a"`), nil, EventStream},
		{"event stream, no-cache", request("GET"), response(200, "Content-Type: text/event-stream", "Cache-Control: no-cache"), nil,
			EventStream},
		{"event stream, ttl", request("GET"), response(200, "Content-Type: text/event-stream"), ttl(), EventStream},
		{"event stream, explicit", request("GET"), response(200, "Content-Type: text/event-stream", fresh), nil, None},

		{"nothing", request("GET"), response(200), nil, NoFreshness},
		{"validator only", request("GET"), response(200, `ETag: "a"`), nil, None},
		{"Last-Modified is no date", request("GET"), response(200, "Last-Modified: yesterday"), nil, NoFreshness},
		{"expired, validator", request("GET"), response(200, "Expires: 0", `ETag: "a"`), nil, None},
		{"expired", request("GET"), response(200, "Expires: 0"), nil, NoFreshness},
		{"expired, stale-if-error", request("GET"), response(200, "Expires: 0", "Cache-Control: stale-if-error=60"), nil, None},
		{"expired, stale-while-revalidate", request("GET"), response(200, "Cache-Control: max-age=0, stale-while-revalidate=60"), nil, None},
		{"expired, window over", request("GET"), response(200, "Cache-Control: max-age=1, stale-if-error=60", "Age: 61"), nil, NoFreshness},
		{"expired, rule's window", request("GET"), response(200, "Expires: 0"),
			withRule(func(r *Rule) { r.StaleIfError = ptr(time.Hour) }), None},
		{"no-cache", request("GET"), response(200, "Cache-Control: no-cache, max-age=60"), nil, NoCache},
		{"no-cache ignored", request("GET"), response(200, "Cache-Control: no-cache, max-age=60"), ignoring(IgnoreNoCache), None},
		{"no-cache, validator", request("GET"), response(200, "Cache-Control: no-cache", `ETag: "a"`), nil, None},
		{"no-cache, only a window", request("GET"), response(200, "Cache-Control: no-cache, stale-if-error=60"), nil, NoCache},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rule := tt.rule
			if rule == nil {
				rule = DefaultRule
			}
			if _, got := Storable(tt.rq, tt.rs, rule, testURL, testOptions); got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}

// RFC 9111 section 3.5: storing responses to authenticated requests; and what we ask beyond it of requests with cookies.
func TestRFC9111Section3_5Credentials(t *testing.T) {
	authorized := request("GET", "Authorization: FOO")
	session := request("GET")
	session.Credentials = true
	cookie := request("GET", "Cookie: a=b")
	modified := "Last-Modified: @-10000"
	strip := withRule(func(r *Rule) { r.StripCookies = true })
	defaults := withRule(func(r *Rule) { r.DefaultTTL = ptr(time.Minute) })
	for _, tt := range []struct {
		name string
		rq   Request
		rs   Response
		rule *Rule
		want Reason
	}{
		{"explicit", authorized, response(200, "Cache-Control: max-age=60"), DefaultRule, Authorization},
		{"expires", authorized, response(200, "Expires: @60"), DefaultRule, Authorization},
		{"public", authorized, response(200, "Cache-Control: max-age=60, public"), DefaultRule, None},
		{"s-maxage", authorized, response(200, "Cache-Control: s-maxage=60"), DefaultRule, None},
		{"must-revalidate", authorized, response(200, "Cache-Control: max-age=60, must-revalidate"), DefaultRule, None},
		{"must-revalidate with an argument", authorized, response(200, "Cache-Control: max-age=60, must-revalidate=x"), DefaultRule, Authorization},
		{"must-revalidate in doubt", authorized, response(200, `Cache-Control: max-age=60, x="a, must-revalidate`), DefaultRule, Authorization},
		{"must-revalidate in doubt, public", authorized, response(200, `Cache-Control: public, max-age=60, x="a, must-revalidate`),
			DefaultRule, None},
		{"s-maxage, no number", authorized, response(200, "Cache-Control: s-maxage=a", `ETag: "a"`), DefaultRule, Authorization},
		{"proxy-revalidate", authorized, response(200, "Cache-Control: max-age=60, proxy-revalidate"), DefaultRule, Authorization},
		{"ignored", authorized, response(200, "Cache-Control: max-age=60"), ignoring(IgnoreAuthorization), None},
		{"public, guessed", authorized, response(200, "Cache-Control: public", modified), DefaultRule, Authorization},
		{"ignored, guessed", authorized, response(200, modified), ignoring(IgnoreAuthorization), Authorization},
		{"ignored, nothing", authorized, response(200), ignoring(IgnoreAuthorization), NoFreshness},
		{"session", session, response(200, "Cache-Control: max-age=60"), DefaultRule, Authorization},
		{"session, public", session, response(200, "Cache-Control: max-age=60, public"), DefaultRule, None},
		{"session, guessed", session, response(200, "Cache-Control: public", modified), DefaultRule, Authorization},

		{"cookie, explicit", cookie, response(200, "Cache-Control: max-age=60"), DefaultRule, None},
		{"cookie, guessed", cookie, response(200, modified), DefaultRule, CookieHeuristic},
		{"cookie, public, guessed", cookie, response(200, modified, "Cache-Control: public"), DefaultRule, CookieHeuristic},
		{"cookie, validator only", cookie, response(200, `ETag: "a"`), DefaultRule, CookieHeuristic},
		{"cookie, nothing", cookie, response(200), DefaultRule, NoFreshness},
		{"cookie, no-cache", cookie, response(200, `ETag: "a"`, "Cache-Control: no-cache"), DefaultRule, None},
		{"cookie, stripped", request("GET"), response(200, modified), strip, None},
		{"cookie, forwarded although the rule strips", cookie, response(200, modified), strip, CookieHeuristic},
		{"cookie, default_ttl", cookie, response(200, modified), defaults, CookieHeuristic},
		{"cookie, ttl", cookie, response(200), withRule(func(r *Rule) { r.TTL = ptr(time.Minute) }), None},
		{"default_ttl", request("GET"), response(200), defaults, None},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, got := Storable(tt.rq, tt.rs, tt.rule, testURL, testOptions); got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStorableWithUnreadableURL(t *testing.T) {
	rs := response(200, "Cache-Control: max-age=60", "Content-Location: /")
	if _, got := Storable(request("POST"), rs, DefaultRule, "https://[bad/", testOptions); got != MethodNotStored {
		t.Errorf("reason %q", got)
	}
}

// RFC 9111 section 3.1: storing header and trailer fields.
func TestRFC9111Section3_1StoredHeader(t *testing.T) {
	rs := response(200,
		`Cache-Control: no-cache="a, B", private="c"`, "A: 1", "B: 2", "C: 3", "D: 4", "D: 5", "Age: 7",
		"Connection: e, Keep-Alive, ,F", "E: 6", "F: 7", "Keep-Alive: 5", "Te: x", "Trailer: y", "Transfer-Encoding: chunked",
		"Upgrade: z", "Proxy-Connection: close", "Proxy-Authenticate: Basic", "Proxy-Authentication-Info: i",
		"Proxy-Authorization: j", "Set-Cookie: k=l", "Set-Cookie2: k=l",
	)
	size := len(rs.Header)
	stored := StoredHeader(rs, DefaultRule, testOptions)
	want := header(`Cache-Control: no-cache="a, B", private="c"`, "D: 4", "D: 5", "Date: @0", "Set-Cookie: k=l", "Set-Cookie2: k=l")
	if !equalHeaders(stored, want) {
		t.Errorf("stored %v\nwant %v", stored, want)
	}
	if len(rs.Header) != size {
		t.Error("the response was changed")
	}
	stripped := StoredHeader(rs, withRule(func(r *Rule) { r.StripCookies = true }), testOptions)
	delete(want, "Set-Cookie")
	delete(want, "Set-Cookie2")
	if !equalHeaders(stripped, want) {
		t.Errorf("stripped %v\nwant %v", stripped, want)
	}
	kept := StoredHeader(response(200, "Date: foo"), DefaultRule, testOptions)
	if kept.Get("Date") != "foo" {
		t.Errorf("Date was changed to %q", kept.Get("Date"))
	}
}

func equalHeaders(a, b map[string][]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, values := range a {
		if len(values) != len(b[name]) {
			return false
		}
		for i := range values {
			if values[i] != b[name][i] {
				return false
			}
		}
	}
	return true
}

// RFC 9111 section 5.2.2.3: which statuses are understood.
func TestRFC9111Section5_2_2_3Understood(t *testing.T) {
	for status, want := range map[int]bool{
		200: true, 206: true, 207: false, 299: false, 302: true, 304: false, 306: false, 308: true, 404: true, 418: false, 421: true,
		426: true, 429: true, 451: true, 499: false, 503: true, 506: false, 511: true, 599: false,
	} {
		if understoodStatus(status) != want {
			t.Errorf("%d: %v", status, !want)
		}
	}
}
