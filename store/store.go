// Package store keeps stored responses in two tiers: near memory, and Redis behind it.
//
// Near memory answers most requests without leaving the process. Redis is shared by all replicas and survives restarts, so
// that a rolled deployment starts warm. What is kept is an Entry: one block of bytes that is the same in both tiers
// (encoding.go). A cache URL has a root that names its entries, one for each variant that Vary and the rule's key make of
// it (near.go, root.go); deleting the root forgets them all.
//
//	Lookup    near memory, then what waits to be saved in Redis, then one round trip to Redis, two where Vary surprises;
//	          what Redis had goes into near memory
//	Save      near memory at once; Redis by workers of its own, never on the request's path (saver.go)
//	Forget    near memory at once; Redis in order with the saves of the same URL
//
// Nothing here waits for a Redis that does not answer: a lookup has one deadline for all it does, and a breaker (internal/breaker)
// stops asking after a few failures. Without Redis near memory works alone. A fetch that began before its URL was forgotten
// cannot be saved after it: see Stamp (forgets.go).
//
// Whatever bytes Redis returns, the result is the entry of the very key that was asked for, or a miss.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/breaker"
	"cacheproxy/invalidation"
	"cacheproxy/metrics"
	"cacheproxy/policy"
)

// Tier says where a stored response was found.
type Tier uint8

// The tiers.
const (
	TierNone Tier = iota
	TierNear      // memory of this process
	TierRedis
)

// String returns the tier as metrics and logs have it: "none", "near" or "redis".
func (t Tier) String() string {
	switch t {
	case TierNear:
		return "near"
	case TierRedis:
		return "redis"
	default:
		return "none"
	}
}

// Options are the settings of a Store. The zero value keeps 256 MiB in memory and asks no Redis.
type Options struct {
	// NearSize bounds near memory, in bytes that count everything. Default 256 MiB. A tenth more or so is in use
	// for a moment when many are stored at once, since eviction runs beside.
	NearSize int64
	// NearMaxObject is the size in bytes of the largest entry that near memory takes. Default 4 MiB, at most NearSize.
	NearMaxObject int64

	// Redis is the client that Dial returned; nil means near memory alone. The store does not close it.
	Redis redis.UniversalClient
	// State is the client of the Redis that may not evict, in which it is noted what is stored under which tag; nil = the same as Redis. The
	// store does not close it.
	State redis.UniversalClient
	// Prefix starts all keys in Redis; required with Redis. Two services must never share one. Without braces, spaces and
	// glob characters.
	Prefix string
	// Timeout bounds all that one lookup waits for in Redis: a connection and every round trip. Default 50 ms.
	Timeout time.Duration
	// Breaker says when to stop asking Redis.
	Breaker breaker.Options

	// VariantCap bounds the variants of one cache URL, in either tier. Default 64. The one that expires first makes room. In
	// near memory they also take no more than a quarter of NearSize together, or NearMaxObject if that is more.
	VariantCap int
	// SaveBytes bounds what waits to be saved in Redis, in bytes. Default 64 MiB. What comes on top is not saved there.
	SaveBytes int64
	// SaveWorkers is the number of saves under way at once. Default 8. The saves of one URL stay in order.
	SaveWorkers int
	// SaveWait bounds how long a save may wait for its turn; one that waited longer is dropped, since Redis is too slow for
	// what is stored. Default 5 s.
	SaveWait time.Duration

	// Follower says what was purged, here and by other replicas; nil = nothing ever is. With Redis it must follow the log there.
	Follower *invalidation.Follower
	// Strict serves nothing, from either tier, while the follower is fenced.
	Strict bool

	Metrics *metrics.Metrics // nil counts nothing
	Log     *slog.Logger     // nil logs nothing
	// ShownURL is a cache URL as the log may show it; nil shows it without its query. It may be called at any time, concurrently.
	ShownURL func(url string) string
	Now      func() time.Time // nil means time.Now
}

func (o *Options) setDefaults() {
	setDefault(&o.NearSize, 256<<20)
	setDefault(&o.NearMaxObject, 4<<20)
	o.NearMaxObject = min(o.NearMaxObject, o.NearSize)
	setDefault(&o.Timeout, 50*time.Millisecond)
	setDefault(&o.VariantCap, 64)
	setDefault(&o.SaveBytes, 64<<20)
	setDefault(&o.SaveWorkers, 8)
	setDefault(&o.SaveWait, 5*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ShownURL == nil {
		o.ShownURL = withoutQuery
	}
}

func withoutQuery(url string) string {
	url, _, _ = strings.Cut(url, "?")
	return url
}

// setDefault puts the default where nothing sensible was said.
func setDefault[T int | int64 | time.Duration](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// A Store keeps entries. All methods may be called concurrently.
type Store struct {
	near    *near
	far     *far // nil without Redis
	forgets *forgets
	metrics *metrics.Metrics
	now     func() time.Time

	follower *invalidation.Follower // nil = nothing is ever purged
}

// New makes a store. With Redis it starts goroutines that Close ends; it does not wait for Redis to answer.
func New(o Options) (*Store, error) {
	o.setDefaults()
	if o.Redis != nil {
		if err := checkPrefix(o.Prefix); err != nil {
			return nil, err
		}
	}
	s := &Store{forgets: newForgets(), metrics: o.Metrics, now: o.Now, follower: o.Follower}
	var err error
	if s.near, err = newNear(&o, s.forgets); err != nil {
		return nil, fmt.Errorf("store: near memory: %w", err)
	}
	if o.Redis != nil {
		s.far = newFar(&o, s.near)
	}
	return s, nil
}

// Result is what Lookup found.
type Result struct {
	Entry *Entry // nil: nothing that answers this request
	Tier  Tier
	// VaryMiss says that responses are stored for the URL, but none that this request selects.
	VaryMiss bool
	// Reason is policy.StoreUnavailable when Redis could not be asked, so that a miss says nothing about what is stored.
	Reason policy.Reason
}

// Lookup finds the stored response that a request with this key and these fields selects (the fields as they would be
// forwarded). It takes no longer than Options.Timeout, or ctx. An entry past its KeepUntil is not found; whether one may be
// served is for policy.Evaluate to say.
func (s *Store) Lookup(ctx context.Context, key policy.Key, h http.Header) Result {
	entry, known := s.near.get(key, h)
	switch {
	case entry != nil && entry.Chunked():
		return s.lookupChunked(ctx, entry)
	case entry != nil:
		return Result{Entry: entry, Tier: TierNear}
	case s.far == nil:
		return Result{VaryMiss: known}
	}
	// The stamp comes before the look at what waits: a save shows its entry there before it displaces an older one, so that
	// whoever does not see it may not promote what Redis had before it.
	stamp := s.near.recalls.mark()
	entry, queued := s.far.saver.find(key, h)
	if entry != nil {
		return Result{Entry: entry, Tier: TierNear}
	}
	known = known || queued
	found := s.far.lookup(ctx, key, h)
	if found.Entry != nil && s.near.fits(found.Entry) {
		s.near.promote(found.Entry, stamp)
	}
	found.VaryMiss = found.Entry == nil && (found.VaryMiss || known)
	return found
}

// lookupChunked returns an entry that near memory has without its body, if the body is still in Redis.
func (s *Store) lookupChunked(ctx context.Context, e *Entry) Result {
	switch there, err := s.far.checkChunks(ctx, e); {
	case err != nil:
		return Result{Reason: policy.StoreUnavailable}
	case !there:
		s.ForgetEntry(e)
		return Result{}
	}
	return Result{Entry: e, Tier: TierRedis}
}

// Timeout is how long a lookup waits for Redis at the most.
func (s *Store) Timeout() time.Duration {
	if s.far == nil {
		return 0
	}
	return s.far.timeout
}

// LookupNear is Lookup in this process's memory alone: near memory, and what waits to be saved in Redis. It is the hit path,
// and does not allocate when the URL's responses have no Vary.
func (s *Store) LookupNear(key policy.Key, h http.Header) (*Entry, bool) {
	e, _ := s.near.get(key, h)
	if e == nil && s.far != nil {
		e, _ = s.far.saver.find(key, h)
	}
	if e != nil && e.Chunked() {
		return nil, false // Redis has to be asked
	}
	return e, e != nil
}

// Save stores e, unless its URL is being forgotten this moment: see SaveSince.
func (s *Store) Save(e *Entry) policy.Reason { return s.SaveSince(e, s.Mark()) }

// SaveSince stores e, fetched for a lookup that began at stamp. Near memory has it at once; Redis gets it from a
// worker, in order with other saves and forgets of its URL; until then lookups of this process find it where it waits. It
// never waits. The reason is None when at least one tier has taken it, and otherwise
//
//	Stale             its KeepUntil has passed, its URL was forgotten since the stamp, or a later response is stored in its place
//	TooLarge          neither tier takes entries of this size
//	StoreFull         too large for near memory, and too much waits to be saved in Redis, or Redis is full
//	StoreUnavailable  too large for near memory, and Redis does not answer or takes no writes, or the store is closed
//
// How the Redis half ended is counted in cacheproxy_saves_total.
func (s *Store) SaveSince(e *Entry, stamp Stamp) policy.Reason {
	if !e.KeepUntil().After(s.now()) || s.forgets.since(e.URL(), stamp.moment) || !s.near.permits(e, stamp) {
		s.metrics.Save(savedRefused)
		return policy.Stale
	}
	near := s.near.fits(e)
	if near && !s.near.put(e, stamp) {
		s.metrics.Save(savedRefused)
		return policy.Stale
	}
	reason := policy.TooLarge
	switch {
	case s.far == nil, stamp.notAfter < 0 && near:
		s.metrics.Save(savedNearOnly)
	case stamp.notAfter < 0:
		reason = policy.StoreUnavailable
	case len(e.Body()) <= maxRedisBody:
		reason = s.far.save(e, stamp, nil)
	default:
		reason = s.saveInChunks(e, stamp)
	}
	switch {
	case near:
		return policy.None
	case reason == policy.None:
		s.near.displace(e)
	}
	return reason
}

// Forget makes every lookup of this process that begins after it miss what was stored for url before it, in all variants, and
// every save refuse what was fetched for a lookup before it (see Stamp). Redis forgets it as soon as it answers; other
// replicas may serve what they have in near memory until it is stale.
func (s *Store) Forget(url string) {
	s.forgets.forget(url)
	if s.far != nil {
		s.far.forget(url)
	}
	s.near.forget(url)
}

// ForgetEntry does the same for one entry, as long as it is the one that is stored: what has replaced it stays. Saves under
// way are not refused.
func (s *Store) ForgetEntry(e *Entry) {
	if s.far != nil {
		s.far.forgetEntry(e)
	}
	s.near.forgetEntry(e)
}

// Near returns what near memory holds at about this moment, in no order: for tests of what is stored under which key.
func (s *Store) Near() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for r := range s.near.cache.Values() {
			for i := range r.len() {
				if !yield(r.at(i)) {
					return
				}
			}
		}
	}
}

// Flush waits until what was saved and forgotten before it has reached Redis, or until ctx ends, whose error it then returns.
func (s *Store) Flush(ctx context.Context) error {
	if s.far == nil {
		return nil
	}
	return s.far.flush(ctx)
}

// Close saves what waits, until ctx ends, and ends the store's goroutines. Afterwards the store finds nothing in Redis and
// saves nothing there; near memory stays readable. Closing again does nothing.
func (s *Store) Close(ctx context.Context) error {
	var err error
	if s.far != nil {
		err = s.far.close(ctx)
	}
	s.near.close()
	if err != nil {
		return errors.Join(errors.New("store: closed before all was saved"), err)
	}
	return nil
}
