package store

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
)

// A sweep takes out of Redis what a purge forbids. Nobody waits for it: a replica that has applied the purge serves none of that, also
// while it is still there. But before the purge is forgotten everything must be gone.
//
// A purge of a URL looks at its root and the variants named there, one of tags or of a group at what its index names (indexed.go), every other
// one at all entries of all masters that may match (scan.go). Their heads are read and the purge is asked (batch.go); a script then compares
// once more what is there, so that what was saved in the meantime stays.

//go:embed unlink.lua
var unlinkSource string

var unlinkScript = redis.NewScript(unlinkSource)

// sweepHead is how many bytes of an entry are read at first: most heads are shorter.
const sweepHead = 4 << 10

// Sweep deletes from Redis what a purge forbids, or marks it where the purge is soft, and says what that was; without Redis it does so in near
// memory. progress is told how far it is, often. What could not be done is to be done again: the error says why.
func (s *Store) Sweep(ctx context.Context, r *invalidation.Record, progress func(invalidation.Tally) error) (invalidation.Tally, error) {
	t := newTally(progress)
	var err error
	if s.far == nil {
		err = s.near.tally(ctx, r, t)
	} else {
		t.marks = true
		err = s.far.tally(ctx, r, t)
	}
	return t.total(), err
}

// tally goes through what the purge may select in Redis.
func (r *far) tally(ctx context.Context, record *invalidation.Record, t *tally) error {
	switch record.Kind {
	case invalidation.KindURL:
		return r.sweepURLs(ctx, urlsOf(record.CacheURLs()...), record, t)
	case invalidation.KindTag, invalidation.KindGroup:
		return r.sweepTagged(ctx, record, t)
	default:
		return r.sweepScanned(ctx, record, t, false)
	}
}

// urlsOf are the cache URLs that those of a purge stand for.
func urlsOf(urls ...string) []string {
	if len(urls) == 1 && !invalidation.HasScheme(urls[0]) {
		return []string{"http://" + urls[0], "https://" + urls[0]}
	}
	return urls
}

// sweepURLs goes through the variants that the roots of URLs name. The roots are asked for at once: of many URLs that were changed nothing is
// stored, and those cost no more than their share of one round trip.
func (r *far) sweepURLs(ctx context.Context, urls []string, record *invalidation.Record, t *tally) error {
	roots := make([]*redis.StringSliceCmd, len(urls))
	err := persevere(ctx, func() error {
		pipe := r.client.Pipeline()
		for i, url := range urls {
			roots[i] = pipe.HKeys(ctx, r.keys.of(url).root)
		}
		if _, err := pipe.Exec(ctx); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
			return fmt.Errorf("store: sweeping: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, url := range urls {
		root, err := roots[i].Result()
		if err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") { // of one behind the first that failed
			return fmt.Errorf("store: sweeping: %w", err)
		}
		if len(root) == 0 {
			continue
		}
		if err := persevere(ctx, func() error { return r.sweepURL(ctx, url, root, record, t) }); err != nil {
			return err
		}
		if err := t.walk(0); err != nil {
			return err
		}
	}
	return nil
}

// sweepURL goes through the variants that a root names. What the purge does not look at it forgets whatever is there by then, also what is
// gone or of another version, so that the root names it no more.
func (r *far) sweepURL(ctx context.Context, url string, root []string, record *invalidation.Record, t *tally) error {
	keys := r.keys.of(url)
	entries := make([]string, len(root))
	for i, variant := range root {
		entries[i] = keys.entryKey(variant)
	}
	b := batch{far: r, record: record, tally: t}
	if !record.Unfiltered() || t.preview {
		return b.sweep(ctx, entries)
	}
	heads, _, err := b.read(ctx, entries)
	if err != nil {
		return err
	}
	all := make([]candidate, len(root))
	for i, variant := range root {
		all[i] = candidate{key: entries[i], variant: variant, keys: keys, url: url}
		if e := heads[i]; e != nil {
			all[i].body, all[i].matched = e.BodyLen(), t.matches(e, record)
		}
	}
	return b.unlink(ctx, all)
}

// headOf makes an entry of its first bytes, of which nothing but the head may be looked at. It is nil where they are none, or too few: then
// need says how many it takes.
func headOf(b []byte) (e *Entry, need int) {
	if checkVersion(b) != nil {
		return nil, 0
	}
	if !aligned(b) {
		b = append([]byte(nil), b...)
	}
	e = entryOf(b)
	need = int(e.u32(atHeadEnd))
	if need > maxBlock || need < preambleLen {
		return nil, 0
	}
	if need > len(b) {
		return nil, need
	}
	at := uint32(preambleLen)
	for _, end := range [...]int{atURLEnd, atExtrasEnd, atNominationEnd, atSelectionEnd, atFieldsEnd, atHeadEnd} {
		if e.u32(end) < at {
			return nil, 0
		}
		at = e.u32(end)
	}
	if e.checkNumbers() != nil || !e.checkFields() || !e.checkTags() {
		return nil, 0
	}
	return e, need
}

// Advance compares everything in near memory with the purges that have come since it was last compared, and drops what they forbid. It is
// to be done before a purge is forgotten, which then costs nobody a hit. It takes its time.
func (s *Store) Advance(ctx context.Context) {
	const batch = 1000
	n := 0
	for _, r := range s.near.cache.All() {
		for i := range r.len() {
			if e := r.at(i); !judge(s.near.table, e) {
				s.near.forgetEntry(e)
			}
		}
		if n++; n%batch == 0 {
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}
}
