package invalidation

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sweeps. append.lua queues the sequence of each record. A replica moves it into a list of its own (BLMOVE), sweeps, notes that it is done, and
// only then takes it out of that list: a replica that dies in between leaves it there, and another one puts it back into the queue.
//
// A record is swept twice, the second time when its horizon is over: a save that had read the log before the record was appended may
// have written after the first sweep, but not after that. Then it is trimmed from the log.
//
//	P:{inv}:sweeps          list of sequences to be swept
//	P:{inv}:sweeps:WORKER   list of those that a replica has in hand
//	P:{inv}:swept           hash: sequence -> "PASSES ENTRIES", what has been done

// Sweeper deletes from where responses are stored what a record forbids.
type Sweeper interface {
	Sweep(ctx context.Context, r *Record) (swept int, err error)
	// Advance compares what is held in this process with all records that have been applied.
	Advance(ctx context.Context)
}

const (
	sweepWait    = time.Second            // for something to sweep
	sweepAgain   = 500 * time.Millisecond // after a failure
	orphanChecks = 5 * time.Second        // between two looks for what others have left
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
		f.pause(sweepAgain)
	}
}

// sweepNext takes one record from the queue, waiting for it, and sweeps.
func (f *Follower) sweepNext(s Sweeper) error {
	mine := f.log.sweeps + ":" + f.id
	if err := f.opt.Redis.SAdd(f.ctx, f.log.workers, f.id).Err(); err != nil { // each time: others may think it is gone, and Redis may go back
		return fmt.Errorf("invalidation: waiting for a sweep: %w", err)
	}
	ctx, cancel := context.WithTimeout(f.ctx, sweepWait+f.opt.Timeout)
	defer cancel()
	seq, err := f.opt.Waiting.BLMove(ctx, f.log.sweeps, mine, "LEFT", "RIGHT", sweepWait).Result()
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
	id := seq + "-0"
	r, err := f.log.ask(f.ctx, "swept", id, id, false)
	if err != nil {
		return err
	}
	n := 0
	if r != nil { // else it was lost, and appended again
		if n, err = s.Sweep(f.ctx, r); err != nil {
			return errors.Join(err, f.opt.Redis.LMove(f.ctx, mine, f.log.sweeps, "RIGHT", "RIGHT").Err())
		}
	}
	passes, entries := f.log.swept(f.ctx, seq)
	pipe := f.opt.Redis.Pipeline()
	pipe.HSet(f.ctx, f.log.done, seq, fmt.Sprintf("%d %d", passes+1, entries+n))
	pipe.LRem(f.ctx, mine, 1, seq)
	if _, err := pipe.Exec(f.ctx); err != nil {
		return fmt.Errorf("invalidation: noting a sweep: %w", err)
	}
	return nil
}

// swept says how often a record has been swept, and how many entries that were.
func (l *redisLog) swept(ctx context.Context, seq string) (passes, entries int) {
	text, _ := l.client.HGet(ctx, l.done, seq).Result()
	first, second, _ := strings.Cut(text, " ")
	passes, _ = strconv.Atoi(first)
	entries, _ = strconv.Atoi(second)
	return passes, entries
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
		for {
			err := f.opt.Redis.LMove(f.ctx, f.log.sweeps+":"+id, f.log.sweeps, "LEFT", "LEFT").Err()
			if errors.Is(err, redis.Nil) {
				break
			}
			if err != nil {
				return fmt.Errorf("invalidation: adopting a sweep: %w", err)
			}
		}
		if err := f.opt.Redis.SRem(f.ctx, f.log.workers, id).Err(); err != nil {
			return err
		}
	}
	return nil
}

// sweepOld queues the second sweep of records whose horizon is over, and trims from the log those that have had it, all but the last.
func (f *Follower) sweepOld() error {
	now, err := f.opt.Redis.Time(f.ctx).Result()
	if err != nil {
		return fmt.Errorf("invalidation: trimming the log: %w", err)
	}
	over := Seq(now.Add(-f.opt.Horizon).UnixMicro())
	messages, err := f.opt.Redis.XRangeN(f.ctx, f.log.log, "-", over.String(), 1000).Result()
	if err != nil || len(messages) == 0 {
		return err
	}
	done, err := f.opt.Redis.HGetAll(f.ctx, f.log.done).Result()
	if err != nil {
		return err
	}
	var trimmed []string
	whole := true // all before are to be trimmed too
	for _, m := range messages {
		seq, _, _ := strings.Cut(m.ID, "-")
		passes := done[seq]
		begin, _ := m.Values["r"].(string)
		switch {
		case begin == "" || strings.HasPrefix(passes, "2 "):
			if whole {
				trimmed = append(trimmed, seq)
			}
			continue
		case strings.HasPrefix(passes, "1 "):
			if err := f.queueAgain(seq); err != nil {
				return err
			}
		}
		whole = false
	}
	return f.trim(trimmed)
}

// queueAgain queues the second sweep of a record, once.
func (f *Follower) queueAgain(seq string) error {
	first, err := f.opt.Redis.HSetNX(f.ctx, f.log.done, seq+":again", "1").Result()
	if err != nil || !first {
		return err
	}
	return f.opt.Redis.RPush(f.ctx, f.log.sweeps, seq).Err()
}

// trim takes the first records out of the log, but never its last.
func (f *Follower) trim(seqs []string) error {
	length, err := f.opt.Redis.XLen(f.ctx, f.log.log).Result()
	if err != nil {
		return err
	}
	for len(seqs) > 0 && int64(len(seqs)) >= length {
		seqs = seqs[:len(seqs)-1]
	}
	if len(seqs) == 0 {
		return nil
	}
	last, _ := strconv.ParseUint(seqs[len(seqs)-1], 10, 64)
	pipe := f.opt.Redis.Pipeline()
	pipe.XTrimMinID(f.ctx, f.log.log, Seq(last+1).String())
	for _, seq := range seqs {
		pipe.HDel(f.ctx, f.log.done, seq, seq+":again")
	}
	_, err = pipe.Exec(f.ctx)
	return err
}
