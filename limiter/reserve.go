package limiter

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Set is the limits that one kind of request is held to, all of them.
type Set struct {
	limiter *Limiter
	limits  []*limit
	byHost  bool
	dynamic bool // what a request costs depends on how it is answered
}

// Select returns the limits of these names, in their order.
func (ls *Limits) Select(names ...string) (*Set, error) {
	s := &Set{limiter: ls.limiter}
	for _, name := range names {
		one := ls.find(name)
		if one == nil {
			return nil, fmt.Errorf("limiter: there is no limit %q", name)
		}
		s.limits = append(s.limits, one)
	}
	return s, s.fits()
}

// All returns the set of all limits.
func (ls *Limits) All() (*Set, error) {
	s := &Set{limiter: ls.limiter, limits: ls.all}
	return s, s.fits()
}

// fits is what is left to do when the limits are known.
func (s *Set) fits() error {
	for _, m := range s.limits {
		s.dynamic = s.dynamic || m.dynamic
		s.byHost = s.byHost || slices.ContainsFunc(m.parts, func(p part) bool { return p.kind == byHost })
	}
	if len(s.limits) > MaxLimits {
		return fmt.Errorf("limiter: %d limits for one request: %d are the most", len(s.limits), MaxLimits)
	}
	return nil
}

// ByHost reports whether a limit of the set tells hosts apart, so that Asker.Host is of use.
func (s *Set) ByHost() bool { return s.byHost }

// Reservation is what the limits say of a request, and what it has taken. It is used by one goroutine, and may be reused for another request.
type Reservation struct {
	claims [MaxLimits]claim
	n      int
	// refuser is the claim that refuses; -1 = none does.
	refuser int
	settled bool
	waited  time.Duration
}

// maxKey is for what a key has room for without the heap.
const maxKey = 256

// Reserve takes what the request may cost from each limit of the set, or nothing: then r says which limit refuses, and until when. The
// request waits for Redis no longer than Options.Timeout, and mostly not at all. Settle has to be called for what was not refused.
func (s *Set) Reserve(ctx context.Context, a *Asker, r *Reservation) {
	r.begin(s)
	now := s.limiter.now()
	var buffer [maxKey]byte
	ask := false
	for i := range r.n {
		c := &r.claims[i]
		c.weight = c.limit.price.weight(a.Request.Method)
		c.cost = c.limit.price.times(c.weight)
		key := c.limit.appendKey(buffer[:0], a)
		if c.limit.exempts(a, key) {
			c.verdict = exempted
			continue
		}
		c.shard, c.entry = c.limit.table.at(c.limit, key, now)
		c.entry.asked++
		c.resets = c.entry.resets
		c.entry.decide(c, now, c.limit.answers(c.entry))
		if c.verdict == undecided {
			c.using = true
			c.entry.users++
		}
		c.shard.mu.Unlock()
		ask = ask || c.verdict == undecided
		if r.refuses(i) {
			ask = false
			break
		}
	}
	if ask {
		r.ask(ctx, s.limiter)
	}
	for i := range r.n {
		r.refuses(i)
	}
	r.end(s.limiter)
}

func (r *Reservation) begin(s *Set) {
	r.n, r.refuser, r.settled, r.waited = len(s.limits), -1, false, 0
	for i, m := range s.limits {
		r.claims[i] = claim{limit: m}
	}
}

// refuses reports whether a claim refuses the request, and notes the one whose refusal lasts longest.
func (r *Reservation) refuses(i int) bool {
	c := &r.claims[i]
	if c.verdict != denied && c.verdict != unavailable || c.limit.spec.Shadow {
		return false
	}
	if r.refuser < 0 || c.retry > r.claims[r.refuser].retry {
		r.refuser = i
	}
	return true
}

// end counts what was decided, and gives back what was taken where another limit refuses.
func (r *Reservation) end(l *Limiter) {
	r.release()
	for i := range r.n {
		c := &r.claims[i]
		c.limit.counts.decided(c)
		if r.refuser >= 0 {
			c.giveBack(c.cost, l)
		}
	}
}

// Settle says how the request was answered, so that a limit whose Cost depends on it gets back what was taken in excess. It is called once;
// where nothing depends on it, it does nothing.
func (r *Reservation) Settle(o Outcome) {
	if r.settled || r.refuser >= 0 {
		return
	}
	r.settled = true
	for i := range r.n {
		if c := &r.claims[i]; c.limit.dynamic {
			c.giveBack(c.cost-c.limit.price.of(c.weight, o), c.limit.limiter)
		}
	}
}

func (c *claim) giveBack(tokens int64, l *Limiter) {
	if c.verdict != admitted || c.free || tokens <= 0 {
		return
	}
	c.shard.mu.Lock()
	c.entry.refund(c, tokens, l.now())
	c.shard.mu.Unlock()
	c.left += tokens
}

// Refused reports whether the request must not go on.
func (r *Reservation) Refused() bool { return r.refuser >= 0 }

// Unavailable reports whether it is refused because Redis does not answer, and the limit is closed then.
func (r *Reservation) Unavailable() bool {
	return r.refuser >= 0 && r.claims[r.refuser].verdict == unavailable
}

// Status is that of a refusal.
func (r *Reservation) Status() int {
	if r.Unavailable() {
		return 503
	}
	return r.claims[r.refuser].limit.status
}

// Limit is the name of the limit that refuses; "" for none.
func (r *Reservation) Limit() string {
	if r.refuser < 0 {
		return ""
	}
	return r.claims[r.refuser].limit.spec.Name
}

// RetryAfter is when the same request will be admitted, if the client does not ask before that.
func (r *Reservation) RetryAfter() time.Duration {
	if r.refuser < 0 {
		return 0
	}
	return time.Duration(r.claims[r.refuser].retry) * time.Microsecond
}

// Waited is how long the request has waited for Redis.
func (r *Reservation) Waited() time.Duration { return r.waited }
