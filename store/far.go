package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/metrics"
	"cacheproxy/policy"
)

// far is the tier behind: Redis. This file asks it; saver.go tells it.
//
// A lookup is one pipeline: the root of the URL, and the entry under the nomination that the URL had when last seen here,
// or under none. Only where the root names another nomination does a second round trip follow. The reply becomes the
// entry's block without a copy.
type far struct {
	client  redis.UniversalClient
	keys    keyspace
	timeout time.Duration
	now     func() time.Time
	metrics *metrics.Metrics
	log     *complaints
	breaker *breaker
	hints   hints
	saver   *saver
	closed  atomic.Bool
}

//go:embed save.lua
var saveSource string

//go:embed forget.lua
var forgetSource string

var (
	saveScript   = redis.NewScript(saveSource)
	forgetScript = redis.NewScript(forgetSource)
)

// maxRedisBody is the largest body in bytes that is kept as one value: reading a larger one would delay everybody else's
// replies.
const maxRedisBody = 1 << 20

func newFar(o *Options, n *near) *far {
	r := &far{
		client:  o.Redis,
		keys:    newKeyspace(o.Prefix),
		timeout: o.Timeout,
		now:     o.Now,
		metrics: o.Metrics,
		log:     &complaints{log: o.Log},
	}
	r.hints.seed = maphash.MakeSeed()
	r.breaker = newBreaker(o.Breaker, r.probe, o.Metrics, o.Log)
	r.saver = newSaver(r, o, n)
	return r
}

// probe asks for a key that cannot exist: an answer that a user with the least rights can get.
func (r *far) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	start := time.Now()
	err := r.client.Exists(ctx, r.keys.root+"}").Err()
	r.metrics.RedisSeconds("probe", time.Since(start))
	if err == nil {
		return nil
	}
	fault := classify(err)
	r.metrics.RedisError(fault.cause)
	if fault.answered {
		return nil
	}
	return err
}

// lookup asks Redis for what the request selects.
func (r *far) lookup(ctx context.Context, key policy.Key, h http.Header) Result {
	switch {
	case r.closed.Load():
		return Result{Reason: policy.StoreUnavailable}
	case r.saver.forgetting(key.URL):
		return Result{} // what Redis still has is as good as gone
	case !r.breaker.allow():
		return Result{Reason: policy.StoreUnavailable}
	}
	limited, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	start := time.Now()
	result, err := r.ask(limited, key, h)
	r.metrics.RedisSeconds("lookup", time.Since(start))
	r.settle(ctx, "lookup", err)
	if err != nil {
		return Result{Reason: policy.StoreUnavailable}
	}
	return result
}

// ask is lookup once it is clear that Redis may be asked. Keys that do not exist are no error.
func (r *far) ask(ctx context.Context, key policy.Key, h http.Header) (Result, error) {
	keys := r.keys.of(key.URL)
	nomination := r.hints.get(key.URL)
	guess := variantOf(key.Extras, nomination, nomination.AppendSelection(nil, h))

	pipe := r.client.Pipeline()
	rootReply := pipe.HGetAll(ctx, keys.root)
	reply := pipe.Get(ctx, keys.entryKey(guess))
	// Exec returns the first reply that is an error, such as that the entry does not exist. But a connection that could not
	// be set up, for a wrong password say, is an error of Exec alone, and leaves replies that look empty.
	_, failed := pipe.Exec(ctx)
	root, err := rootReply.Result()
	if err == nil && reply.Err() == nil {
		err = failed
	}
	if err != nil {
		return r.misread(err)
	}
	variant, chosen, ok := selectVariant(root, key.Extras, h, nomination, guess)
	if !ok {
		return Result{VaryMiss: len(root) > 0}, nil
	}
	if chosen.nomination != nomination {
		r.hints.set(key.URL, chosen.nomination)
	}
	if variant != guess {
		reply = r.client.Get(ctx, keys.entryKey(variant))
	}
	block, err := reply.Bytes()
	if err != nil {
		return r.misread(err)
	}
	entry := r.admit(block, key, chosen, h)
	if entry == nil {
		return Result{}, nil
	}
	return Result{Entry: entry, Tier: TierRedis}, nil
}

// misread makes of an error reply what the lookup returns: a miss for a key that is gone, a counted miss for a key that is
// not ours, an error for everything else.
func (r *far) misread(err error) (Result, error) {
	switch {
	case errors.Is(err, redis.Nil):
		return Result{}, nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		r.metrics.Corrupt()
		return Result{}, nil
	}
	return Result{}, err
}

// admit makes the entry of what Redis returned, or nil where that is not what was asked for: no entry, another key's, not the
// fill that the root names (saved again in this moment, or left over from before a forget), or past its time.
func (r *far) admit(block []byte, key policy.Key, named rootVariant, h http.Header) *Entry {
	e, err := Decode(block)
	switch {
	case errors.Is(err, ErrNewer):
		return nil
	case err != nil:
		r.metrics.Corrupt()
		r.log.say("value in redis is no entry", "url", key.URL, "error", err)
		return nil
	case e.Key() != key, e.Nomination() != named.nomination,
		!e.selects(key.Extras, named.nomination.AppendSelection(nil, h)):
		r.metrics.Corrupt()
		r.log.say("value in redis is another key's entry", "url", key.URL, "found", e.URL())
		return nil
	case e.Fill() != named.fill, !e.KeepUntil().After(r.now()):
		return nil
	}
	return e
}

// settle draws the consequences of how an operation ended: counters and breaker. Where ctx, the caller's own, has ended, a
// failure says nothing about Redis.
func (r *far) settle(ctx context.Context, op string, err error) {
	if err == nil {
		r.breaker.success()
		return
	}
	if ctx.Err() != nil {
		return
	}
	fault := classify(err)
	r.metrics.RedisError(fault.cause)
	if fault.answered {
		r.breaker.success()
		r.log.say("redis refused", "op", op, "cause", fault.cause, "error", err)
		return
	}
	r.breaker.failure(err)
}

// hints remember the nomination last seen of a URL that has one, so that a lookup asks for the right variant at once. A
// wrong hint costs a round trip. The number of places is fixed; the later URL takes the place.
type hints struct {
	seed  maphash.Seed
	slots [4096]atomic.Pointer[hint]
}

type hint struct {
	url        uint64
	nomination policy.Nomination
}

func (h *hints) get(url string) policy.Nomination {
	sum := maphash.String(h.seed, url)
	if known := h.slots[sum%uint64(len(h.slots))].Load(); known != nil && known.url == sum {
		return known.nomination
	}
	return ""
}

func (h *hints) set(url string, nomination policy.Nomination) {
	sum := maphash.String(h.seed, url)
	// The nomination may lie in an entry's block or a reply, which must not live on for its sake.
	copied := policy.Nomination(strings.Clone(string(nomination)))
	h.slots[sum%uint64(len(h.slots))].Store(&hint{sum, copied})
}

// fillHex is FILL as the root has it.
func fillHex(fill uint64) string { return fmt.Sprintf("%016x", fill) }

// complaints logs what may go wrong with every request, at most once in a while.
type complaints struct {
	log  *slog.Logger
	next atomic.Int64 // nanoseconds since 1970: when the next may be logged
}

const complaintInterval = 10 * time.Second

func (c *complaints) say(msg string, args ...any) {
	now := time.Now()
	next := c.next.Load()
	if now.UnixNano() >= next && c.next.CompareAndSwap(next, now.Add(complaintInterval).UnixNano()) {
		c.log.Warn(msg, args...)
	}
}
