package store

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/maypok86/otter/v2"

	"cacheproxy/policy"
)

// Near memory is a cache of resources, one per cache URL, bounded by the bytes they take. A resource is an immutable list
// of the variants of its URL; a save replaces the whole list, under the cache's lock on that key. So a reader gets a
// consistent list without waiting, and forgetting a URL is the deletion of one key.
//
// A resource expires with the last of its variants. What is evicted to make room is what the cache (W-TinyLFU) thinks will be
// asked least.

// A resource is what near memory holds of one URL: its variants, the latest response first, never empty.
type resource struct {
	variants []*Entry
	single   [1]*Entry // backs variants where there is but one: the usual case, in one allocation
}

// without is the resource less the variants that drop names: nil when none is left, r itself when drop names none.
func (r *resource) without(drop func(*Entry) bool) *resource {
	if !slices.ContainsFunc(r.variants, drop) {
		return r
	}
	if left := slices.DeleteFunc(slices.Clone(r.variants), drop); len(left) > 0 {
		return &resource{variants: slices.Clip(left)}
	}
	return nil
}

// resourceOverhead is what a resource takes beside its entries and its URL: itself, and the cache's node, table slot and
// timers.
const resourceOverhead = int64(unsafe.Sizeof(resource{})) + 160

type near struct {
	cache      *otter.Cache[string, *resource]
	clock      func() time.Time
	forgets    *forgets // hold back what was fetched before a forget
	recalls    *forgets // hold back what was read from Redis before a forget, of one entry too
	maxObject  int64
	maxTotal   int64 // bytes of the variants of one URL together
	variantCap int
}

func newNear(o *Options, f *forgets) (*near, error) {
	n := &near{
		clock: o.Now, forgets: f, recalls: newForgets(), maxObject: o.NearMaxObject, variantCap: o.VariantCap,
		// A resource comes and goes as a whole: one that takes much of the cache drives out much, and one that takes more than
		// all of it is itself driven out each time that a variant comes.
		maxTotal: max(o.NearSize/4, o.NearMaxObject),
	}
	options := &otter.Options[string, *resource]{
		MaximumWeight:    uint64(o.NearSize),
		Weigher:          weigh,
		ExpiryCalculator: otter.ExpiryWritingFunc(lifetime),
		Clock:            clock{o.Now},
		OnAtomicDeletion: func(e otter.DeletionEvent[string, *resource]) {
			if e.Cause == otter.CauseOverflow {
				o.Metrics.NearEviction(len(e.Value.variants))
			}
		},
	}
	cache, err := otter.New(options)
	if err != nil {
		return nil, err
	}
	n.cache = cache
	o.Metrics.NearSource(
		func() float64 { return float64(cache.WeightedSize()) },
		func() float64 { return float64(cache.EstimatedSize()) })
	return n, nil
}

func weigh(url string, r *resource) uint32 {
	weight := resourceOverhead + allocated(int64(len(url)))
	if len(r.variants) > 1 {
		weight += int64(cap(r.variants)) * int64(unsafe.Sizeof(r.single))
	}
	for _, e := range r.variants {
		weight += e.Size()
	}
	return uint32(min(weight, math.MaxUint32))
}

// lifetime lets a resource expire with its last variant; reading does not prolong it.
func lifetime(e otter.Entry[string, *resource]) time.Duration {
	last := int64(math.MinInt64)
	for _, v := range e.Value.variants {
		last = max(last, getI64(v.block, atKeepUntil))
	}
	if last <= e.SnapshotAtNano {
		return 1 // already over; the cache takes positive durations only
	}
	return time.Duration(last - e.SnapshotAtNano)
}

// clock gives the cache the store's time.
type clock struct{ now func() time.Time }

func (c clock) NowNano() int64                        { return c.now().UnixNano() }
func (c clock) Tick(d time.Duration) <-chan time.Time { return time.Tick(d) }

// get selects the stored response of url that answers a request with these extras and fields. known says that the URL has
// stored responses, selected or not. It does not allocate when the URL's responses have no Vary.
func (n *near) get(key policy.Key, h http.Header) (e *Entry, known bool) {
	r, ok := n.cache.GetIfPresent(key.URL)
	if !ok {
		return nil, false
	}
	if len(r.variants) == 1 { // it has not expired: its resource would have
		if e := r.variants[0]; e.Nomination() == "" {
			if e.selects(key.Extras, nil) {
				return e, true
			}
			return nil, true
		}
	}
	return n.choose(r, key.Extras, h), true
}

// choose returns the first variant, which is the latest response, that the request selects (RFC 9111 section 4.1).
func (n *near) choose(r *resource, extras string, h http.Header) *Entry {
	var (
		buffer    [256]byte
		selection = buffer[:0]
		made      policy.Nomination // the nomination that selection was made with: mostly all variants have the same
		now       = n.clock().UnixNano()
	)
	for _, e := range r.variants {
		if nomination := e.Nomination(); nomination != made {
			selection, made = nomination.AppendSelection(selection[:0], h), nomination
		}
		if e.selects(extras, selection) && getI64(e.block, atKeepUntil) > now {
			return e
		}
	}
	return nil
}

// fits reports whether near memory takes an entry of this size.
func (n *near) fits(e *Entry) bool { return e.Size() <= n.maxObject }

// put stores e unless its URL was forgotten after the stamp, and reports whether it did.
func (n *near) put(e *Entry, stamp Stamp) bool {
	return n.insert(e, func([]*Entry) bool { return !n.forgets.since(e.URL(), stamp) })
}

// promote stores e, which a lookup that began at stamp has found in Redis, unless it or its URL was forgotten since, or
// near memory has got a later response in the meantime.
func (n *near) promote(e *Entry, stamp Stamp) {
	n.insert(e, func(before []*Entry) bool {
		for _, v := range before {
			if v.replaces(e) && compareInstants(v, e, atResponseTime) >= 0 {
				return false
			}
		}
		return !n.recalls.since(e.URL(), stamp)
	})
}

// insert adds e to its resource if allowed says so, under the cache's lock on the URL, of the variants that are there. Of
// too many variants, or too large ones, those that expire first go.
func (n *near) insert(e *Entry, allowed func(before []*Entry) bool) (inserted bool) {
	// The cache keeps the key for longer than this entry, when another variant replaces it: hence the copy.
	url := strings.Clone(e.URL())
	n.cache.Compute(url, func(old *resource, found bool) (*resource, otter.ComputeOp) {
		var before []*Entry
		if found {
			before = old.variants
		}
		if inserted = allowed(before); !inserted {
			return old, otter.CancelOp
		}
		return n.with(before, e, n.maxTotal), otter.WriteOp
	})
	return inserted
}

// replaces reports whether the two entries answer the same requests.
func (e *Entry) replaces(other *Entry) bool {
	return e.Nomination() == other.Nomination() && e.selects(other.Key().Extras, other.Selection())
}

// with makes the resource that holds e and what of before e does not replace, of no more than maxTotal bytes unless e alone has
// more.
func (n *near) with(before []*Entry, e *Entry, maxTotal int64) *resource {
	now := n.clock().UnixNano()
	kept, total := make([]*Entry, 0, len(before)+1), e.Size()
	for _, v := range before {
		if !e.replaces(v) && getI64(v.block, atKeepUntil) > now {
			kept, total = append(kept, v), total+v.Size()
		}
	}
	for len(kept) > 0 && (len(kept) >= n.variantCap || total > maxTotal) {
		first := slices.MinFunc(kept, func(a, b *Entry) int {
			return compareInstants(a, b, atKeepUntil)
		})
		kept = slices.DeleteFunc(kept, func(v *Entry) bool { return v == first })
		total -= first.Size()
	}
	r := new(resource)
	if len(kept) == 0 {
		r.single[0] = e
		r.variants = r.single[:]
		return r
	}
	at := 0
	for at < len(kept) && compareInstants(kept[at], e, atResponseTime) > 0 {
		at++
	}
	r.variants = slices.Clip(slices.Insert(kept, at, e))
	return r
}

func compareInstants(a, b *Entry, at int) int {
	x, y := getI64(a.block, at), getI64(b.block, at)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// forget deletes all variants of url.
func (n *near) forget(url string) {
	n.recalls.forget(url)
	n.cache.Invalidate(url)
}

// forgetEntry deletes the variant that e is, if it still has e's fill.
func (n *near) forgetEntry(e *Entry) {
	n.drop(e.URL(), func(v *Entry) bool { return v.Fill() == e.Fill() })
}

// displace deletes what would hide e from the requests that e answers: e was saved, but is too large to be here.
func (n *near) displace(e *Entry) { n.drop(e.URL(), e.hiddenBy) }

// hiddenBy reports whether a lookup that looks at v first may not get as far as e: v is what e replaces, or an older
// response that some request selects under another nomination as well.
func (e *Entry) hiddenBy(v *Entry) bool {
	return e.replaces(v) || e.Nomination() != v.Nomination() && e.Key().Extras == v.Key().Extras &&
		compareInstants(v, e, atResponseTime) <= 0
}

// drop deletes the variants of url that which names, and holds back those that are on their way here from Redis.
func (n *near) drop(url string, which func(*Entry) bool) {
	n.recalls.forget(url)
	n.cache.ComputeIfPresent(url, func(old *resource) (*resource, otter.ComputeOp) {
		switch r := old.without(which); r {
		case old:
			return old, otter.CancelOp
		case nil:
			return nil, otter.InvalidateOp
		default:
			return r, otter.WriteOp
		}
	})
}

func (n *near) close() { n.cache.StopAllGoroutines() }
