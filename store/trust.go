package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/breaker"
)

// A sweep by the index misses what the index has lost. So it uses the index only if nothing can have been lost since all entries were
// looked at and entered: if each server that holds a part of the index has a mark, P:i:{N}, which says so of the servers as they are
// now. Else it looks at all entries, enters those that it leaves, and then makes the marks.
//
// The mark names the run of each master, of the index and of the entries, and the last doubt. What can happen, and why it is noticed:
//
//   - The Redis for state is emptied: the marks are gone with the index. The log of purges is gone too, so a new epoch begins, and what the
//     index has lost is of an old epoch, which nobody serves. What is saved from then on is in the index, as the check of a save
//     that was under way finds another epoch and leaves the entry to expire. Emptying one master of a cluster takes the mark that lies there.
//   - It comes back with an older snapshot: it has restarted, so its run is another.
//   - Another server takes its place, without the newest members: its run is another. A replica that went on writing to the old one for a while
//     notices later than others that it talks to a new one; it then raises a doubt (janitor.go), so that marks made meanwhile do not count.
//     It notices before the purge is swept for the second time.
//   - The Redis of the entries comes back with older ones, or another server with entries that were swept, and so are not in the index any
//     more: the run is another.
//   - It evicts members: while maxmemory and the policy let it evict keys that never expire, the index is not used. That a policy was another for a
//     while shows in the number of keys evicted.
//   - Slots move: with them their keys, of which the mark may be one, and then one is missing where it is looked for.
//   - A version without the index has stored what is there: there are no marks. It may not run beside this one, as no released version can.
//
// A user who may not ask for INFO cannot know any of this: each sweep of a tag then looks at all entries, as it does where Redis may evict.

// errNoTrust: it cannot be known whether the index has everything.
var errNoTrust = errors.New("store: the index cannot be trusted")

// mark is what the marks must say for the index to be trusted. The error is errNoTrust where that cannot be known, or why Redis does not
// answer.
func (x *index) mark(ctx context.Context, entries redis.UniversalClient) (string, error) {
	mark, err := runsOf(ctx, x.client, true)
	if err == nil && x.beside {
		var others string
		others, err = runsOf(ctx, entries, false)
		mark += "; " + others
	}
	if err != nil {
		return "", err
	}
	doubt, err := x.client.Get(ctx, x.markKey("doubt")).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("store: asking whether the index is doubted: %w", err)
	}
	return mark + "; " + doubt, nil
}

// runsOf names the run of each master: its process, and since when it is a master. Of one that holds members of the index it also says how many
// keys were evicted; it is errNoTrust where members may be.
func runsOf(ctx context.Context, client redis.UniversalClient, members bool) (string, error) {
	var mu sync.Mutex
	var runs []string
	err := eachMaster(ctx, client, func(ctx context.Context, node *redis.Client) error {
		info, err := node.Info(ctx).Result()
		if err != nil && breaker.Classify(err).Cause == "permission" {
			return errNoTrust
		}
		if err != nil {
			return fmt.Errorf("store: asking a Redis who it is: %w", err)
		}
		// One that was made a replica and then a master again is the same process, with the data of the one in between.
		run := infoField(info, "run_id") + " " + infoField(info, "master_replid")
		if run == " " {
			return errNoTrust
		}
		if policy := infoField(info, "maxmemory_policy"); members && !strings.HasPrefix(policy, "volatile-") {
			if policy != "noeviction" && infoField(info, "maxmemory") != "0" {
				return errNoTrust
			}
			run += " " + infoField(info, "evicted_keys")
		}
		mu.Lock()
		defer mu.Unlock()
		runs = append(runs, run)
		return nil
	})
	slices.Sort(runs)
	return strings.Join(runs, ", "), err
}

func (x *index) markKey(n string) string { return x.prefix + ":i:{" + n + "}" }

// maxMarks bounds how long keys are tried until each master has one.
const maxMarks = 1 << 16

// markKeys are keys of marks, one on each master.
func (x *index) markKeys(ctx context.Context) ([]string, error) {
	cluster, ok := x.client.(*redis.ClusterClient)
	if !ok {
		return []string{x.markKey("0")}, nil
	}
	var mu sync.Mutex
	missing := map[string]bool{}
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		missing[node.Options().Addr] = true
		return nil
	})
	var keys []string
	for n := 0; err == nil && len(missing) > 0; n++ {
		key := x.markKey(strconv.Itoa(n))
		var node *redis.Client
		if node, err = cluster.MasterForKey(ctx, key); err == nil && missing[node.Options().Addr] {
			delete(missing, node.Options().Addr)
			keys = append(keys, key)
		}
		if n == maxMarks {
			break // the rest are masters without slots, which hold nothing
		}
	}
	if err != nil {
		return nil, fmt.Errorf("store: placing the marks of the index: %w", err)
	}
	return keys, nil
}

// marked reports whether each mark says this.
func (x *index) marked(ctx context.Context, mark string) (bool, error) {
	keys, err := x.markKeys(ctx)
	if err != nil {
		return false, err
	}
	pipe := x.client.Pipeline()
	replies := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		replies[i] = pipe.Get(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("store: reading the marks of the index: %w", err)
	}
	for _, reply := range replies {
		if reply.Val() != mark {
			return false, nil
		}
	}
	return true, nil
}

// makeMarks makes the marks.
func (x *index) makeMarks(ctx context.Context, mark string) error {
	keys, err := x.markKeys(ctx)
	if err != nil {
		return err
	}
	pipe := x.client.Pipeline()
	for _, key := range keys {
		pipe.Set(ctx, key, mark, 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("store: marking the index: %w", err)
	}
	return nil
}

// doubt makes all marks that there are, and those that somebody is about to make, be of no use.
func (x *index) doubt(ctx context.Context) error {
	return x.client.Set(ctx, x.markKey("doubt"), strconv.FormatUint(rand.Uint64(), 16), 0).Err()
}
