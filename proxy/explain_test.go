package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"cacheproxy/metrics"
	"cacheproxy/policy"
)

// explain asks about a request as do would send it.
func (r *rig) explain(method, target string, fields ...string) Explanation {
	r.t.Helper()
	q := Question{Method: method, URL: r.proxy.URL + target, Client: "127.0.0.1"}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		q.Header = append(q.Header, [2]string{name, value})
	}
	req, err := q.Request(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return r.h.Explain(req)
}

func (r *rig) lastLog() Access {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs[len(r.logs)-1]
}

// counted is every series of this cache's metrics with its value, but for those that time themselves.
func counted(t testing.TB, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "cacheproxy_") {
			continue
		}
		for _, series := range family.GetMetric() {
			name := strings.TrimPrefix(family.GetName(), "cacheproxy_")
			for _, l := range series.GetLabel() {
				name += " " + l.GetValue()
			}
			all[name] = series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
		}
	}
	return all
}

// A situation is brought about by before, and then one request is explained and made.
type situation struct {
	name   string
	rule   policy.RuleSpec
	fields string // of the response, "Name: value" by line
	before func(*rig)
	asks   []string // fields of the request

	action, fwd string
	reason      string // of the decision
	lately      string // reason of the last verdict
	alone       string // reason for going alone
	stored      func(ExplainedStored) bool
	status      string // the Cache-Status of the request that follows
	metric      string // counts one more by then
}

var situations = []situation{
	{
		name: "fresh", fields: "Cache-Control: max-age=60\nEtag: \"v1\"",
		before: func(r *rig) { r.get("/x"); r.clock.advance(7 * time.Second) },
		action: "fresh", stored: func(s ExplainedStored) bool {
			return s.Age == Seconds(7*time.Second) && s.Lifetime == Seconds(time.Minute) && s.ETag == `"v1"` && s.Bytes == 10
		},
		status: "cacheproxy; hit; ttl=53", metric: "requests_total hit near",
	},
	{
		name: "stale", fields: "Cache-Control: max-age=60\nEtag: \"v1\"",
		before: func(r *rig) { r.get("/x"); r.clock.advance(61 * time.Second) },
		action: "revalidate", fwd: "stale", reason: "stale", stored: func(s ExplainedStored) bool { return s.TTL == Seconds(-time.Second) },
		status: "cacheproxy; fwd=stale; fwd-status=304; ttl=60; stored; detail=stale", metric: "requests_total stale near",
	},
	{
		name: "private", fields: "Cache-Control: private, max-age=60",
		before: func(r *rig) { r.get("/x"); r.clock.advance(5 * time.Second) },
		action: "forward", fwd: "uri-miss", lately: "private", alone: "not-shareable",
		status: "cacheproxy; fwd=uri-miss; detail=private", metric: "refusals_total private",
	},
	{
		name: "Vary mismatch", fields: "Cache-Control: max-age=60\nVary: Accept-Language",
		before: func(r *rig) { r.get("/x", "Accept-Language: de") }, asks: []string{"Accept-Language: fr"},
		action: "forward", fwd: "vary-miss", status: "cacheproxy; fwd=vary-miss; ttl=60; stored", metric: "requests_total vary-miss none",
	},
	{
		name: "Authorization", fields: "Cache-Control: max-age=60",
		before: func(r *rig) { r.get("/x", "Authorization: Basic eDp5") }, asks: []string{"Authorization: Basic eDp5"},
		action: "forward", fwd: "uri-miss", lately: "authorization", alone: "not-shareable",
		status: "cacheproxy; fwd=uri-miss; detail=authorization", metric: "refusals_total authorization",
	},
	{
		name: "Set-Cookie", fields: "Cache-Control: max-age=60\nSet-Cookie: a=b",
		before: func(r *rig) { r.get("/x") },
		action: "forward", fwd: "uri-miss", lately: "set-cookie", alone: "not-shareable",
		status: "cacheproxy; fwd=uri-miss; detail=set-cookie", metric: "refusals_total set-cookie",
	},
	{
		name: "bypass rule", fields: "Cache-Control: max-age=60", rule: policy.RuleSpec{Match: policy.MatchSpec{Path: "/x"}, Bypass: true},
		before: func(r *rig) { r.get("/x") },
		action: "forward", fwd: "bypass", reason: "bypass", alone: "bypass",
		status: "cacheproxy; fwd=bypass; detail=bypass", metric: "refusals_total bypass",
	},
	{
		name: "heuristic", fields: "Last-Modified: Sun, 22 Nov 2026 02:00:00 GMT\nDate: Sun, 22 Nov 2026 12:00:00 GMT",
		before: func(r *rig) { r.get("/x") },
		action: "fresh", stored: func(s ExplainedStored) bool { return s.Heuristic && s.Lifetime == Seconds(time.Hour) },
		status: "cacheproxy; hit; ttl=3600", metric: "requests_total hit near",
	},
	{
		name: "too large", fields: "Cache-Control: max-age=60", rule: policy.RuleSpec{MaxObject: 9},
		before: func(r *rig) { r.get("/x") },
		action: "forward", fwd: "uri-miss", lately: "too-large", alone: "not-shareable",
		status: "cacheproxy; fwd=uri-miss; detail=too-large", metric: "refusals_total too-large",
	},
	{
		name: "not shareable", fields: "Cache-Control: max-age=0, stale-if-error=60",
		before: func(r *rig) { r.get("/x") },
		action: "revalidate", fwd: "stale", reason: "stale", alone: "not-shareable",
		status: "cacheproxy; fwd=stale; ttl=0; stored; detail=not-shareable", metric: "refusals_total not-shareable",
	},
}

func TestExplainTellsWhatHappens(t *testing.T) {
	for _, s := range situations {
		t.Run(s.name, func(t *testing.T) { s.run(t) })
	}
}

func (s *situation) run(t *testing.T) {
	m := metrics.New()
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		for line := range strings.SplitSeq(s.fields, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			w.Header().Set(name, value)
		}
		if req.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = fmt.Fprint(w, "0123456789")
	}, withRules(t, s.rule), func(o *Options) { o.Metrics = m })
	s.before(r)
	before := counted(t, m)
	e := r.explain("GET", "/x", s.asks...)
	if again := r.explain("GET", "/x", s.asks...); !reflect.DeepEqual(again, e) {
		t.Errorf("asking has changed something:\n%+v\n%+v", e, again)
	}
	if after := counted(t, m); !reflect.DeepEqual(after, before) {
		t.Errorf("asking was counted:\n%v\n%v", before, after)
	}
	real := r.get("/x", s.asks...).status(t, s.status)
	s.check(t, e, real)
	if log := r.lastLog(); log.Outcome.Label() != e.Outcome || !strings.HasSuffix(s.status, log.Outcome.Detail.String()) {
		t.Errorf("the access log has %s %s", log.Outcome.Label(), log.Outcome.Detail)
	}
	if got := counted(t, m)[s.metric] - before[s.metric]; got != 1 {
		t.Errorf("%s counts %v more", s.metric, got)
	}
}

// check compares an explanation with what is expected, and with the request that followed.
func (s *situation) check(t *testing.T, e Explanation, real reply) {
	t.Helper()
	lately, alone := "", ""
	if e.Lately != nil {
		lately = e.Lately.Reason
	}
	if e.Forward != nil && e.Forward.Alone != nil {
		alone = e.Forward.Alone.Reason
	}
	got := [...]string{e.Decision.Action, e.Decision.Fwd, e.Decision.Reason, lately, alone}
	if want := [...]string{s.action, s.fwd, s.reason, s.lately, s.alone}; got != want {
		t.Errorf("action, fwd, reason, lately, alone: %q, want %q", got, want)
	}
	if e.Decision.Section == "" || e.Decision.Sentence == "" {
		t.Errorf("nothing explains the decision: %+v", e.Decision)
	}
	if s.stored != nil && (e.Stored == nil || !s.stored(*e.Stored)) {
		t.Errorf("stored: %+v", e.Stored)
	}
	status := real.Header.Get("Cache-Status")
	if e.Forward == nil && (e.CacheStatus != status || e.Status != real.StatusCode) {
		t.Errorf("explained as %d %s, was %d %s", e.Status, e.CacheStatus, real.StatusCode, status)
	}
	if member, _, _ := strings.Cut(e.CacheStatus, "; detail"); !strings.HasPrefix(status, member) {
		t.Errorf("explained as %s, was %s", e.CacheStatus, status)
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var read Explanation
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(read); string(again) != string(text) {
		t.Errorf("JSON loses something:\n%s\n%s", text, again)
	}
}

// What explain says would be forwarded is what is forwarded.
func TestExplainForwardsWhatIsForwarded(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60, stale-if-error=600")
		w.Header().Set("Etag", `"v1"`)
	}, withRules(t, policy.RuleSpec{
		Match: policy.MatchSpec{Path: "/a|b"}, StripCookies: true,
		Key: policy.KeySpec{Query: policy.QuerySpec{Ignore: []string{"utm_*"}, Sort: true}, Headers: []string{"X-Plan"}},
	}))
	asks := []string{"X-Forwarded-Host: evil.example", "Cookie: a=b", "X-Plan: gold", "Te: trailers", "Accept-Language: de", "User-Agent: test",
		"Accept-Encoding: gzip", "Connection: X-Hop", "X-Hop: 1"}
	const target = "/a|b?z=1&utm_id=2&a=3"
	for _, state := range []string{"miss", "stale"} {
		e := r.explain("GET", target, asks...)
		var raw strings.Builder
		for _, f := range asks {
			raw.WriteString(f + "\r\n")
		}
		r.raw("GET " + target + " HTTP/1.1\r\nHost: " + r.proxy.Listener.Addr().String() + "\r\n" + raw.String() + "Connection: close\r\n\r\n")
		seen := r.lastSeen()
		if e.Forward.Method != seen.Method || e.Forward.Target != seen.RequestURI || !reflect.DeepEqual(e.Forward.Header, seen.Header) {
			t.Errorf("%s: explained as %s %v,\nreceived %s %v", state, e.Forward.Target, e.Forward.Header, seen.RequestURI, seen.Header)
		}
		stale := state == "stale"
		if e.Forward.Validates != stale || e.Forward.Fallback != stale || !e.Forward.Shared {
			t.Errorf("%s: %+v", state, e.Forward)
		}
		if want := []string{"Connection", "Cookie", "X-Hop"}; !reflect.DeepEqual(e.Forward.Dropped, want) {
			t.Errorf("%s: dropped %v, want %v", state, e.Forward.Dropped, want)
		}
		if e.Rule.Match != "path: /a|b" || !reflect.DeepEqual(e.Key.Dropped, []string{"utm_id=2"}) || !e.Key.Sorted ||
			!reflect.DeepEqual(e.Key.Extras, []ExplainedExtra{{"header", "X-Plan", []string{"gold"}}}) {
			t.Errorf("%s: rule %+v, key %+v", state, e.Rule, e.Key)
		}
		r.clock.advance(61 * time.Second)
	}
}

func TestExplainAnswersOfItsOwn(t *testing.T) {
	r := newRig(t, cacheable)
	for _, tt := range []struct {
		method string
		fields []string
		status int
		reason string
	}{
		{"GET", []string{"Cache-Control: only-if-cached"}, 504, "only-if-cached"},
		{"GET", []string{"Upgrade: \u00e9", "Connection: upgrade"}, 400, "upgrade"},
	} {
		e := r.explain(tt.method, "/none", tt.fields...)
		if e.Status != tt.status || e.Decision.Reason != tt.reason || e.Forward != nil || e.Outcome != "error" {
			t.Errorf("%v: %+v", tt.fields, e)
		}
	}
	r.get("/")
	for _, tt := range []struct {
		field  string
		status int
	}{{`If-None-Match: "v1"`, 304}, {"Range: bytes=2-4", 206}, {"Range: bytes=99-", 416}, {"Accept: */*", 200}} {
		if e := r.explain("GET", "/", tt.field); e.Status != tt.status {
			t.Errorf("%s: explained as %d", tt.field, e.Status)
		}
		if real := r.get("/", tt.field); real.StatusCode != tt.status {
			t.Errorf("%s: %d", tt.field, real.StatusCode)
		}
	}
	if e := r.explain("POST", "/"); e.Decision.Fwd != "method" || e.Lookup.Done || e.Lookup.Why == nil || e.Forward.Shared {
		t.Errorf("POST: %+v", e)
	}
	if e := r.explain("GET", "/a?\xe9"); e.Lookup.Done || e.Lookup.Why == nil || e.Lookup.Why.Reason != "unnameable-url" || e.Forward == nil || e.Forward.Shared {
		t.Errorf("a URL that no purge can name: %+v", e)
	}
	r.wantHits(1)
}

func TestExplainWhoAsks(t *testing.T) {
	r := newRig(t, cacheable, func(o *Options) {
		o.Client.Trusted, o.Cache.StatusField = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, StatusTrusted
	})
	e := r.explain("GET", "/", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
	if want := (ExplainedClient{Peer: "127.0.0.1", Address: "192.0.2.7", Trusted: true, Scheme: "https"}); e.Client != want || e.Notes != nil {
		t.Errorf("%+v %q", e.Client, e.Notes)
	}
	req, err := Question{URL: r.proxy.URL + "/", Header: [][2]string{{"X-Forwarded-For", "192.0.2.7"}}}.Request(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e := r.h.Explain(req); e.Client != (ExplainedClient{Scheme: "http"}) || len(e.Notes) != 1 || !strings.Contains(e.Notes[0], "cache.status_field is trusted") {
		t.Errorf("%+v %q", e.Client, e.Notes)
	}
}

func TestQuestionIsReadAsAServerWould(t *testing.T) {
	req, err := Question{URL: "https://Shop.example:8443/a|b//%2f?x=1&y#part", Client: "2001:db8::1", Header: [][2]string{{"Host", "other.example"}, {"x-a", " 1 "}}}.Request(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if req.Method != "GET" || req.RequestURI != "/a|b//%2f?x=1&y" || req.Host != "other.example" || req.TLS == nil ||
		req.RemoteAddr != "[2001:db8::1]:0" || !reflect.DeepEqual(req.Header, http.Header{"X-A": {"1"}}) {
		t.Errorf("%+v", req)
	}
	for want, q := range map[string]Question{
		"url: ":        {URL: "/path"},
		"url: \"ftp":   {URL: "ftp://a.example/"},
		"url: \"http:": {URL: "http:///path"},
		"url: user":    {URL: "http://a:b@a.example/"},
		"url: \"http":  {URL: "http://a.example/ HTTP/1.0"},
		"url: net":     {URL: "http://a.example/%zz"},
		"method: ":     {URL: "http://a.example/", Method: "GET /x"},
		"headers[0]: ": {URL: "http://a.example/", Header: [][2]string{{"A b", ""}}},
		"headers[1]: ": {URL: "http://a.example/", Header: [][2]string{{"A", ""}, {"A", "x\r\nB: y"}}},
		"client: ":     {URL: "http://a.example/", Client: "localhost"},
	} {
		if _, err := q.Request(t.Context()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", q, err, want)
		}
	}
}

// What a question is read as is what it says, or it is refused; and whatever it is, it can be explained.
func FuzzQuestion(f *testing.F) {
	f.Add("GET", "http://a.example/a|b?x=1#y", "Host", "b.example")
	f.Add("OPTIONS", "https://a.example", "Range", "bytes=0-")
	f.Add("GET", "http://a.example/%2f;x", "Transfer-Encoding", "chunked")
	h, err := New(Options{Next: tripper(func(*http.Request) { panic("a request was sent") })})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = h.Close(context.Background()) })
	f.Fuzz(func(t *testing.T, method, url, name, value string) {
		r, err := Question{Method: method, URL: url, Header: [][2]string{{name, value}, {"X-Last", "1"}}}.Request(t.Context())
		if err != nil {
			return
		}
		if method != "" && r.Method != method || r.Header.Get("X-Last") != "1" && !strings.EqualFold(name, "x-last") || strings.ContainsAny(r.RequestURI, " #\r\n") {
			t.Errorf("%q %q %q: %q is read as %+v", method, url, name, value, r)
		}
		if e := h.Explain(r); e.Key.URL == "" || e.CacheStatus == "" || e.Decision.Sentence == "" || e.Decision.Section == "" {
			t.Errorf("%q %q: %+v", method, url, e)
		}
	})
}
