package proxy

import (
	"net/http"
	"slices"
	"testing"
)

// What is stored says its length once, in digits, however the origin wrote it; and the origin's own response is left as it was.
func TestSetLength(t *testing.T) {
	for _, said := range [][]string{nil, {"1024"}, {"01024"}, {"1024", "1024"}, {""}, {"7"}} {
		from := slices.Clone(said)
		h := http.Header{"Content-Length": said}
		if setLength(h, 1024); !slices.Equal(h["Content-Length"], []string{"1024"}) || !slices.Equal(said, from) {
			t.Errorf("%q became %q", from, h["Content-Length"])
		}
	}
}
