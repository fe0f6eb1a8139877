package invalidation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sweeps. append.lua queues the sequence of each record. A replica moves it into a list of its own (BLMOVE), sweeps, notes that it is done, and
// only then takes it out of that list: a replica that dies in between leaves it there, and another one puts it back into the queue.
//
// A record is swept twice, the second time when its horizon is over: a save that had read the log before the record was appended may
// have written after the first sweep, but not after that. Then it is trimmed from the log. A sweep is the second if that was queued before it
// began: two replicas that have one sweep in hand, since one seemed to be dead, do the first twice. The first sweep may be cancelled; the
// second may not, since what the record forbids could be served again when the record is forgotten.
//
//	P:{inv}:sweeps          list of sequences to be swept
//	P:{inv}:sweeps:WORKER   list of those that a replica has in hand
//	P:{inv}:swept           hash: what has been done (sweepnotes.go)
//	P:{inv}:workers         set of those that may have something in hand
//
// A purge is what helps a Redis that is full: what writes here is done by scripts that it lets pass.

// Sweeper deletes from where responses are stored what a record forbids.
type Sweeper interface {
	// Sweep deletes or marks, and says what it has found. Where that takes long it calls progress now and then, one call at a time, with the
	// tally so far, and ends with the error that progress returns.
	Sweep(ctx context.Context, r *Record, progress func(Tally) error) (Tally, error)
	// Advance compares what is held in this process with all records that have been applied.
	Advance(ctx context.Context)
}

const (
	sweepWait    = time.Second            // for something to sweep
	sweepAgain   = 500 * time.Millisecond // after a failure, and between two looks where Redis lets nobody wait
	orphanChecks = 5 * time.Second        // between two looks for what others have left
	noteEvery    = 200 * time.Millisecond // while a sweep runs; so long it may go on that is cancelled
)

var (
	errCancelled = errors.New("invalidation: the sweep is cancelled")
	errGone      = errors.New("invalidation: the log holds the record no more") // somebody else has swept it, twice
)

// Sweep takes part in the sweeping, and lets records be forgotten once s has looked at what it holds. It returns at once; Close ends it. Without
// it records are forgotten all the same.
func (f *Follower) Sweep(s Sweeper) {
	f.mu.Lock()
	f.sweeper = s
	f.mu.Unlock()
	f.working.Go(func() { f.forgetting(s) })
	if f.log != nil {
		f.working.Go(func() { f.sweeping(s) })
	} else {
		f.working.Go(func() { f.sweepingHere(s) })
	}
}

// forgetting lets the records go whose horizon is over.
func (f *Follower) forgetting(s Sweeper) {
	for f.ctx.Err() == nil {
		f.pause(max(f.opt.Horizon/8, 10*time.Millisecond))
		now := f.opt.Now()
		if f.log != nil {
			clock := f.clock.Load()
			if clock == nil {
				continue
			}
			now = time.UnixMicro(clock.now())
		}
		if f.due(now) > 0 {
			s.Advance(f.ctx)
			f.forget(now)
		}
	}
}

// sweeping works through the queue.
func (f *Follower) sweeping(s Sweeper) {
	told := ""
	look := time.Now()
	for f.ctx.Err() == nil {
		var err error
		if !time.Now().Before(look) && f.Registered() {
			if err = errors.Join(f.adopt(), f.sweepOld()); err == nil {
				look = time.Now().Add(min(orphanChecks, f.opt.Horizon/2))
			}
			f.named = time.Time{} // adopt has struck this replica off
		}
		if err == nil {
			err = f.sweepNext(s)
		}
		switch {
		case err == nil:
			told = ""
			continue
		case f.ctx.Err() == nil && err.Error() != told:
			told = err.Error()
			f.opt.Log.Warn("what was purged cannot be swept now; nobody serves it meanwhile", "replica", f.id, "error", told)
		}
		f.named = time.Time{} // Redis may be another one now
		f.pause(sweepAgain)
	}
}

// sweepNext takes one record from the queue, waiting for it, and sweeps.
func (f *Follower) sweepNext(s Sweeper) error {
	mine := f.log.sweeps + ":" + f.id
	if time.Since(f.named) >= sweepWait { // again and again: others may think that it is gone, and Redis may go back
		if err := workerScript.Run(f.ctx, f.opt.Redis, []string{f.log.workers}, f.id).Err(); err != nil {
			return fmt.Errorf("invalidation: waiting for a sweep: %w", err)
		}
		f.named = time.Now()
	}
	ctx, cancel := context.WithTimeout(f.ctx, sweepWait+f.opt.Timeout)
	defer cancel()
	seq, err := f.opt.Waiting.BLMove(ctx, f.log.sweeps, mine, "LEFT", "RIGHT", sweepWait).Result()
	if redis.HasErrorPrefix(err, "OOM") {
		var there bool
		if seq, there, err = f.log.move(ctx, f.log.sweeps, mine, "LEFT", "RIGHT"); err == nil && !there {
			f.pause(sweepAgain)
			return nil
		}
	}
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("invalidation: waiting for a sweep: %w", err)
	}
	return f.sweepOne(s, mine, seq)
}

// sweepOne sweeps the record of a sequence that this replica has in hand.
func (f *Follower) sweepOne(s Sweeper, mine, seq string) error {
	r, known, err := f.log.toSweep(f.ctx, seq)
	if err != nil {
		return err
	}
	now, pass := known.note, known.pass()
	now.By, now.Running = f.id, false
	if r == nil || now.Passes >= pass { // it was lost, and appended again; or somebody else was faster
		_, _, err := f.log.note(f.ctx, mine, seq, &now, true)
		return err
	}
	newer := Seq(0)
	if pass == 2 || known.stop == "" {
		newer, err = f.sweepCovering(s, r, &known, mine)
	}
	if err == nil && newer == 0 {
		err = f.sweepRecord(s, r, &known, mine)
	}
	if err != nil && !errors.Is(err, errGone) && !errors.Is(err, errCancelled) {
		_, _, moved := f.log.move(f.ctx, mine, f.log.sweeps, "RIGHT", "RIGHT")
		return errors.Join(err, moved)
	}
	if newer > 0 {
		now.mergeInto(newer)
		now.Passes = pass
		_, _, err = f.log.note(f.ctx, mine, seq, &now, true)
		return err
	}
	return nil
}

// sweepRecord sweeps a record, unless the sweep is cancelled, and notes what has come of it. errCancelled and errGone are noted too.
func (f *Follower) sweepRecord(s Sweeper, r *Record, known *noted, mine string) (err error) {
	seq, now, stop, pass := r.Seq.String(), known.note, known.stop, known.pass()
	now.By, now.Running = f.id, false
	if pass == 1 {
		now.Merged = 0
	}
	if pass == 1 && stop != "" {
		err = errCancelled
	} else {
		err = f.sweepNoting(s, r, mine, pass, &now)
	}
	switch {
	case errors.Is(err, errCancelled):
		now.Cancelled = stop
		if again, asked := f.log.notes(f.ctx, seq); asked == nil && again[0].stop != "" {
			now.Cancelled = again[0].stop
		}
	case errors.Is(err, errGone):
	case err != nil:
		_, _, noted := f.log.note(f.ctx, mine, seq, &now, false)
		return errors.Join(err, noted)
	}
	if pass == 2 && now.Passes == 0 {
		f.addFirst(seq, &now, known.Tally)
	}
	now.Passes = pass
	if _, _, noted := f.log.note(f.ctx, mine, seq, &now, true); noted != nil {
		return noted
	}
	return err
}

// addFirst adds to the note of a second sweep, which has begun with what was noted of a first that went on, what that has found to its end.
func (f *Follower) addFirst(seq string, now *note, before Tally) {
	list, err := f.log.notes(f.ctx, seq)
	if err != nil || list[0].Passes != 1 {
		return
	}
	first := list[0].Tally
	first.Matched, first.Swept, first.Bytes = first.Matched-before.Matched, first.Swept-before.Swept, first.Bytes-before.Bytes
	now.Tally = now.after(first)
	if now.Cancelled == "" {
		now.Cancelled = list[0].Cancelled
	}
}

// sweepNoting sweeps, noting in now how far that is.
func (f *Follower) sweepNoting(s Sweeper, r *Record, mine string, pass int, now *note) error {
	before, seq, running := now.Tally, r.Seq.String(), *now
	running.Running = true
	tell := func(t Tally) error {
		running.Tally = t.after(before)
		there, stop, err := f.log.note(f.ctx, mine, seq, &running, false)
		switch {
		case err != nil:
			return nil // what is not told is done all the same
		case !there:
			return errGone
		case stop != "" && pass == 1:
			return errCancelled
		}
		return nil
	}
	if r.Kind != KindURL { // which is mostly over before anybody could have asked
		if err := tell(Tally{}); err != nil {
			return err
		}
	}
	told := time.Now()
	found, err := s.Sweep(f.ctx, r, func(t Tally) error {
		if time.Since(told) < noteEvery {
			return nil
		}
		told = time.Now()
		return tell(t)
	})
	now.Tally = found.after(before)
	return err
}

// adopt puts back into the queue what replicas have in hand that are gone, or say nothing, and what this one could not end.
func (f *Follower) adopt() error {
	fleet, err := f.log.fleet(f.ctx)
	if err != nil {
		return err
	}
	alive := make(map[string]bool)
	for _, r := range fleet.replicas {
		alive[r.ID] = !r.Silent && r.ID != f.id // nothing is in hand here now: what is in the list was taken in vain, the answer being lost
	}
	workers, err := f.opt.Redis.SMembers(f.ctx, f.log.workers).Result()
	if err != nil {
		return fmt.Errorf("invalidation: looking for orphans: %w", err)
	}
	for _, id := range workers {
		if alive[id] {
			continue
		}
		for more := true; more; {
			if _, more, err = f.log.move(f.ctx, f.log.sweeps+":"+id, f.log.sweeps, "LEFT", "LEFT"); err != nil {
				return fmt.Errorf("invalidation: adopting a sweep: %w", err)
			}
		}
		if err := f.opt.Redis.SRem(f.ctx, f.log.workers, id).Err(); err != nil {
			return err
		}
	}
	return nil
}
