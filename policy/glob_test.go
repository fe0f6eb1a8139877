package policy

import (
	"strings"
	"testing"
)

func TestPathGlob(t *testing.T) {
	tests := []struct {
		pattern  string
		match    []string
		mismatch []string
	}{
		{"/", []string{"/"}, []string{"/a", ""}},
		{"/a/b", []string{"/a/b"}, []string{"/a", "/a/b/", "/a/B", "/a/bc"}},
		{"/api/**", []string{"/api", "/api/", "/api/x", "/api/x/y"}, []string{"/apix", "/ap", "/v1/api/x"}},
		{"/**", []string{"/", "/a", "/a/b/"}, []string{"*"}},
		{"**", []string{"/", "*", "/a/b"}, nil},
		{"/**/", []string{"/", "/a/", "/a/b/"}, []string{"/a"}},
		{"/a/*", []string{"/a/", "/a/b"}, []string{"/a", "/a/b/c"}},
		{"/a/*/c", []string{"/a/b/c", "/a//c"}, []string{"/a/c", "/a/b/b/c"}},
		{"/*.css", []string{"/a.css", "/.css"}, []string{"/a/b.css", "/a.css/x"}},
		{"/**.css", []string{"/a.css", "/a/b.css", "/.css"}, []string{"/a.css/x", "/a.cs"}},
		{"**.css", []string{"/a.css", "/a/b.css"}, []string{"/a.css2"}},
		{"/a/**/b", []string{"/a/b", "/a/x/b", "/a/x/y/b"}, []string{"/a/xb", "/ab", "/a/b/c"}},
		{"/**/b/**", []string{"/b", "/a/b", "/a/b/c", "/b/c"}, []string{"/ab", "/a/bc"}},
		{"/a/**/**/b", []string{"/a/b", "/a/x/b", "/a/x/y/b"}, []string{"/a/xb"}},
		{"/a***", []string{"/a", "/a/b"}, []string{"/b"}},
		{"/a*b*c", []string{"/abc", "/aXbYc", "/abbcc"}, []string{"/a/bc", "/ab/c", "/acb"}},
		{"/*/**", []string{"/", "/a", "/a/b"}, []string{"a"}},
		{"/a*/**/z*", []string{"/a/z", "/ab/zy", "/ab/c/d/zy"}, []string{"/abz", "/b/z", "/a/z/"}},
		{"/p/**x**", []string{"/p/x", "/p/a/xb/c"}, []string{"/p/", "/p", "/px"}},
	}
	for _, tt := range tests {
		g, err := compilePathGlob(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		for _, s := range tt.match {
			if !g.match(s) {
				t.Errorf("%s does not match %q", tt.pattern, s)
			}
		}
		for _, s := range tt.mismatch {
			if g.match(s) {
				t.Errorf("%s matches %q", tt.pattern, s)
			}
		}
	}
}

func TestValueGlob(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"*", "", true},
		{"*", "a/b", true},
		{"a", "a", true},
		{"a", "A", false},
		{"utm_*", "utm_source", true},
		{"utm_*", "xutm_source", false},
		{"*b*", "abc", true},
		{"*b*", "ac", false},
		{"a*a", "a", false}, // prefix and suffix may not share bytes
		{"a*a", "aa", true},
		{"a**c", "a/b/c", true},
		{"?", "a", false}, // no wildcard
	}
	for _, tt := range tests {
		g, err := compileGlob(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.match(tt.s); got != tt.want {
			t.Errorf("%q matches %q: %t, want %t", tt.pattern, tt.s, got, tt.want)
		}
	}
}

func TestGlobMistakes(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                                  "must begin with /",
		"api/**":                            "must begin with /",
		"*/a":                               "must begin with /",
		"/a/../b":                           "dot segment",
		"/a/.":                              "dot segment",
		"/a//b":                             "empty segment",
		"/a?b=c":                            "match.query",
		"/caf%c3%a9":                        "matched decoded",
		"/*" + strings.Repeat("a", maxGlob): "longer than 255",
	} {
		if _, err := compilePathGlob(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", pattern, err, want)
		}
	}
	if _, err := compileGlob(""); err == nil {
		t.Error("the empty pattern was accepted")
	}
	if _, err := compilePathGlob("/100%"); err != nil {
		t.Errorf("a lone %% is literal: %v", err)
	}
	if _, err := compilePathGlob("/" + strings.Repeat("a", 2*maxGlob)); err != nil {
		t.Errorf("a literal has no bound: %v", err)
	}
}

// TestGlobWords crosses the boundaries of the automaton's words with stars, literals and optional slashes.
func TestGlobWords(t *testing.T) {
	for n := 50; n < 230; n++ {
		fill := strings.Repeat("a", n)
		pattern := "/*" + fill + "*b/**/c**d"
		g, err := compilePathGlob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"/x" + fill + "yb/cd", "/" + fill + "b/x/y/cz/d", "/aaaa" + fill + "b/cd"} {
			if !g.match(s) {
				t.Errorf("%d: no match with %q", n, s)
			}
		}
		for _, s := range []string{"/" + fill[1:] + "b/cd", "/" + fill + "b/xcd", "/" + fill + "/b/cd", "/" + fill + "b/c"} {
			if g.match(s) {
				t.Errorf("%d: match with %q", n, s)
			}
		}
	}
}

// referenceGlob is the definition in the head of glob.go, tried out position by position with a memory of what failed.
type referenceGlob struct {
	pattern, s string
	path       bool
	failed     map[[2]int]bool
}

func (r *referenceGlob) match(p, i int) bool {
	if r.failed[[2]int{p, i}] {
		return false
	}
	if r.try(p, i) {
		return true
	}
	r.failed[[2]int{p, i}] = true
	return false
}

func (r *referenceGlob) try(p, i int) bool {
	if p == len(r.pattern) {
		return i == len(r.s)
	}
	rest := r.pattern[p:]
	if r.path && strings.HasPrefix(rest, "/**") {
		end := p + 1 + len(rest[1:]) - len(strings.TrimLeft(rest[1:], "*"))
		if (end == len(r.pattern) || r.pattern[end] == '/') && r.match(end, i) {
			return true
		}
	}
	if rest[0] != '*' {
		return i < len(r.s) && r.s[i] == rest[0] && r.match(p+1, i+1)
	}
	end := p + len(rest) - len(strings.TrimLeft(rest, "*"))
	for j := i; ; j++ {
		if r.match(end, j) {
			return true
		}
		if j == len(r.s) || r.path && end == p+1 && r.s[j] == '/' {
			return false
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("/api/**", "/api/x", true)
	f.Add("/a/**/b*c/**", "/a/x/bc/d", true)
	f.Add("*a*b", "aab", false)
	f.Add("/**/**/a***/", "/x/a/", true)
	f.Add("**/*"+strings.Repeat("ab", 40)+"*/**", "/"+strings.Repeat("ab", 41), true)
	f.Fuzz(func(t *testing.T, pattern, s string, path bool) {
		if len(s) > 1000 {
			return
		}
		g, err := newGlob(pattern, path)
		if err != nil {
			return
		}
		ref := referenceGlob{pattern: pattern, s: s, path: path, failed: map[[2]int]bool{}}
		if got, want := g.match(s), ref.match(0, 0); got != want {
			t.Errorf("pattern %q (path %t) matches %q: %t, want %t", pattern, path, s, got, want)
		}
	})
}

func BenchmarkGlob(b *testing.B) {
	long := "/" + strings.Repeat("a", 1<<15) + "c"
	for _, bb := range []struct{ name, pattern, s string }{
		{"literal", "/a/b", "/a/b"},
		{"tree", "/api/**", "/api/products/17"},
		{"suffix", "/**.css", "/static/main.css"},
		{"states", "/shop/*/item/*", "/shop/berlin/item/17"},
		{"hostile", "/**a*b**a*c", long},
	} {
		b.Run(bb.name, func(b *testing.B) {
			g, err := compilePathGlob(bb.pattern)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				g.match(bb.s)
			}
		})
	}
}

// The exported form is a value glob.
func TestGlobForOthers(t *testing.T) {
	g, err := CompileGlob("shop.example/a*?x=*")
	if err != nil {
		t.Fatal(err)
	}
	if !g.Match("shop.example/a/b?x=1") || g.Match("shop.example/a/b") {
		t.Error("it matches something else than it says")
	}
	if n := testing.AllocsPerRun(100, func() { g.Match("shop.example/a/b?x=1") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if g, err := CompileGlob(""); err == nil || g != nil {
		t.Errorf("an empty pattern: %v, %v", g, err)
	}
}
