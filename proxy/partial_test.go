package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A stored part is no answer to what it does not hold, not even when upstream fails.
func TestStoredPartIsNoAnswerToAnErrorElsewhere(t *testing.T) {
	for _, field := range []string{"X-Plain: 1", "Range: bytes=0-1"} {
		fail := false
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			if fail {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Cache-Control", "max-age=10, stale-if-error=600")
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("Content-Range", "bytes 5-9/10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "56789")
		})
		r.get("/", "Range: bytes=5-9").is(t, 206, "56789")
		fail = true
		r.get("/", field).is(t, 503, "")
		r.clock.advance(11 * time.Second)
		r.get("/", "Range: bytes=6-7").is(t, 206, "67")
	}
}

// A 206 that answers If-Range may leave out the fields which the client has already (RFC 9110 section 15.3.7).
func TestCombinedPartsKeepTheFieldsOfTheFirst(t *testing.T) {
	for _, second := range []string{"", "bytes=5-9"} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Etag", `"1"`)
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header()["Content-Type"] = nil
			first, last := 5, 9
			if req.Header.Get("Range") == "bytes=0-4" {
				w.Header().Set("Content-Type", "text/x-test")
				first, last = 0, 4
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/10", first, last))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "0123456789"[first:last+1])
		})
		r.get("/", "Range: bytes=0-4").is(t, 206, "01234")
		if second == "" {
			if a := r.get("/").is(t, 200, "0123456789"); a.Header.Get("Content-Type") != "text/x-test" {
				t.Errorf("%v", a.Header)
			}
		} else {
			r.get("/", "Range: "+second)
		}
		if a := r.get("/").is(t, 200, "0123456789"); a.Header.Get("Content-Type") != "text/x-test" || a.Header.Get("Cache-Status") != "cacheproxy; hit; ttl=60" {
			t.Errorf("%v", a.Header)
		}
	}
}

// Parts that together are larger than a response may be are not stored as one, be they all of it or not.
func TestCombinedPartsKeepToTheLimit(t *testing.T) {
	for _, second := range []string{"bytes=5-9", "bytes=5-8"} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Etag", `"1"`)
			http.ServeContent(w, req, "x.txt", time.Time{}, strings.NewReader("0123456789"))
		}, func(o *Options) { o.Cache.MaxObject = 7 })
		r.get("/", "Range: bytes=0-4").is(t, 206, "01234").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
		r.get("/", "Range: "+second)
		r.get("/", "Range: bytes=0-4").is(t, 206, "01234").status(t, "cacheproxy; hit; ttl=60")
		r.get("/", "Range: bytes=0-8").is(t, 206, "012345678")
		r.wantHits(3)
	}
}
