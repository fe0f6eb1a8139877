package invalidation

import "testing"

func TestGlob(t *testing.T) {
	for _, tt := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "a/b", true}, {"a*", "a", true}, {"a*c", "abbc", true}, {"a*c", "abb", false},
		{"*b*", "abc", true}, {"**", "x", true}, {"a**b", "ab", true}, {"?", "", false}, {"?", "a", true}, {"a?c", "abc", true}, {"a?c", "ac", false},
		{"[abc]", "b", true}, {"[abc]", "d", false}, {"[^abc]", "d", true}, {"[^abc]", "a", false}, {"[a-c]", "b", true}, {"[c-a]", "b", true},
		{"[a-c]", "d", false}, {`[\]]`, "]", true}, {`[\-]`, "-", true}, {`\*`, "*", true}, {`\*`, "a", false}, {`a\`, `a\`, true}, {"[", "[", false},
		{"[abc", "c", true}, {"*aab", "aaaab", true}, {"*?b*c", "abxbyc", true}, {"a*a*a*b", "aaaaaaaaaaaaaaaaaaaa", false},
	} {
		g, err := CompileGlob(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Match(tt.text); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.text, got)
		}
	}
}

// What Redis takes, and nobody means, is told apart.
func TestWellFormed(t *testing.T) {
	for pattern, want := range map[string]bool{
		"": true, "*": true, "a[bc]": true, "a[^b-c]*": true, `a\[`: true, `a\\`: true, `a[\]]`: true, "[]": true, "[^]": true, "]": true, "[a]b[c]": true,
		"[": false, "a[b": false, `a\`: false, `a[b\]`: false, "[^": false, "[a]b[c": false, "[a-": false, "[a-]": false, `[\`: false,
	} {
		if err := WellFormed(pattern); (err == nil) != want {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}
