package limiter

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// The table holds an entry for each client that this process knows of. A client is known until it has all of its limit again, and no longer:
// its entry is then as good as a new one. So an entry is never taken from somebody who is counted, however many others come; those for whom
// there is no room share the entry of the overflow.

const shards = 64

type table struct {
	seed     maphash.Seed
	max      int64
	clients  atomic.Int64
	shards   [shards]shard
	overflow atomic.Int64 // requests that were counted in common
}

type shard struct {
	mu   sync.Mutex
	held map[string]*entry
	// pad keeps the locks of two shards out of one cache line.
	_ [48]byte
}

func newTable(most int) *table {
	t := &table{seed: maphash.MakeSeed(), max: int64(most)}
	if most == 0 {
		t.max = defaultClients
	}
	for i := range t.shards {
		t.shards[i].held = map[string]*entry{}
	}
	return t
}

// at locks the shard of a key, and returns it with the entry, which may be that of the overflow.
func (t *table) at(m *limit, key []byte, now int64) (*shard, *entry) {
	hash := maphash.Bytes(t.seed, key)
	s := &t.shards[hash%shards]
	s.mu.Lock()
	if e := s.held[string(key)]; e != nil {
		return s, e
	}
	if t.clients.Load() >= t.max && !t.reclaim(m, s, now) {
		s.mu.Unlock()
		t.overflow.Add(1)
		return t.common()
	}
	e := &entry{key: string(key), spread: uint32(hash >> 32)}
	s.held[e.key] = e
	t.clients.Add(1)
	return s, e
}

// common locks the entry that clients share for whom there is no room.
func (t *table) common() (*shard, *entry) {
	s := &t.shards[maphash.String(t.seed, overflow)%shards]
	s.mu.Lock()
	e := s.held[overflow]
	if e == nil {
		e = &entry{key: overflow}
		s.held[overflow] = e
		t.clients.Add(1)
	}
	return s, e
}

// reclaimed is how many entries are looked at for one that has ended, before a client goes to the overflow.
const reclaimed = 8

// reclaim removes an entry that has ended, if one is found soon. The shard is locked.
func (t *table) reclaim(m *limit, s *shard, now int64) bool {
	looked := 0
	for key, e := range s.held {
		if e.over(m, now) {
			t.remove(s, key)
			return true
		}
		if looked++; looked == reclaimed {
			break
		}
	}
	return false
}

func (t *table) remove(s *shard, key string) {
	delete(s.held, key)
	t.clients.Add(-1)
}

// find locks the shard of a key, and returns it with the entry, or nil where there is none.
func (t *table) find(key string) (*shard, *entry) {
	s := &t.shards[maphash.String(t.seed, key)%shards]
	s.mu.Lock()
	return s, s.held[key]
}
