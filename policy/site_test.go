package policy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// mustCompile compiles specs that are meant to be right.
func mustCompile(tb testing.TB, specs ...SiteSpec) *Sites {
	tb.Helper()
	sites, errs := CompileSites(specs)
	if errs != nil {
		tb.Fatalf("CompileSites: %v", errs)
	}
	return sites
}

func seconds(n int) *time.Duration {
	d := time.Duration(n) * time.Second
	return &d
}

func TestFindSite(t *testing.T) {
	sites := mustCompile(t,
		SiteSpec{Name: "default"},
		SiteSpec{Hosts: []string{"Shop.Example", "xn--bcher-kva.example"}},
		SiteSpec{Name: "admin", Hosts: []string{"shop.example:8443", "[::1]", "[2001:DB8::1]:8080"}},
		SiteSpec{Name: "wild", Hosts: []string{"*.shop.example"}},
		SiteSpec{Name: "deep", Hosts: []string{"*.eu.shop.example."}},
		SiteSpec{Name: "wildport", Hosts: []string{"*.shop.example:444"}},
	)
	if sites.Len() != 6 {
		t.Errorf("Len %d, want 6", sites.Len())
	}
	tests := []struct{ host, want string }{
		{"shop.example", "Shop.Example"},
		{"SHOP.EXAMPLE", "Shop.Example"},
		{"shop.example:80", "Shop.Example"},
		{"shop.example:", "Shop.Example"},
		{"shop.example.", "Shop.Example"},
		{"shop.example.:81", "Shop.Example"},
		{"xn--bcher-kva.example", "Shop.Example"},
		{"shop.example:8443", "admin"},
		{"Shop.example.:8443", "admin"},
		{"[::1]", "admin"},
		{"[::1]:80", "admin"},
		{"[2001:db8::1]:8080", "admin"},
		{"[2001:db8::1]", "default"},
		{"a.shop.example", "wild"},
		{"a.b.shop.example:1", "wild"},
		{"a.eu.shop.example", "deep"},
		{"eu.shop.example", "wild"},
		{"a.shop.example:444", "wildport"},
		{"a.eu.shop.example:444", "deep"},

		{".shop.example", "default"},
		{"xshop.example", "default"},
		{"shop.example.evil", "default"},
		{"evil@shop.example", "default"},
		{"shop.example@evil", "default"},
		{"shop.example:80:80", "default"},
		{"shop.example:8443:8443", "default"},
		{"shop.example:http", "default"},
		{"shop.example..", "default"},
		{"shop.example/x", "default"},
		{"[::1", "default"},
		{"[::1]x", "default"},
		{"::1", "default"},
		{"", "default"},
		{".", "default"},
		{strings.Repeat("a.", 300) + "shop.example", "default"},
	}
	for _, tt := range tests {
		if got := sites.Find(tt.host); got.Name != tt.want {
			t.Errorf("%q: %s, want %s", tt.host, got.Name, tt.want)
		}
	}
}

func TestFindWithoutDefault(t *testing.T) {
	for name, sites := range map[string]*Sites{
		"nil":       nil,
		"zero":      {},
		"none":      mustCompile(t),
		"only host": mustCompile(t, SiteSpec{Hosts: []string{"shop.example"}}),
	} {
		site := sites.Find("other.example")
		if site == nil || site.Index != -1 || len(site.Rules) != 0 {
			t.Fatalf("%s: %+v", name, site)
		}
		if rule := site.RequestRule(&MatchInput{Method: "GET", Path: "/"}); rule != DefaultRule {
			t.Errorf("%s: rule %+v", name, rule)
		}
		if rule := site.ResponseRule(&MatchInput{Method: "GET", Path: "/"}, 200, "text/html"); rule != DefaultRule {
			t.Errorf("%s: rule %+v", name, rule)
		}
	}
	if n := (*Sites)(nil).Len(); n != 0 {
		t.Errorf("Len of nil: %d", n)
	}
}

func TestValidHost(t *testing.T) {
	valid := []string{"a", "a.example", "a.example.", "A_b.example:8080", "127.0.0.1", "[::1]", "[::1]:443", "[fe80::1%25en-0]", "a:", "a:65535"}
	invalid := []string{
		"", ".", "[]", ":80", "u@a", "u:p@a", "a:80:80", "a:x", "a:65536", "a:99999999999999999999", "::1", "[::1", "[::1]80", "[::1]:80:80", "a/b", `a\b`, "a?b",
		"a#b", "a b", "a\x00", "a%2fb", "[a[b]", "é.example", strings.Repeat("a", 300),
	}
	for _, host := range valid {
		if !ValidHost(host) {
			t.Errorf("%q is not valid", host)
		}
	}
	for _, host := range invalid {
		if ValidHost(host) {
			t.Errorf("%q is valid", host)
		}
	}
}

// TestChooseRule has one rule per condition; want is the index of the request's and of the response's rule.
func TestChooseRule(t *testing.T) {
	rules := []RuleSpec{
		{Match: MatchSpec{Path: "/img/**", ContentType: []string{"image/*", "Application/JSON"}}, TTL: seconds(1)},
		{Match: MatchSpec{Path: "/img/**", Status: []int{404, 500}}, TTL: seconds(2)},
		{Match: MatchSpec{Path: "/img/**"}, TTL: seconds(3)},
		{Match: MatchSpec{Path: "/get", Method: []string{"GET"}}},
		{Match: MatchSpec{Path: "/post", Method: []string{"POST", "PUT"}}},
		{Match: MatchSpec{Query: map[string]string{"pre*": "*", "b": "x*z"}}},
		{Match: MatchSpec{Query: map[string]string{"empty": ""}}},
		{Match: MatchSpec{Header: map[string]string{"x-beta": "*", "X-Lang": "de*"}}},
	}
	site := mustCompile(t, SiteSpec{Rules: rules}).Find("")
	tests := []struct {
		name        string
		in          MatchInput
		status      int
		contentType string
		request     int
		response    int
	}{
		{"type glob", MatchInput{Method: "GET", Path: "/img/a"}, 200, "image/png", 2, 0},
		{"type with parameters", MatchInput{Method: "GET", Path: "/img/a"}, 200, "IMAGE/PNG ; q=1", 2, 0},
		{"type exact, any case", MatchInput{Method: "GET", Path: "/img/a"}, 200, "application/Json", 2, 0},
		{"no type", MatchInput{Method: "GET", Path: "/img/a"}, 200, "", 2, 2},
		{"other type", MatchInput{Method: "GET", Path: "/img/a"}, 200, "text/html", 2, 2},
		{"status", MatchInput{Method: "GET", Path: "/img/a"}, 404, "text/html", 2, 1},
		{"first wins", MatchInput{Method: "GET", Path: "/img/a"}, 500, "image/png", 2, 0},
		{"method", MatchInput{Method: "GET", Path: "/get"}, 200, "", 3, 3},
		{"HEAD is matched by GET", MatchInput{Method: "HEAD", Path: "/get"}, 200, "", 3, 3},
		{"other method", MatchInput{Method: "POST", Path: "/get"}, 200, "", -1, -1},
		{"methods are case-sensitive", MatchInput{Method: "get", Path: "/get"}, 200, "", -1, -1},
		{"one of two methods", MatchInput{Method: "PUT", Path: "/post"}, 200, "", 4, 4},
		{"HEAD is not matched by POST", MatchInput{Method: "HEAD", Path: "/post"}, 200, "", -1, -1},
		{"query", MatchInput{Path: "/", RawQuery: "c&b=xyz&preview"}, 200, "", 5, 5},
		{"query, encoded", MatchInput{Path: "/", RawQuery: "p%72e=1&%62=x+z"}, 200, "", 5, 5},
		{"query, one of several values", MatchInput{Path: "/", RawQuery: "pre&b=1&b=xz"}, 200, "", 5, 5},
		{"query, only one condition", MatchInput{Path: "/", RawQuery: "pre=1"}, 200, "", -1, -1},
		{"query, semicolon is no delimiter", MatchInput{Path: "/", RawQuery: "pre=1;b=xz"}, 200, "", -1, -1},
		{"query, bad encoding is literal", MatchInput{Path: "/", RawQuery: "pre&b=x%zz"}, 200, "", 5, 5},
		{"query, empty value", MatchInput{Path: "/", RawQuery: "empty="}, 200, "", 6, 6},
		{"query, no value", MatchInput{Path: "/", RawQuery: "&&empty"}, 200, "", 6, 6},
		{"query, value not empty", MatchInput{Path: "/", RawQuery: "empty=1"}, 200, "", -1, -1},
		{"header, any line", MatchInput{Path: "/", Header: http.Header{"X-Beta": {""}, "X-Lang": {"en", "de-AT"}}}, 200, "", 7, 7},
		{"header, missing", MatchInput{Path: "/", Header: http.Header{"X-Lang": {"de"}}}, 200, "", -1, -1},
		{"header, other value", MatchInput{Path: "/", Header: http.Header{"X-Beta": {"1"}, "X-Lang": {"en"}}}, 200, "", -1, -1},
	}
	for _, tt := range tests {
		if got := site.RequestRule(&tt.in).Index; got != tt.request {
			t.Errorf("%s: request rule %d, want %d", tt.name, got, tt.request)
		}
		if got := site.ResponseRule(&tt.in, tt.status, tt.contentType).Index; got != tt.response {
			t.Errorf("%s: response rule %d, want %d", tt.name, got, tt.response)
		}
	}
}

func TestCompiledRule(t *testing.T) {
	no := false
	spec := RuleSpec{
		Match: MatchSpec{Status: []int{500, 503}},
		TTL:   seconds(1), DefaultTTL: seconds(2), NegativeTTL: seconds(3), StaleWhileRevalidate: seconds(4), StaleIfError: seconds(0),
		Ignore:       []string{"no-store", "client-reload"},
		Key:          KeySpec{Headers: []string{"x-b", "X-A", "X-B"}, Cookies: []string{"lang"}, Session: []string{"user", "role"}},
		Tags:         []string{"api", "p-{path.1}"},
		StripCookies: true, MaxObject: 9, Compress: "zstd", Collapse: &no,
	}
	r := mustCompile(t, SiteSpec{Rules: []RuleSpec{{}, spec}}).Find("").Rules[1]
	*spec.TTL = time.Hour // the compiled rule has its own
	if r.Index != 1 || *r.TTL != time.Second || *r.DefaultTTL != 2*time.Second || *r.NegativeTTL != 3*time.Second ||
		*r.StaleWhileRevalidate != 4*time.Second || *r.StaleIfError != 0 {
		t.Errorf("durations of %+v", r)
	}
	if r.Ignore != IgnoreNoStore|IgnoreClientReload || !r.Ignore.Has(IgnoreNoStore) || r.Ignore.Has(IgnoreNoStore|IgnorePrivate) {
		t.Errorf("Ignore %b", r.Ignore)
	}
	if !slices.Equal(r.Key.Headers, []string{"X-A", "X-B"}) || !slices.Equal(r.Key.Cookies, []string{"lang"}) ||
		!slices.Equal(r.Key.Session, []string{"role", "user"}) {
		t.Errorf("Key %+v", r.Key)
	}
	if len(r.Tags) != 2 || r.Tags[1].String() != "p-{path.1}" || !r.StripCookies || r.MaxObject != 9 || r.Compress != Zstd || r.Collapse || !r.HasResponsePart {
		t.Errorf("%+v", r)
	}
	if !r.StoresStatus(500) || r.StoresStatus(404) {
		t.Error("StoresStatus is not match.status")
	}
	plain := mustCompile(t, SiteSpec{Rules: []RuleSpec{{Match: MatchSpec{Status: []int{500}}}}}).Find("").Rules[0]
	if plain.StoresStatus(500) || !plain.Collapse || plain.TTL != nil || plain.Key == nil {
		t.Errorf("%+v", plain)
	}
	if DefaultRule.StoresStatus(200) || !DefaultRule.Collapse || DefaultRule.Index != -1 || DefaultRule.Key == nil {
		t.Errorf("%+v", DefaultRule)
	}
}

func TestParseIgnore(t *testing.T) {
	all, err := ParseIgnore([]string{
		"no-store", "private", "no-cache", "set-cookie", "set-cookie-on-304", "authorization", "error-status", "client-reload",
	})
	want := IgnoreNoStore | IgnorePrivate | IgnoreNoCache | IgnoreSetCookie | IgnoreSetCookieOn304 | IgnoreAuthorization |
		IgnoreErrorStatus | IgnoreClientReload
	if err != nil || all != want {
		t.Errorf("%b, %v", all, err)
	}
	if _, err := ParseIgnore([]string{"privat", "no-store", "x"}); err == nil || strings.Count(err.Error(), "unknown") != 2 {
		t.Errorf("error %v, want both unknown words", err)
	}
}

func BenchmarkFind(b *testing.B) {
	specs := []SiteSpec{{}}
	for i := range 100 {
		specs = append(specs, SiteSpec{Hosts: []string{fmt.Sprintf("s%d.example", i), fmt.Sprintf("*.s%d.example", i)}})
	}
	sites := mustCompile(b, specs...)
	for _, host := range []string{"s42.example", "S42.Example:8080", "a.b.s42.example", "other.example"} {
		b.Run(host, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sites.Find(host)
			}
		})
	}
}

// BenchmarkRequestRule matches the last of ten rules.
func BenchmarkRequestRule(b *testing.B) {
	var rules []RuleSpec
	for i := range 9 {
		rules = append(rules, RuleSpec{Match: MatchSpec{Path: fmt.Sprintf("/area%d/**", i)}})
	}
	rules = append(rules, RuleSpec{Match: MatchSpec{
		Path: "/api/*/items/**", Method: []string{"GET"}, Query: map[string]string{"page": "*"}, Header: map[string]string{"X-Beta": "*"},
	}})
	site := mustCompile(b, SiteSpec{Rules: rules}).Find("")
	in := &MatchInput{Method: "GET", Path: "/api/v1/items/17", RawQuery: "sort=asc&page=3", Header: http.Header{"X-Beta": {"1"}}}
	if site.RequestRule(in).Index != 9 {
		b.Fatal("the last rule does not match")
	}
	b.ReportAllocs()
	for b.Loop() {
		site.RequestRule(in)
	}
}

// TestMatchingAllocations holds what runs for every request to no allocation at all.
func TestMatchingAllocations(t *testing.T) {
	sites := mustCompile(t, SiteSpec{Hosts: []string{"a.example", "*.b.example"}, Rules: []RuleSpec{
		{Match: MatchSpec{Path: "/x/*/y", Query: map[string]string{"q": "1*"}, Header: map[string]string{"X-A": "*"}}},
	}})
	in := &MatchInput{Method: "GET", Path: "/x/1/y", RawQuery: "a=2&q=17", Header: http.Header{"X-A": {"1"}}}
	if n := testing.AllocsPerRun(100, func() { sites.Find("A.Example:80").RequestRule(in); sites.Find("x.b.example") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
