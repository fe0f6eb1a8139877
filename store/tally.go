package store

import (
	"context"
	"errors"
	"hash/maphash"
	"math"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
)

// A tally counts what a purge selects, while that is swept or, in a preview, left alone. Several masters are gone through at once.
type tally struct {
	preview  bool
	marks    bool                // of Redis, where a soft purge marks what it has counted: a further sweep finds it marked
	table    *invalidation.Table // of a preview: what was forbidden before does not count
	progress func(invalidation.Tally) error

	mu   sync.Mutex
	sum  invalidation.Tally
	seed maphash.Seed
	seen map[uint64]struct{} // keys that were counted and are still there: SCAN may return one several times
	most int                 // that seen holds: a key beside them that is returned again counts again
}

// maxSeen is how many keys a tally remembers, in some 40 MiB. Where more match, what SCAN returns twice among the others, since Redis makes its table
// larger or smaller meanwhile, makes numbers slightly too high: that is better than memory without bounds.
const maxSeen = 1 << 20

func newTally(progress func(invalidation.Tally) error) *tally {
	return &tally{progress: progress, seed: maphash.MakeSeed(), seen: make(map[uint64]struct{}), most: maxSeen}
}

// total is what was counted.
func (t *tally) total() invalidation.Tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum
}

// matches reports whether the purge forbids the entry, or makes it stale.
func (t *tally) matches(e *Entry, record *invalidation.Record) bool {
	s := e.subject()
	if !record.Selects(s) {
		return false
	}
	if t.preview {
		return t.table == nil || e.Epoch() == uint64(t.table.Epoch()) && t.table.Judge(s, 0).Verdict != invalidation.Forgotten
	}
	same := e.Epoch() == uint64(record.Epoch)
	if record.Soft {
		return same && s.ValidAsOf < record.Seq && !(t.marks && e.StaleSince() >= uint64(record.Seq))
	}
	return !same || s.BodyAsOf < record.Seq
}

// count counts an entry that matched, by a key that names it, and how many entries were swept: none, or it. bytes are those of its body.
func (t *tally) count(key, url string, bytes int64, swept int, stays bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if stays || t.preview {
		hash := maphash.String(t.seed, key)
		if _, again := t.seen[hash]; again {
			return
		}
		if len(t.seen) < t.most {
			t.seen[hash] = struct{}{}
		}
	}
	t.sum.Match(url)
	t.sum.Swept += int64(swept)
	if swept > 0 || t.preview {
		t.sum.Bytes += bytes
	}
}

// expect says how many keys there are to be gone through, about, besides others.
func (t *tally) expect(keys int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Of += keys
}

// walk says that so many keys were gone through, and tells how far it is. Its error ends the sweep. Nothing is told of a nil tally.
func (t *tally) walk(keys int64) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sum.Of > 0 {
		t.sum.Walked = min(t.sum.Walked+keys, t.sum.Of)
	}
	if t.progress == nil {
		return nil
	}
	return t.progress(t.sum)
}

// Preview says what a purge would forbid if it were appended now, without doing anything: what Redis has, or near memory where there is no
// Redis. What a purge of before forbids does not count, nor does what expires in this moment. Where it cannot be counted to the end the
// error says why, and nothing is returned.
func (s *Store) Preview(ctx context.Context, p *invalidation.Purge) (invalidation.Tally, error) {
	if s.follower != nil && !s.follower.Registered() {
		return invalidation.Tally{}, errNotRegistered // nor does it know what is purged
	}
	t := newTally(nil)
	t.preview, t.table = true, s.near.table
	record := &invalidation.Record{Purge: *p, Seq: math.MaxUint64}
	if age := p.Filters.OlderThan; age > 0 {
		record.Filters.StoredBefore = max(s.now().Add(-age).UnixMicro(), 1)
	}
	var err error
	if s.far == nil {
		err = s.near.tally(ctx, record, t)
	} else {
		err = s.far.tally(ctx, record, t)
	}
	if err != nil {
		return invalidation.Tally{}, err
	}
	found := t.total()
	if found.Sample == nil {
		found.Sample = []string{}
	}
	return found, nil
}

var errNotRegistered = errors.New("store: this process has not registered with the log of purges")

// tally goes through what the purge may select in near memory.
func (n *near) tally(ctx context.Context, record *invalidation.Record, t *tally) error {
	if record.Kind == invalidation.KindURL && record.Unfiltered() {
		for _, url := range urlsOf(record.CacheURLs()...) {
			if r, ok := n.resourceQuietly(url); ok {
				n.tallyResource(r, record, t)
			}
		}
		return nil
	}
	const batch = 1000
	t.expect(int64(n.cache.EstimatedSize()))
	walked := 0
	for r := range n.cache.Values() {
		n.tallyResource(r, record, t)
		if walked++; walked%batch != 0 {
			continue
		}
		if err := t.walk(batch); err != nil {
			return err
		}
		select {
		case <-time.After(time.Millisecond): // others have their turn
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (n *near) tallyResource(r resource, record *invalidation.Record, t *tally) {
	now := n.clock().UnixNano()
	for i := range r.len() {
		e := r.at(i)
		if e.i64(atKeepUntil) <= now || !t.matches(e, record) {
			continue
		}
		swept := 0
		if !t.preview {
			swept = 1
			if !judge(n.table, e) { // a soft purge has marked it thereby
				n.forgetEntry(e)
			}
		}
		t.count(e.URL()+"\x00"+e.variant(), e.URL(), e.BodyLen(), swept, false)
	}
}

// keysOf is how many keys a master has, about; 0 where the user may not ask.
func keysOf(ctx context.Context, node *redis.Client) int64 {
	n, _ := node.DBSize(ctx).Result()
	return n
}
