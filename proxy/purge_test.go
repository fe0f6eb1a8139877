package proxy

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
)

// mayPurge is an option: these clients may use PURGE.
func mayPurge(prefixes ...string) func(*Options) {
	return func(o *Options) {
		for _, p := range prefixes {
			o.Client.Purge = append(o.Client.Purge, netip.MustParsePrefix(p))
		}
	}
}

// Who may purge is the client, found out as for everything else; nobody may by default. Whatever the answer, it is ours.
func TestPurgeIsForAllowedClients(t *testing.T) {
	for _, tt := range []struct {
		name    string
		allowed []string
		trusted bool
		fields  []string
		status  int
	}{
		{"nobody by default", nil, false, nil, 405},
		{"loopback", []string{"127.0.0.0/8"}, false, nil, 200},
		{"others", []string{"10.0.0.0/8", "::/0"}, false, nil, 405},
		{"what an untrusted peer says", []string{"10.0.0.0/8"}, false, []string{"X-Forwarded-For: 10.0.0.1"}, 405},
		{"what a trusted peer says", []string{"10.0.0.0/8"}, true, []string{"X-Forwarded-For: 10.0.0.1"}, 200},
		{"a client of an allowed proxy", []string{"127.0.0.0/8"}, true, []string{"X-Forwarded-For: 192.0.2.1"}, 405},
		{"what the client of a trusted peer says", []string{"10.0.0.0/8"}, true, []string{"X-Forwarded-For: 10.0.0.1, 192.0.2.1"}, 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := ledger{receipt: &invalidation.Receipt{Applied: []string{"r"}}}
			options := []func(*Options){l.keeps, mayPurge(tt.allowed...)}
			if tt.trusted {
				options = append(options, trustLoopback)
			}
			r := newRig(t, cacheable, options...)
			r.get("/a")
			a := r.do("PURGE", "/a", nil, tt.fields...)
			if a.StatusCode != tt.status || a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %v", a.StatusCode, a.Header)
			}
			allow, purges, next := a.Header.Get("Allow"), l.took(), r.get("/a")
			if tt.status == 405 {
				a.status(t, "cacheproxy; detail=purge-refused")
				next.status(t, "cacheproxy; hit; ttl=60")
				if !strings.Contains(allow, "GET, HEAD") || strings.Contains(allow, "PURGE") || purges != nil {
					t.Errorf("Allow: %s; %q", allow, purges)
				}
				r.wantHits(1)
				return
			}
			a.status(t, "cacheproxy; detail=purged")
			next.status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
			if allow != "" || !slices.Equal(purges, []string{"url " + r.proxy.URL + "/a"}) {
				t.Errorf("Allow: %s; %q", allow, purges)
			}
			r.wantHits(2)
			if r.lastSeen().Method != "GET" {
				t.Errorf("%s was forwarded", r.lastSeen().Method)
			}
		})
	}
}

// The URL is that of a GET for the same target, as the rule for it makes the key; all its variants go.
func TestPurgeIsByTheCacheURL(t *testing.T) {
	var l ledger
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Vary", "X-Lang")
		cacheable(w, req)
	}, l.keeps, mayPurge("127.0.0.1/32"), withRules(t, policy.RuleSpec{
		Match: policy.MatchSpec{Method: []string{"GET"}}, Key: policy.KeySpec{Query: policy.QuerySpec{Ignore: []string{"utm_*"}, Sort: true}},
	}))
	for _, lang := range []string{"de", "en"} {
		r.get("/a?b=1&c=2", "Host: shop.example", "X-Lang: "+lang)
	}
	r.do("PURGE", "/a?c=2&utm_x=1&b=1", nil, "Host: SHOP.example:80").is(t, 200, "")
	if got := l.took(); !slices.Equal(got, []string{"url http://shop.example/a?b=1&c=2"}) {
		t.Errorf("%q", got)
	}
	r.get("/a?b=1&c=2", "Host: shop.example", "X-Lang: de").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
	r.get("/a?b=1&c=2", "Host: shop.example", "X-Lang: en").status(t, "cacheproxy; fwd=vary-miss; ttl=60; stored")
	if r.raw("PURGE /a|b HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"); !slices.Equal(l.took(), []string{"url http://shop.example/a|b"}) {
		t.Error("not the bytes of the target")
	}
}

// A long URL is purged as any other. One that no purge can name has nothing stored, and whoever asks for it hears that.
func TestPurgeOfLongURLs(t *testing.T) {
	long := "/" + strings.Repeat("x", 20<<10)
	for _, log := range []bool{true, false} {
		for _, fields := range [][]string{nil, {"Soft-Purge: 1"}} {
			if fields != nil && !log {
				continue
			}
			r, _ := purgeRig(t, cacheable)
			r.h.opt.Client.Purge = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
			if !log {
				r.h.opt.Purge = nil
			}
			r.get(long)
			r.get(long).status(t, "cacheproxy; hit; ttl=60")
			if a := r.do("PURGE", long, nil, fields...); a.StatusCode != 200 {
				t.Errorf("log %v, %q: %d %.200s", log, fields, a.StatusCode, a.body)
			}
			if got := r.get(long).Header.Get("Cache-Status"); strings.HasPrefix(got, "cacheproxy; hit") {
				t.Errorf("log %v, %q: then %s", log, fields, got)
			}
		}
	}
	var l ledger
	r := newRig(t, cacheable, l.keeps, mayPurge("127.0.0.1/32"))
	for target, why := range map[string]string{"/?\xff": "not UTF-8", long + long + long + long: "urls have"} {
		a := r.do("PURGE", target, nil, "Accept: text/plain").status(t, "cacheproxy; detail=purge-refused")
		if a.StatusCode != 400 || !strings.Contains(a.body, why) {
			t.Errorf("%d %.200s", a.StatusCode, a.body)
		}
		if e := r.explain("PURGE", target); e.Status != 400 || e.Decision.Action != "refuse" {
			t.Errorf("explained as %+v", e)
		}
	}
	if counts := counted(t, r.h.opt.Metrics); l.took() != nil || counts["purges_total error method"] != 0 {
		t.Errorf("%v", counts)
	}
}

// A soft PURGE is asked for by a field, and makes stale: it is the log's alone to do.
func TestPurgeSoftly(t *testing.T) {
	for _, tt := range []struct {
		fields []string
		status int
		soft   bool
	}{
		{nil, 200, false},
		{[]string{"Soft-Purge: 1"}, 200, true},
		{[]string{"Fastly-Soft-Purge: 1"}, 200, true},
		{[]string{"Soft-Purge: 0"}, 200, false},
		{[]string{"Soft-Purge: 0", "Fastly-Soft-Purge: 1"}, 200, true},
		{[]string{"Soft-Purge: true"}, 400, false},
		{[]string{"Fastly-Soft-Purge: "}, 400, false},
	} {
		var l ledger
		r := newRig(t, cacheable, l.keeps, mayPurge("127.0.0.1/32"))
		r.get("/a")
		a := r.do("PURGE", "/a", nil, tt.fields...)
		want, next := "cacheproxy; detail=purged", "cacheproxy; fwd=uri-miss; ttl=60; stored"
		records := []string{"url " + r.proxy.URL + "/a"}
		switch {
		case tt.status == 400:
			want, next, records = "cacheproxy; detail=purge-refused", "cacheproxy; hit; ttl=60", nil
		case tt.soft:
			want, next, records = "cacheproxy; detail=soft-purged", "cacheproxy; hit; ttl=60", []string{records[0] + "  soft"}
		}
		a.status(t, want)
		if got := l.took(); a.StatusCode != tt.status || !slices.Equal(got, records) {
			t.Errorf("%q: %d, %q", tt.fields, a.StatusCode, got)
		}
		r.get("/a").status(t, next)
	}
}

// 200 is said when every replica has applied the record, 202 with those that have not; without the record nothing was done.
func TestPurgeAnswersWithTheReceipt(t *testing.T) {
	for _, tt := range []struct {
		name    string
		receipt *invalidation.Receipt
		err     error
		status  int
	}{
		{"all", &invalidation.Receipt{Sequence: 7, Epoch: "e", Applied: []string{"a", "b"}, Lagging: []string{}, Silent: []string{}}, nil, 200},
		{"lagging", &invalidation.Receipt{Sequence: 7, Applied: []string{"a"}, Lagging: []string{"b"}}, nil, 202},
		{"silent", &invalidation.Receipt{Sequence: 7, Applied: []string{"a"}, Silent: []string{"b"}}, nil, 202},
		{"not known", &invalidation.Receipt{Sequence: 7}, errors.New("no answer"), 202},
		{"not entered", nil, errors.New("no Redis"), 503},
		{"no receipt", nil, nil, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := ledger{receipt: tt.receipt, err: tt.err}
			r := newRig(t, cacheable, l.keeps, mayPurge("127.0.0.1/32"))
			r.get("/a")
			a := r.do("PURGE", "/a", nil)
			var got invalidation.Receipt
			switch {
			case a.StatusCode != tt.status:
				t.Errorf("%d %s", a.StatusCode, a.body)
			case tt.status == 503:
				a.status(t, "cacheproxy; detail=purge-failed")
				r.get("/a").status(t, "cacheproxy; hit; ttl=60") // nothing is half done
			case tt.receipt == nil:
				a.is(t, 200, "")
			case json.Unmarshal([]byte(a.body), &got) != nil || got.Sequence != 7 || len(got.Lagging) != len(tt.receipt.Lagging) || a.Header.Get("Content-Type") != "application/json":
				t.Errorf("%v %s", a.Header, a.body)
			}
			if counts := counted(t, r.h.opt.Metrics); counts["purges_total ok method"]+counts["purges_total unconfirmed method"]+counts["purges_total error method"] != 1 {
				t.Errorf("%v", counts)
			}
		})
	}
}

// Without a log a PURGE is for this process and its Redis, and cannot be soft.
func TestPurgeWithoutALog(t *testing.T) {
	r := newRig(t, cacheable, mayPurge("127.0.0.1/32"))
	r.get("/a")
	r.do("PURGE", "/a", nil, "Soft-Purge: 1", "Accept: text/plain").is(t, 501, "a soft purge needs the invalidation log, and there is none\n")
	r.get("/a").status(t, "cacheproxy; hit; ttl=60")
	r.do("PURGE", "/a", nil).is(t, 200, "").status(t, "cacheproxy; detail=purged")
	r.get("/a").status(t, "cacheproxy; fwd=uri-miss; ttl=60; stored")
}

// It counts as what it is; it asks no limit, and ranks nothing.
func TestPurgeIsLogged(t *testing.T) {
	var l ledger
	ranked := &counting{}
	r := newRig(t, cacheable, l.keeps, mayPurge("127.0.0.1/32"), func(o *Options) { o.Ranking = ranked })
	r.do("PURGE", "/a", nil)
	access := r.lastLog()
	if access.Outcome.Label() != "purge" || access.Outcome.Detail != policy.Purged || access.Status != 200 || access.Key != r.proxy.URL+"/a" {
		t.Errorf("%+v", access)
	}
	if counts := counted(t, r.h.opt.Metrics); counts["requests_total purge none"] != 1 || ranked.n != 0 {
		t.Errorf("%d %v", ranked.n, counts)
	}
	if l.all[0].Who != "PURGE from 127.0.0.1" {
		t.Errorf("%+v", l.all[0])
	}
	l.err = errors.New("no Redis")
	r.do("PURGE", "/a", nil)
	if access := r.lastLog(); access.Outcome.Label() != "error" || access.Err == nil {
		t.Errorf("%+v", access)
	}
}

// counting is a Ranking.
type counting struct{ n int }

func (c *counting) Asked(string) { c.n++ }

func TestPurgeExplained(t *testing.T) {
	for prefix, want := range map[string]Explanation{
		"127.0.0.1/32": {Status: 200, Outcome: "purge", CacheStatus: "cacheproxy; detail=purged", Decision: ExplainedDecision{Action: "purge"}},
		"10.0.0.0/8":   {Status: 405, Outcome: "error", CacheStatus: "cacheproxy; detail=purge-refused", Decision: ExplainedDecision{Action: "refuse"}},
	} {
		var l ledger
		r := newRig(t, cacheable, l.keeps, mayPurge(prefix))
		r.get("/a")
		e := r.explain("PURGE", "/a")
		if e.Status != want.Status || e.Outcome != want.Outcome || e.CacheStatus != want.CacheStatus || e.Decision.Action != want.Decision.Action ||
			e.Key.URL != r.proxy.URL+"/a" || e.Forward != nil || e.Lookup.Done {
			t.Errorf("%s: %+v", prefix, e)
		}
		r.get("/a").status(t, "cacheproxy; hit; ttl=60")
		if l.took() != nil {
			t.Error("explaining has purged")
		}
	}
}
