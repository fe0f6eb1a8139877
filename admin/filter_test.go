package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// passing are requests of all kinds, by the names that TestFilters uses.
var passing = []struct {
	name string
	Passed
}{
	{"hit", Passed{true, "hit", "", "GET", "shop.example/a?x=1", 200, netip.MustParseAddr("192.0.2.1"), "near", 20 * time.Microsecond}},
	{"stale", Passed{true, "hit-stale", "stale-while-revalidate", "GET", "shop.example/api/b", 200, netip.MustParseAddr("192.0.2.2"), "redis", time.Millisecond}},
	{"miss", Passed{false, "uri-miss", "set-cookie", "GET", "other.example/a", 404, netip.MustParseAddr("198.51.100.1"), "none", 250 * time.Millisecond}},
	{"post", Passed{false, "method", "method", "POST", "shop.example/api/b", 502, netip.MustParseAddr("2001:db8::1"), "none", 3 * time.Second}},
	{"gone", Passed{false, "error", "upstream-failed", "GET", "shop.example/long/way", 0, netip.Addr{}, "none", time.Minute}},
}

// The same parameters choose among what passes and among what is kept of what was no hit.
func TestFilters(t *testing.T) {
	for _, tt := range []struct{ query, want string }{
		{"", "hit stale miss post gone"},
		{"outcome=hit", "hit"},
		{"outcome=hit-stale&outcome=error", "stale gone"},
		{"reason=set-cookie", "miss"},
		{"status=200", "hit stale"},
		{"status=5XX&status=404", "miss post"},
		{"status=400-499", "miss"},
		{"status=0", "gone"},
		{"url=shop.example/api/*", "stale post"},
		{"url=*", "hit stale miss post gone"},
		{"url=/a", "miss"},
		{"url=/a*", "hit stale miss post"},
		{"url=/a?x=1", "hit"},
		{"url=*/a&url=/long/*", "miss gone"},
		{"method=post", "post"},
		{"client=192.0.2.1", "hit"},
		{"client=::ffff:192.0.2.1", "hit"},
		{"client=192.0.2.0/24", "hit stale"},
		{"client=2001:db8::/32", "post"},
		{"tier=none", "miss post gone"},
		{"tier=near&tier=redis", "hit stale"},
		{"min_ms=250", "miss post gone"},
		{"min_ms=.02", "hit stale miss post gone"},
		{"min_ms=1000&method=GET", "gone"},
	} {
		parameters, err := url.ParseQuery(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := parseQuestion(parameters)
		if err != nil {
			t.Errorf("%s: %v", tt.query, err)
			continue
		}
		var live, kept []string
		for i := range passing {
			p := &passing[i]
			if q.filter.match(&p.Passed) {
				live = append(live, p.name)
			}
			back, err := decodePassed(line(&p.Passed))
			if err != nil {
				t.Fatal(err)
			}
			if q.filter.match(back) {
				kept = append(kept, p.name)
			}
		}
		if got := strings.Join(live, " "); got != tt.want {
			t.Errorf("%s lets %s pass, want %s", tt.query, got, tt.want)
		}
		if !slices.Equal(live, kept) {
			t.Errorf("%s chooses %v of what passes and %v of what is kept", tt.query, live, kept)
		}
	}
}

func TestParametersThatAreNone(t *testing.T) {
	for query, want := range map[string]string{
		"outcome=mis":                      `outcome: "mis" is none of hit, hit-stale,`,
		"reason=nostore":                   `reason: "nostore" is none of method, no-store,`,
		"tier=far":                         `tier: "far" is none of near, redis, none`,
		"status=5x":                        "write 200, 5xx or 400-499",
		"status=xx":                        "write 200, 5xx or 400-499",
		"status=0xx":                       "write 200, 5xx or 400-499",
		"status=500-400":                   "write 200, 5xx or 400-499",
		"status=-1":                        "write 200, 5xx or 400-499",
		"url=http://shop.example/a":        "has a scheme",
		"url=":                             "url: the pattern is empty",
		"url=*" + strings.Repeat("a", 300): "url: the pattern is longer than",
		"client=localhost":                 "neither an address nor a network",
		"min_ms=-1":                        "no number of milliseconds",
		"min_ms=NaN":                       "no number of milliseconds",
		"limit=0":                          "no number of lines",
		"follow=maybe":                     "neither true nor false",
		"follow=false&outcome=hit":         "hits are shown as they pass but are not kept",
		"path=/a":                          "path: is no parameter of this",
	} {
		w := get(NewFeed(), query)
		if w.Code != http.StatusBadRequest || !strings.Contains(wantDetail(t, w), want) {
			t.Errorf("%s: %d %s, want %s", query, w.Code, w.Body, want)
		}
		parameters, _ := url.ParseQuery(query)
		if CheckLog(parameters) == nil {
			t.Errorf("%s: CheckLog has nothing against it", query)
		}
	}
}

func wantDetail(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var p problemDetails
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return p.Detail
}
