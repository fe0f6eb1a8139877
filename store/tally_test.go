package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// appended is a record that has just been appended and applied.
func (r replica) appended(t *testing.T, p invalidation.Purge) *invalidation.Record {
	t.Helper()
	r.purge(t, p)
	list, err := r.follower.History(t.Context(), 1, 0)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	return list[0].Record
}

// A preview counts what a purge then sweeps, each response once and with its body, wherever responses are stored, and changes nothing.
func TestPreviewIsWhatIsSwept(t *testing.T) {
	long := "http://a.example/long/" + strings.Repeat("x", 5000) // its head is longer than what is read at first
	for _, where := range []string{"in Redis", "in this process"} {
		for name, tt := range map[string]struct {
			purge   invalidation.Purge
			matches int64
			urls    []string
		}{
			"URL":                {invalidation.Purge{Kind: invalidation.KindURL, Selector: purged}, 2, []string{purged}},
			"URL of any scheme":  {invalidation.Purge{Kind: invalidation.KindURL, Selector: "a.example/other"}, 1, []string{other}},
			"URLs":               {invalidation.Purge{Kind: invalidation.KindURL, URLs: []string{other, "http://a.example/none", purged}}, 3, []string{other, purged}},
			"URL, filtered":      {invalidation.Purge{Kind: invalidation.KindURL, Selector: purged, Filters: invalidation.Filters{Status: []int{404}}}, 0, nil},
			"pattern":            {invalidation.Purge{Kind: invalidation.KindPattern, Selector: "*a.example/*"}, 4, []string{long, other, purged}},
			"tag":                {invalidation.Purge{Kind: invalidation.KindTag, Tags: []string{"x"}}, 1, []string{other}},
			"nothing":            {invalidation.Purge{Kind: invalidation.KindTag, Tags: []string{"y"}}, 0, nil},
			"old ones":           {invalidation.Purge{Kind: invalidation.KindAll, Filters: invalidation.Filters{OlderThan: time.Hour}}, 0, nil},
			"everything, softly": {invalidation.Purge{Kind: invalidation.KindAll, Soft: true}, 4, []string{long, other, purged}},
		} {
			t.Run(name+" "+where, func(t *testing.T) {
				var server *redistest.Server
				if where == "in Redis" {
					server = redistest.StartSettled(t)
				}
				r := unswept(t, server)
				bytes := map[string]int64{}
				for _, url := range []string{purged, other, long} {
					e := r.stored(t, url, func(d *Draft) {
						if url == other {
							d.Tags = []string{"x"}
						}
						if url == purged {
							d.Nomination, d.Selection = "accept-language", policy.Nomination("accept-language").AppendSelection(nil, nil)
						}
					})
					bytes[url] = e.BodyLen()
				}
				r.stored(t, purged, func(d *Draft) {
					d.Nomination, d.Selection = "accept-language", policy.Nomination("accept-language").AppendSelection(nil, map[string][]string{"Accept-Language": {"de"}})
				})
				var sum int64
				for _, url := range tt.urls {
					sum += bytes[url]
				}
				if slices.Contains(tt.urls, purged) {
					sum += bytes[purged]
				}
				for range 2 { // the first has changed nothing
					found, err := r.Preview(t.Context(), &tt.purge)
					slices.Sort(found.Sample)
					if want := cut(tt.urls); err != nil || found.Matched != tt.matches || found.Swept != 0 || found.Bytes != sum || !slices.Equal(found.Sample, want) {
						t.Fatalf("%+v, %v", found, err)
					}
				}
				record := r.appended(t, tt.purge)
				found, err := r.Sweep(t.Context(), record, nil)
				slices.Sort(found.Sample)
				if err != nil || found.Matched != tt.matches || found.Swept != tt.matches || found.Bytes != sum || !slices.Equal(found.Sample, cut(tt.urls)) {
					t.Errorf("swept %+v, %v", found, err)
				}
				again, err := r.Sweep(t.Context(), record, nil)
				if err != nil || !tt.purge.Soft && again.Matched != 0 || tt.purge.Soft && server != nil && again.Matched+again.Swept != 0 {
					t.Errorf("swept again %+v, %v", again, err)
				}
				if found, err := r.Preview(t.Context(), &tt.purge); err != nil || !tt.purge.Soft && found.Matched != 0 || tt.purge.Soft && found.Matched != tt.matches {
					t.Errorf("after that %+v, %v", found, err)
				}
			})
		}
	}
}

// What comes twice counts once, as far as is remembered, which is not without bounds.
func TestTallyRemembersSoMuch(t *testing.T) {
	for _, preview := range []bool{false, true} {
		y := newTally(nil)
		y.preview, y.most = preview, 3
		for range 2 {
			for i := range 5 {
				y.count(fmt.Sprint(i), "http://a.example/", 1, 0, true)
			}
		}
		if n := y.total().Matched; n != 3+2*2 || len(y.seen) != 3 {
			t.Errorf("%d, with %d remembered", n, len(y.seen))
		}
	}
	if newTally(nil).most != maxSeen {
		t.Error("nothing is remembered")
	}
}

// unswept is a replica that sweeps nothing by itself.
func unswept(t *testing.T, server *redistest.Server) replica {
	t.Helper()
	fo := invalidation.Options{Instance: "unswept", Prefix: "cp", Horizon: time.Minute}
	so := Options{NearSize: 16 << 20}
	if server != nil {
		fo.Redis, fo.Waiting = dial(t, server.URL(), DialOptions{Timeout: patience}), dial(t, server.URL(), DialOptions{Timeout: patience})
		so.Redis, so.Prefix, so.Timeout = dial(t, server.URL(), DialOptions{Timeout: patience}), "cp", patience
	}
	follower, err := invalidation.Start(fo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = follower.Close(context.Background()) })
	so.Follower = follower
	r := replica{newStore(t, so), follower}
	eventually(t, "registered", follower.Registered)
	return r
}

// cut are URLs as they are in a sample, sorted.
func cut(urls []string) (list []string) {
	for _, url := range urls {
		list = append(list, url[:min(len(url), 1<<10)])
	}
	slices.Sort(list)
	if list == nil {
		return nil
	}
	return list
}

// What was fetched after a purge is none of its matches, nor does what a purge of before forbids count in a preview.
func TestWhatDoesNotMatch(t *testing.T) {
	server := redistest.StartSettled(t)
	r := unswept(t, server)
	r.stored(t, other)
	first := r.appended(t, invalidation.Purge{Kind: invalidation.KindURL, Selector: other})
	r.stored(t, purged)
	if found, err := r.Preview(t.Context(), &invalidation.Purge{Kind: invalidation.KindAll}); err != nil || found.Matched != 1 || found.Sample[0] != purged {
		t.Errorf("%+v, %v", found, err)
	}
	if found, err := r.Sweep(t.Context(), first, nil); err != nil || found.Swept != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	r.stored(t, other)
	for _, soft := range []bool{false, true} {
		record := *first
		record.Soft = soft
		if found, err := r.Sweep(t.Context(), &record, nil); err != nil || found.Matched+found.Swept != 0 {
			t.Errorf("soft %v: %+v, %v", soft, found, err)
		}
	}
}

// A sweep, and a preview, that goes through everything ends when it is told to, and never with a number that is not the whole.
func TestSweepEnds(t *testing.T) {
	server := redistest.StartSettled(t)
	r := unswept(t, server)
	for i := range 20 {
		r.stored(t, fmt.Sprint("http://a.example/", i))
	}
	enough := errors.New("enough")
	record := r.appended(t, invalidation.Purge{Kind: invalidation.KindAll})
	told := 0
	found, err := r.Sweep(t.Context(), record, func(now invalidation.Tally) error {
		if told++; now.Of < 20 || now.Walked == 0 || now.Walked > now.Of {
			t.Errorf("%+v", now)
		}
		return enough
	})
	if !errors.Is(err, enough) || told != 1 || found.Swept != 20 {
		t.Errorf("%+v, %v, told %d times", found, err, told)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := r.Preview(ended, &invalidation.Purge{Kind: invalidation.KindAll}); err == nil || found.Matched != 0 || found.Sample != nil {
		t.Errorf("%+v, %v", found, err)
	}
	server.Kill()
	if found, err := r.Preview(t.Context(), &invalidation.Purge{Kind: invalidation.KindAll}); err == nil || found.Matched != 0 {
		t.Errorf("%+v, %v", found, err)
	}
}

// How far a sweep is is told in keys, which are gone through once for each of a purge's patterns.
func TestKeysToGoThrough(t *testing.T) {
	server := redistest.Start(t)
	r := unswept(t, server)
	for i := range 3 {
		r.stored(t, fmt.Sprint("http://a.example/", i))
	}
	pattern := invalidation.Purge{Kind: invalidation.KindPattern, Selector: "http://a.example/*"}
	if n := len(r.far.keys.patternsOf(r.recordOf(pattern))); n < 2 {
		t.Fatalf("%d patterns: too few for this test", n)
	}
	eventually(t, "all keys gone through", func() bool {
		before := server.Admin().DBSize(t.Context()).Val()
		found, err := r.Preview(t.Context(), &pattern)
		if err != nil || found.Walked != found.Of {
			t.Fatalf("%+v, %v", found, err)
		}
		return found.Of == before // else what replicas say of themselves came or went in between
	})
}

// All masters of a cluster count.
func TestPreviewInACluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	s := newStore(t, Options{Redis: dial(t, cluster.URL(), DialOptions{Timeout: patience}), Prefix: "cp", Timeout: patience})
	const n = 50
	for i := range n {
		s.Save(mustEntry(t, draft(fmt.Sprint("http://a.example/", i))))
	}
	flush(t, s)
	all := invalidation.Purge{Kind: invalidation.KindPattern, Selector: "http://a.example/*"}
	if found, err := s.Preview(t.Context(), &all); err != nil || found.Matched != n || len(found.Sample) != invalidation.MaxSample || found.Of < n {
		t.Errorf("%+v, %v", found, err)
	}
	if origins, whole, err := s.Origins(t.Context()); err != nil || !whole || !slices.Equal(origins, []string{"http://a.example"}) {
		t.Errorf("%q, %v, %v", origins, whole, err)
	}
}
