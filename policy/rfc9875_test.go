package policy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// RFC 9875 section 2: Cache-Groups is a List of Strings. Cache-Group-Invalidation (section 3) is read alike.
func TestRFC9875Section2Groups(t *testing.T) {
	least := make([]string, 32) // groups of 32 characters that a cache must support at the least
	quoted := make([]string, 200)
	for i := range quoted {
		quoted[i] = fmt.Sprintf(`"%032d"`, i)
		if i < len(least) {
			least[i] = fmt.Sprintf("%032d", i)
		}
	}
	long := strings.Repeat("a", maxTagLen)
	for _, tt := range []struct {
		name  string
		lines []string
		want  []string
	}{
		{"none", nil, nil},
		{"empty", []string{""}, nil},
		{"one", []string{`"scripts"`}, []string{"scripts"}},
		{"several", []string{`"a", "b c,d" ,"\"\\"`}, []string{"a", "b c,d", `"\`}},
		{"lines", []string{`"a"`, `"b"`}, []string{"a", "b"}},
		{"case", []string{`"a", "A"`}, []string{"a", "A"}},
		{"twice", []string{`"a", "b", "a"`}, []string{"a", "b"}},
		{"parameters", []string{`"a";x;y=1, "b";z="c"`}, []string{"a", "b"}},
		{"the empty group", []string{`"", "a"`}, []string{"a"}},
		{"a token", []string{`"a", b`}, nil},
		{"a number", []string{`1, "a"`}, nil},
		{"bytes", []string{`"a", :YQ==:`}, nil},
		{"an inner list", []string{`"a", ("b")`}, nil},
		{"no end", []string{`"a", "b`}, nil},
		{"a comma at the end", []string{`"a",`}, nil},
		{"malformed line beside a good one", []string{`"a"`, `"`}, nil},
		{"not ASCII", []string{`"ä"`}, nil},
		{"32 of 32", []string{strings.Join(quoted[:32], ", ")}, least},
		{"long", []string{`"` + long + `", "` + long + `a", "b"`}, []string{long, "b"}},
	} {
		if got := InvalidatedGroups(http.Header{"Cache-Group-Invalidation": tt.lines}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		tags, groups := SplitTags(AppendGroups([]string{"tag"}, http.Header{"Cache-Groups": tt.lines}))
		if !slices.Equal(groups, tt.want) || !slices.Equal(tags, []string{"tag"}) {
			t.Errorf("%s: tags %q, groups %q, want %q", tt.name, tags, groups, tt.want)
		}
	}
	if got := AppendGroups(nil, http.Header{"Cache-Groups": quoted}); len(got) != maxTags {
		t.Errorf("of %d groups %d are kept", len(quoted), len(got))
	}
}

func TestSplitTags(t *testing.T) {
	for _, tt := range []struct{ list, tags, groups []string }{
		{nil, nil, nil},
		{[]string{"a", "b"}, []string{"a", "b"}, nil},
		{[]string{GroupTag("a")}, nil, []string{"a"}},
		{[]string{"a", GroupTag("b"), "c", GroupTag("a")}, []string{"a", "c"}, []string{"b", "a"}},
	} {
		before := slices.Clone(tt.list)
		tags, groups := SplitTags(tt.list)
		if !slices.Equal(tags, tt.tags) || !slices.Equal(groups, tt.groups) || !slices.Equal(tt.list, before) {
			t.Errorf("%q: tags %q, groups %q", before, tags, groups)
		}
	}
	if got := MergeTags([]string{"a", GroupTag("a")}, []string{"b", "a", GroupTag("a")}); !slices.Equal(got, []string{"a", GroupTag("a"), "b"}) {
		t.Errorf("merged: %q", got)
	}
}

// RFC 9875 section 2: groups belong to an origin, which is scheme, host and port.
func TestRFC9875Section2Origin(t *testing.T) {
	for url, want := range map[string]string{
		"https://shop.example/":            "https://shop.example",
		"http://shop.example:8080/a?b://c": "http://shop.example:8080",
		"http://[::1]:8080/":               "http://[::1]:8080",
		"http://shop.example?a":            "http://shop.example",
		"http://shop.example#*":            "http://shop.example",
		"":                                 "",
	} {
		if got := (Key{URL: url}).Origin(); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

// FuzzCacheGroups: whatever the field says, what is kept is within bounds and can be told from tags.
func FuzzCacheGroups(f *testing.F) {
	for _, seed := range []string{`"a", "b";x=1`, `"\"", ("a")`, `"a`, "\x00", `"",`, `"a", "a"`} {
		f.Add(seed, "b c")
	}
	f.Fuzz(func(t *testing.T, line, surrogate string) {
		fields, _ := NewTagFields(DefaultTagFields())
		h := http.Header{"Cache-Groups": {line}, "Surrogate-Key": {surrogate}, "Cache-Tag": {surrogate}}
		own := fields.Append(nil, h)
		tags, groups := SplitTags(AppendGroups(slices.Clone(own), h))
		if !slices.Equal(tags, own) || len(tags) > maxTags || len(groups) > maxTags {
			t.Errorf("%q: tags %q, of %q, groups %q", line, tags, own, groups)
		}
		for i, group := range groups {
			if group == "" || len(group) > maxTagLen || slices.Contains(groups[:i], group) {
				t.Errorf("%q: group %q", line, group)
			}
		}
	})
}

func BenchmarkAppendGroups(b *testing.B) {
	h := http.Header{"Cache-Groups": {`"scripts", "shop"`}}
	dst := make([]string, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		AppendGroups(dst, h)
	}
}
