package invalidation

import (
	"context"
	"errors"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The tail. One goroutine reads the log in order, applies, and says so; nothing else applies anything.
//
// Joining, also after a doubt: register with the oldest record that the log holds, so that whoever appends from then on waits for this
// replica; read all that is there; say so again; only now is what is stored trusted. A doubt is a record that does not follow the last one, or a
// heartbeat that is not accepted: the log was trimmed past this replica, or has gone back. Then the records that this replica remembers
// and the log lacks are appended again, since somebody was told that they had been applied.

const (
	beatInterval = time.Second // at least so often a heartbeat is sent
	rejoinPause  = 250 * time.Millisecond
)

// batch is how many records are read at once. A record may have 64 KiB and more, and of what does not come within the timeout nothing has come: then
// half as many are asked for the next time, and by and by more again when they come.
type batch int64

const readBatch, leastBatch batch = 1000, 4

// adjust learns from how a read has ended.
func (b *batch) adjust(err error) {
	var late net.Error
	switch {
	case err == nil:
		*b = min(*b+*b/4, readBatch)
	case errors.As(err, &late) && late.Timeout():
		*b = max(*b/2, leastBatch)
	}
}

// errDoubt ends the following of a log.
var errDoubt = errors.New("invalidation: the log does not go on where it was left")

// follow is the loop.
func (f *Follower) follow() {
	told := ""
	for f.ctx.Err() == nil {
		err := f.join()
		joined := err == nil
		if joined {
			told = ""
			f.serving.Store(true)
			f.opt.Log.Info("following the log of purges", "replica", f.id, "at", f.position().String())
			err = f.tail()
		}
		if f.ctx.Err() != nil {
			return
		}
		doubt := errors.Is(err, errDoubt)
		if doubt {
			f.serving.Store(false)
		}
		if joined && doubt {
			f.opt.Log.Warn("the log of purges does not go on where it was left: what is held is doubted", "replica", f.id, "error", err.Error())
			continue
		}
		if err.Error() != told {
			told = err.Error()
			f.opt.Log.Warn("the log of purges cannot be followed", "replica", f.id, "error", told)
		}
		f.pause(rejoinPause)
	}
}

func (f *Follower) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.ctx.Done():
	}
}

func (f *Follower) position() Position {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		return Position{}
	}
	return f.last.Position()
}

// join registers and reads what the log holds.
func (f *Follower) join() error {
	if _, err := f.log.append(f.ctx, Purge{}); err != nil { // begins an epoch if there is none
		return err
	}
	if err := f.appendAgain(); err != nil {
		return err
	}
	first, err := f.log.first(f.ctx)
	if err != nil {
		return err
	}
	f.begin(first) // before others are told that this replica has applied it
	f.opt.Doubted()
	if b, err := f.log.heartbeat(f.ctx, f.id, first, f.opt.Version, f.opt.Lease, true); err != nil {
		return err
	} else if !b.accepted {
		return errDoubt
	}
	for {
		asked := f.batch
		n, err := f.advance(-1)
		if err != nil && f.batch < asked {
			continue // to join anew would be to read anew what has been read
		}
		if err != nil {
			return err
		}
		if n < int(asked) {
			if err := f.beat(); err != nil {
				return err
			}
			f.owed = nil
			return nil
		}
	}
}

// appendAgain appends the records that this replica remembers and the log lacks: it has gone back. It remembers them until all of the joining
// is done: the log may go back once more while the table is read anew.
func (f *Follower) appendAgain() error {
	owed := make(map[uint64]bool, len(f.owed))
	for _, r := range f.owed {
		owed[r.Nonce] = true
	}
	for _, r := range f.table.records() {
		if !owed[r.Nonce] {
			f.owed = append(f.owed, r)
		}
	}
	// There may be many, where sweeps are behind, and until all are there nobody follows the log. All are newer than whatever is stored: in which
	// order they come to be in the log says nothing.
	var working sync.WaitGroup
	var next atomic.Int64
	var failure atomic.Pointer[error]
	for range min(againAtOnce, len(f.owed)) {
		working.Go(func() {
			for failure.Load() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(f.owed)) {
					return
				}
				if err := f.appendOneAgain(f.owed[i]); err != nil {
					failure.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	working.Wait()
	if err := failure.Load(); err != nil {
		return *err
	}
	return nil
}

// againAtOnce is how many lost records are appended again at the same time.
const againAtOnce = 8

func (f *Follower) appendOneAgain(r *Record) error {
	there, err := f.log.has(f.ctx, r)
	if err != nil || there {
		return err
	}
	again, err := f.log.appendAgain(f.ctx, r)
	if err == nil && again != nil {
		f.opt.Log.Warn("a purge that the log had lost was appended again", "sequence", r.Seq.String(), "now", again.Seq.String())
	}
	return err
}

// advance reads and applies the next records, waiting for so long; negative = not at all.
func (f *Follower) advance(wait time.Duration) (n int, err error) {
	ctx, cancel := context.WithTimeout(f.ctx, f.opt.Timeout+max(wait, 0))
	defer cancel()
	records, err := f.log.read(ctx, f.opt.Waiting, f.position().Seq, wait, int64(f.batch))
	f.batch.adjust(err)
	for _, r := range records {
		if !f.apply(r) {
			return n, errDoubt
		}
		n++
	}
	return n, err
}

// beat says what has been applied, and forgets what need not be remembered any more.
func (f *Follower) beat() error {
	f.mu.Lock()
	last := f.last
	f.mu.Unlock()
	asked, sent := f.opt.Now(), time.Now()
	b, err := f.log.heartbeat(f.ctx, f.id, last, f.opt.Version, f.opt.Lease, false)
	if err != nil {
		return err
	}
	if !b.accepted {
		return errDoubt
	}
	if b.newest <= last.Seq {
		f.isLevel(asked)
	}
	f.clock.Store(&reading{b.at, time.Now()})
	f.mu.Lock()
	f.oldest = b.oldest
	look := time.Since(f.looked) >= beatInterval
	if b.newest == last.Seq { // else it may be a record that all others think this replica is fenced for
		f.lease.Store(int64(sent.Sub(f.started) + f.opt.Lease))
		f.whole.Store(b.at)
	}
	sweeps := f.sweeper != nil
	f.mu.Unlock()
	if look {
		fleet, err := f.log.fleet(f.ctx)
		if err != nil {
			return err
		}
		f.saw(fleet)
		f.mu.Lock()
		f.looked = time.Now()
		f.mu.Unlock()
	}
	if !sweeps { // else forgetting does, when what is held was looked at
		f.forget(time.UnixMicro(b.at))
	}
	return nil
}

// due is the newest record that may be forgotten at a time by the clock of Redis: it and all before were both appended and applied longer ago
// than the horizon, and have been trimmed from the log, as those are that have been swept twice: nothing in Redis is older. 0 = none may.
func (f *Follower) due(now time.Time) Seq {
	f.mu.Lock()
	defer f.mu.Unlock()
	appended := Seq(now.Add(-f.opt.Horizon).UnixMicro())
	applied := f.opt.Now().Add(-f.opt.Horizon).UnixMicro()
	newest, kept := Seq(0), Seq(math.MaxUint64)
	for seq, at := range f.times {
		if seq < appended && at < applied && (f.log == nil || seq < f.oldest) {
			newest = max(newest, seq)
		} else {
			kept = min(kept, seq)
		}
	}
	if newest >= kept {
		newest = kept - 1
	}
	return newest
}

// forget drops the records that are due.
func (f *Follower) forget(now time.Time) {
	newest := f.due(now)
	if newest == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for seq := range f.times {
		if seq <= newest {
			delete(f.times, seq)
		}
	}
	f.table.Forget(newest)
}

// tail follows the log until that fails.
func (f *Follower) tail() error {
	next := time.Now().Add(beatInterval)
	failed := false
	for f.ctx.Err() == nil {
		n, err := f.advance(max(time.Until(next), time.Millisecond))
		if errors.Is(err, errDoubt) || errors.Is(err, errUnreadable) {
			return errors.Join(errDoubt, err)
		}
		if err == nil && (n > 0 || !time.Now().Before(next)) {
			err = f.beat()
			next = time.Now().Add(beatInterval)
		}
		if errors.Is(err, errDoubt) {
			return err
		}
		if f.ctx.Err() == nil && (err != nil) != failed {
			if failed = err != nil; failed {
				f.opt.Log.Warn("the log of purges does not answer: what is held is served on", "replica", f.id, "error", err.Error())
			} else {
				f.opt.Log.Info("the log of purges answers again", "replica", f.id)
			}
		}
		if err != nil {
			f.pause(rejoinPause)
		}
	}
	return f.ctx.Err()
}
