package limiter

// The arithmetic of the three algorithms, over whole numbers. It is written twice: here, for what this process counts by itself, and in
// fixed.lua, sliding.lua and gcra.lua, for what Redis counts. Both do exactly the same (TestArithmetic), which is why this file divides
// nowhere but where a rounding is meant, and says which way.
//
//	fixed    A window begins with the first request after the last window's end. It admits limit.
//	sliding  Windows follow each other without a gap. What was admitted in the one before counts too, by the share of it that the window
//	         ending now still covers: previous * (window - elapsed) / window, rounded up.
//	gcra     A bucket of the size burst, which each request fills by its cost and which drains by limit in each window. A request that it has
//	         no room for is refused. (The generic cell rate algorithm of ITU-T I.371, in its form as a leaky bucket.)
//
// A question may be for more than one request: for those of the same client that wait as well, as far as there is room. A lease is tokens
// beyond that, so that requests that follow need not ask. None reaches into the last tenth of the limit, and each takes at the most half of
// what is left above it: they shrink as the rest falls.

// measure is how much a limit admits, in numbers.
type measure struct {
	algorithm Algorithm
	limit     int64
	window    int64 // ticks
	burst     int64 // gcra: the size of the bucket; else limit
	tick      int64 // microseconds
}

// state is what is counted of one client; its zero value is a client that has not asked. All times are in ticks.
type state struct {
	count    int64 // fixed, sliding: admitted in the window that mark names; gcra: what is in the bucket, in token-windows
	previous int64 // sliding: admitted in the window before
	mark     int64 // fixed: when the window ends; sliding: number of the window; gcra: when count was so
}

// question is what is asked of a count.
type question struct {
	cost int64 // tokens needed; 0 = none, only to look or to correct
	need int64 // tokens that others wait for: as many of them as there are
	most int64 // tokens wanted in all, where they are leased; else cost and need
	// owed has been admitted without asking, and is counted before anything else, whether there is room or not.
	owed int64
	// back is given back, as far as it was counted in the window of the tag backTag (gcra: at all).
	back, backTag int64
}

// answer is what comes of it, times in ticks from now.
type answer struct {
	granted int64 // tokens; 0 = refused, else at least the cost
	left    int64 // tokens that a request after this could have
	retry   int64 // refused: when the same would be granted, if nobody else asks meanwhile
	reset   int64 // when all of the limit is there again, if nobody asks; 0 = now
	tag     int64 // names the window in which granted is counted; 0 = there is none
}

// grant is how many tokens are given where there is room for so many.
func (m *measure) grant(q question, room int64) int64 {
	if q.cost <= 0 || q.cost > room {
		return 0
	}
	granted := q.cost + min(q.need, room-q.cost)
	kept := (m.burst + 9) / 10
	return granted + max(0, min(q.most-granted, (room-granted-kept)/2))
}

// take answers q at now, and changes s accordingly.
func (m *measure) take(s *state, now int64, q question) answer {
	switch m.algorithm {
	case Sliding:
		return m.sliding(s, now, q)
	case GCRA:
		return m.gcra(s, now, q)
	default:
		return m.fixed(s, now, q)
	}
}

func (m *measure) fixed(s *state, now int64, q question) answer {
	if now >= s.mark {
		*s = state{}
	}
	if q.backTag == s.mark {
		s.count = max(0, s.count-q.back)
	}
	s.count += q.owed
	granted := m.grant(q, m.limit-s.count)
	s.count += granted
	if s.count > 0 && s.mark == 0 {
		s.mark = now + m.window
	}
	a := answer{granted: granted, left: max(0, m.limit-s.count), tag: s.mark}
	if s.mark != 0 {
		a.reset = s.mark - now
	}
	if q.cost > granted {
		a.retry = a.reset
	}
	return a
}

func (m *measure) sliding(s *state, now int64, q question) answer {
	number, elapsed := now/m.window, now%m.window
	switch s.mark {
	case number:
	case number - 1:
		*s = state{previous: s.count, mark: number}
	default:
		*s = state{mark: number}
	}
	switch q.backTag {
	case number:
		s.count = max(0, s.count-q.back)
	case number - 1:
		s.previous = max(0, s.previous-q.back)
	}
	s.count += q.owed
	weighed := ceil(s.previous*(m.window-elapsed), m.window)
	granted := m.grant(q, m.limit-s.count-weighed)
	s.count += granted
	a := answer{granted: granted, left: max(0, m.limit-s.count-weighed), tag: number}
	switch {
	case s.count > 0:
		a.reset = 2*m.window - elapsed
	case s.previous > 0:
		a.reset = m.window - elapsed
	}
	if q.cost > granted {
		a.retry = m.slidingRetry(s, elapsed, q.cost)
	}
	return a
}

// slidingRetry is when there is room for cost: in this window, when the one before weighs little enough, or in the next, when this one does.
func (m *measure) slidingRetry(s *state, elapsed, cost int64) int64 {
	if room := m.limit - s.count - cost; room >= 0 {
		return m.window - elapsed - room*m.window/s.previous
	}
	return m.window - elapsed + m.window - (m.limit-cost)*m.window/s.count
}

func (m *measure) gcra(s *state, now int64, q question) answer {
	size := m.burst * m.window
	s.count = min(size, s.count) // a bucket that was larger before is not fuller than full
	switch gone := now - s.mark; {
	case gone > s.count/m.limit:
		s.count = 0
	case gone > 0: // else the clock was set back, and it drains from here
		s.count -= gone * m.limit
	}
	s.mark = now
	s.count = max(0, s.count-q.back*m.window)
	s.count = min(size, s.count+q.owed*m.window)
	granted := m.grant(q, (size-s.count)/m.window)
	s.count += granted * m.window
	a := answer{granted: granted, left: (size - s.count) / m.window, reset: ceil(s.count, m.limit)}
	if q.cost > granted {
		a.retry = ceil(s.count+q.cost*m.window-size, m.limit)
	}
	return a
}

// charge counts what was admitted by another count than s, whether there is room or not.
func (m *measure) charge(s *state, now, cost int64) { m.take(s, now, question{owed: cost}) }

// held is how many tokens s counts at now.
func (m *measure) held(s state, now int64) int64 { return m.burst - m.take(&s, now, question{}).left }

// ends is when s is the state of a client that has not asked, if it does not ask again.
func (m *measure) ends(s *state) int64 {
	switch m.algorithm {
	case Sliding:
		if s.count == 0 && s.previous == 0 {
			return 0
		}
		return (s.mark + 2) * m.window
	case GCRA:
		return s.mark + ceil(s.count, m.limit)
	default:
		return s.mark
	}
}

// ceil is a/b rounded up, for a that is not negative.
func ceil(a, b int64) int64 { return (a + b - 1) / b }
