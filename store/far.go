package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"cacheproxy/internal/breaker"
	"cacheproxy/invalidation"
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
	shown   func(url string) string // a cache URL as the log may show it
	breaker *breaker.Breaker
	hints   hints
	table   *invalidation.Table // purges; nil = there are none
	follows func() bool         // whether this replica applies them all: what is stored may be trusted
	gather  *gatherer
	reads   chan struct{} // holds a value for each chunk that is being read
	checks  singleflight.Group
	saver   *saver
	index   *index // nil where no purges are followed
	closed  atomic.Bool
	// wholeSize is the size of the largest entry that near memory takes whole.
	wholeSize int64
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
		shown:   o.ShownURL,
		reads:   make(chan struct{}, chunkReads),

		wholeSize: n.maxObject,

		table:   o.table(),
		follows: func() bool { return o.Follower == nil || o.Follower.Registered() && !(o.Strict && o.Follower.Fenced()) },
	}
	r.gather = newGatherer(r.client)
	r.hints.seed = maphash.MakeSeed()
	r.breaker = breaker.New("redis", o.Breaker, r.probe, o.Metrics, o.Log)
	r.index = newIndex(o)
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
	fault := breaker.Classify(err)
	r.metrics.RedisError(fault.Cause)
	if fault.Answered {
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
	case !r.breaker.Allow(), !r.follows():
		return Result{Reason: policy.StoreUnavailable}
	}
	start := time.Now()
	result, err := r.ask(ctx, key, h, start.Add(r.timeout))
	r.metrics.RedisSeconds("lookup", time.Since(start))
	r.settle(ctx, "lookup", err)
	if err != nil {
		return Result{Reason: policy.StoreUnavailable}
	}
	return result
}

// ask is lookup once it is clear that Redis may be asked, which it has until ends for. Keys that do not exist are no error.
func (r *far) ask(ctx context.Context, key policy.Key, h http.Header, ends time.Time) (Result, error) {
	got, err := r.read(ctx, key, h, ends)
	if got.selected && got.nomination != got.hinted {
		r.hints.set(key.URL, got.nomination)
	}
	if err != nil {
		return Result{}, err
	}
	if got.strange != nil {
		r.metrics.Corrupt()
		r.log.say("value in redis is no entry of its key", "url", r.shown(key.URL), "error", got.strange)
	}
	switch {
	case got.entry == nil:
		return Result{VaryMiss: got.varyMiss}, nil
	case got.entry.Chunked():
		limited, cancel := context.WithDeadline(ctx, ends)
		defer cancel()
		return r.fetchChunks(limited, got.entry)
	}
	return Result{Entry: got.entry, Tier: TierRedis}, nil
}

// reading is what Redis has said of a key.
type reading struct {
	entry    *Entry // nil: nothing that answers the request; where it is in chunks, they have yet to be asked for
	varyMiss bool   // the URL has a root, of which the request selects nothing
	strange  error  // what was found is not what this store writes there

	selected           bool              // the root names a variant for the request
	nomination, hinted policy.Nomination // of that variant, and what was guessed
}

// read asks Redis until ends, and changes nothing: neither there nor in what this process knows.
func (r *far) read(ctx context.Context, key policy.Key, h http.Header, ends time.Time) (reading, error) {
	var begun invalidation.Number
	if r.table != nil {
		begun = r.table.Head()
	}
	keys := r.keys.of(key.URL)
	nomination := r.hints.get(key.URL)
	guess := variantOf(key.Extras, nomination, nomination.AppendSelection(nil, h))

	replies, err := r.gather.do(ctx, keys.root, keys.entryKey(guess), ends)
	if err != nil {
		return reading{}, err
	}
	reply := replies.entry
	root, err := replies.root.Result()
	if err == nil {
		err = replies.failed
	}
	if err != nil {
		return misread(err)
	}
	variant, chosen, ok := selectVariant(root, key.Extras, h, nomination, guess)
	if !ok {
		return reading{varyMiss: len(root) > 0}, nil
	}
	if variant != guess {
		limited, cancel := context.WithDeadline(ctx, ends)
		reply = r.client.Get(limited, keys.entryKey(variant))
		cancel()
	}
	block, err := reply.Bytes()
	got := reading{selected: true, nomination: chosen.nomination, hinted: nomination}
	if err != nil {
		unread, err := misread(err)
		got.strange = unread.strange
		return got, err
	}
	got.entry, got.strange = r.admit(block, key, chosen, h)
	if got.entry != nil && r.table != nil && !judgeFrom(r.table, got.entry, begun) {
		got.entry = nil // a purge forbids it, or may have
	}
	return got, nil
}

// fetchChunks completes what was found of an entry in chunks: whole where near memory would take it so, else as it is where all chunks
// are there. Reading the chunks may take too long for a lookup without Redis having failed; then they are read as they are sent.
func (r *far) fetchChunks(ctx context.Context, e *Entry) (Result, error) {
	if e.BodyLen()+e.Size() <= r.wholeSize {
		switch whole, err := r.whole(ctx, e); {
		case err == nil:
			return Result{Entry: whole, Tier: TierRedis}, nil
		case errors.Is(err, errNoChunk):
			r.forgetEntry(e)
			return Result{}, nil
		case !errors.Is(err, context.DeadlineExceeded) && !os.IsTimeout(err):
			return Result{}, err
		default:
			return Result{Entry: e, Tier: TierRedis}, nil
		}
	}
	there, err := r.hasChunks(ctx, e)
	switch {
	case err != nil:
		return Result{}, err
	case !there:
		r.forgetEntry(e)
		return Result{}, nil
	}
	return Result{Entry: e, Tier: TierRedis}, nil
}

// misread makes of an error reply what the reading says: nothing for a key that is gone, something strange for one that is not
// ours, an error for everything else.
func misread(err error) (reading, error) {
	switch {
	case errors.Is(err, redis.Nil):
		return reading{}, nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return reading{strange: err}, nil
	}
	return reading{}, err
}

// admit makes the entry of what Redis returned, or nil where that is not what was asked for: no entry, another key's, not the
// fill that the root names (saved again in this moment, or left over from before a forget), or past its time. The first two are strange.
func (r *far) admit(block []byte, key policy.Key, named rootVariant, h http.Header) (e *Entry, strange error) {
	block, err := unpack(block)
	if err == nil {
		e, err = Decode(block)
	}
	switch {
	case errors.Is(err, ErrNewer):
		return nil, nil
	case err != nil:
		return nil, err
	case e.Key() != key, e.Nomination() != named.nomination,
		!e.selects(key.Extras, named.nomination.AppendSelection(nil, h)):
		return nil, fmt.Errorf("it is that of another key: %s", r.shown(e.URL()))
	case e.Fill() != named.fill, !e.KeepUntil().After(r.now()):
		return nil, nil
	}
	return e, nil
}

// settle draws the consequences of how an operation ended: counters and breaker. Where ctx, the caller's own, has ended, a
// failure says nothing about Redis.
func (r *far) settle(ctx context.Context, op string, err error) {
	if err == nil {
		r.breaker.Success()
		return
	}
	if ctx.Err() != nil {
		return
	}
	fault := breaker.Classify(err)
	r.metrics.RedisError(fault.Cause)
	if fault.Answered {
		r.breaker.Success()
		told, _, _ := strings.Cut(err.Error(), ", with args beginning with") // of a command that it does not know: a key has a URL
		r.log.say("redis refused", "op", op, "cause", fault.Cause, "error", told)
		return
	}
	r.breaker.Failure(err)
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
