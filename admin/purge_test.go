package admin

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/store"
)

// purger is a listener of a process that is the only replica.
func purger(t *testing.T) (http.Handler, *invalidation.Follower) {
	t.Helper()
	h, f, _ := purgerOf(t, PurgingOptions{})
	return h, f
}

// purgerOf is purger with the store that it purges.
func purgerOf(t *testing.T, o PurgingOptions) (http.Handler, *invalidation.Follower, *store.Store) {
	t.Helper()
	f, err := invalidation.Start(invalidation.Options{Instance: "alone"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close(t.Context()) })
	s, err := store.New(store.Options{NearSize: 16 << 20, Follower: f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(t.Context()) })
	f.Sweep(s)
	o.Follower, o.Store, o.Log = f, s, slog.New(slog.DiscardHandler)
	return mustNew(t, Options{Handle: func(mux *http.ServeMux) { Purging(mux, o) }}), f, s
}

func decoded[T any](t *testing.T, w *httptest.ResponseRecorder, status int) (v T) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != status {
		t.Fatalf("%d %v, want %d: %s", w.Code, err, status, w.Body)
	}
	return v
}

func TestPurge(t *testing.T) {
	h, f := purger(t)
	for _, tt := range []struct {
		name, body string
		subject    invalidation.Subject
		want       invalidation.Verdict
	}{
		{"url", `{"url": "HTTPS://Shop.example:443"}`, invalidation.Subject{URL: "https://shop.example/"}, invalidation.Forgotten},
		{"url, its bytes", `{"url": "http://a.example/A%2fb?x=%41&&y#z"}`, invalidation.Subject{URL: "http://a.example/A%2fb?x=%41&&y"}, invalidation.Forgotten},
		{"url, an empty query", `{"url": "http://a.example?"}`, invalidation.Subject{URL: "http://a.example/?"}, invalidation.Forgotten},
		{"url, of another scheme", `{"url": "https://a.example/1"}`, invalidation.Subject{URL: "http://a.example/1"}, invalidation.Keeps},
		{"url of any scheme", `{"url": "A.example:81/2"}`, invalidation.Subject{URL: "http://a.example:81/2"}, invalidation.Forgotten},
		{"urls", `{"urls": ["HTTP://A.example:80/u", "http://a.example/v", "http://a.example/u"]}`, invalidation.Subject{URL: "http://a.example/u"}, invalidation.Forgotten},
		{"pattern", `{"pattern": "a.example/3*"}`, invalidation.Subject{URL: "http://a.example/3/x"}, invalidation.Forgotten},
		{"pattern of any scheme, with one in the query", `{"pattern": "a.example/go?u=https://*"}`,
			invalidation.Subject{URL: "http://a.example/go?u=https://b.example/"}, invalidation.Forgotten},
		{"url of any scheme, with one in the query", `{"url": "a.example/to?u=https://b.example/"}`,
			invalidation.Subject{URL: "https://a.example/to?u=https://b.example/"}, invalidation.Forgotten},
		{"soft", `{"pattern": "http://a.example/4?", "soft": true}`, invalidation.Subject{URL: "http://a.example/4x"}, invalidation.Stale},
		{"any tag", `{"tags": ["a", "b"]}`, invalidation.Subject{Tags: []string{"b"}}, invalidation.Forgotten},
		{"any tag, said", `{"tags": ["c", "d"], "match": "any"}`, invalidation.Subject{Tags: []string{"d"}}, invalidation.Forgotten},
		{"all tags, one missing", `{"tags": ["e", "f"], "match": "all"}`, invalidation.Subject{Tags: []string{"f"}}, invalidation.Keeps},
		{"all tags", `{"tags": ["e", "f"], "match": "all"}`, invalidation.Subject{Tags: []string{"f", "e"}}, invalidation.Forgotten},
		{"group", `{"group": "g", "origin": "HTTP://b.example:80/"}`, invalidation.Subject{URL: "http://b.example/x", Groups: []string{"g"}}, invalidation.Forgotten},
		{"status", `{"pattern": "*c.example*", "status": ["4xx", 500]}`, invalidation.Subject{URL: "http://c.example/", Status: 404}, invalidation.Forgotten},
		{"another status", `{"pattern": "*d.example*", "status": ["4xx", 500]}`, invalidation.Subject{URL: "http://d.example/", Status: 501}, invalidation.Keeps},
		{"type and size", `{"pattern": "*e.example*", "content_type": ["image/*"], "min_size": 10, "max_size": 20}`,
			invalidation.Subject{URL: "http://e.example/", ContentType: "image/png", Size: 20}, invalidation.Forgotten},
		{"too small", `{"pattern": "*f.example*", "min_size": 10}`, invalidation.Subject{URL: "http://f.example/", Size: 9}, invalidation.Keeps},
		{"old", `{"pattern": "*g.example*", "older_than": "5m"}`, invalidation.Subject{URL: "http://g.example/", StoredAt: 1}, invalidation.Forgotten},
		{"young", `{"pattern": "*h.example*", "older_than": "5m"}`, invalidation.Subject{URL: "http://h.example/", StoredAt: 1 << 60}, invalidation.Keeps},
		{"everything", `{"all": true}`, invalidation.Subject{URL: "http://i.example/"}, invalidation.Forgotten},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := f.Table().Mark()
			w := post(h, "/v1/purge", tt.body)
			r := decoded[Receipt](t, w, 200)
			if !r.Complete || r.Detail != "" || r.Sequence != f.Table().Mark().Seq || !slices.Equal(r.Applied, []string{f.ID()}) || len(r.Lagging)+len(r.Silent) > 0 {
				t.Errorf("%s", w.Body)
			}
			tt.subject.BodyAsOf, tt.subject.ValidAsOf = m.Seq, m.Seq
			if v := f.Table().Judge(&tt.subject, m.Number); v.Verdict != tt.want {
				t.Errorf("verdict %v, want %v", v.Verdict, tt.want)
			}
			if l := w.Header().Get("Location"); l != fmt.Sprint("/v1/purges/", r.Sequence) {
				t.Errorf("Location %q", l)
			}
		})
	}
}

func TestPurgeRefuses(t *testing.T) {
	h, f := purger(t)
	tags := `"` + strings.Repeat(`t", "`, 100) + `t"`
	for body, want := range map[string]string{
		`{}`:                                   "want exactly one of url, urls, pattern, tags, group, all: none is given",
		`{"url": null}`:                        "none is given",
		`{"soft": true}`:                       "none is given",
		`{"url": "a/", "pattern": ""}`:         "given are url, pattern",
		`{"tags": [], "all": true}`:            "given are tags, all",
		`{"url": "a/", "urls": ["http://a/"]}`: "given are url, urls",
		`{"urls": []}`:                         "urls are 0: want 1 to 256",
		`{"urls": ["http://a/", "a/"]}`:        `urls: "a/" has no scheme`,
		`{"urls": ["http://a b/"]}`:            "url: ",
		`{"urls": [` + strings.Repeat(`"http://a/", `, 256) + `"http://a/"]}`:                                        "urls are 257: want 1 to 256",
		`{"urls": ["http://a/` + strings.Repeat("a", 40<<10) + `", "http://b/` + strings.Repeat("a", 40<<10) + `"]}`: "urls have 81938 bytes together: want 65536 at most",
		`{"url": ""}`:                                             "url: ",
		`{"url": "/path"}`:                                        "url: ",
		`{"url": "ftp://a.example/"}`:                             "url: ",
		`{"url": "http://a b/"}`:                                  "url: ",
		`{"url": "http://a.example:x/"}`:                          "url: ",
		`{"url": "http://u:p@a.example/"}`:                        "url: ",
		`{"url": "` + strings.Repeat("a", 9<<10) + `"}`:           "url: ",
		`{"url": "a.example/` + strings.Repeat("a", 9<<10) + `"}`: "url is longer than 8192 bytes",
		`{"pattern": ""}`:                                         "pattern is empty",
		`{"pattern": "a.example/[a-"}`:                            `pattern has a [ that is not closed: write \[ for itself`,
		`{"pattern": "a.example/a\\"}`:                            `pattern ends with a \, which`,
		`{"pattern": "` + strings.Repeat("*a", 33) + `"}`:         "pattern: more than 32 stars",
		`{"tags": []}`:                                            "tags are 0: want 1 to 100",
		`{"tags": [` + tags + `]}`:                                "tags are 101: want 1 to 100",
		`{"tags": [""]}`:                                          "a tag has 0 bytes",
		`{"tags": "a"}`:                                           "cannot unmarshal",
		`{"tags": ["a"], "match": "some"}`:                        `match is "some": any or all, with tags`,
		`{"url": "a.example/", "match": "all"}`:                   "match is",
		`{"group": "g"}`:                                          "origin is",
		`{"group": "g", "origin": "a.example"}`:                   "origin is",
		`{"group": "g", "origin": "http://a.example/x"}`:          "origin is",
		`{"group": "", "origin": "http://a.example"}`:             "group has 0 bytes",
		`{"all": true, "origin": "http://a.example"}`:             "origin goes with group",
		`{"all": false}`:                                          "all is false",
		`{"all": "yes"}`:                                          "cannot unmarshal",
		`{"all": true, "dry_run": null}`:                          "dry_run is null: true or false",
		`{"all": true, "dry_run": "true"}`:                        `dry_run is "true": true or false`,
		`{"all": true, "max": null}`:                              "max is null: a number",
		`{"all": true, "max": -1}`:                                "max is -1: a number",
		`{"all": true, "max": 1.5}`:                               "max is 1.5: a number",
		`{"all": true, "sotf": true}`:                             `unknown field "sotf"`,
		`{"all": true, "older_than": "5"}`:                        "older_than is",
		`{"all": true, "older_than": "0s"}`:                       "older_than is",
		`{"all": true, "older_than": "-5m"}`:                      "older_than is",
		`{"all": true, "older_than": "1ns"}`:                      "older_than is",
		`{"all": true, "status": [6]}`:                            "status",
		`{"all": true, "status": ["6xx"]}`:                        "status",
		`{"all": true, "min_size": 2, "max_size": 1}`:             "min_size and max_size",
		`{"all": true, "content_type": [""]}`:                     "content_type",
		`{"all": true, "content_type": [` + tags + `]}`:           "a filter has more than 32 values",
		`{"all": true} {}`:                                        "follows",
		`{"pattern": "` + strings.Repeat("x", maxQuestion) + `"}`: "too large",
		"{\"url\": \"http://a.example/\xe9\"}":                    "it is not UTF-8: write other bytes of a URL as %XX",
		`{"url": "http://a.example/\ud800"}`:                      "half a character",
		`{"url": "http://a.example/\udC00\ud800"}`:                "half a character",
		`{"url": "http://a.example/\\\ud83d\u0041"}`:              "half a character",
		"": "it is empty",
	} {
		w := post(h, "/v1/purge", body)
		if p := wantProblem(t, w); !strings.Contains(p.Detail, want) || w.Code != 400 && w.Code != 413 {
			t.Errorf("%.80s: %d %s, want %q", body, w.Code, p.Detail, want)
		}
	}
	w := post(h, "/v1/purge", `{"tags": [""], "match": "x", "older_than": "y"}`)
	if told := decoded[struct{ Mistakes []string }](t, w, 400); len(told.Mistakes) != 3 {
		t.Errorf("%q", told.Mistakes)
	}
	for _, query := range []string{"wait=1", "wait=-1s", "wait=21s", "wiat=1s", "dry_run=true", "until=done"} {
		if p := wantProblem(t, post(h, "/v1/purge?"+query, `{"all": true}`)); p.Status != 400 {
			t.Errorf("%s: %+v", query, p)
		}
	}
	for _, query := range []string{"dry_run=true;wait=2s", "wait=2s&x;y", "wait=%zz", "%"} {
		if p := wantProblem(t, post(h, "/v1/purge?"+query, `{"all": true}`)); p.Status != 400 || !strings.Contains(p.Detail, "the query cannot be read: invalid ") || !strings.Contains(p.Detail, "%3B") {
			t.Errorf("%s: %+v", query, p)
		}
	}
	if f.Table().Len() != 0 {
		t.Errorf("%d purges were made all the same", f.Table().Len())
	}
}

// What is no half of a character is taken as it is.
func TestEscapesOfJSON(t *testing.T) {
	for text, want := range map[string]string{
		`"\ud83d\ude00"`: "\U0001f600", `"\\ud800"`: `\ud800`, `"\ufffd"`: "\ufffd", `"\u00e9\n\""`: "\u00e9\n\"", `"\ud83d\ude00\ud83d\ude00"`: "\U0001f600\U0001f600",
	} {
		var got string
		if err := decodeJSON([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{`"\`, `"\u`, `"\ud8`, `"\ud800\`, `"\ud800\u`, `"\u123g"`} {
		if decodeJSON([]byte(text), new(string)) == nil {
			t.Errorf("%s is JSON", text)
		}
	}
}

// No parameter is left out because it cannot be read, wherever there are some.
func TestQueryThatCannotBeRead(t *testing.T) {
	feed := NewFeed()
	f, err := invalidation.Start(invalidation.Options{Instance: "alone"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close(t.Context())
	h := mustNew(t, Options{Handle: func(mux *http.ServeMux) {
		Purging(mux, PurgingOptions{Follower: f, Log: slog.New(slog.DiscardHandler)})
		mux.Handle("GET /v1/log", feed)
	}})
	for _, target := range []string{
		"GET /v1/purges", "GET /v1/purges/1", "DELETE /v1/purges/1", "GET /v1/entries", "GET /v1/replicas", "DELETE /v1/replicas", "DELETE /v1/replicas/a", "GET /v1/log",
	} {
		method, path, _ := strings.Cut(target, " ")
		r := httptest.NewRequest(method, path, nil)
		r.URL.RawQuery, r.Host = "a;b", "localhost"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if p := wantProblem(t, w); p.Status != 400 || !strings.Contains(p.Detail, "the query cannot be read") {
			t.Errorf("%s: %+v", target, p)
		}
	}
}

// A page of another origin cannot have the operator's browser purge.
func TestPurgeFromAPage(t *testing.T) {
	h, f := purger(t)
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		r := httptest.NewRequest(http.MethodPost, "/v1/purge", strings.NewReader(`{"all": true}`))
		r.Host = "localhost:9090"
		r.Header.Set("Content-Type", "text/plain")
		r.Header.Set(name, value)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 403 || f.Table().Len() != 0 {
			t.Errorf("%s: %d, %d purges", name, w.Code, f.Table().Len())
		}
	}
}

func TestWhoPurged(t *testing.T) {
	for _, tt := range []struct{ address, by, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"[::1]:5", " ci/17 ", "::1 ci/17"},
		{"@", "me\r\n\x1b[2J\xff", "unix socket me[2J"},
		{"192.0.2.1:5", strings.Repeat("é", 100), "192.0.2.1 " + strings.Repeat("é", 64)},
		{"192.0.2.1:5", "a" + strings.Repeat("é", 100), "192.0.2.1 a" + strings.Repeat("é", 63)},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr = tt.address
		r.Header["X-Purged-By"] = []string{tt.by}
		if got := who(r); got != tt.want {
			t.Errorf("%q by %q: %q, want %q", tt.address, tt.by, got, tt.want)
		}
	}
}

func TestHistory(t *testing.T) {
	h, f := purger(t)
	get := func(path string) *httptest.ResponseRecorder { return ask(h, "GET", path, "localhost", "") }
	if told := decoded[History](t, get("/v1/purges"), 200); told.Purges == nil || len(told.Purges) != 0 {
		t.Errorf("%+v", told)
	}
	for _, body := range []string{
		`{"url":"http://a.example/?a"}`, `{"pattern":"a*"}`, `{"tags":["a","b"],"match":"all"}`, `{"urls":["http://a.example/1","http://a.example/2"]}`, `{"group":"g","origin":"http://a.example"}`,
		`{"all":true,"soft":true,"status":["4xx",500],"content_type":["a/*"],"older_than":"1h0m0s","min_size":1,"max_size":2}`,
	} {
		since := time.Now().Add(-time.Second)
		sent := decoded[Receipt](t, post(h, "/v1/purge", body), 200)
		told := decoded[History](t, get("/v1/purges?limit=1"), 200)
		if len(told.Purges) != 1 {
			t.Fatalf("%+v", told)
		}
		last := told.Purges[0]
		if text, _ := json.Marshal(last.Purge); string(text) != body || last.Sequence != sent.Sequence || last.Time.Before(since) || last.Who != "192.0.2.1" {
			t.Errorf("%s as %+v", text, last)
		}
		if (last.StoredBefore != nil) != (last.OlderThan != "") {
			t.Errorf("stored before %v", last.StoredBefore)
		}
		one := decoded[Recorded](t, get(fmt.Sprintf("/v1/purges/%v?wait=1s", sent.Sequence)), 200)
		if one.Sequence != sent.Sequence || !one.Receipt.Complete || !slices.Equal(one.Receipt.Applied, []string{f.ID()}) {
			t.Errorf("%+v", one)
		}
	}
	if told := decoded[History](t, get("/v1/purges"), 200); len(told.Purges) != 6 || told.Purges[0].All == nil || told.Purges[5].URL == nil {
		t.Errorf("%+v", told)
	}
	long := `"http://a.example/0"`
	for i := range 99 {
		long += fmt.Sprintf(`,"http://a.example/%d"`, i+1)
	}
	sent := decoded[Receipt](t, post(h, "/v1/purge", `{"urls":[`+long+`]}`), 200)
	if told := decoded[History](t, get("/v1/purges?limit=1"), 200).Purges[0]; len(told.URLs) != listedURLs || !told.Shortened {
		t.Errorf("%+v", told)
	}
	if one := decoded[Recorded](t, get(fmt.Sprint("/v1/purges/", sent.Sequence)), 200); len(one.URLs) != 100 || one.Shortened {
		t.Errorf("%+v", one)
	}
	for path, status := range map[string]int{
		"/v1/purges?limit=0": 400, "/v1/purges?limit=1001": 400, "/v1/purges?limit=x": 400, "/v1/purges?n=1": 400, "/v1/purges/x": 400, "/v1/purges/-1": 400,
		"/v1/purges/1": 404, "/v1/purges/1?wait=x": 400, "/v1/replicas?x": 400,
	} {
		if p := wantProblem(t, get(path)); p.Status != status {
			t.Errorf("%s: %+v", path, p)
		}
	}
	fleet := decoded[Fleet](t, get("/v1/replicas"), 200)
	if len(fleet.Replicas) != 1 || fleet.Replicas[0].ID != f.ID() || fleet.Asked != f.ID() || !fleet.Covered || fleet.Replicas[0].Silent {
		t.Errorf("%+v", fleet)
	}
	if p := wantProblem(t, ask(h, "DELETE", "/v1/replicas/a%2Fb%23c", "localhost", "")); p.Status != 404 || !strings.Contains(p.Detail, `"a/b#c"`) {
		t.Errorf("%+v", p)
	}
}

func TestReadyWithNotes(t *testing.T) {
	h := mustNew(t, Options{Notes: func() []Problem { return []Problem{{"purges", "not yet"}} }})
	if w := ask(h, "GET", "/readyz", "localhost", ""); w.Code != 200 || w.Body.String() != `{"status":"ready","notes":[{"name":"purges","detail":"not yet"}]}`+"\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
