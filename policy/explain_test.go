package policy

import (
	"net/http"
	"reflect"
	"testing"
)

func TestConditionAsText(t *testing.T) {
	for want, spec := range map[string]MatchSpec{
		"":                              {},
		"path: /api/**, method: [GET]":  {Path: "/api/**", Method: []string{"GET"}},
		`query: {a: "*", b: "1"}`:       {Query: map[string]string{"b": "1", "a": "*"}},
		`header: {X-Beta: ""}`:          {Header: map[string]string{"X-Beta": ""}},
		"status: [200, 404]":            {Status: []int{200, 404}},
		"content_type: [image/*, a/b]":  {ContentType: []string{"image/*", "a/b"}},
		"method: [GET], status: [200]":  {Method: []string{"GET"}, Status: []int{200}},
		"path: /a, content_type: [a/b]": {Path: "/a", ContentType: []string{"a/b"}},
	} {
		sites, errs := CompileSites([]SiteSpec{{Rules: []RuleSpec{{Match: spec}}}})
		if errs != nil {
			t.Fatal(errs)
		}
		if got := sites.Find("").Rules[0].Condition; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestQueryChanges(t *testing.T) {
	for _, tt := range []struct {
		spec    QuerySpec
		query   string
		dropped []string
		sorted  bool
	}{
		{QuerySpec{}, "b=1&a=2", nil, false},
		{QuerySpec{Ignore: []string{"utm_*"}}, "a=1&utm_source=x&utm_id=2", []string{"utm_source=x", "utm_id=2"}, false},
		{QuerySpec{Ignore: []string{"utm_*"}}, "a=1", nil, false},
		{QuerySpec{Allow: []string{"a"}}, "a=1&%62=2", []string{"%62=2"}, false},
		{QuerySpec{Sort: true}, "b=1&a=2", nil, true},
		{QuerySpec{Sort: true}, "a=1&&b=2", nil, false},
		{QuerySpec{Sort: true, Ignore: []string{"c"}}, "b=1&c=3&a=2", []string{"c=3"}, true},
	} {
		sites, errs := CompileSites([]SiteSpec{{Rules: []RuleSpec{{Key: KeySpec{Query: tt.spec}}}}})
		if errs != nil {
			t.Fatal(errs)
		}
		dropped, sorted := sites.Find("").Rules[0].Key.QueryChanges(tt.query)
		if !reflect.DeepEqual(dropped, tt.dropped) || sorted != tt.sorted {
			t.Errorf("%+v of %q: %q %v", tt.spec, tt.query, dropped, sorted)
		}
	}
}

func TestExtrasAreTakenApart(t *testing.T) {
	rule := KeyRule{Headers: []string{"X-Lang", "X-Plan"}, Cookies: []string{"theme"}, Session: []string{"tenant"}}
	header := http.Header{"X-Lang": {"de", "fr:1;"}, "X_lang": {"it"}, "Cookie": {"theme=dark", "a=b"}}
	got := rule.Key("http", "a.example", "/", "", header, map[string]string{"tenant": "x"}).Parts()
	want := []Extra{
		{"header", "X-Lang", []string{"de", "fr:1;"}}, {"header alias", "X_lang", []string{"it"}}, {"header", "X-Plan", nil},
		{"cookie", "theme", []string{"dark"}}, {"cookie line", "", []string{"theme=dark", "a=b"}}, {"session", "tenant", []string{"x"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, broken := range []string{"h", "h3:ab", "h1:a", "h1:a1;", "h1:a1;9:x", "h-1:a1;"} {
		if got := (Key{Extras: broken}).Parts(); got != nil {
			t.Errorf("%q: %q", broken, got)
		}
	}
}
