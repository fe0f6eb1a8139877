package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/metrics"
	"cacheproxy/policy"
)

// ledger is a hook that remembers what was purged.
type ledger struct {
	mu      sync.Mutex
	purges  []string
	all     []invalidation.Purge
	receipt *invalidation.Receipt
	err     error
}

func (l *ledger) purge(_ context.Context, p invalidation.Purge) (*invalidation.Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what := string(p.Kind) + " " + p.Selector + p.Origin + " " + p.Group
	if p.Soft {
		what += " soft"
	}
	if l.all = append(l.all, p); p.URLs == nil {
		l.purges = append(l.purges, strings.TrimRight(what, " "))
	}
	for _, url := range p.URLs {
		l.purges = append(l.purges, "url "+url)
	}
	return l.receipt, l.err
}

// records is how many have been purged, in as many records.
func (l *ledger) records() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

// keeps is an option.
func (l *ledger) keeps(o *Options) { o.Purge, o.Metrics = l.purge, metrics.New() }

// took returns what was purged since the last call, sorted.
func (l *ledger) took() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.purges
	l.purges = nil
	slices.Sort(list)
	return list
}

// RFC 9875 section 2: the groups are stored with the response, beside its tags, and follow a 304 as all its fields do.
func TestRFC9875Section2GroupsAreStored(t *testing.T) {
	answer := []string{`"a", "B;1";x`}
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Etag", `"1"`)
		w.Header().Set("Cache-Control", "max-age=10")
		w.Header().Set("Cache-Tag", "a")
		for _, line := range answer {
			w.Header().Add("Cache-Groups", line)
		}
		if req.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
		}
	})
	for _, step := range []struct {
		lines []string
		want  []string
	}{
		{[]string{`"a", "B;1";x`}, []string{"a", "B;1"}},
		{nil, []string{"a", "B;1"}}, // the 304 says nothing of them
		{[]string{`"c"`, `"d"`}, []string{"c", "d"}},
		{[]string{`"c", d`}, nil}, // ignored whole
	} {
		answer = step.lines
		r.get("/a").is(t, 200, "")
		if tags, groups, ok := r.stored("/a"); !ok || !slices.Equal(groups, step.want) || !slices.Equal(tags, []string{"a"}) {
			t.Errorf("%q: tags %q, groups %q, want %q", step.lines, tags, groups, step.want)
		}
		r.clock.advance(11 * time.Second)
	}
}

// RFC 9875 section 3: Cache-Group-Invalidation counts on the successful response to an unsafe method, and for the origin of the request.
func TestRFC9875Section3Invalidation(t *testing.T) {
	for _, tt := range []struct {
		name   string
		method string
		status int
		host   string
		lines  []string
		want   string // groups; of the origin that the host makes
	}{
		{"POST", "POST", 200, "shop.example", []string{`"a", "B"`}, "http://shop.example a, http://shop.example B"},
		{"a port of its own", "POST", 200, "shop.example:8080", []string{`"a"`}, "http://shop.example:8080 a"},
		{"in the form of the cache URL", "POST", 200, "SHOP.example:80", []string{`"a"`}, "http://shop.example a"},
		{"PUT", "PUT", 201, "shop.example", []string{`"a"`, `"c";p=1`}, "http://shop.example a, http://shop.example c"},
		{"DELETE", "DELETE", 204, "shop.example", []string{`"a"`}, "http://shop.example a"},
		{"a redirect", "POST", 303, "shop.example", []string{`"a"`}, "http://shop.example a"},
		{"an unknown method", "FROB", 200, "shop.example", []string{`"a"`}, "http://shop.example a"},
		{"twice", "POST", 200, "shop.example", []string{`"a", "a"`}, "http://shop.example a"},
		{"ignored on GET", "GET", 200, "shop.example", []string{`"a"`}, ""},
		{"ignored on HEAD", "HEAD", 200, "shop.example", []string{`"a"`}, ""},
		{"ignored on OPTIONS", "OPTIONS", 200, "shop.example", []string{`"a"`}, ""},
		{"ignored on 404", "POST", 404, "shop.example", []string{`"a"`}, ""},
		{"ignored on 500", "POST", 500, "shop.example", []string{`"a"`}, ""},
		{"malformed", "POST", 200, "shop.example", []string{`"a", b`}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l ledger
			r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
				for _, line := range tt.lines {
					w.Header().Add("Cache-Group-Invalidation", line)
				}
				w.WriteHeader(tt.status)
			}, l.keeps)
			r.do(tt.method, "/cart", nil, "Host: "+tt.host)
			var groups []string
			for _, p := range l.all {
				if p.Kind == invalidation.KindGroup {
					if err := p.Check(); err != nil || p.Soft || p.Who != "response to "+tt.method {
						t.Errorf("%+v: %v", p, err)
					}
					groups = append(groups, p.Origin+" "+p.Group)
				}
			}
			want := strings.Split(tt.want, ", ")
			if tt.want == "" {
				want = nil
			}
			slices.Sort(groups)
			slices.Sort(want)
			if !slices.Equal(groups, want) {
				t.Errorf("%q, want %q", groups, want)
			}
		})
	}
}

// RFC 9875 section 2.2: a grouped invalidation does not cascade, neither from what was invalidated by URL nor through a second group.
func TestRFC9875Section2_2NoCascade(t *testing.T) {
	var l ledger
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Cache-Groups", `"a", "b"`)
		if req.Method == "POST" {
			w.Header().Set("Cache-Group-Invalidation", `"c"`)
		}
	}, l.keeps)
	r.get("/a")
	r.do("POST", "/a", nil)
	if got, want := l.took(), []string{"group " + r.proxy.URL + " c", "url " + r.proxy.URL + "/a"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The records that the log then holds are about the responses that are stored, as the log's own table judges.
func TestRFC9875Section3InvalidatesWhatIsStored(t *testing.T) {
	f, err := invalidation.Start(invalidation.Options{Instance: "here"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close(context.Background())
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Cache-Groups", `"`+strings.Trim(req.URL.Path, "/")+`"`)
		if req.Method == "POST" {
			w.Header().Set("Cache-Group-Invalidation", `"a"`)
		}
	}, func(o *Options) {
		o.Purge = func(ctx context.Context, p invalidation.Purge) (*invalidation.Receipt, error) {
			return f.Purge(ctx, p, 0)
		}
	})
	for _, path := range []string{"/a", "/A", "/b"} {
		r.get(path)
	}
	r.get("/a", "Host: other.example")
	r.do("POST", "/cart", nil)
	for url, want := range map[string]invalidation.Verdict{
		r.proxy.URL + "/a": invalidation.Forgotten, r.proxy.URL + "/A": invalidation.Keeps, r.proxy.URL + "/b": invalidation.Keeps,
		"http://other.example/a": invalidation.Keeps,
	} {
		e, ok := r.h.opt.Store.LookupNear(policy.Key{URL: url}, nil)
		if !ok {
			t.Fatalf("%s is not stored", url)
		}
		s := invalidation.Subject{URL: e.URL()}
		s.Tags, s.Groups = policy.SplitTags(e.Tags())
		if got := f.Table().Judge(&s, 0).Verdict; got != want {
			t.Errorf("%s: verdict %d, want %d", url, got, want)
		}
	}
}

// Whatever becomes of the records, the request is answered, and it is counted.
func TestRFC9875Section3FailureIsCounted(t *testing.T) {
	whole := invalidation.Receipt{Applied: []string{"r"}}
	lagging := invalidation.Receipt{Applied: []string{"r"}, Lagging: []string{"s"}}
	for _, tt := range []struct {
		name    string
		receipt *invalidation.Receipt
		err     error
		want    string
	}{
		{"applied", &whole, nil, "ok"},
		{"no receipt", nil, nil, "ok"},
		{"lagging", &lagging, nil, "unconfirmed"},
		{"not known", &whole, errors.New("no answer"), "unconfirmed"},
		{"not entered", nil, errors.New("no Redis"), "error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := ledger{receipt: tt.receipt, err: tt.err}
			r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Cache-Group-Invalidation", `"a", "b"`)
				_, _ = fmt.Fprint(w, "done")
			}, l.keeps)
			r.do("POST", "/", nil).is(t, 200, "done")
			r.h.Settle()
			counts := counted(t, r.h.opt.Metrics)
			if counts["purges_total "+tt.want+" unsafe"] != 1 || counts["purges_total "+tt.want+" group"] != 2 {
				t.Errorf("%v", counts)
			}
		})
	}
}
