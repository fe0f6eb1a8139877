package proxy

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// fills is the table of fills: one for each response that is on its way into the store. A fill stays in the table, and can be
// joined, from before its request is sent until the store holds its response, so that an asker who comes during the body
// joins as well. singleflight elects, among those who wait for the head, the one whose goroutine sends the request.
//
// Why an asker looks into near memory once more before it begins a new fill:
//
//	asker A                      fill F                          asker B
//	lookup: nothing              streaming
//	                             stores the response
//	                             leaves the table
//	join: no fill in the table
//
// Without the second look A would fetch again what has just been stored. The look is taken while the table is locked, and a
// fill leaves the table only after the store holds its response: so either A finds F, or A finds the response.
type fills struct {
	h      *Handler
	flight singleflight.Group

	mu         sync.Mutex
	byKey      map[string]*fill
	refreshing map[string]bool // keys that a background refresh is under way for

	under  sync.WaitGroup // fills that are being fetched
	memory atomic.Int64   // bytes reserved by bodies
	ids    atomic.Uint64
}

func newFills(h *Handler) *fills {
	return &fills{h: h, byKey: make(map[string]*fill), refreshing: make(map[string]bool)}
}

// join attaches the journey to the fill under this key, or to a new one. It returns a stored response instead when one has
// come meanwhile.
func (t *fills) join(j *journey, key string) (f *fill, leads bool, e *store.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.byKey[key]; f != nil && f.attach(j) {
		return f, false, nil
	}
	if e := j.again(); e != nil {
		return nil, false, e
	}
	f = newFill(t, j, key)
	t.byKey[key] = f
	t.under.Add(1)
	return f, true, nil
}

// claimRefresh takes the right to refresh what is stored under this key, and reports false where a fill or another refresh is under way.
func (t *fills) claimRefresh(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[key] != nil || t.refreshing[key] {
		return false
	}
	t.refreshing[key] = true
	return true
}

// underWay reports whether a fill under this key can, as far as is known, be joined.
func (t *fills) underWay(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byKey[key] != nil
}

// endRefresh gives that right back.
func (t *fills) endRefresh(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.refreshing, key)
}

// remove takes the fill out of the table, unless another one has its place.
func (t *fills) remove(f *fill) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[f.key] == f {
		delete(t.byKey, f.key)
	}
}

// abort ends every fill.
func (t *fills) abort() {
	t.mu.Lock()
	all := slices.Collect(maps.Values(t.byKey))
	t.mu.Unlock()
	for _, f := range all {
		f.end()
	}
}

// reserve takes n bytes of the memory that all fills share.
func (t *fills) reserve(n int64) bool {
	if t.memory.Add(n) > t.h.opt.Collapse.Memory {
		t.memory.Add(-n)
		return false
	}
	return true
}

func (t *fills) release(n int64) { t.memory.Add(-n) }

// again looks into near memory once more for a response that is fresh for this request, other than the one it has found unfit.
func (j *journey) again() *store.Entry {
	e, ok := j.h.opt.Store.LookupNear(j.cacheKey, j.rq.Header)
	if !ok || e == j.stored || !j.h.covers(j.rq, e) || !j.usable(e) {
		return nil
	}
	return e
}

// usable reports whether e may answer now as a fresh hit.
func (j *journey) usable(e *store.Entry) bool {
	return policy.Evaluate(j.rq, e.Freshness(), j.h.opt.Now(), j.matched).Action == policy.Fresh
}

// shareKey names the class of requests whose fetches may be shared: same cache URL and extras, with or without credentials.
func (j *journey) shareKey() string {
	if j.shareClass != "" {
		return j.shareClass
	}
	j.shareClass = j.cacheKey.URL + "\x00" + j.cacheKey.Extras + "\x00" + classOf(&j.rq)
	return j.shareClass
}

// classOf tells requests apart by whether they say who asks.
func classOf(rq *policy.Request) string {
	switch auth, cookie := rq.Credentials || len(rq.Header["Authorization"]) > 0, len(rq.Header["Cookie"]) > 0; {
	case auth && cookie:
		return "ac"
	case auth:
		return "a"
	case cookie:
		return "c"
	}
	return ""
}

// fillKey is shareKey and, where it is known what Vary nominates, the selected fields.
func (j *journey) fillKey() string {
	if j.nominate == "" {
		return j.shareKey()
	}
	var buf [256]byte
	return j.shareKey() + "\x00" + string(j.nominate) + "\x00" + string(j.nominate.AppendSelection(buf[:0], j.rq.Header))
}

// notShareable remembers for a short while which keys gave responses that were of use to one client only, so that their askers
// do not wait for each other in vain. It forgets on its own and may forget early: each key has one slot that another may take.
type notShareable struct {
	now   func() time.Time
	epoch time.Time // from which times are counted, on the monotonic clock where now has one
	slots [1 << 12]struct{ hash, until atomic.Uint64 }
}

var shareSeed = maphash.MakeSeed()

func (n *notShareable) holds(key string) bool {
	hash := maphash.String(shareSeed, key)
	s := &n.slots[hash%uint64(len(n.slots))]
	return s.hash.Load() == hash && n.now().Sub(n.epoch) < time.Duration(s.until.Load())
}

func (n *notShareable) add(key string, lasts time.Duration) {
	hash := maphash.String(shareSeed, key)
	s := &n.slots[hash%uint64(len(n.slots))]
	s.until.Store(uint64(n.now().Sub(n.epoch) + lasts))
	s.hash.Store(hash)
}
