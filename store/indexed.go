package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
)

// A sweep of a tag or a group goes through its index (index.go), where that can be trusted (trust.go).

// sweepTagged sweeps what a purge of tags or of a group selects.
func (r *far) sweepTagged(ctx context.Context, record *invalidation.Record, t *tally) error {
	if r.index == nil {
		return r.sweepScanned(ctx, record, t, false)
	}
	mark, err := r.steadyMark(ctx)
	if errors.Is(err, errNoTrust) {
		return r.sweepScanned(ctx, record, t, false)
	}
	trusted := false
	if err == nil {
		err = persevere(ctx, func() (err error) {
			trusted, err = r.index.marked(ctx, mark)
			return err
		})
	}
	switch {
	case err != nil:
		return err
	case !trusted && t.preview: // which changes nothing
		return r.sweepScanned(ctx, record, t, false)
	case !trusted:
		return r.sweepAndMark(ctx, record, t, mark)
	}
	if err = r.sweepIndexed(ctx, record, t); err != nil {
		return err
	}
	switch after, err := r.steadyMark(ctx); {
	case err != nil && !errors.Is(err, errNoTrust):
		return err
	case after != mark: // it may have lost something before it was read, and a cursor may have been another server's
		return r.sweepScanned(ctx, record, t, false)
	}
	return nil
}

// steadyMark is what the marks of the index must say, tried again.
func (r *far) steadyMark(ctx context.Context) (mark string, err error) {
	err = persevere(ctx, func() error {
		mark, err = r.index.mark(ctx, r.client)
		return err
	})
	return mark, err
}

// sweepAndMark goes through all entries, enters them into the index and marks it as one that has everything, if it still is as it was.
func (r *far) sweepAndMark(ctx context.Context, record *invalidation.Record, t *tally, mark string) error {
	if err := r.sweepScanned(ctx, record, t, true); err != nil {
		return err
	}
	switch after, err := r.steadyMark(ctx); {
	case errors.Is(err, errNoTrust) || err == nil && after != mark:
		return nil // the next sweep finds no marks
	case err != nil:
		return err
	}
	return persevere(ctx, func() error { return r.index.makeMarks(ctx, mark) })
}

// sweepScanned goes through all entries that a purge may select.
func (r *far) sweepScanned(ctx context.Context, record *invalidation.Record, t *tally, enter bool) error {
	b := batch{far: r, record: record, tally: t, enter: enter}
	return r.scanAll(ctx, r.keys.patternsOf(record), t, func(keys []string) error { return b.sweep(ctx, keys) })
}

// sweepIndexed goes through the indexes of a purge: those of each tag, or where all are wanted the smallest of them.
func (r *far) sweepIndexed(ctx context.Context, record *invalidation.Record, t *tally) error {
	var keys []string
	if record.Kind == invalidation.KindGroup {
		keys = []string{r.index.groupKey(record.Origin, record.Group)}
	}
	for _, tag := range record.Tags {
		keys = append(keys, r.index.tagKey(tag))
	}
	var sizes []int64
	err := persevere(ctx, func() (err error) {
		sizes, err = r.index.sizes(ctx, keys)
		return err
	})
	if err != nil {
		return err
	}
	if record.MatchAll {
		least := slices.Index(sizes, slices.Min(sizes))
		keys, sizes = keys[least:least+1], sizes[least:least+1]
	}
	b := batch{far: r, record: record, tally: t}
	for i, key := range keys {
		t.expect(sizes[i])
		if err := b.throughIndex(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// sizes are how many members indexes have.
func (x *index) sizes(ctx context.Context, keys []string) ([]int64, error) {
	pipe := x.client.Pipeline()
	replies := make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		replies[i] = pipe.ZCard(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("store: sweeping: %w", err)
	}
	sizes := make([]int64, len(keys))
	for i, reply := range replies {
		sizes[i] = reply.Val()
	}
	return sizes, nil
}

// throughIndex sweeps the members of one index. ZSCAN returns all that are there from its begin to its end; those that come meanwhile are
// of saves that will be checked against this purge.
func (b *batch) throughIndex(ctx context.Context, key string) error {
	for cursor := uint64(0); ; {
		began := time.Now()
		looked, next := 0, uint64(0)
		err := persevere(ctx, func() (err error) {
			looked, next, err = b.stepThroughIndex(ctx, key, cursor)
			return err
		})
		if err != nil {
			return err
		}
		if err := b.tally.walk(int64(looked)); err != nil {
			return err
		}
		if next == 0 {
			return nil
		}
		cursor = next
		if !pausedFor(ctx, max(scanPause, time.Since(began)/2)) {
			return ctx.Err()
		}
	}
}

// stepThroughIndex sweeps the members that a cursor brings.
func (b *batch) stepThroughIndex(ctx context.Context, key string, cursor uint64) (looked int, next uint64, err error) {
	pairs, next, err := b.far.index.client.ZScan(ctx, key, cursor, "", scanBatch).Result()
	if err != nil {
		return 0, 0, fmt.Errorf("store: sweeping by the index: %w", err)
	}
	members, scores := make([]string, 0, len(pairs)/2), make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		scores[pairs[i]] = pairs[i+1]
		if strings.HasPrefix(pairs[i], b.far.keys.entry) {
			members = append(members, pairs[i])
		}
	}
	if err := b.sweep(ctx, members); err != nil {
		return 0, 0, err
	}
	if !b.tally.preview {
		if err := b.drop(ctx, key, scores); err != nil {
			return 0, 0, err
		}
	}
	return len(scores), next, nil
}

// drop takes those out of an index that are gone, unless they were entered again since their scores were read.
func (b *batch) drop(ctx context.Context, key string, scores map[string]string) error {
	var args []any
	for member, gone := range b.gone {
		if gone {
			args = append(args, member, scores[member])
		}
	}
	if len(args) == 0 {
		return nil
	}
	if err := dropScript.Run(ctx, b.far.index.client, []string{key}, args...).Err(); err != nil {
		return fmt.Errorf("store: sweeping by the index: %w", err)
	}
	return nil
}
