package store

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cacheproxy/internal/breaker"
	"cacheproxy/invalidation"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// The guarantee of package invalidation, under load and faults: replicas read, fetch and store pages that carry versions, a writer raises a
// version and purges, and what a receipt has promised nobody may break. CACHEPROXY_CONSISTENCY=2m makes it longer.
func TestConsistency(t *testing.T) {
	duration, _ := time.ParseDuration(os.Getenv("CACHEPROXY_CONSISTENCY"))
	if duration == 0 {
		duration = 4 * time.Second
	}
	for name, faults := range map[string]bool{"calm": false, "faults": true} {
		t.Run(name, func(t *testing.T) { newTrial(t).run(t, duration, faults) })
	}
}

const (
	trialPages    = 12
	trialReplicas = 4
	trialHorizon  = 2 * time.Second
)

// trial is one run.
type trial struct {
	server   *redistest.Server
	replicas []*trialReplica
	versions [trialPages]atomic.Int64 // at the origin

	late map[string]int // how often a replica had not applied a purge; the writer's

	purges, complete, promises, reads, hits, fetches, doubts, flushes atomic.Int64
}

// trialReplica is a replica behind a fault, and what has been promised of it: the least version of each page that it may serve.
type trialReplica struct {
	replica
	fault    *redistest.Fault
	promised [trialPages]atomic.Int64
}

func newTrial(t *testing.T) *trial {
	x := &trial{server: redistest.StartSettled(t), late: map[string]int{}}
	for i := range trialReplicas {
		r := &trialReplica{fault: x.server.Fault()}
		follower, err := invalidation.Start(invalidation.Options{
			Instance: fmt.Sprint("r", i), Prefix: "cp", Log: slog.New(slog.DiscardHandler), Horizon: trialHorizon, Timeout: 300 * time.Millisecond,
			Redis: dial(t, r.fault.URL(), DialOptions{}), Waiting: dial(t, r.fault.URL(), DialOptions{Timeout: patience}),
			Doubted: func() { x.doubts.Add(1) },
		})
		if err != nil {
			t.Fatal(err)
		}
		r.replica = replica{newStore(t, Options{
			NearSize: 4 << 20, Follower: follower, Redis: dial(t, r.fault.URL(), DialOptions{}), Prefix: "cp", Breaker: breaker.Options{Cooldown: 50 * time.Millisecond},
		}), follower}
		follower.Sweep(r.Store)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = follower.Close(ctx)
		})
		x.replicas = append(x.replicas, r)
		eventually(t, "registered", follower.Registered)
	}
	return x
}

func pageURL(i int) string { return fmt.Sprintf("http://a.example/page/%d", i) }

// read is one request: it looks up, and fetches what it does not find. What it serves must be as new as was promised when it came.
func (x *trial) read(t *testing.T, r *trialReplica, random *rand.Rand) {
	i := random.IntN(trialPages)
	least := r.promised[i].Load()
	stamp := r.Mark()
	x.reads.Add(1)
	if e := r.Lookup(t.Context(), policy.Key{URL: pageURL(i)}, nil).Entry; e != nil {
		x.hits.Add(1)
		if got, _ := strconv.ParseInt(string(e.Body()), 10, 64); got < least {
			t.Errorf("replica %s serves version %d of page %d, promised %d (as of %d, checked %d, head %d)", r.follower.ID(), got, i, least, e.BodyAsOf(), e.checked(), r.follower.Table().Head())
		}
		return
	}
	version := x.versions[i].Load()
	if random.IntN(4) == 0 {
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond) // a slow upstream
	}
	x.fetches.Add(1)
	d := draft(pageURL(i))
	d.FetchedSince(stamp)
	d.Body = strconv.AppendInt(nil, version, 10)
	d.Tags = []string{fmt.Sprint("tag", i), policy.GroupTag(fmt.Sprint("group", i))}
	if e, err := NewEntry(d); err == nil {
		r.SaveSince(e, stamp)
	}
}

// purge raises a page's version, purges it in one of many ways, and takes the receipt for a promise.
func (x *trial) purge(t *testing.T, random *rand.Rand) {
	i := random.IntN(trialPages)
	version := x.versions[i].Add(1)
	p := []invalidation.Purge{
		{Kind: invalidation.KindURL, Selector: pageURL(i)},
		{Kind: invalidation.KindPattern, Selector: "a.example/*/" + strconv.Itoa(i)},
		{Kind: invalidation.KindTag, Tags: []string{fmt.Sprint("tag", i)}},
		{Kind: invalidation.KindGroup, Origin: "http://a.example", Group: fmt.Sprint("group", i)},
		{Kind: invalidation.KindURL, Selector: "a.example/page/" + strconv.Itoa(i)},
	}[random.IntN(5)]
	by := x.replicas[random.IntN(trialReplicas)]
	x.purges.Add(1)
	receipt, err := by.follower.Purge(t.Context(), p, 50*time.Millisecond)
	if err != nil {
		return
	}
	if receipt.Complete() {
		x.complete.Add(1)
	}
	for _, id := range append(receipt.Lagging, receipt.Silent...) {
		x.late[id]++
	}
	for _, r := range x.replicas {
		for _, id := range receipt.Applied {
			if id == r.follower.ID() {
				x.promises.Add(1)
				raise(&r.promised[i], version)
			}
		}
		if receipt.Complete() {
			raise(&r.promised[i], version)
		}
	}
}

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); old < to && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

// trouble makes trouble for one replica after the other, and now and then for Redis. No receipt of a new log is complete for a horizon, so that
// logs lost one soon after the other would leave no promises to break.
func (x *trial) trouble(ctx context.Context, random *rand.Rand) {
	var lasting time.Time // from when on Redis may lose its data
	for ctx.Err() == nil {
		r := x.replicas[random.IntN(trialReplicas)]
		switch random.IntN(12) {
		case 0, 1:
			r.fault.Cut()
		case 2, 3:
			r.fault.Hold()
		case 4, 5, 6:
			r.fault.Delay(time.Duration(random.IntN(200)) * time.Millisecond)
		case 7:
			r.fault.Halve()
		case 8:
			if now := time.Now(); now.After(lasting) {
				lasting = now.Add(2 * trialHorizon)
				x.flushes.Add(1)
				x.server.Admin().FlushAll(ctx)
			}
		}
		wait(ctx, time.Duration(random.IntN(700))*time.Millisecond)
		r.fault.Heal()
		wait(ctx, time.Duration(random.IntN(100))*time.Millisecond)
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (x *trial) run(t *testing.T, duration time.Duration, faults bool) {
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var all sync.WaitGroup
	for k, r := range x.replicas {
		for n := range 2 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(uint64(k), uint64(n)))
				for ctx.Err() == nil && !t.Failed() {
					x.read(t, r, random)
					wait(ctx, time.Duration(random.IntN(400))*time.Microsecond)
				}
			})
		}
	}
	all.Go(func() {
		random := rand.New(rand.NewPCG(7, 7))
		for ctx.Err() == nil && !t.Failed() {
			x.purge(t, random)
			wait(ctx, time.Duration(random.IntN(20))*time.Millisecond)
		}
	})
	if faults {
		all.Go(func() { x.trouble(ctx, rand.New(rand.NewPCG(9, uint64(time.Now().UnixNano())))) })
	}
	all.Wait()
	t.Logf("%d purges, %d of them complete, %d promises of a replica; %d reads, %d hits, %d fetches; %d doubts, %d flushes; late: %v", x.purges.Load(), x.complete.Load(),
		x.promises.Load(), x.reads.Load(), x.hits.Load(), x.fetches.Load(), x.doubts.Load(), x.flushes.Load(), x.late)
	if x.promises.Load() == 0 || x.hits.Load() == 0 || !faults && x.complete.Load() == 0 {
		t.Error("nothing was tried")
	}
}
