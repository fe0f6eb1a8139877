package store

import (
	"context"
	"net/http"
	"time"

	"cacheproxy/policy"
)

// Peek is Lookup for those who only want to know what it would find, and leaves no trace: nothing becomes more or less likely to be
// evicted from near memory, nothing is promoted there from Redis, nothing is counted or logged, no chunk is read, what turns out to be
// broken is left alone, and whether Redis answers does not move the breaker. It takes as long as Lookup at the most. Redis itself
// counts the two reads of an entry as uses of it.
//
// An entry whose body is in chunks is found where all of them are there, be they as they should or not.
func (s *Store) Peek(ctx context.Context, key policy.Key, h http.Header) Result {
	entry, known := s.near.peek(key, h)
	switch {
	case entry != nil && entry.Chunked():
		return s.far.peekChunks(ctx, entry)
	case entry != nil:
		return Result{Entry: entry, Tier: TierNear}
	case s.far == nil:
		return Result{VaryMiss: known}
	}
	entry, queued := s.far.saver.find(key, h)
	if entry != nil {
		return Result{Entry: entry, Tier: TierNear}
	}
	found := s.far.peek(ctx, key, h)
	found.VaryMiss = found.Entry == nil && (found.VaryMiss || known || queued)
	return found
}

// peek is lookup without its consequences.
func (r *far) peek(ctx context.Context, key policy.Key, h http.Header) Result {
	switch {
	case r.closed.Load():
		return Result{Reason: policy.StoreUnavailable}
	case r.saver.forgetting(key.URL):
		return Result{}
	case !r.breaker.Allow(), !r.follows():
		return Result{Reason: policy.StoreUnavailable}
	}
	ends := time.Now().Add(r.timeout)
	got, err := r.read(ctx, key, h, ends)
	switch {
	case err != nil:
		return Result{Reason: policy.StoreUnavailable}
	case got.entry == nil:
		return Result{VaryMiss: got.varyMiss}
	case got.entry.Chunked():
		limited, cancel := context.WithDeadline(ctx, ends)
		defer cancel()
		return r.peekChunks(limited, got.entry)
	}
	return Result{Entry: got.entry, Tier: TierRedis}
}

// peekChunks finds an entry in chunks if they are there.
func (r *far) peekChunks(ctx context.Context, e *Entry) Result {
	if r.closed.Load() || !r.breaker.Allow() {
		return Result{Reason: policy.StoreUnavailable}
	}
	limited, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	switch there, err := r.hasChunks(limited, e); {
	case err != nil:
		return Result{Reason: policy.StoreUnavailable}
	case !there:
		return Result{}
	}
	return Result{Entry: e, Tier: TierRedis}
}
