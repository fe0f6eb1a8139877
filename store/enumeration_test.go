package store

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// plant puts n entries into Redis as they would be after a long time, without their roots, which a sweep can do without.
func (r replica) plant(t testing.TB, n int, change func(i int, d *Draft)) {
	t.Helper()
	stamp := r.Mark()
	for from := 0; from < n; from += 1000 {
		pipe := r.far.client.Pipeline()
		var calls []scriptCall
		for i := from; i < min(n, from+1000); i++ {
			d := draft("")
			d.FetchedSince(stamp)
			change(i, &d)
			e := mustEntry(t, d)
			pipe.Set(t.Context(), r.entryKey(e), mutableHead(e.block()), time.Hour)
			pipe.Append(t.Context(), r.entryKey(e), string(e.block()[mutableEnd:]))
			calls = r.far.index.calls(calls, e, r.entryKey(e), time.Hour)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := runScripts(t.Context(), r.far.index.client, indexScript, calls); err != nil {
			t.Fatal(err)
		}
	}
}

// left counts what is left of the planted.
func (r replica) left(t testing.TB, pattern string) int {
	t.Helper()
	var sum atomic.Int64
	// A client's view of a cluster may be that of a node which has not heard of a new master yet.
	eventually(t, "answered by all masters", func() bool {
		sum.Store(0)
		return nil == eachMaster(t.Context(), r.far.client, func(ctx context.Context, node *redis.Client) error {
			keys, err := node.Keys(ctx, pattern).Result()
			sum.Add(int64(len(keys)))
			return err
		})
	})
	return int(sum.Load())
}

// A purge by pattern reads the heads of no more than what it selects, and one of a URL with filters those of its variants.
func TestSweepsReadWhatTheySelect(t *testing.T) {
	server := redistest.Start(t)
	var told commands
	r := replicaAt(t, server.URL(), func(o *Options) { o.Redis.AddHook(&told) })
	eventually(t, "trimmed", func() bool { return told.taken("scan") > 0 })
	for i := range 20 {
		r.stored(t, fmt.Sprintf("http://a.example/%c/%d", "ab"[i%2], i))
	}
	r.stored(t, purged, func(d *Draft) { d.Status = 404 })
	long := "http://a.example/a/" + strings.Repeat("{", 1000)
	r.stored(t, long)
	for _, c := range []struct {
		purge              invalidation.Purge
		swept, read, scans int
	}{
		{invalidation.Purge{Kind: invalidation.KindURL, Selector: purged, Filters: invalidation.Filters{Status: []int{200}}}, 0, 1, 0},
		{invalidation.Purge{Kind: invalidation.KindURL, Selector: "a.example/purged", Filters: invalidation.Filters{Status: []int{404}}}, 1, 1, 0},
		{invalidation.Purge{Kind: invalidation.KindPattern, Selector: "a.example/b/*"}, 10, 11, 2}, // and one whose URL is cut
		{invalidation.Purge{Kind: invalidation.KindPattern, Selector: "*{"}, 1, 1, 2},
		{invalidation.Purge{Kind: invalidation.KindPattern, Selector: "http://a.example/a/2"}, 1, 1, 1},
		{invalidation.Purge{Kind: invalidation.KindAll}, 9, 9, 1},
	} {
		told.taken("getrange")
		told.taken("scan")
		swept := r.sweeps(t, c.purge)
		if read, scans := told.taken("getrange"), told.taken("scan"); swept != c.swept || read != c.read || scans != c.scans {
			t.Errorf("%s %.40s: swept %d, read %d heads in %d scans", c.purge.Kind, c.purge.Selector, swept, read, scans)
		}
	}
}

// The chunks of a large body go with its entry, and stay with one that is only made stale.
func TestSweepOfALargeBody(t *testing.T) {
	server := redistest.Start(t)
	r := replicaAt(t, server.URL())
	for name, p := range map[string]invalidation.Purge{
		"tag": byTag("x"), "URL": byURL(false), "pattern": {Kind: invalidation.KindPattern, Selector: "*purged"}, "soft": byURL(true),
	} {
		e := r.stored(t, purged, withTags("x"), func(d *Draft) { d.Body = make([]byte, maxRedisBody+1) })
		if n := r.left(t, "cp:b:*"); n != 5 {
			t.Fatalf("%d chunks", n)
		}
		if n := r.sweeps(t, p); n != 1 {
			t.Errorf("%s: swept %d", name, n)
		}
		if n := r.left(t, "cp:b:*"); n != 0 && !p.Soft || n != 5 && p.Soft {
			t.Errorf("%s: %d chunks are left", name, n)
		}
		if p.Soft { // for the next one
			r.ForgetEntry(e)
			flush(t, r.Store)
			server.Admin().FlushDB(t.Context())
			r = replicaAt(t, server.URL())
		}
	}
}

// In a Cluster and with Sentinel sweeps find what they select, and go on when a master is replaced while they scan.
func TestSweepsInClusterAndSentinel(t *testing.T) {
	t.Run("cluster", func(t *testing.T) {
		cluster := redistest.StartCluster(t, 3, 1)
		r := replicaAt(t, cluster.URL())
		sweepAllKinds(t, r)
		const key = "cp:e:{http://a.example/mass/0}:"
		sweepThroughFailover(t, r, func() {
			old := cluster.MasterOf(key)
			master, err := old.Admin().Do(t.Context(), "CLUSTER", "MYID").Text()
			if err != nil {
				t.Fatal(err)
			}
			for _, node := range cluster.Nodes {
				nodes := node.Admin().ClusterNodes(t.Context()).Val()
				for line := range strings.Lines(nodes) {
					if strings.Contains(line, "myself,slave "+master) {
						if err := node.Admin().ClusterFailover(t.Context()).Err(); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			eventually(t, "failed over", func() bool { return cluster.MasterOf(key) != old })
		})
	})
	t.Run("sentinel", func(t *testing.T) {
		sentinel := redistest.StartSentinel(t, 1)
		r := replicaAt(t, sentinel.URL())
		sweepAllKinds(t, r)
		sweepThroughFailover(t, r, func() {
			old := sentinel.Master()
			if err := sentinel.Sentinels[0].Admin().Do(t.Context(), "SENTINEL", "FAILOVER", "cache").Err(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "failed over", func() bool { return sentinel.Master() != old })
		})
	})
}

func sweepAllKinds(t *testing.T, r replica) {
	t.Helper()
	for range 2 { // by all entries, and then by the index
		for name, p := range map[string]invalidation.Purge{
			"tag":     byTag("x"),
			"group":   {Kind: invalidation.KindGroup, Origin: "http://a.example", Group: "g"},
			"pattern": {Kind: invalidation.KindPattern, Selector: "a.example/x/*"},
		} {
			for i := range 10 {
				r.stored(t, fmt.Sprint("http://a.example/x/", i), withTags("x", policy.GroupTag("g")))
				r.stored(t, fmt.Sprint("http://a.example/y/", i), withTags("y"))
			}
			if n := r.sweeps(t, p); n != 10 {
				t.Errorf("%s: swept %d", name, n)
			}
			if x, y := r.left(t, "cp:e:{*/x/*"), r.left(t, "cp:e:{*/y/*"); x != 0 || y != 10 {
				t.Errorf("%s: %d and %d are left", name, x, y)
			}
		}
	}
	for _, p := range []invalidation.Purge{byURL(false), {Kind: invalidation.KindURL, Selector: purged, Filters: invalidation.Filters{Status: []int{2}}}} {
		r.stored(t, purged)
		if n := r.sweeps(t, p); n != 1 {
			t.Errorf("URL: swept %d", n)
		}
	}
	mark, err := r.far.index.mark(t.Context(), r.far.client)
	if err != nil {
		t.Fatal(err)
	}
	if marked, err := r.far.index.marked(t.Context(), mark); err != nil || !marked {
		t.Errorf("the index is not used: %v", err)
	}
	if err := r.far.index.trim(t.Context()); err != nil {
		t.Error(err)
	}
}

// sweepThroughFailover sweeps a purge whose first scan is cut by a failover, again and again until there is no error, as the queue of sweeps
// does.
func sweepThroughFailover(t *testing.T, r replica, failOver func()) {
	t.Helper()
	const n = 4000
	r.plant(t, n, func(i int, d *Draft) { d.Key.URL = fmt.Sprint("http://a.example/mass/", i) })
	record := r.recordOf(invalidation.Purge{Kind: invalidation.KindPattern, Selector: "http://a.example/mass/*"})
	failed := false
	eventually(t, "swept", func() bool {
		b := batch{far: r.far, record: record, tally: newTally(nil)}
		err := r.far.scanAll(t.Context(), r.far.keys.patternsOf(record), b.tally, func(keys []string) error {
			if !failed {
				failed = true
				failOver()
			}
			return b.sweep(t.Context(), keys)
		})
		if err != nil {
			t.Log(err)
		}
		return err == nil
	})
	if left := r.left(t, "cp:e:{*/mass/*"); left != 0 || !failed {
		t.Errorf("%d of %d are left", left, n)
	}
}

// The sweep of a tag that 1,000 of 100,000 entries have.
func BenchmarkSweepOfATag(b *testing.B) {
	server := redistest.Start(b)
	r := replicaAt(b, server.URL())
	r.plant(b, 99_000, func(i int, d *Draft) {
		d.Key.URL = fmt.Sprint("http://a.example/other/", i)
		d.Tags = []string{fmt.Sprint("t", i%1000)}
	})
	r.sweeps(b, byTag("none"))
	for name, sweep := range map[string]func(*invalidation.Record, *tally) error{
		"index": func(p *invalidation.Record, t *tally) error { return r.far.tally(b.Context(), p, t) },
		"scan":  func(p *invalidation.Record, t *tally) error { return r.far.sweepScanned(b.Context(), p, t, false) },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				r.plant(b, 1000, func(i int, d *Draft) {
					d.Key.URL = fmt.Sprint("http://a.example/tagged/", i)
					d.Tags = []string{"x"}
				})
				record, t := r.recordOf(byTag("x")), newTally(nil)
				b.StartTimer()
				if err := sweep(record, t); err != nil || t.total().Swept != 1000 {
					b.Fatal(t.total(), err)
				}
			}
		})
	}
}
