package proxy

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"cacheproxy/policy"
)

// verdicts remember why the last response under a key was not stored, for whoever asks why there is nothing (Explain). A response that
// is stored clears the memory of its key. It is kept per class of request, as who may share is (classOf), and forgets early where
// two keys meet in one slot: what it says is always true, but it does not know everything.
type verdicts struct {
	slots [1 << 12]atomic.Pointer[keyedVerdict]
}

// verdict is one of them.
type verdict struct {
	why policy.Reason
	at  time.Time
}

type keyedVerdict struct {
	hash uint64
	verdict
}

// slot is where the verdict on a key and class belongs.
func (v *verdicts) slot(key policy.Key, rq *policy.Request) (*atomic.Pointer[keyedVerdict], uint64) {
	var h maphash.Hash
	h.SetSeed(shareSeed)
	for _, part := range [...]string{key.URL, key.Extras, classOf(rq)} {
		_, _ = h.WriteString(part) // never fails
		_ = h.WriteByte(0)
	}
	sum := h.Sum64()
	return &v.slots[sum%uint64(len(v.slots))], sum
}

func (v *verdicts) note(key policy.Key, rq *policy.Request, what verdict) {
	slot, hash := v.slot(key, rq)
	slot.Store(&keyedVerdict{hash, what})
}

func (v *verdicts) drop(key policy.Key, rq *policy.Request) {
	slot, hash := v.slot(key, rq)
	if known := slot.Load(); known != nil && known.hash == hash {
		slot.CompareAndSwap(known, nil)
	}
}

// last returns the last verdict on a key.
func (v *verdicts) last(key policy.Key, rq *policy.Request) (verdict, bool) {
	slot, hash := v.slot(key, rq)
	if known := slot.Load(); known != nil && known.hash == hash {
		return known.verdict, true
	}
	return verdict{}, false
}
