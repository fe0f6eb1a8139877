package invalidation

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/redistest"
)

// The log's oldest record may be a purge that is not swept yet: who joins there has applied it.
func TestJoiningAppliesTheOldestRecord(t *testing.T) {
	server := redistest.StartSettled(t)
	all := newFleet(t, server.URL, 1)
	m := all[0].Table().Mark()
	r := purge(t, all[0], Purge{Kind: KindURL, Selector: "http://a.example/"}, limit)
	if n := server.Client().XTrimMinID(t.Context(), "cp:{inv}:log", r.Sequence.String()).Val(); n != 1 {
		t.Fatalf("%d records were trimmed", n)
	}
	joined := newFleet(t, server.URL, 1, func(o *Options) { o.Instance = "joins" })[0]
	if !forbids(joined, m, "http://a.example/") {
		t.Error("what the oldest record forbids is permitted")
	}
}

// narrow is a hook that lets no more than so many records through in time.
type narrow struct {
	most  atomic.Int64
	asked atomic.Int64 // by the last read that was let through
	late  atomic.Int64 // reads that were not
}

func (*narrow) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*narrow) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (n *narrow) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if i := slices.Index(cmd.Args(), any("count")); i >= 0 {
			count, _ := cmd.Args()[i+1].(int64)
			if count > n.most.Load() {
				n.late.Add(1)
				return context.DeadlineExceeded
			}
			n.asked.Store(count)
		}
		return next(ctx, cmd)
	}
}

// What does not come in time is read in smaller pieces, by one joining, and in larger ones again when it comes.
func TestJoiningReadsLessAtOnce(t *testing.T) {
	server := redistest.StartSettled(t)
	other := newFleet(t, server.URL, 1)[0]
	m := other.Table().Mark()
	const records = 100
	for i := range records {
		purge(t, other, Purge{Kind: KindURL, Selector: fmt.Sprint("http://a.example/", i)}, limit)
	}
	var link, sweeps narrow
	var doubted atomic.Int64
	link.most.Store(20)
	sweeps.most.Store(20)
	joined := newFleet(t, server.URL, 1, func(o *Options) {
		o.Instance, o.Doubted = "joins", func() { doubted.Add(1) }
		o.Waiting.AddHook(&link)
		o.Redis.AddHook(&sweeps)
	})[0]
	if !forbids(joined, m, "http://a.example/0") || !forbids(joined, m, fmt.Sprint("http://a.example/", records-1)) {
		t.Error("it has joined, and not read all")
	}
	if late := link.late.Load(); doubted.Load() != 1 || late < 6 || late > records {
		t.Errorf("joined %d times, %d reads in vain", doubted.Load(), late)
	}
	vain := 0
	for ; joined.sweepOld() != nil && vain < 10; vain++ { // which is trimming
	}
	if vain != 6 {
		t.Errorf("trimming was in vain %d times, with %d", vain, joined.old)
	}
	link.most.Store(int64(readBatch))
	await(t, "reading as much as it may", func() bool {
		purge(t, other, Purge{Kind: KindURL, Selector: "http://a.example/"}, limit)
		return link.asked.Load() == int64(readBatch)
	})
}

// Who registers has dropped what it held, also when it does not hear that it is registered.
func TestDoubtedBeforeRegistered(t *testing.T) {
	server := redistest.StartSettled(t)
	fault := server.Fault()
	one := newFleet(t, fault.URL, 1)[0]
	other := newFleet(t, server.URL, 1, func(o *Options) { o.Instance = "other" })[0]
	m := one.Table().Mark()
	beats := fault.CatchAnswers(heartbeatScript.Hash())
	defer beats.Release()
	server.Admin().FlushAll(t.Context())
	r := purge(t, other, Purge{Kind: KindAll}, limit)
	if !r.Complete() {
		t.Fatalf("%+v", r)
	}
	if one.Table().Floor() <= m.Number {
		t.Error("it is said to have applied the purge, and trusts what was looked at before")
	}
}

// How late a save may come does not go on with the clock while nothing is heard of the log.
func TestNotAfterStandsStill(t *testing.T) {
	server := redistest.StartSettled(t)
	f := newFleet(t, server.URL, 1)[0]
	await(t, "in step with the log", func() bool { _, ok := f.NotAfter(); return ok })
	server.Pause()
	defer server.Resume()
	lagging := func(by time.Duration) int64 {
		await(t, "lagging", func() bool { return f.Status().Lag > by })
		at, _ := f.NotAfter()
		return at
	}
	if first, second := lagging(1200*time.Millisecond), lagging(1500*time.Millisecond); first != second {
		t.Errorf("%d, and then %d", first, second)
	}
}

// workers is a Sweeper that looks whether its replica is among those who sweep.
type workers struct {
	f      *Follower
	client *redis.Client
	named  chan bool
}

func (w *workers) Sweep(ctx context.Context, _ *Record, _ func(Tally) error) (Tally, error) {
	w.named <- w.client.SIsMember(ctx, "cp:{inv}:workers", w.f.ID()).Val()
	return Tally{}, nil
}
func (*workers) Advance(context.Context) {}

// Who sweeps has said so before, or nobody would take over when it dies.
func TestSweepersAreNamed(t *testing.T) {
	server := redistest.StartSettled(t)
	purge(t, newFleet(t, server.URL, 1)[0], Purge{Kind: KindAll}, limit)
	f, err := Start(Options{Instance: "sweeps", Redis: client(t, server.URL()), Waiting: client(t, server.URL()), Prefix: "cp"})
	if err != nil {
		t.Fatal(err)
	}
	w := &workers{f, server.Client(), make(chan bool, 1)}
	f.Sweep(w)
	if named := <-w.named; !named {
		t.Error("a sweep is in hand, and nobody knows in whose")
	}
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A Redis that was started again may have lost heartbeats: a strict replica is not taken for fenced before every lease from before is over.
func TestFencedInTheSameRunOnly(t *testing.T) {
	server := redistest.StartSettled(t)
	fault := server.Fault()
	strict := newFleet(t, fault.URL, 1, func(o *Options) { o.Instance, o.Lease = "strict", 4*time.Second })[0]
	other := newFleet(t, server.URL, 1, func(o *Options) { o.Instance = "other" })[0]
	fault.Hold()
	fenced := func() bool {
		list, err := other.Replicas(t.Context())
		return err == nil && len(list) == 2 && list[1].ID == strict.ID() && list[1].Fenced
	}
	await(t, "silent for longer than its lease", fenced)
	if r := purge(t, other, Purge{Kind: KindAll}, limit); !r.Complete() || len(r.Fenced) != 1 {
		t.Errorf("%+v", r)
	}
	server.Restart()
	await(t, "silent for longer than its lease, after the restart too", fenced)
	var r *Receipt
	await(t, "purged", func() (ok bool) {
		var err error
		r, err = other.Purge(t.Context(), Purge{Kind: KindAll}, 0)
		return err == nil
	})
	if len(r.Fenced) != 0 {
		t.Errorf("%+v", r)
	}
	await(t, "fenced when every lease is over", func() bool {
		r, err := other.Purge(t.Context(), Purge{Kind: KindAll}, 0)
		return err == nil && r.Complete() && len(r.Fenced) == 1
	})
}
