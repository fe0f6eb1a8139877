package policy

import (
	"net/url"
	"slices"
	"testing"
)

// RFC 9111 section 4.4: invalidating stored responses.
func TestRFC9111Section4_4Invalidates(t *testing.T) {
	for _, tt := range []struct {
		method string
		status int
		want   bool
	}{
		{"GET", 200, false}, {"HEAD", 200, false}, {"OPTIONS", 200, false}, {"TRACE", 200, false}, {"QUERY", 200, false},
		{"PROPFIND", 207, false}, {"REPORT", 200, false}, {"SEARCH", 200, false},
		{"POST", 200, true}, {"PUT", 201, true}, {"DELETE", 204, true}, {"PATCH", 200, true}, {"M-SEARCH", 200, true},
		{"get", 200, true}, {"POST", 303, true},
		{"POST", 100, false}, {"POST", 404, false}, {"PUT", 500, false},
	} {
		if got := Invalidates(tt.method, tt.status); got != tt.want {
			t.Errorf("%s %d: %v", tt.method, tt.status, got)
		}
	}
}

func TestRFC9111Section4_4Targets(t *testing.T) {
	for _, tt := range []struct {
		target string
		lines  []string
		want   []string
	}{
		{"https://shop.example/cart", nil, nil},
		{"https://shop.example/cart", []string{"Location: /items/7", "Content-Location: list?x=1#top"},
			[]string{"https://shop.example/items/7", "https://shop.example/list?x=1"}},
		{"https://shop.example/cart", []string{"Location: /cart", "Content-Location: "}, nil},
		{"https://shop.example/cart", []string{"Location: /a", "Content-Location: https://SHOP.example:443/a"},
			[]string{"https://shop.example/a"}},
		{"https://shop.example/cart", []string{"Location: https://other.example/a"}, nil},
		{"https://shop.example/cart", []string{"Location: http://shop.example/a"}, nil},
		{"https://shop.example/cart", []string{"Location: https://shop.example:8443/a"}, nil},
		{"http://shop.example/cart", []string{"Location: http://shop.example:80"}, []string{"http://shop.example:80"}},
		{"http://shop.example", []string{"Location: /"}, nil},
		{"http://shop.example/", []string{"Location: %zz", "Content-Location: :"}, nil},
		{"http://shop.example/%2F", []string{"Location: /%2f"}, []string{"http://shop.example/%2f"}},
		{"unix://shop.example/a", []string{"Location: /b"}, []string{"unix://shop.example/b"}},
	} {
		target, err := url.Parse(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, u := range InvalidatedTargets(target, header(tt.lines...)) {
			got = append(got, u.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s %q: %q, want %q", tt.target, tt.lines, got, tt.want)
		}
	}
}
