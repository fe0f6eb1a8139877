package invalidation

import (
	"slices"
	"testing"
)

func TestGlobParts(t *testing.T) {
	lit := func(c byte) GlobPart { return GlobPart{GlobByte, c} }
	one, all := GlobPart{Kind: GlobOne}, GlobPart{Kind: GlobAny}
	for pattern, want := range map[string][]GlobPart{
		"":          nil,
		"a*?":       {lit('a'), all, one},
		`\*\\\`:     {lit('*'), lit('\\'), lit('\\')},
		`[^a\]-c]b`: {one, lit('b')},
		"[]a":       {one, lit('a')},
		"x[a-":      {lit('x'), one},
	} {
		glob, err := CompileGlob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Collect(glob.Parts()); !slices.Equal(got, want) {
			t.Errorf("%q: %v", pattern, got)
		}
	}
	for range must(CompileGlob("ab")).Parts() {
		break
	}
}

func must(g Glob, err error) Glob {
	if err != nil {
		panic(err)
	}
	return g
}
