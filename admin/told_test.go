package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
	"cacheproxy/proxy"
	"cacheproxy/store"
)

// keep stores a response as if it were fetched now.
func keep(t *testing.T, s *store.Store, url string, change ...func(*store.Draft)) {
	t.Helper()
	stamp := s.Mark()
	d := store.Draft{
		Key: policy.Key{URL: url}, Status: 200, Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte("hello"), ResponseTime: time.Now(),
		Freshness: policy.Freshness{Born: time.Now(), Lifetime: time.Minute}, KeepUntil: time.Now().Add(time.Hour),
	}
	d.FetchedSince(stamp)
	for _, f := range change {
		f(&d)
	}
	e, err := store.NewEntry(d)
	if err != nil {
		t.Fatal(err)
	}
	if why := s.SaveSince(e, stamp); why != policy.None {
		t.Fatal(why)
	}
}

// What is to be counted first is counted, and where that says no nothing is purged.
func TestCautiousPurge(t *testing.T) {
	h, f, s := purgerOf(t, PurgingOptions{ShownURL: func(url string) string { return strings.ReplaceAll(url, "secret", "REDACTED") }})
	for i := range 3 {
		keep(t, s, fmt.Sprint("http://a.example/p?secret=", i))
	}
	preview := decoded[Preview](t, post(h, "/v1/purge?wait=20s", `{"pattern": "a.example/p*", "dry_run": true, "max": 3}`), 200)
	if !preview.DryRun || preview.Matched != 3 || preview.Bytes != 15 || preview.Counted != "near" || preview.Held != nil ||
		len(preview.Sample) != 3 || !strings.Contains(preview.Sample[0], "REDACTED") {
		t.Errorf("%+v", preview)
	}
	if preview := decoded[Preview](t, post(h, "/v1/purge", `{"tags": ["x"], "dry_run": true}`), 200); preview.Matched != 0 || preview.Sample == nil ||
		preview.Held == nil || !slices.Equal(preview.Held.Origins, []string{"http://a.example"}) || preview.Held.More {
		t.Errorf("%+v", preview)
	}
	for _, body := range []string{`{"all": true, "max": 2}`, `{"all": true, "max": 2, "dry_run": true}`, `{"url": "http://a.example/p?secret=1", "max": 0}`} {
		w := post(h, "/v1/purge", body)
		told := decoded[struct {
			Detail       string
			Matched, Max int
			Sample       []string
		}](t, w, 409)
		if told.Matched <= told.Max || len(told.Sample) != told.Matched || !strings.Contains(told.Detail, fmt.Sprintf("would match %d of what is stored, and max is %d", told.Matched, told.Max)) ||
			strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %s", body, w.Body)
		}
	}
	if f.Table().Len() != 0 {
		t.Errorf("%d purges were made", f.Table().Len())
	}
	r := decoded[Receipt](t, post(h, "/v1/purge?wait=20s&until=swept", `{"all": true, "max": 3, "dry_run": false}`), 200)
	if !r.Complete || r.Outcome == nil || r.Matched != 3 || r.Swept != 3 || r.Bytes != 15 || len(r.Sample) != 3 || r.Sweep.State != invalidation.SweepTwice ||
		r.Sweep.By != f.ID() || r.Held != nil || !strings.Contains(r.Sample[0], "REDACTED") {
		t.Errorf("%+v %+v", r, r.Outcome)
	}
	r = decoded[Receipt](t, post(h, "/v1/purge?wait=20s&until=swept", `{"all": true}`), 200)
	if r.Matched != 0 || r.Held == nil || len(r.Held.Origins) != 0 {
		t.Errorf("%+v", r)
	}
	one := decoded[Recorded](t, ask(h, "GET", fmt.Sprint("/v1/purges/", r.Sequence, "?wait=20s&until=swept"), "localhost", ""), 200)
	if one.Sweep.State != invalidation.SweepTwice || one.Receipt.Outcome == nil || one.Sample == nil {
		t.Errorf("%+v", one)
	}
}

// A sweep is cancelled, the purge is not.
func TestCancel(t *testing.T) {
	h, f := purger(t)
	path := fmt.Sprint("/v1/purges/", decoded[Receipt](t, post(h, "/v1/purge?wait=20s&until=swept", `{"all": true}`), 200).Sequence)
	del := func(path string) *httptest.ResponseRecorder { return ask(h, "DELETE", path, "localhost", "") }
	for path, status := range map[string]int{path: 409, path + "?x": 400, "/v1/purges/1": 404, "/v1/purges/0": 400, "/v1/purges/x": 400} {
		if p := wantProblem(t, del(path)); p.Status != status {
			t.Errorf("%s: %+v", path, p)
		}
	}
	// Nobody sweeps for this one.
	idle, err := invalidation.Start(invalidation.Options{Instance: "idle"})
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close(t.Context())
	begun, ended := make(chan struct{}), make(chan struct{})
	idle.Sweep(&patientSweeper{begun, ended})
	h = mustNew(t, Options{Handle: func(mux *http.ServeMux) {
		Purging(mux, PurgingOptions{Follower: idle, Log: slog.New(slog.DiscardHandler)})
	}})
	m := idle.Table().Mark()
	path = fmt.Sprint("/v1/purges/", decoded[Receipt](t, post(h, "/v1/purge", `{"all": true}`), 200).Sequence)
	<-begun
	for range 2 {
		told := decoded[Cancelled](t, del(path), 200)
		if told.Sweep.State != invalidation.SweepCancelled || told.Sweep.Who != "192.0.2.1" || told.Swept != 1 || !strings.Contains(told.Detail, "the purge is not") {
			t.Errorf("%+v", told)
		}
	}
	<-ended
	if v := idle.Table().Judge(&invalidation.Subject{URL: "http://a.example/", BodyAsOf: m.Seq}, 0); v.Verdict != invalidation.Forgotten {
		t.Error("the purge does not stand")
	}
	if f.Table().Len() != 1 {
		t.Error("another log was changed")
	}
}

// patientSweeper sweeps one response, and then on and on.
type patientSweeper struct{ begun, ended chan struct{} }

func (s *patientSweeper) Sweep(ctx context.Context, _ *invalidation.Record, progress func(invalidation.Tally) error) (t invalidation.Tally, err error) {
	t.Swept = 1
	if err := progress(t); err != nil {
		return t, err
	}
	close(s.begun)
	defer close(s.ended)
	for err == nil && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
		err = progress(t)
	}
	return t, err
}

func (s *patientSweeper) Advance(context.Context) {}

// Pages of the history follow one another.
func TestHistoryByPages(t *testing.T) {
	h, _ := purger(t)
	var want []invalidation.Seq
	for range 5 {
		want = append([]invalidation.Seq{decoded[Receipt](t, post(h, "/v1/purge", `{"all": true}`), 200).Sequence}, want...)
	}
	var got []invalidation.Seq
	for query := "?limit=2"; query != ""; {
		told := decoded[History](t, ask(h, "GET", "/v1/purges"+query, "localhost", ""), 200)
		for _, p := range told.Purges {
			got = append(got, p.Sequence)
		}
		query = ""
		if told.Before != nil {
			query = fmt.Sprint("?limit=2&before=", *told.Before)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if p := wantProblem(t, ask(h, "GET", "/v1/purges?before=x", "localhost", "")); p.Status != 400 {
		t.Errorf("%+v", p)
	}
}

// A page may be longer than what is read at once, and end anywhere in it.
func TestLongPagesOfTheHistory(t *testing.T) {
	h, f := purger(t)
	var want []invalidation.Seq
	for range 2*readAtOnce + 1 {
		r, err := f.Purge(t.Context(), invalidation.Purge{Kind: invalidation.KindURL, Selector: "http://a.example/"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, r.Sequence)
	}
	slices.Reverse(want)
	for _, limit := range []int{1, readAtOnce - 1, readAtOnce, readAtOnce + 1, 2 * readAtOnce, len(want), len(want) + 1, maxLimit} {
		told := decoded[History](t, ask(h, "GET", fmt.Sprint("/v1/purges?limit=", limit), "localhost", ""), 200)
		var got []invalidation.Seq
		for _, p := range told.Purges {
			got = append(got, p.Sequence)
		}
		if n := min(limit, len(want)); !slices.Equal(got, want[:n]) || (told.Before != nil) != (n < len(want)) || told.Before != nil && *told.Before != want[n-1] {
			t.Errorf("limit %d: %d purges, before %v", limit, len(got), told.Before)
		}
	}
}

// What is listed of a purge keeps nothing of it in memory that is not shown.
func TestListedPurgeLetsGo(t *testing.T) {
	p := &purging{PurgingOptions{ShownURL: func(url string) string { return url }}}
	e := &invalidation.Event{Record: &invalidation.Record{Seq: 1}, Outcome: invalidation.Outcome{At: time.Now()}}
	e.Kind = invalidation.KindURL
	for i := range invalidation.MaxURLs {
		e.URLs = append(e.URLs, fmt.Sprint("http://a.example/", i))
	}
	whole, all := weak.Make(e.Record), weak.Make(&e.URLs[0])
	told := p.listed(e)
	if len(e.URLs) != invalidation.MaxURLs || e.Shortened {
		t.Error("the record was changed")
	}
	runtime.GC()
	if whole.Value() != nil || all.Value() != nil {
		t.Error("the whole record is still in memory")
	}
	if len(told.URLs) != listedURLs || !told.Shortened || told.Sweep.At == nil {
		t.Errorf("%+v", told)
	}
}

// What is stored of a URL is told, but for secrets.
func TestEntries(t *testing.T) {
	h, _, s := purgerOf(t, PurgingOptions{Redacted: func(name string) bool { return name == "x-api-key" }})
	request := http.Header{"Authorization": {"Basic hush"}, "Cookie": {"id=hush"}, "X-Api-Key": {"hush"}, "Accept-Language": {"de"}}
	rule := policy.KeyRule{Headers: []string{"Authorization", "X-Plan"}, Cookies: []string{"id"}}
	key := rule.Key("http", "a.example", "/p", "", request, nil)
	vary := policy.ParseVary(http.Header{"Vary": {"Accept-Language, X-Api-Key, Cookie, X-None"}})
	keep(t, s, key.URL, func(d *store.Draft) {
		d.Key, d.Nomination, d.Selection = key, vary, vary.AppendSelection(nil, request)
		d.Tags = []string{"x", policy.GroupTag("g")}
		d.Freshness.StaleIfError = time.Hour
	})
	get := func(path string) *httptest.ResponseRecorder { return ask(h, "GET", path, "localhost", "") }
	w := get("/v1/entries?url=A.example/p")
	told := decoded[Stored](t, w, 200)
	if strings.Contains(w.Body.String(), "hush") {
		t.Errorf("secrets: %s", w.Body)
	}
	if told.URL != "a.example/p" || told.Redis != "none" || len(told.Variants) != 1 {
		t.Fatalf("%s", w.Body)
	}
	v := told.Variants[0]
	if want := []Wanted{
		{Name: "accept-language", Values: []string{"de"}}, {Name: "cookie", Values: []string{redacted}}, {Name: "x-api-key", Values: []string{redacted}}, {Name: "x-none", Absent: true},
	}; !reflect.DeepEqual(v.Vary, want) {
		t.Errorf("%+v", v.Vary)
	}
	if len(v.Key) < 3 || v.Key[0].Name != "Authorization" || v.Key[0].Values[0] != redacted {
		t.Errorf("%+v", v.Key)
	}
	if k := v.Near; v.Redis != nil || k == nil || k.Status != 200 || k.Bytes != 5 || k.Size < 5 || k.Lifetime != proxy.Seconds(time.Minute) || k.TTL <= 0 ||
		k.StaleIfError != proxy.Seconds(time.Hour) || !slices.Equal(k.Tags, []string{"x"}) || !slices.Equal(k.Groups, []string{"g"}) || k.Forbidden != "" || len(k.Fill) != 16 {
		t.Errorf("%+v", k)
	}
	if told := decoded[Stored](t, get("/v1/entries?url=http://b.example/"), 200); len(told.Variants) != 0 || told.Variants == nil || told.Held == nil || len(told.Held.Origins) != 1 {
		t.Errorf("%+v", told)
	}
	for _, query := range []string{"", "?url=", "?url=http://a%20b/", "?uri=http://a.example/"} {
		if p := wantProblem(t, get("/v1/entries"+query)); p.Status != 400 {
			t.Errorf("%s: %+v", query, p)
		}
	}
}

// What log.redact names is not shown of URLs that were purged: many are those of requests.
func TestHistoryShowsNoSecrets(t *testing.T) {
	h, f, _ := purgerOf(t, PurgingOptions{ShownURL: func(url string) string { return strings.ReplaceAll(url, "hush", "REDACTED") }})
	for _, p := range []invalidation.Purge{
		{Kind: invalidation.KindURL, Selector: "http://a.example/?token=hush", Who: "response to POST", Passing: true},
		{Kind: invalidation.KindPattern, Selector: "*?token=hush"},
		{Kind: invalidation.KindURL, URLs: []string{"http://b.example/?token=hush", "http://c.example/?token=hush"}, Who: "response to POST", Passing: true},
	} {
		if _, err := f.Purge(t.Context(), p, 0); err != nil {
			t.Fatal(err)
		}
	}
	list := ask(h, "GET", "/v1/purges", "localhost", "")
	told := decoded[History](t, list, 200)
	one := ask(h, "GET", fmt.Sprint("/v1/purges/", told.Purges[0].Sequence), "localhost", "")
	for _, text := range []string{list.Body.String(), one.Body.String()} {
		if strings.Contains(text, "hush") || !strings.Contains(text, "token=REDACTED") {
			t.Error(text)
		}
	}
	if len(told.Purges) != 3 || len(told.Purges[0].URLs) != 2 {
		t.Errorf("%+v", told)
	}
	for _, url := range []string{"http://a.example/?token=hush", "http://c.example/?token=hush"} {
		if f.Table().Judge(&invalidation.Subject{URL: url}, 0).Verdict != invalidation.Forgotten {
			t.Error("the records were changed")
		}
	}
}

// An answer comes before clients give up, also when it was counted for long before.
func TestWaitAfterCounting(t *testing.T) {
	for _, tt := range []struct{ wait, counting, want time.Duration }{
		{-1, 0, time.Second}, {0, 0, 0}, {maxWait, 0, maxWait}, {maxWait, maxWait, maxAnswer - maxWait}, {-1, 2 * maxAnswer, 0},
	} {
		if got := waitAfter(tt.wait, tt.counting); got != tt.want {
			t.Errorf("%v after %v: %v, want %v", tt.wait, tt.counting, got, tt.want)
		}
	}
}

// What is not said of whom to strike off is asked for; nothing is redirected, nor left half said.
func TestStrikingOffNobody(t *testing.T) {
	h, _ := purger(t)
	for path, want := range map[string]string{
		"/v1/replicas": "which replica?", "/v1/replicas/": "which replica?", "/v1/replicas/a%231?force=1": `"force" is no parameter here`, "/v1/purges/1?wait=1s": `"wait" is no parameter here`,
	} {
		if p := wantProblem(t, ask(h, "DELETE", path, "localhost", "")); p.Status != 400 || !strings.HasPrefix(p.Detail, want) || strings.HasSuffix(p.Detail, " is") {
			t.Errorf("%s: %+v", path, p)
		}
	}
}
