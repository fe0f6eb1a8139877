package proxy

import (
	"context"
	"sync"

	"cacheproxy/invalidation"
)

// entering are the purges of unsafe requests that are being entered in the log. However many requests make one URL doubtful, one purge of it
// is under way and one waits, which serves all that come meanwhile: so nobody can make the log grow faster than it answers by asking
// again and again. The one under way does not serve them: it may have its place in the log already, and then a fetch that
// began behind it, but before the change that the request has made, would be stored.
type entering struct {
	mu   sync.Mutex
	turn map[turnKey]*turn // under way
}

// turnKey is what a purge is of.
type turnKey struct {
	kind                    invalidation.Kind
	selector, origin, group string
}

// turn is one purge.
type turn struct {
	source string
	purge  invalidation.Purge
	next   *turn            // waits for this one's end; with the lock of entering
	done   chan struct{}    // closed at its end
	seq    invalidation.Seq // of its record; 0 = none is known. Valid at the end
}

// enters returns the turn that will enter the purge; nil where too many are under way.
func (h *Handler) enters(source string, p invalidation.Purge) *turn {
	key := turnKey{p.Kind, p.Selector, p.Origin, p.Group}
	e := &h.entering
	e.mu.Lock()
	defer e.mu.Unlock()
	t := &turn{source: source, purge: p, done: make(chan struct{})}
	if now := e.turn[key]; now != nil {
		if now.next == nil {
			now.next = t
		}
		return now.next
	}
	select {
	case h.purges <- struct{}{}:
	default:
		return nil
	}
	if e.turn == nil {
		e.turn = make(map[turnKey]*turn)
	}
	e.turn[key] = t
	h.work.Go(func() {
		defer func() { <-h.purges }()
		for t != nil {
			t = h.take(key, t)
		}
	})
	return t
}

// take enters the purge of one turn, and returns the next.
func (h *Handler) take(key turnKey, t *turn) *turn {
	ctx, cancel := context.WithTimeout(context.Background(), h.opt.PurgeWait) // the client may leave; the change stays made
	defer cancel()
	if r, _ := h.enter(ctx, t.source, t.purge); r != nil { // an error is counted
		t.seq = r.Sequence
	}
	close(t.done)
	e := &h.entering
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.next == nil {
		delete(e.turn, key)
	} else {
		e.turn[key] = t.next
	}
	return t.next
}
