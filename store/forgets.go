package store

import (
	"hash/maphash"
	"sync/atomic"
)

// A fetch that began before its URL was forgotten must not be stored afterwards: its response may show the state from
// before the change that made us forget. So whoever will save takes a Stamp before the *lookup* that leads to the fetch:
//
//	stamp := s.Mark()
//	result := s.Lookup(ctx, key, header)
//	... fetch ...
//	s.SaveSince(entry, stamp)
//
// The forgets of this process are numbered, and each URL remembers the number of its last one, in one of a fixed number of
// slots shared by hash. A save is refused when its URL's slot holds a number above its stamp. Two URLs in one slot can only
// cause a refusal too many. The order of steps matters: Forget takes its number and writes the slot, then deletes from near
// memory; a save checks the slot while it holds near memory's lock on the URL. Either the save sees the number, or its
// entry is there when Forget deletes.

// A moment is one in the order of forgets. The zero moment is the beginning: a save since then is refused if the URL was
// ever forgotten.
type moment uint64

const forgetSlots = 1 << 14 // 128 KiB

type forgets struct {
	seed  maphash.Seed
	last  atomic.Uint64
	slots [forgetSlots]atomic.Uint64
}

func newForgets() *forgets { return &forgets{seed: maphash.MakeSeed()} }

func (f *forgets) hash(url string) uint64 { return maphash.String(f.seed, url) }

func (f *forgets) slot(url string) *atomic.Uint64 { return &f.slots[f.hash(url)%forgetSlots] }

// mark is the present moment.
func (f *forgets) mark() moment { return moment(f.last.Load()) }

// forget notes that url is forgotten now.
func (f *forgets) forget(url string) {
	number, slot := f.last.Add(1), f.slot(url)
	for {
		old := slot.Load()
		if old >= number || slot.CompareAndSwap(old, number) {
			return
		}
	}
}

// since reports whether url was, or may have been, forgotten after that moment.
func (f *forgets) since(url string, m moment) bool {
	return f.slot(url).Load() > uint64(m)
}
