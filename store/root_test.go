package store

import (
	"fmt"
	"net/http"
	"testing"
)

// Whatever a root says, what is selected is what it names, under the request's own variant of that nomination; and a value that can be
// read says what save.lua wrote.
func FuzzRoot(f *testing.F) {
	e := mustEntry(f, varied("http://a.example/", "Accept-Encoding", header("Accept-Encoding", "gzip")))
	written := fmt.Sprintf("%s 1800000000000 1799999990000000 %s", fillHex(e.Fill()), e.Nomination())
	f.Add(e.variant(), written, "gzip")
	f.Add(variantOf("", "", nil), "f111f111f111f111 1800000000000 1 ", "")
	f.Add(variantOf("", "*", nil), "f111f111f111f111 1800000000000 1 *", "")
	f.Add("theirs", "v2 something else", "br")
	f.Fuzz(func(t *testing.T, variant, value, encoding string) {
		h := http.Header{"Accept-Encoding": {encoding}}
		root := map[string]string{variant: value, e.variant(): written}
		name, chosen, ok := selectVariant(root, "", h, "", variantOf("", "", nil))
		if !ok {
			return
		}
		if want := variantOf("", chosen.nomination, chosen.nomination.AppendSelection(nil, h)); name != want {
			t.Fatalf("%q is not the request's variant, %q", name, want)
		}
		if again, readable := parseRootVariant(root[name]); !readable || again != chosen {
			t.Fatalf("%+v of %q", chosen, root[name])
		}
	})
}
