package store

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
)

// A sweep takes out of Redis what a purge forbids. Nobody waits for it: a replica that has applied the purge serves none of that, also
// while it is still there. But before the purge is forgotten everything must be gone.
//
// A purge of a URL looks at its root and the variants named there. Every other one goes through all entries of all masters, reads
// their heads and asks the purge; a script then compares once more what is there, so that what was saved in the meantime stays.

//go:embed unlink.lua
var unlinkSource string

var unlinkScript = redis.NewScript(unlinkSource)

const (
	sweepBatch = 500                  // keys that a SCAN looks at
	sweepPause = 2 * time.Millisecond // between two, so that others have their turn
	sweepHead  = 4 << 10              // bytes of an entry that are read at first: most heads are shorter
)

// Sweep deletes from Redis what a purge forbids, or marks it where the purge is soft, and says what that was; without Redis it does so in near
// memory. progress is told how far it is, often. What could not be done is to be done again: the error says why.
func (s *Store) Sweep(ctx context.Context, r *invalidation.Record, progress func(invalidation.Tally) error) (invalidation.Tally, error) {
	t := newTally(progress)
	var err error
	if s.far == nil {
		err = s.near.tally(ctx, r, t)
	} else {
		err = s.far.tally(ctx, r, t)
	}
	return t.total(), err
}

// urlsOf are the cache URLs that a selector stands for.
func urlsOf(selector string) []string {
	if strings.Contains(selector, "://") {
		return []string{selector}
	}
	return []string{"http://" + selector, "https://" + selector}
}

// sweepURL goes through the variants that a root names.
func (r *far) sweepURL(ctx context.Context, url string, record *invalidation.Record, t *tally) error {
	keys := r.keys.of(url)
	root, err := r.client.HKeys(ctx, keys.root).Result()
	if err != nil {
		return fmt.Errorf("store: sweeping: %w", err)
	}
	entries := make([]string, len(root))
	for i, variant := range root {
		entries[i] = keys.entryKey(variant)
	}
	heads, err := r.heads(ctx, entries)
	if err != nil {
		return err
	}
	for i, e := range heads {
		matched, swept, bytes := e != nil && t.matches(e, record), 0, int64(0)
		if !t.preview { // whichever is there now, and what the root alone names
			if swept, err = r.unlink(ctx, entries[i], keys.root, root[i], record, nil); err != nil {
				return err
			}
		}
		if e != nil {
			bytes = e.BodyLen()
		}
		if matched || swept > 0 {
			t.count(entries[i], url, bytes, swept, record.Soft)
		}
	}
	return nil
}

// unlink does with one entry what the purge asks for.
func (r *far) unlink(ctx context.Context, entry, root, variant string, record *invalidation.Record, fill []byte) (int, error) {
	soft := ""
	if record.Soft {
		soft = "soft"
	}
	n, err := unlinkScript.Run(ctx, r.client, []string{entry, root}, variant,
		string(binary.BigEndian.AppendUint64(nil, uint64(record.Epoch))), string(binary.BigEndian.AppendUint64(nil, uint64(record.Seq))), string(fill), soft).Int()
	if err != nil {
		return 0, fmt.Errorf("store: sweeping: %w", err)
	}
	return n, nil
}

// sweepAll goes through all entries of all masters.
func (r *far) sweepAll(ctx context.Context, record *invalidation.Record, t *tally) error {
	scan := func(ctx context.Context, node *redis.Client) error {
		t.expect(keysOf(ctx, node))
		for cursor := uint64(0); ; {
			keys, next, err := node.Scan(ctx, cursor, r.keys.entry+"*", sweepBatch).Result()
			if err != nil {
				return fmt.Errorf("store: sweeping: %w", err)
			}
			if err := errors.Join(r.sweepKeys(ctx, keys, record, t), t.walk(sweepBatch)); err != nil {
				return err
			}
			if cursor = next; cursor == 0 {
				return nil
			}
			select {
			case <-time.After(sweepPause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return r.onMasters(ctx, scan)
}

// onMasters calls f for each master, of a cluster for all at once.
func (r *far) onMasters(ctx context.Context, f func(context.Context, *redis.Client) error) error {
	switch c := r.client.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, f)
	case *redis.Client:
		return f(ctx, c)
	default:
		return errors.New("store: a client of an unknown kind")
	}
}

// sweepKeys looks at some entries.
func (r *far) sweepKeys(ctx context.Context, keys []string, record *invalidation.Record, t *tally) error {
	heads, err := r.heads(ctx, keys)
	if err != nil {
		return err
	}
	for i, e := range heads {
		if e == nil {
			continue
		}
		if err := r.sweepEntry(ctx, keys[i], e, record, t); err != nil {
			return err
		}
	}
	return nil
}

// heads reads the heads of some entries: nothing else of them may be looked at. One is nil where there is no entry, or of a version that its
// own program sweeps.
func (r *far) heads(ctx context.Context, keys []string) ([]*Entry, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	pipe := r.client.Pipeline()
	begins := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		begins[i] = pipe.GetRange(ctx, key, 0, sweepHead-1)
	}
	if _, err := pipe.Exec(ctx); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, fmt.Errorf("store: sweeping: %w", err)
	}
	heads := make([]*Entry, len(keys))
	for i, key := range keys {
		begin, err := begins[i].Bytes()
		if err != nil {
			continue // of another type: none of ours
		}
		e, need := headOf(begin)
		if e == nil && need > len(begin) { // a long head
			whole, err := r.client.GetRange(ctx, key, 0, int64(need)-1).Bytes()
			if err != nil {
				return nil, fmt.Errorf("store: sweeping: %w", err)
			}
			e, _ = headOf(whole)
		}
		heads[i] = e
	}
	return heads, nil
}

// sweepEntry does with one entry, of which there is the head, what the purge asks for, and counts it.
func (r *far) sweepEntry(ctx context.Context, key string, e *Entry, record *invalidation.Record, t *tally) error {
	if !t.matches(e, record) {
		return nil
	}
	keys, variant := r.keys.of(e.URL()), e.variant()
	if keys.entryKey(variant) != key {
		return nil
	}
	swept := 0
	if !t.preview {
		var err error
		if swept, err = r.unlink(ctx, key, keys.root, variant, record, e.bytes(atFill, atFill+8)); err != nil {
			return err
		}
	}
	t.count(key, e.URL(), e.BodyLen(), swept, record.Soft)
	return nil
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
