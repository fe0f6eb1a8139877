package invalidation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/redistest"
)

// purgesIn are the selectors of the log's purges, in order.
func purgesIn(t *testing.T, c redis.UniversalClient) (all []string) {
	t.Helper()
	for _, m := range c.XRange(t.Context(), "cp:{inv}:log", "-", "+").Val() {
		if r, err := parseRecords([]redis.XMessage{m}); err != nil {
			t.Fatal(err)
		} else if r[0].Kind != "" {
			all = append(all, r[0].Selector)
		}
	}
	return all
}

// What the log has lost is appended again once, however many replicas remember it.
func TestLostPurgesAreAppendedAgainOnce(t *testing.T) {
	server := redistest.StartSettled(t)
	all := newFleet(t, server.URL, 4)
	marks := make([]Mark, len(all))
	for i, f := range all {
		marks[i] = f.Table().Mark()
	}
	const n = 10
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("http://a.example/%d", i))
		purge(t, all[0], Purge{Kind: KindURL, Selector: want[i]}, limit)
	}
	server.Admin().FlushAll(t.Context())
	for i, f := range all {
		await(t, "registered again", func() bool { return f.Registered() && f.Table().Epoch() != marks[i].Epoch && f.Table().Epoch() != 0 })
		for _, url := range want {
			await(t, "appended again", func() bool { return forbids(f, marks[i], url) })
		}
	}
	got := purgesIn(t, server.Admin())
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the log has %q", got)
	}
}

// A log that goes back while what it had lost is being read anew has lost it once more: it is remembered until that is over.
func TestLogGoesBackTwice(t *testing.T) {
	server := redistest.StartSettled(t)
	admin := server.Admin()
	var joined atomic.Int64
	f := newFleet(t, server.URL, 1, func(o *Options) {
		o.Doubted = func() { // in the midst of joining, with an empty table
			if joined.Add(1) == 2 {
				admin.FlushAll(context.Background())
			}
		}
	})[0]
	m := f.Table().Mark()
	purge(t, f, Purge{Kind: KindURL, Selector: "http://a.example/"}, limit)
	admin.FlushAll(t.Context())
	await(t, "joined twice more", func() bool { return joined.Load() >= 3 && f.Registered() })
	if !forbids(f, m, "http://a.example/") {
		t.Error("a purge is lost")
	}
}

// A log that cannot be followed, here since somebody has deleted a record, is tried again at a pace that others can live with.
func TestJoiningInVainIsPaced(t *testing.T) {
	server := redistest.StartSettled(t)
	admin := server.Admin()
	tries := make(chan time.Time, 1000)
	f := newFleet(t, server.URL, 1, func(o *Options) { o.Doubted = func() { tries <- time.Now() } })[0]
	var receipts []*Receipt
	for range 4 {
		receipts = append(receipts, purge(t, f, Purge{Kind: KindAll}, limit))
	}
	for _, i := range []int{1, 3} { // that the last one is gone is noticed; and then the third does not follow the first
		admin.XDel(t.Context(), "cp:{inv}:log", receipts[i].Sequence.String()+"-0")
	}
	next := func() time.Time {
		select {
		case at := <-tries:
			return at
		case <-time.After(limit):
			t.Fatal("it is not tried again")
			return time.Time{}
		}
	}
	next() // of the start
	for i := range 4 {
		if first, second := next(), next(); second.Sub(first) < rejoinPause {
			t.Fatalf("%d: after %v", i, second.Sub(first))
		}
	}
	if f.Registered() {
		t.Error("it follows all the same")
	}
}

// That a replica has left is remembered for as long as somebody may not have heard of it, and no longer.
func TestWhoHasLeftIsNotMissed(t *testing.T) {
	server := redistest.StartSettled(t)
	admin := server.Admin()
	all := newFleet(t, server.URL, 2)
	minute := time.Now().Add(-time.Minute).UnixMicro()
	admin.HSet(t.Context(), "cp:{inv}:replicas", "gone#1", fmt.Sprint("left ", minute), "gone#2", "left 1")
	all[1].saw(fleet{replicas: []Replica{{ID: "gone#1"}}}) // it was cut off when that one left
	for range 2 {
		if _, err := all[0].Replicas(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if r := purge(t, all[1], Purge{Kind: KindAll}, limit); !r.Complete() {
		t.Errorf("%+v", r)
	}
	newFleet(t, server.URL, 1, func(o *Options) { o.Instance = "new" })
	if left := admin.HGetAll(t.Context(), "cp:{inv}:replicas").Val(); left["gone#1"] == "" || left["gone#2"] != "" {
		t.Errorf("%v", left)
	}
}

// sweeps tells what is swept.
type sweeps chan string

func (s sweeps) Sweep(_ context.Context, r *Record, _ func(Tally) error) (Tally, error) {
	s <- r.Selector
	return Tally{}, nil
}
func (sweeps) Advance(context.Context) {}

// A sweep that a replica has taken from the queue without getting the answer, or could not end, is not lost while it lives.
func TestSweepTakenInVain(t *testing.T) {
	server := redistest.StartSettled(t)
	admin := server.Admin()
	f := newFleet(t, server.URL, 1, func(o *Options) { o.Horizon = 2 * time.Second })[0]
	purge(t, f, Purge{Kind: KindURL, Selector: "http://a.example/"}, limit)
	if err := admin.LMove(t.Context(), "cp:{inv}:sweeps", "cp:{inv}:sweeps:"+f.ID(), "LEFT", "RIGHT").Err(); err != nil {
		t.Fatal(err)
	}
	s := make(sweeps, 10)
	f.Sweep(s)
	for range 2 { // the second is that of the horizon
		select {
		case got := <-s:
			if !strings.HasPrefix(got, "http://a.example/") {
				t.Error(got)
			}
		case <-time.After(limit):
			t.Fatal("not swept")
		}
	}
}

// Who was cut off until what it remembers was swept for good, and trimmed, does not have all that forgotten a second time.
func TestWhatWasTrimmedIsNotAppendedAgain(t *testing.T) {
	server := redistest.StartSettled(t)
	fault := server.Fault()
	change := func(o *Options) { o.Horizon = time.Second }
	here, away := newFleet(t, server.URL, 1, change)[0], newFleet(t, fault.URL, 1, change, func(o *Options) { o.Instance = "away" })[0]
	seq := purge(t, here, Purge{Kind: KindAll}, limit).Sequence
	fault.Cut()
	missed := purge(t, here, Purge{Kind: KindTag, Tags: []string{"x"}}, 0).Sequence
	purge(t, here, Purge{Kind: KindTag, Tags: []string{"y"}}, 0)
	here.Sweep(sweeping(func(*Record) {}))
	await(t, "trimmed", func() bool {
		e, err := here.Recorded(t.Context(), missed)
		return err == nil && e != nil && e.Past
	})
	epoch := away.Table().Epoch()
	if m := (Mark{Position: Position{Epoch: epoch, Seq: seq - 1}}); !forbids(away, m, "http://a.example/") {
		t.Fatal("forgotten by who heard of nothing")
	}
	last := func() string { return server.Admin().XRevRangeN(t.Context(), "cp:{inv}:log", "+", "-", 1).Val()[0].ID }
	before := last()
	fault.Heal()
	await(t, "following again", func() bool { return away.position().Seq.String()+"-0" == before && away.Registered() })
	if after := last(); after != before {
		t.Errorf("appended again: %v", server.Admin().XRevRangeN(t.Context(), "cp:{inv}:log", "+", "-", 1).Val())
	}
}
