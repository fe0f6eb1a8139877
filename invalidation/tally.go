package invalidation

import (
	"slices"
	"strings"
	"time"
)

// Tally is what a sweep has found so far, or would find.
type Tally struct {
	Matched int64 `json:"matched"` // stored responses that the purge forbids, or makes stale
	Swept   int64 `json:"swept"`   // of these: deleted, or marked. The others were gone by then
	Bytes   int64 `json:"bytes"`   // of body: of what was swept, or of what matched where nothing was to be swept
	// Sample are URLs of some that matched, each once.
	Sample []string `json:"sample"`
	// Walked and Of say how far a sweep is that goes through all that is stored: so many keys, of about so many. 0 = it does not, or that is not
	// known.
	Walked int64 `json:"walked,omitempty"`
	Of     int64 `json:"of,omitempty"`
}

// MaxSample bounds the sample.
const MaxSample = 10

// Bounds of a URL in it, and of all of it, in bytes: it is in the note of each sweep, and in the history.
const (
	maxSampled = 1 << 10
	maxSample  = 2 << 10
)

// Match counts a stored response that matched.
func (t *Tally) Match(url string) {
	t.Matched++
	if url = url[:min(len(url), maxSampled)]; t.takes(url) {
		t.Sample = append(t.Sample, strings.Clone(url)) // which may lie in an entry
	}
}

// takes reports whether the sample has room for a URL, and has it not yet.
func (t *Tally) takes(url string) bool {
	if len(t.Sample) >= MaxSample {
		return false
	}
	room := maxSample - len(url)
	for _, other := range t.Sample {
		if room -= len(other); other == url {
			return false
		}
	}
	return room >= 0
}

// after is the tally with what a further pass has found.
func (t Tally) after(before Tally) Tally {
	t.Matched, t.Swept, t.Bytes = t.Matched+before.Matched, t.Swept+before.Swept, t.Bytes+before.Bytes
	more := t.Sample
	t.Sample = slices.Clone(before.Sample)
	for _, url := range more {
		if t.takes(url) {
			t.Sample = append(t.Sample, url)
		}
	}
	return t
}

// SweepState is how far the sweep of a purge is. What was purged is served by nobody in any of them.
type SweepState string

// The states, in their order.
const (
	SweepQueued    SweepState = "queued"    // nobody has begun
	SweepRunning   SweepState = "running"   // a replica is at it
	SweepOnce      SweepState = "swept"     // what was stored is gone, or marked; the last look, when the horizon is over, is to come
	SweepCancelled SweepState = "cancelled" // somebody cancelled it: it is done when the horizon is over
	SweepTwice     SweepState = "done"      // the last look was had too: the purge need not be remembered any more
)

// Outcome is how far the sweep of a purge is, and what it has found.
type Outcome struct {
	State     SweepState
	By        string    // the replica that is at it, or was last
	At        time.Time // when that was noted, by that replica's clock
	Cancelled string    // who cancelled it
	Merged    Seq       // the newer purge of the same, in whose sweep this one's is contained; 0 = it has its own
	Tally
}

// Over reports whether nothing more is to be expected before the horizon is over.
func (o *Outcome) Over() bool {
	return o.State == SweepOnce || o.State == SweepTwice || o.State == SweepCancelled
}
