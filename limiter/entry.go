package limiter

import "time"

// entry is what this process knows of one client of one limit. All of it is guarded by the lock of its shard. Times are in microseconds as
// Limiter.now has them, but for tags.
type entry struct {
	key    string
	spread uint32 // of the key, evenly over all

	// own is what this process has admitted, whoever decided. It is the count itself without Redis, and while Redis does not answer.
	own state

	// What Redis has said last, and when.
	tag   int64 // the window; 0 = nothing is known
	left  int64 // tokens, those of leases not among them
	reset int64 // when all of the limit is there again

	// Redis refuses until then what costs so much; 0 = nothing is known. retry is when it said that it will admit: the same, but for what is
	// looked at again before.
	refusedUntil, refusedCost, retry int64
	rechecked                        int64 // until then it need not be asked again after a refusal: it was

	// tokens are leased: counted in Redis and not used yet. They are good until ends, and are renewed when used after stale. size is how many
	// are asked for the next time.
	tokens, ends, stale, size int64
	used                      int64 // when a token was used last

	owed      int64 // admitted without Redis's knowledge, while it did not answer, and to be told
	owedUntil int64 // when that is nobody's concern any more
	back      int64 // to be given back, of the window
	backTag   int64

	resets uint32 // how often its counts were reset: what was asked before says nothing after
	round  *round // a question under way, for a lease
	need   int64  // tokens that wait for it
	users  int    // requests that are not decided

	asked, refused uint32 // requests, since those that are busiest were told
}

// round is a question to Redis that others wait for.
type round struct {
	done   chan struct{} // closed when the entry has what came of it
	failed bool          // Redis did not answer; written before done is closed
}

const (
	leaseShare = 20          // a lease is at the most this part of the limit
	leaseLife  = time.Second // of what is not used, and of what Redis has said
	recheck    = 5 * time.Second / 2
	refundable = time.Second // a refusal is believed for so long where tokens may be given back
)

// over reports whether nothing is lost with the entry.
func (e *entry) over(m *limit, now int64) bool {
	return e.users == 0 && now >= e.reset && now >= e.refusedUntil && (e.tokens == 0 || now >= e.ends) && (e.owed == 0 || now >= e.owedUntil) && e.back == 0 &&
		now/m.tick >= m.ends(&e.own)
}

// decide says what is known of a request without asking; what it returns as undecided has to be asked. The shard is locked.
func (e *entry) decide(c *claim, now int64, answers bool) {
	m := c.limit
	switch {
	case m.limiter.shared == nil:
		e.hereBy(c, &m.measure, now, fromHere)
	case (now < e.refusedUntil || !answers && now < e.retry) && c.cost >= e.refusedCost: // nobody can look again in an outage
		c.settleAs(denied, fromRefusal)
		c.left, c.retry, c.reset = min(e.left, c.cost-1), e.retry-now, e.reset-now
	case e.tokens >= c.cost && now < e.ends && (now < e.stale || !answers):
		e.spend(c, now, fromLease)
	case !answers:
		e.outage(c, now)
	}
}

// hereBy decides by what this process has counted itself.
func (e *entry) hereBy(c *claim, m *measure, now int64, by source) {
	a := m.take(&e.own, now/m.tick, question{cost: c.cost, most: c.cost})
	c.tag, c.left, c.retry, c.reset = a.tag, a.left, a.retry*m.tick, a.reset*m.tick
	c.ownTag = e.own.mark
	if a.granted >= c.cost {
		c.settleAs(admitted, by)
	} else {
		c.settleAs(denied, by)
	}
}

// spend uses tokens that are leased.
func (e *entry) spend(c *claim, now int64, by source) {
	e.tokens -= c.cost
	e.used = now
	c.tag, c.left, c.reset = e.tag, e.left+e.tokens, max(0, e.reset-now)
	c.settleAs(admitted, by)
	e.note(c, now)
}

// note counts what was admitted by another count than the entry's own.
func (e *entry) note(c *claim, now int64) {
	c.limit.charge(&e.own, now/c.limit.tick, c.cost)
	c.ownTag = e.own.mark
}

// learn takes over what Redis has answered to a question sent at that time. The shard is locked.
func (e *entry) learn(m *limit, q *question, a *answer, sent, now int64) {
	reset := sent + a.reset*m.tick
	if m.algorithm == Fixed && a.tag != e.tag {
		e.tokens, e.refusedUntil, e.retry = 0, 0, 0 // of another window
		e.follow(m, reset, now)
	}
	e.tag, e.left, e.reset = a.tag, a.left, reset
	if a.granted > 0 {
		e.tokens += a.granted
		e.stale, e.ends = sent+m.life, sent+m.life
		if m.algorithm == Fixed {
			e.ends = reset - m.tick // Redis tells its time to the millisecond, so the window may end up to one earlier
		}
		e.refusedUntil, e.retry = 0, 0
		if a.granted >= q.most {
			e.size = min(m.lease, max(2*e.size, 2)) // it was used up: more the next time
		}
		return
	}
	if q.cost == 0 {
		return
	}
	e.refusedCost = q.cost
	e.retry = sent + a.retry*m.tick
	e.refusedUntil = e.retry
	switch {
	case m.dynamic:
		e.refusedUntil = min(e.retry, now+refundable.Microseconds())
	case now >= e.rechecked:
		// By then what others have leased, or have taken for requests that another limit has refused, is used or given back.
		e.refusedUntil, e.rechecked = min(e.retry, now+recheck.Microseconds()), e.retry
	}
}

// follow has the entry's own count go by the window in Redis, which ends at reset. What was admitted in a window that has not ended, as far as
// is known here, still counts: Redis may have lost it, or not have heard of it.
func (e *entry) follow(m *limit, reset, now int64) {
	const blur = 5000 // two looks at the end of one window differ by less, in microseconds
	if now+blur >= e.own.mark*m.tick {
		e.own = state{}
	}
	if reset > now {
		e.own.mark = reset / m.tick
	}
}

// question is what is asked for a claim and for those that wait with it. What is owed and given back goes with it, once: what came of a
// question without an answer is not known. The shard is locked.
func (e *entry) question(m *limit, cost, now int64) question {
	q := question{cost: cost, need: e.need, most: max(cost+e.need, min(e.size, m.lease))}
	q.owed, q.back, q.backTag = e.dues(m, now)
	if e.tokens > 0 && (m.algorithm != Fixed || now < e.ends) && (q.back == 0 || q.backTag == e.tag) { // a lease that is renewed
		q.back, q.backTag = q.back+e.tokens, e.tag
	}
	e.tokens = 0
	return q
}

// dues takes what has to be told to Redis.
func (e *entry) dues(m *limit, now int64) (owed, back, tag int64) {
	if e.owed > 0 && now < e.owedUntil {
		owed = min(e.owed, m.held(e.own, now/m.tick)) // the rest was so long ago that it does not count any more
	}
	back, tag = e.back, e.backTag
	e.owed, e.back, e.backTag = 0, 0, 0
	return owed, back, tag
}

// refund gives tokens back that a claim took and did not need.
func (e *entry) refund(c *claim, tokens, now int64) {
	m := c.limit
	if c.resets != e.resets { // its counts were reset meanwhile, and have nothing of it
		return
	}
	m.take(&e.own, now/m.tick, question{back: tokens, backTag: c.ownTag})
	switch {
	case m.limiter.shared == nil:
	case c.by == fromOutage:
		e.owed = max(0, e.owed-tokens)
	case m.lease > 1 && m.algorithm == Fixed && c.tag == e.tag && now < e.ends:
		e.tokens += tokens
	case m.algorithm == Fixed && c.tag != e.tag: // of a window that has ended
	case e.back > 0 && e.backTag != c.tag: // rather too little than to the wrong window
		e.back, e.backTag = tokens, c.tag
	default:
		e.back, e.backTag = e.back+tokens, c.tag
	}
	if c.tag == e.tag {
		e.refusedUntil, e.retry = 0, 0 // there is room again
	}
}

// forget is for a client whose counts were reset. A question under way goes on.
func (e *entry) forget() {
	*e = entry{key: e.key, spread: e.spread, resets: e.resets + 1, round: e.round, need: e.need, users: e.users, asked: e.asked, refused: e.refused}
}
