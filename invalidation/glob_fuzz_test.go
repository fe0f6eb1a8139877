package invalidation

import (
	"strings"
	"testing"

	"cacheproxy/redistest"
)

// FuzzGlob asks a real Redis whether it agrees. Two things are left out: no URL is empty, and a range that ends above 0x7f depends on
// the machine that Redis runs on (Glob).
func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{
		{"*", "a"}, {"**", "a"}, {"a*b*c", "aXbYc"}, {"a*?", "a"}, {"a*?", "ab"}, {"a**", "a"}, {"a*[", "a["},
		{"[abc]", "b"}, {"[^abc]", "d"}, {"[a-c]", "b"}, {"[c-a]", "b"}, {"[a-]", "-"}, {"[-a]", "-"}, {"[]", "]"}, {"[]a]", "a]"}, {"[^]", "a"},
		{"[^", "a"}, {"[", "["}, {"[a", "a"}, {"[a-", "-"}, {"[a-c", "b"}, {`[\]]`, "]"}, {`[\`, `\`}, {`[a\`, `\`}, {`[^\`, "a"}, {`[\a-c]`, "b"},
		{`[a-\]]`, "^"}, {`[a-\]`, "b"}, {`\*`, "*"}, {`\`, `\`}, {`a\`, `a\`}, {`\\`, `\`}, {`\a`, "a"}, {`*\`, `\`}, {`\[a]`, "[a]"},
		{"?", "\xff"}, {"[\xc3]", "\xc3"}, {"[^\xc3]", "\xc4"}, {"[ -~]", "\xc3"}, {"\x00*", "\x00a"}, {"a\x00", "a"}, {"[\x00]", "\x00"}, {"\xc3\xa4", "ä"},
		{"http://*/x?y=[0-9]*", "http://a.example/x?y=1"}, {"[a-z", "z"}, {"[^a-", "-"}, {"*a*a*a*a*a*b", "aaaaaaaaaaaaaaaa"}, {"", "a"},
	} {
		f.Add(seed[0], seed[1])
	}
	client := redistest.Start(f).Admin()
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if text == "" || strings.Contains(pattern, "-") && strings.ContainsFunc(pattern, func(r rune) bool { return r > 0x7f }) {
			return
		}
		g, err := CompileGlob(pattern)
		if err != nil {
			if strings.Count(pattern, "*") <= 32 {
				t.Fatal(err)
			}
			return
		}
		ctx := t.Context()
		pipe := client.TxPipeline()
		pipe.FlushDB(ctx)
		pipe.Set(ctx, text, "", 0)
		found := pipe.Do(ctx, "SCAN", 0, "MATCH", pattern) // the client's Scan leaves an empty pattern out
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		reply, _ := found.Slice()
		keys, _ := reply[1].([]any)
		if got, want := g.Match(text), len(keys) == 1; got != want {
			t.Errorf("%q matches %q: %v, and Redis says %v", pattern, text, got, want)
		}
	})
}
