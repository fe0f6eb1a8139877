package store

import (
	"context"
	_ "embed"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
)

// The janitor of the index takes out of it what has expired, once in ten minutes, in one replica at a time: whoever creates P:i:{janitor}, which
// lives for so long. A tag of which nothing is stored any more is gone with its last member. It also watches who holds the index, and
// raises a doubt when that has become somebody else (trust.go).

//go:embed trim.lua
var trimSource string

var trimScript = redis.NewScript(trimSource)

const (
	trimEvery = 10 * time.Minute
	trimBatch = 1000 // members of one index at a time
)

type janitor struct {
	index    *index
	follower *invalidation.Follower
	every    time.Duration // between two looks
	seen     string        // runs of the masters at the last look; "" = there was none

	working sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
}

func newJanitor(x *index, f *invalidation.Follower) *janitor {
	// A purge is swept for the second time when its horizon is over: before that it must be known whether the index was lost.
	j := &janitor{index: x, follower: f, every: f.Provisional() / 2}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	j.working.Go(j.work)
	return j
}

func (x *index) close() {
	if x == nil {
		return
	}
	j := x.janitor
	j.cancel()
	j.working.Wait()
}

// registeredEvery is between two looks whether this replica is registered: before that it enters nothing.
const registeredEvery = 50 * time.Millisecond

// work looks again and again, for the first time as soon as this replica may enter anything. What fails is tried at the next look: an index
// that is not trimmed is only larger.
func (j *janitor) work() {
	for !j.follower.Registered() {
		if !pausedFor(j.ctx, registeredEvery) {
			return
		}
	}
	for ok := true; ok; ok = pausedFor(j.ctx, j.every) {
		j.watch()
		if first, err := j.index.client.SetNX(j.ctx, j.index.markKey("janitor"), j.follower.ID(), trimEvery).Result(); err == nil && first {
			_ = j.index.trim(j.ctx)
		}
	}
}

// watch raises a doubt where what this replica has entered may have been lost.
func (j *janitor) watch() {
	runs, err := runsOf(j.ctx, j.index.client, false)
	if err != nil {
		return
	}
	if j.seen != "" && runs != j.seen {
		if j.index.doubt(j.ctx) != nil {
			return // and is to be raised at the next look
		}
	}
	j.seen = runs
}

// trim goes through all indexes. Whoever looks into one while it goes on may find it trimmed already, or not yet.
func (x *index) trim(ctx context.Context) error {
	return eachMaster(ctx, x.client, func(ctx context.Context, node *redis.Client) error {
		patterns := []string{x.prefix + ":t:{*", x.prefix + ":g:{*"}
		return scanNode(ctx, node, patterns, nil, once, func(keys []string) error { return x.trimKeys(ctx, keys) })
	})
}

func (x *index) trimKeys(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		calls := make([]scriptCall, len(keys))
		for i, key := range keys {
			calls[i] = scriptCall{[]string{key}, []any{trimBatch, x.now()}}
		}
		replies, err := runScripts(ctx, x.client, trimScript, calls)
		if err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
			return fmt.Errorf("store: trimming the index: %w", err)
		}
		var more []string
		for i, reply := range replies {
			if n, _ := reply.Int(); n == trimBatch {
				more = append(more, keys[i])
			}
		}
		if keys = more; len(keys) > 0 && !pausedFor(ctx, scanPause) {
			return ctx.Err()
		}
	}
	return nil
}

// pausedFor waits, and reports false where ctx has ended.
func pausedFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
