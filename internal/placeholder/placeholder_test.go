package placeholder

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// bare is text as it is; braced is a placeholder with its braces back.
func bare(text string) string            { return text }
func braced(name string) (string, error) { return "{" + name + "}", nil }

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		source string
		want   []string
		err    string
	}{
		{source: "api", want: []string{"api"}},
		{source: "{host}", want: []string{"{host}"}},
		{source: "a-{path.2}{v}/z", want: []string{"a-", "{path.2}", "{v}", "/z"}},
		{source: "{}", want: []string{"{}"}},
		{source: "{a{b}", want: []string{"{a{b}"}},
		{source: "", err: "is empty"},
		{source: "12345678901234567", err: "is longer than 16 bytes"},
		{source: "a\x00", err: "has a NUL"},
		{source: "a{b", err: `"a{b" has an unpaired brace`},
		{source: "a}b", err: `"a}b" has an unpaired brace`},
		{source: "{a}}", err: `"{a}}" has an unpaired brace`},
	} {
		got, err := Parse(tt.source, 16, bare, braced)
		if said := errorText(err); said != tt.err || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, %q", tt.source, got, said)
		}
	}
	unknown := errors.New("unknown")
	if _, err := Parse("a{b}c{", 16, bare, func(string) (string, error) { return "", unknown }); err != unknown {
		t.Errorf("%v instead of what named says", err)
	}
}

func TestNumbered(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    int
		ok   bool
		err  string
	}{
		{name: "path.1", n: 1, ok: true},
		{name: "path.20", n: 20, ok: true},
		{name: "path"},
		{name: "paths.1"},
		{name: "path.", ok: true, err: "{path.} must number a segment from 1: {path.2}"},
		{name: "path.0", ok: true, err: "{path.0} must number a segment from 1: {path.2}"},
		{name: "path.x", ok: true, err: "{path.x} must number a segment from 1: {path.2}"},
		{name: "path.99999999999999999999", ok: true, err: "{path.99999999999999999999} must number a segment from 1: {path.2}"},
	} {
		n, ok, err := Numbered(tt.name, "path", "a segment")
		if said := errorText(err); n != tt.n || ok != tt.ok || said != tt.err {
			t.Errorf("%s: %d, %t, %q", tt.name, n, ok, said)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// FuzzParse: the parts are the source, text has no braces and is never beside text, and nothing is refused without a reason.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"api", "product-{path.2}", "{a}{b}", "{a", "a}", "{}", "{a{b}", "é\x00", ""} {
		f.Add(seed)
	}
	const most = 64
	f.Fuzz(func(t *testing.T, source string) {
		parts, err := Parse(source, most, bare, braced)
		if err != nil {
			if source != "" && len(source) <= most && !strings.ContainsAny(source, "\x00{}") {
				t.Errorf("%q: %v", source, err)
			}
			return
		}
		if got := strings.Join(parts, ""); got != source || strings.Contains(got, "\x00") || len(got) > most {
			t.Errorf("%q became %q", source, parts)
		}
		for i, p := range parts {
			text := !strings.HasPrefix(p, "{")
			if p == "" || text && (strings.ContainsAny(p, "{}") || i > 0 && !strings.HasPrefix(parts[i-1], "{")) {
				t.Errorf("%q became %q", source, parts)
			}
		}
	})
}
