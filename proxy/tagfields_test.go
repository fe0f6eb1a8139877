package proxy

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cacheproxy/policy"
)

// tagNames are the fields that are kept from clients by default.
var tagNames = []string{"Surrogate-Key", "Xkey", "Cache-Tag", "Cache-Groups"}

// tagged is cacheable with tags and groups.
func tagged(w http.ResponseWriter, req *http.Request) {
	for _, name := range tagNames {
		w.Header().Set(name, `"`+strings.ToLower(name)+`"`)
	}
	if req.Method == "POST" {
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Header().Set("Cache-Control", "max-age=60")
	http.ServeContent(w, req, "", time.Time{}, strings.NewReader("0123456789"))
}

// stored is what near memory has of a path of the default site.
func (r *rig) stored(path string) (tags, groups []string, ok bool) {
	e, ok := r.h.opt.Store.LookupNear(policy.Key{URL: r.proxy.URL + path}, nil)
	if ok {
		tags, groups = policy.SplitTags(e.Tags())
	}
	return tags, groups, ok
}

// tagFields lists which of the fields a response has.
func (a reply) tagFields() (found []string) {
	for _, name := range tagNames {
		if a.Header.Get(name) != "" {
			found = append(found, name)
		}
	}
	return found
}

// Fields of tags are said to caches: clients are not sent them, in whatever way the response came about; trusted peers are.
func TestTagFieldsAreStripped(t *testing.T) {
	steps := []struct {
		name, method string
		fields       []string
		status       int
	}{
		{"miss", "GET", nil, 200},
		{"hit", "GET", nil, 200},
		{"HEAD", "HEAD", nil, 200},
		{"304", "GET", []string{`If-None-Match: "v1"`}, 304},
		{"206", "GET", []string{"Range: bytes=0-1"}, 206},
		{"parts", "GET", []string{"Range: bytes=0-1, 5-6"}, 206},
		{"416", "GET", []string{"Range: bytes=50-"}, 416},
		{"revalidated by the client", "GET", []string{"Cache-Control: no-cache"}, 200},
		{"not stored", "GET", []string{"Cache-Control: no-store"}, 200},
		{"an unsafe method", "POST", nil, 201},
		{"a range that is fetched", "GET", []string{"Range: bytes=0-1", "Cache-Control: no-store"}, 206},
	}
	keep := func(o *Options) { o.Cache.TagFields = TagKeep }
	for _, c := range []struct {
		name    string
		options []func(*Options)
		kept    bool
	}{
		{"by default", nil, false},
		{"cache.tag_fields: keep", []func(*Options){keep}, true},
		{"trusted", []func(*Options){trustLoopback}, true},
	} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Etag", `"v1"`)
			tagged(w, req)
		}, c.options...)
		for _, step := range steps {
			var want []string
			if c.kept {
				want = tagNames
			}
			a := r.do(step.method, "/", nil, step.fields...)
			if got := a.tagFields(); a.StatusCode != step.status || !slices.Equal(got, want) {
				t.Errorf("%s, %s: %d %q, want %q", c.name, step.name, a.StatusCode, got, want)
			}
		}
	}
}

// The tags stay with what is stored, and so do the fields, by which it is freshened: a 304 that names none leaves them.
func TestTagFieldsStayStored(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=10")
		if req.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		tagged(w, req)
		w.Header().Set("Cache-Control", "max-age=10")
	})
	want := []string{`"surrogate-key"`, `"xkey"`, `"cache-tag"`}
	for range 3 {
		if got := r.get("/").tagFields(); got != nil {
			t.Errorf("sent: %q", got)
		}
		if tags, groups, ok := r.stored("/"); !ok || !slices.Equal(tags, want) || !slices.Equal(groups, []string{"cache-groups"}) {
			t.Errorf("%q %q", tags, groups)
		}
		r.clock.advance(61 * time.Second)
	}
}

// Who shares a fetch is sent no more than who led it.
func TestTagFieldsAreStrippedFromAllWhoShare(t *testing.T) {
	onStage(t, func(s *stage) {
		all := s.askMany(3, "/")
		synctest.Wait()
		(<-s.calls).whole(200, "x", "Cache-Control: max-age=60", "Surrogate-Key: a", `Cache-Groups: "g"`)
		wantAll(t, all, 200, "x")
		for _, a := range all {
			if a.sent.Get("Surrogate-Key")+a.sent.Get("Cache-Groups") != "" || a.sent.Get("Cache-Control") == "" {
				t.Errorf("%v", a.sent)
			}
		}
		s.wantCalls(1)
	})
}

// Fields that name nothing are kept from clients too, on a miss and on a hit.
func TestTagFieldsThatNameNothingAreStripped(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Groups", `"a`)
		w.Header().Set("Cache-Tag", ",")
		cacheable(w, req)
	})
	for _, want := range []string{"cacheproxy; fwd=uri-miss; ttl=60; stored", "cacheproxy; hit; ttl=60"} {
		a := r.get("/").status(t, want)
		if len(a.tagFields()) > 0 {
			t.Errorf("%v", a.Header)
		}
	}
}

// Other names may be read; those that are not are fields like any other.
func TestTagHeadersOfOtherNames(t *testing.T) {
	names := func(names ...string) func(*Options) { return func(o *Options) { o.Cache.TagHeaders = names } }
	for _, c := range []struct {
		option func(*Options)
		tags   []string
		sent   string
	}{
		{names("x-tags"), []string{"a b", "c"}, "[Surrogate-Key]"},
		{names("Surrogate-Key", "X-Tags"), []string{"d", "e", "a b", "c"}, "[]"},
		{names([]string{}...), nil, "[Surrogate-Key X-Tags]"},
	} {
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("X-Tags", "a b, c")
			w.Header().Set("Surrogate-Key", "d e")
			cacheable(w, req)
		}, func(o *Options) { o.Cache.TagHeaders = []string{} }, c.option)
		for range 2 {
			sent := []string{}
			a := r.get("/")
			for _, name := range []string{"Surrogate-Key", "X-Tags"} {
				if a.Header.Get(name) != "" {
					sent = append(sent, name)
				}
			}
			if fmt.Sprint(sent) != c.sent {
				t.Errorf("sent %v, want %s", sent, c.sent)
			}
		}
		if tags, _, _ := r.stored("/"); !slices.Equal(tags, c.tags) {
			t.Errorf("%q, want %q", tags, c.tags)
		}
	}
	if _, err := New(Options{Next: canned{}, Cache: CacheOptions{TagHeaders: []string{"Etag"}}}); err == nil || !strings.Contains(err.Error(), "cache.tag_headers") {
		t.Error(err)
	}
}

// A later part need not repeat the tags of the first; what is put together has them all.
func TestTagsOfCombinedParts(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=60")
		first, last := 5, 9
		if req.Header.Get("Range") == "bytes=0-4" {
			w.Header().Set("Surrogate-Key", "a")
			w.Header().Set("Cache-Groups", `"g"`)
			first, last = 0, 4
		} else {
			w.Header().Set("Cache-Tag", "b")
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/10", first, last))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, "0123456789"[first:last+1])
	})
	r.get("/", "Range: bytes=0-4").is(t, 206, "01234")
	r.get("/", "Range: bytes=5-9").is(t, 206, "56789")
	tags, groups, ok := r.stored("/")
	slices.Sort(tags)
	if !ok || !slices.Equal(tags, []string{"a", "b"}) || !slices.Equal(groups, []string{"g"}) {
		t.Errorf("%q %q %t", tags, groups, ok)
	}
	r.get("/").is(t, 200, "0123456789")
}

func TestGroupsAreExplained(t *testing.T) {
	r := newRig(t, tagged, withRules(t, policy.RuleSpec{Tags: []string{"page"}}))
	r.get("/")
	if s := r.explain("GET", "/").Stored; s == nil || !slices.Equal(s.Groups, []string{"cache-groups"}) || len(s.Tags) != 4 || s.Tags[0] != "page" {
		t.Errorf("%+v", s)
	}
}
