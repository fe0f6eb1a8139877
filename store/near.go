package store

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
	"unsafe"

	"github.com/maypok86/otter/v2"
	"github.com/zeebo/xxh3"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
)

// Near memory is a cache of resources, one per cache URL, bounded by the bytes they take. A resource is an immutable list
// of the variants of its URL; a save replaces the whole list, under the cache's lock on that key. So a reader gets a
// consistent list without waiting, and forgetting a URL is the deletion of one key.
//
// A resource expires with the last of its variants. What is evicted to make room is what the cache (W-TinyLFU) thinks will be
// asked least.
//
// What a stored response takes beside its block is the cache's node, of 96 bytes with key and resource, and its place in the hash
// table. So the garbage collector has two objects to look at, one of which has no pointers. Hence the key, which is a
// hash of the URL: a string would be an object of its own. The URL itself is compared on each read.

// A nearKey is 128 bits of hash of a URL, under a seed of this process.
type nearKey [2]uint64

// A resource is what near memory holds of one URL: its variants, the latest response first, never none.
type resource struct {
	one  *Entry    // the only variant; nil where there are several
	many *[]*Entry // they
}

func newResource(variants []*Entry) resource {
	if len(variants) == 1 {
		return resource{one: variants[0]}
	}
	variants = slices.Clip(variants)
	return resource{many: &variants}
}

func (r resource) len() int {
	if r.one != nil {
		return 1
	}
	return len(*r.many)
}

func (r resource) at(i int) *Entry {
	if r.one != nil {
		return r.one
	}
	return (*r.many)[i]
}

// variants is a list of all. Only to be read.
func (r resource) variants() []*Entry {
	if r.one != nil {
		return []*Entry{r.one}
	}
	return *r.many
}

// url is the cache URL of which they are variants.
func (r resource) url() string { return r.at(0).URL() }

// without is what is left of the variants less those that drop names, and whether there were any of those.
func (r resource) without(drop func(*Entry) bool) (left []*Entry, dropped bool) {
	left = r.variants()
	if !slices.ContainsFunc(left, drop) {
		return left, false
	}
	return slices.DeleteFunc(slices.Clone(left), drop), true
}

// resourceOverhead is what a resource of one variant takes beside it: the cache's node, and its share of the hash table, which is
// between 28 and 56 bytes as the table grows, and of the frequency sketch.
const resourceOverhead = 96 + 56

type near struct {
	cache      *otter.Cache[nearKey, resource]
	seed       uint64
	clock      func() time.Time
	forgets    *forgets            // hold back what was fetched before a forget
	recalls    *forgets            // hold back what was read from Redis before a forget, of one entry too
	table      *invalidation.Table // purges; nil = there are none
	strict     bool
	fenced     func() bool // whether nothing may be served; only where strict
	maxObject  int64
	maxTotal   int64 // bytes of the variants of one URL together
	variantCap int
}

func newNear(o *Options, f *forgets) (*near, error) {
	n := &near{
		seed: rand.Uint64(), clock: o.Now, forgets: f, recalls: newForgets(), table: o.table(), maxObject: o.NearMaxObject, variantCap: o.VariantCap,
		// A resource comes and goes as a whole: one that takes much of the cache drives out much, and one that takes more than
		// all of it is itself driven out each time that a variant comes.
		maxTotal: max(o.NearSize/4, o.NearMaxObject),
	}
	if n.strict = o.Strict && o.Follower != nil; n.strict {
		n.fenced = o.Follower.Fenced
	}
	options := &otter.Options[nearKey, resource]{
		MaximumWeight:    uint64(o.NearSize),
		Weigher:          weigh,
		ExpiryCalculator: otter.ExpiryWritingFunc(lifetime),
		Clock:            clock{o.Now},
		OnAtomicDeletion: func(e otter.DeletionEvent[nearKey, resource]) {
			if e.Cause == otter.CauseOverflow {
				o.Metrics.NearEviction(e.Value.len())
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

func weigh(_ nearKey, r resource) uint32 {
	weight := int64(resourceOverhead)
	if r.many != nil {
		weight += int64(unsafe.Sizeof(*r.many)) + int64(len(*r.many))*int64(unsafe.Sizeof(r.one))
	}
	for i := range r.len() {
		weight += r.at(i).Size()
	}
	return uint32(min(weight, math.MaxUint32))
}

func (n *near) key(url string) nearKey {
	hash := xxh3.HashString128Seed(url, n.seed)
	return nearKey{hash.Hi, hash.Lo}
}

// resource returns what there is of url. That another URL has the same hash happens never, or else is a miss.
func (n *near) resource(url string) (resource, bool) {
	r, ok := n.cache.GetIfPresent(n.key(url))
	if !ok || r.url() != url {
		return resource{}, false
	}
	return r, true
}

// resourceQuietly is resource that does not count as a use.
func (n *near) resourceQuietly(url string) (resource, bool) {
	node, ok := n.cache.GetEntryQuietly(n.key(url))
	if !ok || node.Value.url() != url {
		return resource{}, false
	}
	return node.Value, true
}

// lifetime lets a resource expire with its last variant; reading does not prolong it.
func lifetime(e otter.Entry[nearKey, resource]) time.Duration {
	last := int64(math.MinInt64)
	for i := range e.Value.len() {
		last = max(last, e.Value.at(i).i64(atKeepUntil))
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
	r, ok := n.resource(key.URL)
	if !ok {
		return nil, false
	}
	return n.selectFrom(r, key, h)
}

// peek is get that does not count as a use: what is evicted next stays what it was.
func (n *near) peek(key policy.Key, h http.Header) (e *Entry, known bool) {
	r, ok := n.resourceQuietly(key.URL)
	if !ok {
		return nil, false
	}
	return n.selectFrom(r, key, h)
}

// selectFrom is get for what there is of the URL. What a purge forbids is found by nobody, and dropped.
func (n *near) selectFrom(r resource, key policy.Key, h http.Header) (e *Entry, known bool) {
	if e = r.one; e != nil && e.Nomination() == "" { // it has not expired: its resource would have
		if !e.selects(key.Extras, nil) {
			return nil, true
		}
	} else if e = n.choose(r, key.Extras, h); e == nil {
		return nil, true
	}
	if n.table == nil {
		return e, true
	}
	if e.checked() != n.table.Head() && !judge(n.table, e) {
		n.forgetEntry(e)
		return nil, r.len() > 1
	}
	if n.shut() {
		return nil, false
	}
	return e, true
}

// shut reports whether nothing may be served of what is held, since a purge may have been missed. It is asked when an entry was compared with the
// purges, not before.
func (n *near) shut() bool { return n.strict && n.fenced() }

// choose returns the first variant, which is the latest response, that the request selects (RFC 9111 section 4.1).
func (n *near) choose(r resource, extras string, h http.Header) *Entry {
	var (
		buffer    [256]byte
		selection = buffer[:0]
		made      policy.Nomination // the nomination that selection was made with: mostly all variants have the same
		now       = n.clock().UnixNano()
	)
	for i := range r.len() {
		e := r.at(i)
		if nomination := e.Nomination(); nomination != made {
			selection, made = nomination.AppendSelection(selection[:0], h), nomination
		}
		if e.selects(extras, selection) && e.i64(atKeepUntil) > now {
			return e
		}
	}
	return nil
}

// fits reports whether near memory takes an entry of this size.
func (n *near) fits(e *Entry) bool { return e.Size() <= n.maxObject }

// put stores e, unless its URL was forgotten after the stamp or a later response has taken its place, and reports whether it did.
func (n *near) put(e *Entry, stamp Stamp) bool {
	return n.insert(e, func(before []*Entry) bool {
		return !n.forgets.since(e.URL(), stamp.moment) && !n.outdated(e, before) && n.permits(e, stamp)
	})
}

// permits reports whether no purge forbids what was fetched for a lookup at the stamp.
func (n *near) permits(e *Entry, stamp Stamp) bool {
	return judgeFrom(n.table, e, stamp.mark.Number) && current(n.table, stamp)
}

// putIfAbsent is put for an entry in chunks, unless the same fetch is there, whole.
func (n *near) putIfAbsent(e *Entry, stamp Stamp) {
	if !n.fits(e) {
		return
	}
	n.insert(e, func(before []*Entry) bool {
		whole := slices.ContainsFunc(before, func(v *Entry) bool { return v.replaces(e) && v.Fill() == e.Fill() && !v.Chunked() })
		return !whole && !n.forgets.since(e.URL(), stamp.moment) && !n.outdated(e, before) && n.permits(e, stamp)
	})
}

// outdated reports whether before holds what replaces e: the response of a fetch that ended sooner, but was answered later. One
// from the future does not count: the clock was set back, and what it says would hold until that future.
func (n *near) outdated(e *Entry, before []*Entry) bool {
	now := n.clock().UnixMicro()
	return slices.ContainsFunc(before, func(v *Entry) bool {
		return v.replaces(e) && compareInstants(v, e, atResponseTime) > 0 && v.ResponseTime().UnixMicro() <= now
	})
}

// overtaken reports whether near memory has a later response in the place of e.
func (n *near) overtaken(e *Entry) bool {
	r, ok := n.resource(e.URL())
	return ok && n.outdated(e, r.variants())
}

// promote stores e, which a lookup that began then has found in Redis, unless it or its URL was forgotten since, or
// near memory has got a later response in the meantime.
func (n *near) promote(e *Entry, since moment) {
	n.insert(e, func(before []*Entry) bool {
		for _, v := range before {
			if v.replaces(e) && compareInstants(v, e, atResponseTime) >= 0 {
				return false
			}
		}
		return !n.recalls.since(e.URL(), since)
	})
}

// insert adds e to its resource if allowed says so, under the cache's lock on the URL, of the variants that are there. Of
// too many variants, or too large ones, those that expire first go.
func (n *near) insert(e *Entry, allowed func(before []*Entry) bool) (inserted bool) {
	n.cache.Compute(n.key(e.URL()), func(old resource, found bool) (resource, otter.ComputeOp) {
		var before []*Entry
		if found && old.url() == e.URL() {
			before = old.variants()
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
func (n *near) with(before []*Entry, e *Entry, maxTotal int64) resource {
	now := n.clock().UnixNano()
	var kept []*Entry
	total := e.Size()
	for _, v := range before {
		if !e.replaces(v) && v.i64(atKeepUntil) > now {
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
	if kept == nil {
		return resource{one: e}
	}
	at := 0
	for at < len(kept) && compareInstants(kept[at], e, atResponseTime) > 0 {
		at++
	}
	return newResource(slices.Insert(kept, at, e))
}

func compareInstants(a, b *Entry, at int) int {
	x, y := a.i64(at), b.i64(at)
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
	n.cache.Invalidate(n.key(url))
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
	n.cache.ComputeIfPresent(n.key(url), func(old resource) (resource, otter.ComputeOp) {
		left, dropped := old.without(which)
		switch {
		case !dropped:
			return old, otter.CancelOp
		case len(left) == 0:
			return old, otter.InvalidateOp
		default:
			return newResource(left), otter.WriteOp
		}
	})
}

func (n *near) close() { n.cache.StopAllGoroutines() }
