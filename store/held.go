package store

import (
	"encoding/binary"
	"sync/atomic"
	"time"
	"unsafe"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
)

// A block does not change after it was made, but for two words (encoding.go) that are read and written as atomic values:
//
//	staleSince  the sequence of the newest soft purge that selects the entry
//	checked     up to which record the entry has been compared with the table of purges, in this process
//
// Both only rise. Whoever needs the bytes of a block that is shared leaves these out.

const (
	mutableStart = atStaleSince
	mutableEnd   = atEpoch
)

// word is one of the two. Decode and NewEntry see to it that a block begins at a multiple of eight.
func (e *Entry) word(at int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Add(unsafe.Pointer(e), at))
}

// aligned reports whether the words of a block can be atomic.
func aligned(block []byte) bool { return uintptr(unsafe.Pointer(unsafe.SliceData(block)))%8 == 0 }

// native turns a number that stands in the block in big-endian order into one as this machine has it, and back.
func native(v uint64) uint64 {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], v)
	return binary.BigEndian.Uint64(b[:])
}

// StaleSince is the sequence of the soft purge that made the entry stale; 0 means none did.
func (e *Entry) StaleSince() uint64 { return native(e.word(atStaleSince).Load()) }

// markStale notes a soft purge, unless a newer one is noted.
func (e *Entry) markStale(since invalidation.Seq) {
	for w := e.word(atStaleSince); ; {
		old := w.Load()
		if native(old) >= uint64(since) || w.CompareAndSwap(old, native(uint64(since))) {
			return
		}
	}
}

func (e *Entry) checked() invalidation.Number { return invalidation.Number(e.word(atChecked).Load()) }

func (e *Entry) setChecked(n invalidation.Number) {
	for w := e.word(atChecked); ; {
		old := w.Load()
		if old >= uint64(n) || w.CompareAndSwap(old, uint64(n)) {
			return
		}
	}
}

// softened is f of an entry that a soft purge has made stale: it was fresh until then. It is not now, although another
// soft purge may have come after the request, or the clock of Redis be ahead.
func (e *Entry) softened(f policy.Freshness) policy.Freshness {
	if since := e.StaleSince(); since > e.ValidAsOf() {
		f.Lifetime, f.Purged = min(f.Lifetime, max(0, time.UnixMicro(int64(since)).Sub(f.Born))), true
	}
	return f
}

// subject is what purges look at.
func (e *Entry) subject() *invalidation.Subject {
	tags, groups := policy.SplitTags(e.Tags())
	contentType, _ := e.Field("Content-Type")
	return &invalidation.Subject{
		URL: e.URL(), BodyAsOf: invalidation.Seq(e.BodyAsOf()), ValidAsOf: invalidation.Seq(e.ValidAsOf()), Status: e.Status(),
		ContentType: contentType, Size: e.BodyLen(), StoredAt: e.ResponseTime().UnixMicro(), Tags: tags, Groups: groups,
	}
}

// mutableHead is what a shared block begins with, as Redis gets it.
func mutableHead(block []byte) []byte {
	head := make([]byte, mutableEnd)
	copy(head, block[:mutableStart])
	return head
}
