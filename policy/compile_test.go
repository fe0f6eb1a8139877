package policy

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCompileMistakes: every mistake is reported at once, at the place where the configuration has it, with what would be right.
func TestCompileMistakes(t *testing.T) {
	negative := -time.Second
	long := strings.Repeat("a", 300)
	specs := []SiteSpec{
		{Rules: []RuleSpec{
			{Key: KeySpec{Query: QuerySpec{Ignore: []string{"ok", ""}, Allow: []string{long + "*"}}}},
			{Tags: []string{"x-{user}", "", "a{", "b}", "{path.0}", "{path.x}", "{header.a b}", long, "{host}-{path.2}-{header.X-Id}"}},
			{Match: MatchSpec{Path: "api", Method: []string{"GET", "get", "FETCH"}, Status: []int{200, 99, 600}, ContentType: []string{"image", "text/html; q=1", "/x"}}},
			{Ignore: []string{"nostore", "private"}, Limit: []string{""}, MaxObject: -1},
			{TTL: &negative, DefaultTTL: &negative, NegativeTTL: &negative, StaleWhileRevalidate: &negative, StaleIfError: &negative},
			{Bypass: true, TTL: seconds(1), StaleIfError: seconds(1)},
		}},
		{Hosts: []string{"", "a.example"}},
		{Hosts: []string{"A.example.", "*", "a*.example", "http://a", "b/c", "u@b", "büro.example", "b:0", "b:x", "b:70000", "b:", "*.*.x", "::1", ".b", "*.a:80:80"}},
		{Rules: []RuleSpec{{Match: MatchSpec{Query: map[string]string{"": "x", "q": long + "*"}, Header: map[string]string{"Host": "x", "X A": "*", "x-b": long + "*"}}}}},
		{Hosts: []string{"z.example"}, Rules: []RuleSpec{
			{},
			{Match: MatchSpec{Status: []int{200}}, RequireSession: true},
			{Match: MatchSpec{ContentType: []string{"text/html"}}, Limit: []string{"a"}},
			{Match: MatchSpec{Status: []int{200}}, Limit: []string{"a"}, RequireSession: true},
			{Match: MatchSpec{Method: []string{"GET"}}, Limit: []string{"a"}},
			{Key: KeySpec{Headers: []string{"X-A", "host", "a:", "x-forwarded-for"}, Cookies: []string{"a;"}, Session: []string{""}}},
		}},
	}
	want := [][2]string{
		{"rules[0].key.query.ignore[1]", "is empty"},
		{"rules[0].key.query.allow[0]", "longer than 255"},
		{"rules[1].tags[0]", "unknown placeholder {user} (known: {path.N}, {host}, {header.Name})"},
		{"rules[1].tags[1]", "is empty"},
		{"rules[1].tags[2]", "unpaired brace"},
		{"rules[1].tags[3]", "unpaired brace"},
		{"rules[1].tags[4]", "from 1"},
		{"rules[1].tags[5]", "from 1"},
		{"rules[1].tags[6]", "unknown placeholder"},
		{"rules[1].tags[7]", "longer than 256"},
		{"rules[2].match.path", "must begin with /"},
		{"rules[2].match.method[1]", `unknown method "get" (known, in capitals: GET, `},
		{"rules[2].match.method[2]", `unknown method "FETCH"`},
		{"rules[2].match.status[1]", "99 is out of range: 100 to 599"},
		{"rules[2].match.status[2]", "600 is out of range"},
		{"rules[2].match.content_type[0]", "no media type"},
		{"rules[2].match.content_type[1]", "without parameters"},
		{"rules[2].match.content_type[2]", "no media type"},
		{"rules[3].ignore[0]", `unknown "nostore" (known: no-store, private, no-cache, set-cookie, set-cookie-on-304, authorization, error-status, client-reload)`},
		{"rules[3].max_object", "must not be negative"},
		{"rules[3].limit[0]", "is empty"},
		{"rules[4].ttl", "must not be negative, is -1s"},
		{"rules[4].default_ttl", "must not be negative"},
		{"rules[4].negative_ttl", "must not be negative"},
		{"rules[4].stale_while_revalidate", "must not be negative"},
		{"rules[4].stale_if_error", "must not be negative"},
		{"rules[5].ttl", "contradicts bypass"},
		{"rules[5].stale_if_error", "contradicts bypass"},
		{"sites[0].hosts[0]", "is empty"},
		{"sites[1].hosts[0]", `"A.example." is named already by sites[0].hosts[1]`},
		{"sites[1].hosts[1]", "default site"},
		{"sites[1].hosts[2]", "first label"},
		{"sites[1].hosts[3]", "without scheme"},
		{"sites[1].hosts[4]", "neither path nor user"},
		{"sites[1].hosts[5]", "neither path nor user"},
		{"sites[1].hosts[6]", "xn--"},
		{"sites[1].hosts[7]", "1 to 65535"},
		{"sites[1].hosts[8]", "not a valid host"},
		{"sites[1].hosts[9]", "not a valid host"},
		{"sites[1].hosts[10]", "1 to 65535"},
		{"sites[1].hosts[11]", "first label"},
		{"sites[1].hosts[12]", "brackets"},
		{"sites[1].hosts[13]", "not a valid host"},
		{"sites[1].hosts[14]", "not a valid host"},
		{"sites[2].hosts", "default site already"},
		{"sites[2].rules[0].match.query.", "name is empty"},
		{"sites[2].rules[0].match.query.q", "value is longer"},
		{"sites[2].rules[0].match.header.Host", "sites[].hosts"},
		{"sites[2].rules[0].match.header.X A", "not a field name"},
		{"sites[2].rules[0].match.header.x-b", "value is longer"},
		{"sites[3].rules[1].require_session", "before there is a response"},
		{"sites[3].rules[2].limit", "cannot depend on match.status or match.content_type: limits are asked before there is a response"},
		{"sites[3].rules[3].limit", "limits are asked before there is a response"},
		{"sites[3].rules[3].require_session", "before there is a response"},
		{"sites[3].rules[5].key.headers[1]", "always part of the key"},
		{"sites[3].rules[5].key.headers[2]", "not a field name"},
		{"sites[3].rules[5].key.headers[3]", "completed as the request is forwarded"},
		{"sites[3].rules[5].key.cookies[0]", "not a cookie's name"},
		{"sites[3].rules[5].key.session[0]", "is empty"},
	}
	sites, errs := CompileSites(specs)
	if sites != nil {
		t.Error("sites in spite of mistakes")
	}
	for i := range max(len(errs), len(want)) {
		switch {
		case i >= len(errs):
			t.Errorf("missing: %s", want[i])
		case i >= len(want):
			t.Errorf("not expected: %v", errs[i])
		case errs[i].Path != want[i][0] || !strings.Contains(errs[i].Err.Error(), want[i][1]):
			t.Fatalf("mistake %d is %q, want %q", i, errs[i], want[i])
		}
	}
}

func TestSpecError(t *testing.T) {
	cause := errors.New("is odd")
	err := SpecError{Path: "rules[0].ttl", Err: cause}
	if err.Error() != "rules[0].ttl: is odd" || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

func TestCompileSiteWithoutRules(t *testing.T) {
	sites := mustCompile(t, SiteSpec{}, SiteSpec{Hosts: []string{"a.example"}})
	if site := sites.Find("a.example"); site.Index != 1 || site.Name != "a.example" || site.Rules != nil {
		t.Errorf("%+v", site)
	}
	if site := sites.Find("b.example"); site.Index != 0 || site.Name != "default" {
		t.Errorf("%+v", site)
	}
}

// TestCompileKeepsSpec: a spec may be compiled again, or changed, without a compiled rule noticing.
func TestCompileKeepsSpec(t *testing.T) {
	spec := SiteSpec{Rules: []RuleSpec{{
		Match: MatchSpec{Method: []string{"GET"}}, Limit: []string{"l"}, Key: KeySpec{Session: []string{"b", "a"}},
	}}}
	rule := mustCompile(t, spec).Find("").Rules[0]
	if !slices.Equal(spec.Rules[0].Key.Session, []string{"b", "a"}) || !slices.Equal(spec.Rules[0].Match.Method, []string{"GET"}) {
		t.Errorf("spec changed: %+v", spec)
	}
	spec.Rules[0].Limit[0], spec.Rules[0].Key.Session[0] = "x", "x"
	if !slices.Equal(rule.Limits, []string{"l"}) || !slices.Equal(rule.Key.Session, []string{"a", "b"}) {
		t.Errorf("rule changed: %+v", rule)
	}
}

// TestCompileLongTTL: durations saturate as delta-seconds do, so that a lifetime and a window add up.
func TestCompileLongTTL(t *testing.T) {
	long := time.Duration(math.MaxInt64)
	rule := mustCompile(t, SiteSpec{Rules: []RuleSpec{{TTL: &long, StaleIfError: &long}}}).Find("").Rules[0]
	f, why := Storable(request("GET"), response(200, `ETag: "a"`), rule, testURL, testOptions)
	if got := f.Retention(t0, long); why != None || f.Lifetime != MaxDelta || got < MaxDelta {
		t.Errorf("%q, fresh for %s, kept for %s", why, f.Lifetime, got)
	}
}
