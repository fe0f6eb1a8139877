package proxy

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"cacheproxy/policy"
)

// A 304 that makes what is stored unfit to be stored answers its own request with all the fields, and nobody else.
func TestFreshenedIntoPrivateKeepsItsFields(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Etag", `"1"`)
		if req.Header.Get("If-None-Match") != "" {
			w.Header().Set("Cache-Control", "private")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Cache-Control", "max-age=10")
		w.Header().Set("Content-Type", "text/x-test")
		_, _ = io.WriteString(w, "body")
	})
	r.get("/")
	r.clock.advance(11 * time.Second)
	a := r.get("/").is(t, 200, "body")
	if a.Header.Get("Content-Type") != "text/x-test" || a.Header.Get("Etag") != `"1"` || a.Header.Get("Cache-Control") != "private" || a.Header.Get("Age") != "0" {
		t.Errorf("%v", a.Header)
	}
}

func TestFreshenedIntoPrivateIsSharedWithNobody(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		(<-s.calls).whole(200, "one", "Cache-Control: max-age=10", `ETag: "1"`)
		wantAll(t, []*asker{a}, 200, "one")
		time.Sleep(11 * time.Second)
		all := s.askMany(3, "/")
		synctest.Wait()
		(<-s.calls).whole(304, "", "Cache-Control: private", `ETag: "1"`)
		for range 2 {
			(<-s.calls).whole(200, "own", "Cache-Control: private", `ETag: "1"`)
		}
		ones := 0
		for _, a := range all {
			if <-a.done; a.body.String() == "one" {
				ones++
			}
		}
		if ones != 1 {
			t.Errorf("%d askers got what was for one", ones)
		}
	})
}

// What a request says of itself must not empty the cache for the others.
func TestRequestThatMayNotBeStoredForgetsNothing(t *testing.T) {
	for _, field := range []string{"Cache-Control: no-store", "Authorization: Basic x"} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			w.Header().Set("Etag", `"1"`)
			if req.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			_, _ = io.WriteString(w, "body")
		})
		r.get("/")
		r.clock.advance(11 * time.Second)
		r.get("/", field).is(t, 200, "body")
		r.get("/").is(t, 200, "body").status(t, "cacheproxy; fwd=stale; fwd-status=304; ttl=10; stored; detail=stale")
	}
}

// A 304 names no Content-Type: the rule for the type that is stored goes on to hold.
func TestFreshenedByTheRuleOfTheStoredType(t *testing.T) {
	hour := time.Hour
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Etag", `"1"`)
		if req.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "image/png")
		_, _ = io.WriteString(w, "body")
	}, withRules(t, policy.RuleSpec{Match: policy.MatchSpec{ContentType: []string{"image/*"}}, TTL: &hour}))
	r.get("/")
	for range 2 {
		r.clock.advance(61 * time.Minute)
		r.get("/").is(t, 200, "body").status(t, "cacheproxy; fwd=stale; fwd-status=304; ttl=3600; stored; detail=stale")
	}
	r.get("/").status(t, "cacheproxy; hit; ttl=3600")
	r.wantHits(3)
}

// A request with a field that the origin cannot tell from a nominated one stores nothing, and takes nothing from the others.
func TestAliasForgetsNothing(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=10")
		w.Header().Set("Vary", "X-Lang")
		w.Header().Set("Etag", `"1"`)
		if req.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "body")
	})
	r.get("/", "X-Lang: de")
	r.get("/", "X-Lang: de", "X_Lang: en", "Cache-Control: no-cache").is(t, 200, "body")
	r.get("/", "X-Lang: de").status(t, "cacheproxy; hit; ttl=10")
}

// What is purged by a tag that only the 304 has named must be found by it.
func TestFreshenedTags(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=10")
		w.Header().Set("Surrogate-Key", "old both")
		if req.Header.Get("If-None-Match") != "" {
			w.Header().Set("Surrogate-Key", "new both")
			w.WriteHeader(http.StatusNotModified)
		}
	}, withRules(t, policy.RuleSpec{Tags: []string{"page-{path.1}"}}))
	for _, want := range []string{"[page-a old both]", "[page-a new both]"} {
		r.get("/a").is(t, 200, "")
		e, ok := r.h.opt.Store.LookupNear(policy.Key{URL: r.proxy.URL + "/a"}, nil)
		if !ok || fmt.Sprint(e.Tags()) != want {
			t.Errorf("%v, want %s", e.Tags(), want)
		}
		r.clock.advance(11 * time.Second)
	}
}
