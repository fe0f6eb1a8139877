package store

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
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

// Sweep deletes from Redis what a purge forbids, or marks it where the purge is soft, and returns how many entries that were. What could not be
// done is to be done again: the error says why.
func (s *Store) Sweep(ctx context.Context, r *invalidation.Record) (swept int, err error) {
	if s.far == nil {
		return 0, nil
	}
	if r.Kind != invalidation.KindURL || !r.Unfiltered() {
		return s.far.sweepAll(ctx, r)
	}
	for _, url := range urlsOf(r.Selector) {
		n, err := s.far.sweepURL(ctx, url, r)
		if swept += n; err != nil {
			return swept, err
		}
	}
	return swept, nil
}

// urlsOf are the cache URLs that a selector stands for.
func urlsOf(selector string) []string {
	if strings.Contains(selector, "://") {
		return []string{selector}
	}
	return []string{"http://" + selector, "https://" + selector}
}

// sweepURL goes through the variants that a root names.
func (r *far) sweepURL(ctx context.Context, url string, record *invalidation.Record) (swept int, err error) {
	keys := r.keys.of(url)
	root, err := r.client.HGetAll(ctx, keys.root).Result()
	if err != nil {
		return 0, fmt.Errorf("store: sweeping: %w", err)
	}
	for variant := range root {
		n, err := r.unlink(ctx, keys.entryKey(variant), keys.root, variant, record, nil)
		if swept += n; err != nil {
			return swept, err
		}
	}
	return swept, nil
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
func (r *far) sweepAll(ctx context.Context, record *invalidation.Record) (int, error) {
	var swept atomic.Int64
	scan := func(ctx context.Context, node *redis.Client) error {
		for cursor := uint64(0); ; {
			keys, next, err := node.Scan(ctx, cursor, r.keys.entry+"*", sweepBatch).Result()
			if err != nil {
				return fmt.Errorf("store: sweeping: %w", err)
			}
			n, err := r.sweepKeys(ctx, keys, record)
			swept.Add(int64(n))
			if cursor = next; err != nil || cursor == 0 {
				return err
			}
			select {
			case <-time.After(sweepPause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	var err error
	switch c := r.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, scan)
	case *redis.Client:
		err = scan(ctx, c)
	default:
		err = errors.New("store: sweeping: a client of an unknown kind")
	}
	return int(swept.Load()), err
}

// sweepKeys looks at some entries.
func (r *far) sweepKeys(ctx context.Context, keys []string, record *invalidation.Record) (swept int, err error) {
	if len(keys) == 0 {
		return 0, nil
	}
	pipe := r.client.Pipeline()
	heads := make([]*redis.StringCmd, len(keys))
	for i, key := range keys {
		heads[i] = pipe.GetRange(ctx, key, 0, sweepHead-1)
	}
	if _, err := pipe.Exec(ctx); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return 0, fmt.Errorf("store: sweeping: %w", err)
	}
	for i, key := range keys {
		head, err := heads[i].Bytes()
		if err != nil {
			continue // of another type: none of ours
		}
		n, err := r.sweepEntry(ctx, key, head, record)
		if swept += n; err != nil {
			return swept, err
		}
	}
	return swept, nil
}

// sweepEntry looks at one entry, of which head is the begin.
func (r *far) sweepEntry(ctx context.Context, key string, head []byte, record *invalidation.Record) (int, error) {
	e, need := headOf(head)
	if e == nil && need > len(head) { // a long head
		whole, err := r.client.GetRange(ctx, key, 0, int64(need)-1).Bytes()
		if err != nil {
			return 0, fmt.Errorf("store: sweeping: %w", err)
		}
		e, _ = headOf(whole)
	}
	if e == nil || !record.Selects(e.subject()) {
		return 0, nil // gone, or of a version that its own program sweeps
	}
	keys, variant := r.keys.of(e.URL()), e.variant()
	if keys.entryKey(variant) != key {
		return 0, nil
	}
	return r.unlink(ctx, key, keys.root, variant, record, e.bytes(atFill, atFill+8))
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
