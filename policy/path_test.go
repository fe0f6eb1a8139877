package policy

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

func TestCleanPath(t *testing.T) {
	tests := []struct {
		target    string
		want      string
		ambiguous bool
	}{
		{"/", "/", false},
		{"/a/b", "/a/b", false},
		{"/a/b/", "/a/b/", false},
		{"/A/b", "/A/b", false}, // case is the origin's
		{"/a%20b", "/a b", false},
		{"/caf%C3%A9", "/café", false},
		{"/100%25", "/100%", false},
		{"/wiki/C%23", "/wiki/C#", false},
		{"/.well-known/x", "/.well-known/x", false},
		{"/a/...", "/a/...", false},
		{"/a..b/..c/d..", "/a..b/..c/d..", false},

		// Dot segments and empty ones: read alike by all who remove them.
		{"//", "/", false},
		{"//a", "/a", false},
		{"/a//b///c", "/a/b/c", false},
		{"/a//", "/a/", false},
		{"/a/./b", "/a/b", false},
		{"/a/.", "/a/", false},
		{"/a/b/..", "/a/", false},
		{"/a/b/../", "/a/", false},
		{"/a/../../b", "/b", false},
		{"/..", "/", false},
		{"/a/b/../../c", "/c", false},

		// Read differently by different servers.
		{"/a%2fb", "/a/b", true},
		{"/a%2Fb", "/a/b", true},
		{"/account/..%2fstatic/x.css", "/static/x.css", true},
		{"/a/%2e%2e/b", "/b", true},
		{"/a/%2E/b", "/a/b", true},
		{"/a/.%2e/b", "/b", true},
		{"/v1%2e2/b", "/v1.2/b", false}, // an encoded dot alone is only a dot
		{"/a%5cb", `/a\b`, true},
		{"/a%5Cb", `/a\b`, true},
		{`/a\b`, `/a\b`, true},
		{"/a;b/c", "/a;b/c", true},
		{"/a/..;/b", "/a/..;/b", true},
		{"/a%3bb", "/a;b", true},
		{"/a%00.css", "/a\x00.css", true},
		{"/a%0a.css", "/a\n.css", true},
		{"/a%7f", "/a\x7f", true},
		{"/a%252fb", "/a%2fb", true},
		{"/a%252Fb", "/a%2Fb", true},
		{"/a%252e%252e/b", "/a%2e%2e/b", true},
		{"/a%255cb", "/a%5cb", true},
		{"/a%2500b", "/a%00b", true},
		{"/a%253bb", "/a%3bb", true},
		{"/a%25252fb", "/a%252fb", true},
		{"/a%2541b", "/a%41b", false}, // a letter encoded twice delimits nothing
		{"/a%c0%afb", "/a\xc0\xafb", true},
		{"/a%e9b", "/a\xe9b", false}, // Latin-1

		// Absolute-form (RFC 9112 section 3.2.2) and targets that are no path.
		{"http://h/a/../b", "/b", false},
		{"http://h", "/", false},
		{"http://h?x", "/", false},
		{"*", "*", true},
		{"http:opaque", "*", true},
	}
	for _, tt := range tests {
		u, err := url.ParseRequestURI(tt.target)
		if err != nil {
			t.Errorf("%s: %v", tt.target, err)
			continue
		}
		got, ambiguous := CleanPath(u)
		if got != tt.want || ambiguous != tt.ambiguous {
			t.Errorf("%s: %q, ambiguous %t; want %q, %t", tt.target, got, ambiguous, tt.want, tt.ambiguous)
		}
	}
	if got, ambiguous := CleanPath(&url.URL{Path: "a/b"}); got != "/a/b" || !ambiguous {
		t.Errorf("relative path: %q, ambiguous %t", got, ambiguous)
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/a%2fb", "//a/./%2e%2e/b/", "/a;b", "*", "http://h/x", "/%25%32%66"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		got, ambiguous := CleanPath(u)
		if got == "*" {
			if !ambiguous {
				t.Errorf("%q is not a path and not ambiguous", target)
			}
			return
		}
		if !strings.HasPrefix(got, "/") || strings.Contains(got, "//") {
			t.Fatalf("%q: %q", target, got)
		}
		// The reference: path.Clean, which drops the final slash that RFC 3986 keeps.
		decoded := "/" + strings.TrimPrefix(u.Path, "/")
		want := path.Clean(decoded)
		last := decoded[strings.LastIndexByte(decoded, '/')+1:]
		if want != "/" && (last == "" || last == "." || last == "..") {
			want += "/"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
		raw := strings.ToLower(u.EscapedPath())
		for _, doubtful := range []string{"%2f", "%5c", `\`, "%00", ";", "%3b", "%0a"} {
			if strings.Contains(raw, doubtful) && !ambiguous {
				t.Errorf("%q has %s and is not ambiguous", target, doubtful)
			}
		}
		if again, _ := CleanPath(&url.URL{Path: got}); again != got {
			t.Errorf("%q: cleaned again %q becomes %q", target, got, again)
		}
	})
}

func BenchmarkCleanPath(b *testing.B) {
	for name, target := range map[string]string{"plain": "/api/products/17", "encoded": "/caf%C3%A9/menu", "dots": "/a/../b"} {
		b.Run(name, func(b *testing.B) {
			u, err := url.ParseRequestURI(target)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				CleanPath(u)
			}
		})
	}
}
