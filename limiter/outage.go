package limiter

import "time"

// While Redis does not answer, each limit does what its on_outage says. What is admitted meanwhile is owed: it is counted in Redis when that
// answers again, together with the client's next question, or a second later without one. Clients come back to Redis one after the other,
// spread over a second, so that the first thing that a Redis meets after its failure is not all of them at once.

// comeback is the time over which clients come back to Redis.
const comeback = time.Second

// closedRetry is after what time a request that a closed limit has refused may be tried again: the breaker asks Redis about so often.
const closedRetry = time.Second

// answers reports whether Redis is to be asked for an entry.
func (m *limit) answers(e *entry) bool {
	s := m.limiter.shared
	if s == nil || !s.breaker.Allow() {
		return false
	}
	since := s.breaker.ClosedAt()
	if since.IsZero() || m.outage() == Closed || m.outage() == Open {
		return true
	}
	elapsed := time.Since(since)
	return elapsed >= comeback || float64(e.spread) < float64(elapsed)/float64(comeback)*(1<<32)
}

// outage decides without Redis. The shard is locked.
func (e *entry) outage(c *claim, now int64) {
	m := c.limit
	switch m.outage() {
	case Open:
		c.settleAs(admitted, fromOutage)
		c.left, c.retry, c.reset, c.free = m.burst, 0, 0, true
	case Closed:
		c.settleAs(unavailable, fromOutage)
		c.retry = closedRetry.Microseconds()
	case Divided:
		share := m.measure
		share.limit, share.burst = m.divided(m.limit, c.cost), m.divided(m.burst, c.cost)
		e.owing(c, &share, now)
	default:
		e.owing(c, &m.measure, now)
	}
}

// divided is this process's share of n, which has room for one request at least.
func (m *limit) divided(n, cost int64) int64 {
	replicas := int64(1)
	if count := m.limiter.opt.Replicas; count != nil {
		replicas = max(1, int64(count()))
	}
	return max(n/replicas, cost)
}

// owing admits as much as by has room for beside what this process has admitted, and notes what is to be told.
func (e *entry) owing(c *claim, by *measure, now int64) {
	e.hereBy(c, by, now, fromOutage)
	if c.verdict != admitted {
		return
	}
	if now >= e.owedUntil {
		e.owed = 0
	}
	e.owed += c.cost
	e.owedUntil = by.ends(&e.own) * by.tick
}
