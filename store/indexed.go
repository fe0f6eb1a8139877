package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
)

// A sweep of a tag or a group goes through its index (index.go), where that can be trusted (trust.go).

// sweepTagged sweeps what a purge of tags or of a group selects.
func (r *far) sweepTagged(ctx context.Context, record *invalidation.Record) (swept int, err error) {
	if r.index == nil {
		return r.sweepScanned(ctx, record, false)
	}
	mark, err := r.index.mark(ctx, r.client)
	if errors.Is(err, errNoTrust) {
		return r.sweepScanned(ctx, record, false)
	}
	trusted := false
	if err == nil {
		trusted, err = r.index.marked(ctx, mark)
	}
	switch {
	case err != nil:
		return 0, err
	case !trusted:
		return r.sweepAndMark(ctx, record, mark)
	}
	swept, err = r.sweepIndexed(ctx, record)
	if err != nil {
		return swept, err
	}
	switch after, err := r.index.mark(ctx, r.client); {
	case err != nil && !errors.Is(err, errNoTrust):
		return swept, err
	case after != mark: // it may have lost something before it was read, and a cursor may have been another server's
		n, err := r.sweepScanned(ctx, record, false)
		return swept + n, err
	}
	return swept, nil
}

// sweepAndMark goes through all entries, enters them into the index and marks it as one that has everything, if it still is as it was.
func (r *far) sweepAndMark(ctx context.Context, record *invalidation.Record, mark string) (swept int, err error) {
	if swept, err = r.sweepScanned(ctx, record, true); err != nil {
		return swept, err
	}
	switch after, err := r.index.mark(ctx, r.client); {
	case errors.Is(err, errNoTrust) || err == nil && after != mark:
		return swept, nil // the next sweep finds no marks
	case err != nil:
		return swept, err
	}
	return swept, r.index.makeMarks(ctx, mark)
}

// sweepScanned goes through all entries that a purge may select.
func (r *far) sweepScanned(ctx context.Context, record *invalidation.Record, enter bool) (int, error) {
	b := batch{far: r, record: record, enter: enter}
	err := r.scanAll(ctx, r.keys.patternsOf(record), func(keys []string) error { return b.sweep(ctx, keys) })
	return b.swept, err
}

// sweepIndexed goes through the indexes of a purge: those of each tag, or where all are wanted the smallest of them.
func (r *far) sweepIndexed(ctx context.Context, record *invalidation.Record) (int, error) {
	var keys []string
	if record.Kind == invalidation.KindGroup {
		keys = []string{r.index.groupKey(record.Origin, record.Group)}
	}
	for _, tag := range record.Tags {
		keys = append(keys, r.index.tagKey(tag))
	}
	if record.MatchAll && len(keys) > 1 {
		smallest, err := r.index.smallest(ctx, keys)
		if err != nil {
			return 0, err
		}
		keys = []string{smallest}
	}
	b := batch{far: r, record: record}
	for _, key := range keys {
		if err := b.throughIndex(ctx, key); err != nil {
			return b.swept, err
		}
	}
	return b.swept, nil
}

// smallest is the index with the fewest members.
func (x *index) smallest(ctx context.Context, keys []string) (string, error) {
	pipe := x.client.Pipeline()
	sizes := make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		sizes[i] = pipe.ZCard(ctx, key)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return "", fmt.Errorf("store: sweeping: %w", err)
	}
	best := 0
	for i := range sizes {
		if sizes[i].Val() < sizes[best].Val() {
			best = i
		}
	}
	return keys[best], nil
}

// throughIndex sweeps the members of one index. ZSCAN returns all that are there from its begin to its end; those that come meanwhile are
// of saves that will be checked against this purge.
func (b *batch) throughIndex(ctx context.Context, key string) error {
	x := b.far.index
	for cursor := uint64(0); ; {
		began := time.Now()
		pairs, next, err := x.client.ZScan(ctx, key, cursor, "", scanBatch).Result()
		if err != nil {
			return fmt.Errorf("store: sweeping by the index: %w", err)
		}
		members, scores := make([]string, 0, len(pairs)/2), make(map[string]string, len(pairs)/2)
		for i := 0; i+1 < len(pairs); i += 2 {
			scores[pairs[i]] = pairs[i+1]
			if strings.HasPrefix(pairs[i], b.far.keys.entry) {
				members = append(members, pairs[i])
			}
		}
		if err := b.sweep(ctx, members); err != nil {
			return err
		}
		if err := b.drop(ctx, key, scores); err != nil || next == 0 {
			return err
		}
		cursor = next
		if !pausedFor(ctx, max(scanPause, time.Since(began)/2)) {
			return ctx.Err()
		}
	}
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
