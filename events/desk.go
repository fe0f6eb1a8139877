package events

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cacheproxy/invalidation"
)

// A desk is where the purges of one replica lie until they are appended to the log, by this replica or, as far as it has vouched, by
// another one. What it is handed comes in the order of the subscription's connection, in one goroutine.
type desk struct {
	opt   *Options
	rare  *rareLog
	lease lease
	queue chan any // *request, mark or cut
	now   func() time.Time

	waiting []*request // not appended and not vouched for
	byKey   map[string]*request
	leads   bool
	until   time.Time // when the lease ends
	whole   time.Time // nothing was lost here since
	since   time.Time // of the last mark
}

const (
	queueLength = 1024 // messages that were received and not looked at
	maxWaiting  = 2048 // messages that wait to be appended
	burst       = 256  // messages that are looked at before purges are appended
)

// request is what a message asks for by one rule, and the messages that asked for the same since.
type request struct {
	purges []invalidation.Purge
	key    string
	// It was published after the one time, if that is known, and before the other; first is when the first of those was received that were
	// merged into it.
	after, received, first time.Time
}

func newRequest(purges []invalidation.Purge, after, received time.Time) *request {
	var key strings.Builder
	for i := range purges {
		p := &purges[i]
		fmt.Fprintf(&key, "%s %q %q %q %q %t\n", p.Kind, p.Selector, p.Tags, p.Origin, p.Group, p.Soft)
	}
	return &request{purges, key.String(), after, received, received}
}

// mark says that all has been handed over that was published before sent, since the time from which on nothing was lost.
type mark struct{ sent, since time.Time }

// cut says that the subscription has ended.
type cut struct{}

// run works until ctx ends. Then it appends what it can of what it has, if it leads, and gives the lease back.
func (d *desk) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			d.end()
			return
		case x := <-d.queue:
			d.take(ctx, x)
		}
		for n := 1; n < burst && len(d.queue) > 0; n++ {
			d.take(ctx, <-d.queue)
		}
		if d.leading() {
			d.appendAll(ctx)
		}
	}
}

// endPatience is for the last purges.
const endPatience = time.Second

func (d *desk) end() {
	ctx, cancel := context.WithTimeout(context.Background(), endPatience)
	defer cancel()
	for len(d.queue) > 0 {
		if r, ok := (<-d.queue).(*request); ok {
			d.put(r)
		}
	}
	if d.leading() {
		d.appendAll(ctx)
	}
	d.giveBack(ctx)
}

func (d *desk) take(ctx context.Context, x any) {
	switch x := x.(type) {
	case *request:
		d.put(x)
	case mark:
		d.elect(ctx, x)
	case cut:
		d.giveBack(ctx)
	}
}

// put keeps a request, merged with an equal one: a purge that is appended after both messages came does for both.
func (d *desk) put(r *request) {
	if same := d.byKey[r.key]; same != nil {
		same.received = r.received
		if r.after.IsZero() {
			same.after = time.Time{}
		}
		d.opt.Metrics.Event(merged)
		return
	}
	if len(d.waiting) >= maxWaiting {
		d.whole = r.received
		d.opt.Metrics.Event(dropped)
		d.rare.warn(dropped, "events are dropped: too many wait for the log of purges", "waiting", len(d.waiting))
		return
	}
	d.byKey[r.key] = r
	d.waiting = append(d.waiting, r)
}

func (d *desk) leading() bool { return d.leads && d.now().Before(d.until) }

// appendAll appends what waits, oldest first, and reports false when something still does: the log did not take it, and perhaps did. It is tried
// again, or another replica does.
func (d *desk) appendAll(ctx context.Context) bool {
	for i, r := range d.waiting {
		if err := d.append(ctx, r); err != nil {
			d.waiting = slices.Delete(d.waiting, 0, i)
			d.rare.warn("append", "an event could not be entered in the log of purges: it is tried again", "error", err.Error())
			return false
		}
	}
	clear(d.waiting)
	d.waiting = d.waiting[:0]
	return true
}

func (d *desk) append(ctx context.Context, r *request) error {
	for i := range r.purges {
		if err := d.opt.Append(ctx, r.purges[i]); err != nil {
			return err
		}
	}
	delete(d.byKey, r.key)
	d.opt.Metrics.Event(appended)
	return nil
}

// elect asks for the lease when all has been looked at that was published before the mark. A leader whose log does not take everything
// does not, so that another one may try.
func (d *desk) elect(ctx context.Context, m mark) {
	var vouched span
	if d.leading() {
		if !d.appendAll(ctx) {
			return
		}
		if m.since.Equal(d.since) { // else the subscription is another one, perhaps of another Redis with another clock
			vouched = d.lease.clock.vouch(latest(m.since, d.whole), m.sent)
		}
	}
	d.since = m.since
	asked := d.now()
	holder, theirs, err := d.lease.ask(ctx, leaseTime, vouched)
	if err != nil {
		d.rare.warn("lease", "who turns events into purges is not known: Redis does not tell", "error", err.Error())
		d.letGo(ctx, span{})
		return
	}
	switch leads := holder == d.lease.id; {
	case leads && !d.leads:
		d.opt.Log.Info("turning events into purges", "replica", d.lease.id)
	case !leads && d.leads:
		d.opt.Log.Info("another replica turns events into purges", "replica", d.lease.id, "leads", holder)
	}
	d.leads = holder == d.lease.id
	if d.leads {
		d.until = asked.Add(leaseTime)
		d.appendAll(ctx)
		return
	}
	d.letGo(ctx, theirs)
}

// letGo drops what another replica has appended, and appends what none has in a long time.
func (d *desk) letGo(ctx context.Context, theirs span) {
	kept := d.waiting[:0]
	failed := false
	for _, r := range d.waiting {
		switch {
		case d.lease.clock.covers(theirs, r.after, r.received):
			delete(d.byKey, r.key)
			d.opt.Metrics.Event(left)
			continue
		case d.now().Sub(r.first) > overdue && !failed:
			err := d.append(ctx, r)
			if err == nil {
				continue
			}
			failed = true
			d.rare.warn("append", "an event could not be entered in the log of purges: it is tried again", "error", err.Error())
		}
		kept = append(kept, r)
	}
	clear(d.waiting[len(kept):])
	d.waiting = kept
}

// giveBack ends the leading before the lease does.
func (d *desk) giveBack(ctx context.Context) {
	if !d.leads {
		return
	}
	d.leads = false
	if _, _, err := d.lease.ask(ctx, 0, span{}); err != nil { // it ends by itself
		d.rare.warn("lease", "the lease of who turns events into purges could not be given back", "error", err.Error())
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
