package policy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestAppendTags(t *testing.T) {
	tests := []struct {
		template string
		want     string // "" = no tag
	}{
		{"api", "api"},
		{"product-{path.2}", "product-17"},
		{"{path.1}", "shop"},
		{"{path.3}", "grüße"},
		{"{path.4}", ""}, // the path ends with a slash
		{"{path.5}", ""},
		{"{path.999999999}", ""},
		{"site:{host}", "site:shop.example"},
		{"{header.x-id}/{path.1}", "9/shop"},
		{"{header.X-None}-{path.1}", ""},
		{"{header.X-Empty}", ""},
		{"{header.X-Long}", ""},
	}
	in := &MatchInput{Method: "GET", Path: "/shop/17/grüße/", Header: http.Header{"X-Id": {"request's"}}}
	response := http.Header{"X-Id": {"9"}, "X-Empty": {""}, "X-Long": {strings.Repeat("a", maxTagLen+1)}}
	var all []string
	for _, tt := range tests {
		rule := mustCompile(t, SiteSpec{Rules: []RuleSpec{{Tags: []string{tt.template}}}}).Find("").Rules[0]
		var want []string
		if tt.want != "" {
			want = []string{tt.want}
		}
		if got := rule.AppendTags(nil, in, "Shop.Example.:8080", response); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", tt.template, got, want)
		}
		all = append(all, tt.template)
	}
	rule := mustCompile(t, SiteSpec{Rules: []RuleSpec{{Tags: append(all, "api", "x")}}}).Find("").Rules[0]
	got := rule.AppendTags([]string{"x"}, in, "shop.example", response)
	if want := []string{"x", "api", "product-17", "shop", "grüße", "site:shop.example", "9/shop"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := DefaultRule.AppendTags(nil, in, "a", nil); got != nil {
		t.Errorf("default rule: %q", got)
	}
}

func TestResponseTags(t *testing.T) {
	many := make([]string, 200)
	for i := range many {
		many[i] = fmt.Sprint("t", i)
	}
	long := strings.Repeat("a", maxTagLen)
	tests := []struct {
		name   string
		header http.Header
		want   []string
	}{
		{"none", http.Header{"Content-Type": {"a b"}}, nil},
		{"Surrogate-Key", http.Header{"Surrogate-Key": {" a  b,c\td ", "e"}}, []string{"a", "b,c", "d", "e"}},
		{"xkey", http.Header{"Xkey": {"a b"}}, []string{"a", "b"}},
		{"Cache-Tag", http.Header{"Cache-Tag": {"a, b c ,,d"}}, []string{"a", "b c", "d"}},
		{"all, once each", http.Header{"Surrogate-Key": {"a b a"}, "Xkey": {"b c"}, "Cache-Tag": {"c,d"}}, []string{"a", "b", "c", "d"}},
		{"NUL, which marks a group", http.Header{"Xkey": {"a \x00b c\x00"}}, []string{"a"}},
		{"long", http.Header{"Xkey": {long + " " + long + "a b"}}, []string{long, "b"}},
		{"many", http.Header{"Xkey": {strings.Join(many, " ")}, "Cache-Tag": {"x"}}, many[:maxTags]},
	}
	fields, err := NewTagFields(DefaultTagFields())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		if got := fields.Append(nil, tt.header); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := fields.Append([]string{"a"}, http.Header{"Xkey": {"a b"}}); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("appended: %q", got)
	}
}

func BenchmarkResponseTags(b *testing.B) {
	fields, _ := NewTagFields(DefaultTagFields())
	h := http.Header{"Surrogate-Key": {"product-17 category-3 api"}}
	dst := make([]string, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		fields.Append(dst, h)
	}
}
