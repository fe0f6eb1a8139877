package admin

import (
	"context"
	"time"

	"cacheproxy/invalidation"
)

// Outcome is what has come of a purge so far where responses are stored. Those that it forbids are served by nobody, whatever it says.
type Outcome struct {
	Matched int64 `json:"matched"` // stored responses that it was found to forbid, or to make stale
	Swept   int64 `json:"swept"`   // of these: deleted, or marked
	Bytes   int64 `json:"bytes"`   // of body in them
	// Sample are URLs of some that matched.
	Sample []string `json:"sample"`
	Sweep  Sweep    `json:"sweep"`
}

// Sweep is how far the sweeping is.
type Sweep struct {
	// State is queued, running, swept (once; a second time is to come when the purge need not be remembered any more), cancelled (it is
	// done then) or done (for good).
	State  invalidation.SweepState `json:"state"`
	By     string                  `json:"by,omitempty"`           // the replica that is at it, or was last
	At     *time.Time              `json:"at,omitempty"`           // when that was noted
	Walked int64                   `json:"walked,omitempty"`       // keys gone through, where it goes through all ...
	Of     int64                   `json:"of,omitempty"`           // ... of about so many
	Who    string                  `json:"cancelled_by,omitempty"` // who has cancelled it
	// Merged is the sequence of a newer purge of the same, in whose sweep this one's is contained: what is told is of that.
	Merged invalidation.Seq `json:"merged,omitempty"`
}

// Held is what something is stored of, to be told whose purge has matched nothing.
type Held struct {
	Origins []string `json:"origins"`        // scheme://host[:port]
	More    bool     `json:"more,omitempty"` // there may be more than these
}

// outcomeOf is what is told of an outcome.
func (p *purging) outcomeOf(o *invalidation.Outcome) *Outcome {
	told := &Outcome{
		Matched: o.Matched, Swept: o.Swept, Bytes: o.Bytes, Sample: p.shown(o.Sample),
		Sweep: Sweep{State: o.State, By: o.By, Walked: o.Walked, Of: o.Of, Who: o.Cancelled, Merged: o.Merged},
	}
	if !o.At.IsZero() {
		told.Sweep.At = new(o.At) // else it would keep the purge in memory, with all its URLs
	}
	return told
}

// shown are URLs without what must not be shown of them.
func (p *purging) shown(urls []string) []string {
	list := make([]string, len(urls))
	for i, url := range urls {
		list[i] = p.ShownURL(url)
	}
	return list
}

// found completes a receipt with what has come of the purge, as soon as that is known where it is waited for.
func (p *purging) found(ctx context.Context, r *Receipt, until string) {
	var o invalidation.Outcome
	var err error
	if until == untilSwept {
		o, err = p.Follower.AwaitSwept(ctx, r.Sequence)
	} else {
		o, err = p.Follower.Outcome(context.WithoutCancel(ctx), r.Sequence) // which has a bound of its own
	}
	if err != nil {
		if r.Detail == "" {
			r.Detail = "what was swept is not known: " + err.Error()
		}
		return
	}
	r.Outcome = p.outcomeOf(&o)
	if o.Over() && o.Cancelled == "" && o.Matched == 0 {
		r.Held = p.held(ctx)
	}
}

// heldPatience is how long a hint may take.
const heldPatience = 500 * time.Millisecond

// held says of what something is stored; nil where that cannot be said now.
func (p *purging) held(ctx context.Context) *Held {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), heldPatience)
	defer cancel()
	origins, whole, err := p.Store.Origins(ctx)
	if err != nil {
		return nil
	}
	return &Held{Origins: origins, More: !whole}
}
