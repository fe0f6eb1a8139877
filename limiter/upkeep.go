package limiter

import (
	"context"
	"time"
)

// The upkeep looks at each entry about once a second: it gives back what is leased and was not used for a second, tells Redis what is owed,
// removes who has all of the limit again, and collects who asks most.

const (
	tendEvery = 125 * time.Millisecond // an eighth of the shards each time
	turn      = shards / 8
	dueAtOnce = 64 // questions in one round trip
)

// tend runs until the Limiter is closed.
func (l *Limiter) tend() {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for first := 0; ; first = (first + turn) % shards {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
		}
		for _, m := range l.Current().all {
			l.tendShards(m, first)
		}
	}
}

func (l *Limiter) tendShards(m *limit, first int) {
	var due []inquiry
	for i := first; i < first+turn; i++ {
		due = m.tendShard(&m.table.shards[i], l.now(), due)
	}
	if l.shared == nil {
		m.busy.keep()
		return
	}
	ctx, cancel := context.WithTimeout(l.shared.ending, time.Second)
	defer cancel()
	l.shared.settle(ctx, due)
	if first+turn == shards {
		l.shared.tellBusy(ctx, m)
	}
}

// tendShard removes what has ended, and adds to due what is to be told to Redis.
func (m *limit) tendShard(s *shard, now int64, due []inquiry) []inquiry {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, e := range s.held {
		m.busy.add(e)
		idle := e.tokens > 0 && e.round == nil && now-e.used >= m.life
		if (idle || e.owed > 0 || e.back > 0) && m.answers(e) {
			due = m.dueOf(s, e, now, due)
		}
		if e.over(m, now) {
			m.table.remove(s, key)
		}
	}
	return due
}

// dueOf takes from an entry what is to be told, tokens that are leased among it.
func (m *limit) dueOf(s *shard, e *entry, now int64, due []inquiry) []inquiry {
	q := e.question(m, 0, now)
	e.size /= 2
	if q.need, q.most = 0, 0; q.owed == 0 && q.back == 0 {
		return due
	}
	return append(due, inquiry{limit: m, key: m.redisKey(e.key), question: q, shard: s, entry: e, resets: e.resets})
}

// settle tells Redis what is due. What is to be given back is told once: what came of a question without an answer is not known, and to count
// less than was admitted would be worse than more.
func (s *shared) settle(ctx context.Context, due []inquiry) {
	for len(due) > 0 && ctx.Err() == nil && s.breaker.Allow() {
		n := min(len(due), dueAtOnce)
		sent := s.limiter.now()
		limited, cancel := context.WithTimeout(ctx, s.limiter.opt.Timeout)
		s.exchange(limited, due[:n])
		cancel()
		for i := range due[:n] {
			due[i].settled(sent, s.limiter.now())
		}
		due = due[n:]
	}
	for i := range due {
		due[i].unsent()
	}
}

// unsent gives an entry back what it was to tell, for another time.
func (q *inquiry) unsent() {
	q.shard.mu.Lock()
	defer q.shard.mu.Unlock()
	e := q.entry
	if e.resets != q.resets {
		return
	}
	e.owed += q.question.owed
	if e.back == 0 || e.backTag == q.question.backTag {
		e.back, e.backTag = e.back+q.question.back, q.question.backTag
	}
}

// settled takes over what Redis has said to what was due.
func (q *inquiry) settled(sent, now int64) {
	q.shard.mu.Lock()
	defer q.shard.mu.Unlock()
	switch e := q.entry; {
	case q.err != nil:
		q.owe()
	case e.resets == q.resets && (q.answer.tag >= e.tag || q.limit.algorithm != Fixed):
		e.learn(q.limit, &q.question, &q.answer, sent, now)
	}
}

// surrender gives back what is leased of a limit that is not used any more, at once and for as long as requests under way may still give it
// back tokens: those that take longer than a minute do so in vain.
func (l *Limiter) surrender(m *limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shared == nil || l.closed {
		return
	}
	l.work.Go(func() {
		for range 60 {
			ctx, cancel := context.WithTimeout(l.shared.ending, time.Second)
			l.giveBack(ctx, m)
			cancel()
			select {
			case <-l.stop:
				return
			case <-time.After(time.Second):
			}
		}
	})
}

// giveBack gives back all that is leased of a limit, and tells what is owed.
func (l *Limiter) giveBack(ctx context.Context, m *limit) {
	var due []inquiry
	for i := range m.table.shards {
		s := &m.table.shards[i]
		s.mu.Lock()
		for _, e := range s.held {
			m.busy.add(e)
			if e.round == nil && (e.tokens > 0 || e.owed > 0 || e.back > 0) {
				due = m.dueOf(s, e, l.now(), due)
			}
		}
		s.mu.Unlock()
	}
	l.shared.settle(ctx, due)
}
