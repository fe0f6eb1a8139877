package invalidation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options configure a Follower.
type Options struct {
	// Redis is where the log is; nil means that it is in this process, which then is the only replica.
	Redis redis.UniversalClient
	// Waiting is a client of this follower alone, since its reads wait; Close closes it. Required with Redis.
	Waiting redis.UniversalClient
	// Prefix starts all keys.
	Prefix string
	// Timeout bounds one operation on Redis that nobody waits for in vain. Default 1 s.
	Timeout time.Duration
	// Instance names this process among its replicas; a process that comes back under the same name takes the place of the one before.
	Instance string
	// Version is told to whoever lists the replicas.
	Version string
	// Horizon is how long records are remembered: longer than any fetch, its saving and the reading of it take. Default 3 min.
	Horizon time.Duration
	// Lease, when it is not 0, makes this replica strict: it serves what it holds only for so long after a heartbeat that was accepted when
	// there was nothing left to apply. So the others know when it has stopped, though they cannot ask it.
	Lease time.Duration
	// Purged is told of each purge that this replica has appended when its asker is answered, and whether every replica had applied it by then. It
	// must not wait, and is not called without Redis. Nil = nobody is told.
	Purged func(r *Record, complete bool)
	// Doubted is called when nothing that is held may be trusted any more: records may have been missed. Nil = nobody holds anything.
	Doubted func()

	Log *slog.Logger     // nil: slog.Default()
	Now func() time.Time // nil: time.Now
}

// Follower is one replica's part in the log: it applies the records to its Table, in order, and says so to the others. It is safe for
// concurrent use and must be closed.
type Follower struct {
	opt   Options
	log   *redisLog // nil: the log is in this process
	table *Table
	id    string

	mu     sync.Mutex
	last   *Record         // applied
	times  map[Seq]int64   // when each remembered record was applied, microseconds by this process's clock
	moved  chan struct{}   // closed when the next record is applied
	known  map[string]bool // replicas that have been seen, and have not left
	looked time.Time       // when that was
	oldest Seq             // record in the log, at the last heartbeat
	level  time.Time       // when all that the log held was applied, for the last time that this is known of (status.go)

	batch batch     // of the loop alone
	owed  []*Record // what the log may lack of what was applied here before it was doubted; of the loop alone

	started time.Time               // what lease is counted from, on the monotonic clock
	lease   atomic.Int64            // until when this replica may serve what it holds; only where it is strict
	clock   atomic.Pointer[reading] // of the last heartbeat that was accepted; nil = none was
	whole   atomic.Int64            // the clock of Redis when all that the log held was applied, the last time that this is known of, in microseconds; 0 = it never was
	old     batch                   // of what is trimmed, or swept again; of that goroutine alone
	sweeper Sweeper                 // nil = this replica takes no part in sweeping
	named   time.Time               // when it last said that it may have sweeps in hand; of that goroutine alone
	past    *past                   // what was purged; only without Redis
	serving atomic.Bool             // registered, and all that was retained when it registered is applied

	working sync.WaitGroup // the loop
	ctx     context.Context
	cancel  context.CancelFunc
}

// Start makes a follower. It does not wait for Redis: until it has registered, Registered says no.
func Start(o Options) (*Follower, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if o.Horizon == 0 {
		o.Horizon = 3 * time.Minute
	}
	if o.Purged == nil {
		o.Purged = func(*Record, bool) {}
	}
	if o.Doubted == nil {
		o.Doubted = func() {}
	}
	f := &Follower{
		opt: o, table: NewTable(), id: fmt.Sprintf("%s#%08x", o.Instance, rand.Uint32()), times: make(map[Seq]int64), known: make(map[string]bool), moved: make(chan struct{}),
		batch: readBatch, old: readBatch, started: time.Now(), level: o.Now(), past: newPast(),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	if o.Redis == nil {
		f.begin(&Record{Epoch: Epoch(rand.Uint64()), Seq: Seq(o.Now().UnixMicro())})
		f.serving.Store(true)
		return f, nil
	}
	if o.Waiting == nil {
		return nil, errors.New("invalidation: no client that may wait")
	}
	f.log = newRedisLog(o.Redis, o.Prefix, o.Timeout)
	f.working.Go(f.follow)
	return f, nil
}

// Table is what has been applied.
func (f *Follower) Table() *Table { return f.table }

// ID is this replica's name in receipts.
func (f *Follower) ID() string { return f.id }

// Registered reports whether the others know this replica, and it has applied all that was in the log then.
func (f *Follower) Registered() bool { return f.serving.Load() }

// Fenced reports whether this replica must not serve what it holds: it is strict, and its lease is over or has not begun.
func (f *Follower) Fenced() bool {
	if f.opt.Lease == 0 || f.log == nil {
		return false
	}
	return !f.serving.Load() || int64(time.Since(f.started)) >= f.lease.Load()
}

// Close ends the loop and leaves the fleet: call it when nothing is served any more.
func (f *Follower) Close(ctx context.Context) error {
	f.cancel()
	if f.log == nil {
		f.working.Wait()
		return nil
	}
	closed := f.opt.Waiting.Close() // or a read would wait to its end
	f.working.Wait()
	if !f.serving.Load() {
		return closed
	}
	_, err := f.log.leave(ctx, f.id, leaveItself)
	return errors.Join(closed, err)
}

// How the horizon is spent. What was fetched for a lookup may be written to Redis for as long as Horizon less both of these; it then lives for
// Provisional, unless somebody finds that no purge in between forbids it. So it is gone before a purge that was appended after the
// lookup is forgotten.
const (
	margin      = 2 * time.Second  // for clocks that run unevenly, and for deciding on what was read
	provisional = 10 * time.Second // at most a quarter of the horizon
)

// Provisional is for how long an entry is written that is not checked yet.
func (f *Follower) Provisional() time.Duration { return min(provisional, f.opt.Horizon/4) }

// reading is what the clock of Redis showed.
type reading struct {
	at    int64     // microseconds
	heard time.Time // when that came here
}

// now is what it shows by now, or a little less.
func (r *reading) now() int64 { return r.at + time.Since(r.heard).Microseconds() }

// NotAfter is until when what is fetched for a lookup of this moment may be written, in microseconds by the clock of Redis. It is too early
// rather than too late. ok is false where this replica is not registered: nothing may be written then. Every lookup asks, so it waits for
// nobody.
//
// It does not go on with the clock, but is counted from the last time that nothing was left to apply: a purge that this replica has not heard
// of is younger than that. So one that is cut off from the log soon writes nothing. Else it might validate what it holds when the others have
// forgotten already that this was purged.
func (f *Follower) NotAfter() (at int64, ok bool) {
	if f.log == nil {
		return 0, true
	}
	whole := f.whole.Load()
	if whole == 0 || !f.serving.Load() {
		return 0, false
	}
	return whole + (f.opt.Horizon - f.Provisional() - min(margin, f.opt.Horizon/4)).Microseconds(), true
}

// Newest is the position of the newest record, as the master of the log has it now.
func (f *Follower) Newest(ctx context.Context) (Position, error) {
	if f.log == nil {
		return f.position(), nil
	}
	return f.log.newest(ctx)
}

// begin takes the log up at a record: what was applied before does not count. The record itself is applied, since it may be a purge that is not
// swept yet.
func (f *Follower) begin(at *Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.Doubt(at.Position())
	clear(f.times)
	f.whole.Store(0)
	f.take(at)
}

// apply takes the next record. It reports false where that does not follow the last one.
func (f *Follower) apply(r *Record) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Epoch != f.last.Epoch || r.Prev != f.last.Seq || r.PrevN != f.last.Nonce {
		return false
	}
	f.take(r)
	return true
}

// take applies a record that follows the last one. Called with the lock held.
func (f *Follower) take(r *Record) {
	if r.Kind != "" {
		f.table.Apply(r)
	}
	f.last = r
	f.times[r.Seq] = f.opt.Now().UnixMicro()
	f.wake()
}

// wake tells those who wait for a record. Called with the lock held.
func (f *Follower) wake() {
	close(f.moved)
	f.moved = make(chan struct{})
}

// Reached waits until this replica has applied the log up to a position of its epoch, and reports false where ctx ends before that, or
// another epoch has begun.
func (f *Follower) Reached(ctx context.Context, p Position) bool {
	for {
		f.mu.Lock()
		last, moved := f.last, f.moved
		f.mu.Unlock()
		switch {
		case last != nil && last.Epoch == p.Epoch && last.Seq >= p.Seq:
			return true
		case last != nil && last.Epoch != p.Epoch:
			return false
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}
