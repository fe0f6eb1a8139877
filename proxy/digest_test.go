package proxy

import (
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// Content-Digest and Content-MD5 are of the content as sent (RFC 9530 section 2): what is cut, put together or left out has not the one
// that came. Repr-Digest is of the whole representation, and stays.
func TestDigestsOfContentThatWasChanged(t *testing.T) {
	const whole = "0123456789"
	origin := func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Set("Etag", `"1"`)
		h.Set("Repr-Digest", "sha-256=:whole:")
		h.Set("Content-Digest", "sha-256=:"+req.Header.Get("Range")+":")
		h.Set("Content-Md5", "md5")
		first, last := map[string]int{"bytes=5-": 5, "bytes=5-9": 5}[req.Header.Get("Range")], 9
		if req.Header.Get("Range") == "bytes=0-4" {
			last = 4
		}
		if req.URL.Path == "/parts" && (first > 0 || last < 9) {
			h.Set("Content-Range", "bytes "+strconv.Itoa(first)+"-"+strconv.Itoa(last)+"/10")
			w.WriteHeader(http.StatusPartialContent)
		}
		if req.URL.Path != "/parts" {
			first, last = 0, 9
			h.Set("Content-Length", "10")
		}
		_, _ = io.WriteString(w, whole[first:last+1])
	}
	for name, steps := range map[string][]struct {
		target, field string
		code          int
		body          string
		kept          bool
	}{
		"whole":    {{"/", "X-Plain: 1", 200, whole, true}, {"/", "X-Plain: 1", 200, whole, true}},
		"cut":      {{"/", "X-Plain: 1", 200, whole, true}, {"/", "Range: bytes=2-3", 206, "23", false}, {"/", `If-None-Match: "1"`, 304, "", false}},
		"the rest": {{"/", "Range: bytes=0-", 206, whole, false}, {"/", `If-None-Match: "1"`, 304, "", false}},
		"parts":    {{"/parts", "Range: bytes=0-4", 206, "01234", true}, {"/parts", "Range: bytes=1-2", 206, "12", false}},
		"combined": {{"/parts", "Range: bytes=0-4", 206, "01234", true}, {"/parts", "Range: bytes=5-9", 206, "56789", true}, {"/parts", "X-Plain: 1", 200, whole, false}},
		"complete": {{"/parts", "Range: bytes=0-4", 206, "01234", true}, {"/parts", "X-Plain: 1", 200, whole, false}, {"/parts", "X-Plain: 1", 200, whole, false}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, origin)
			for i, s := range steps {
				a := r.get(s.target, s.field).is(t, s.code, s.body)
				for _, field := range []string{"Content-Digest", "Content-Md5"} {
					if _, found := a.Header[field]; found != s.kept {
						t.Errorf("step %d: %v", i, a.Header)
					}
				}
				if a.Header.Get("Repr-Digest") == "" {
					t.Errorf("step %d: %v", i, a.Header)
				}
				r.clock.advance(time.Second)
			}
		})
	}
}
