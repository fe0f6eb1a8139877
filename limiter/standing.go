package limiter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrNoLimit says that no limit in use has the name.
var ErrNoLimit = errors.New("limiter: there is no limit of this name")

// Summary is a limit in use.
type Summary struct {
	Spec
	Clients  int64 // that this process knows of at this moment
	Overflow int64 // requests that were counted in common, since the start
}

// Standing is where a client of a limit stands.
type Standing struct {
	Key       string
	Limit     int64         // tokens that a client can have at the most at once
	Remaining int64         // as Redis has it, less what replicas have leased; without Redis as this process has it
	Reset     time.Duration // until all of the limit is there again; 0 = it is
	// Of this process alone.
	Leased  int64         // tokens that it has taken ahead
	Refused time.Duration // for so long it refuses without asking
}

// Summaries are the limits in use, in their order.
func (l *Limiter) Summaries() []Summary {
	list := make([]Summary, 0, len(l.Current().all))
	for _, m := range l.Current().all {
		list = append(list, Summary{m.spec, m.table.clients.Load(), m.table.overflow.Load()})
	}
	return list
}

// Standing looks a client up and counts nothing. key is one as Busy and Standing have it, or an address, where the limit's key is the client
// alone.
func (l *Limiter) Standing(ctx context.Context, name, key string) (*Standing, error) {
	m := l.Current().find(name)
	if m == nil {
		return nil, ErrNoLimit
	}
	told := &Standing{Key: m.keyOf(key), Limit: m.burst, Remaining: m.burst}
	now := l.now()
	s, e := m.table.find(told.Key)
	if e != nil {
		if now < e.ends {
			told.Leased = e.tokens
		}
		told.Refused = time.Duration(max(0, e.refusedUntil-now)) * time.Microsecond
		if l.shared == nil {
			own := e.own
			a := m.take(&own, now/m.tick, question{})
			told.Remaining, told.Reset = a.left, m.duration(a.reset)
		}
	}
	s.mu.Unlock()
	if l.shared == nil {
		return told, nil
	}
	asked := []inquiry{{limit: m, key: m.redisKey(told.Key)}}
	l.shared.send(ctx, asked)
	if err := asked[0].err; err != nil {
		return nil, fmt.Errorf("limiter: asking for %s: %w", name, err)
	}
	told.Remaining, told.Reset = asked[0].answer.left, m.duration(asked[0].answer.reset)
	return told, nil
}

func (m *measure) duration(ticks int64) time.Duration {
	return time.Duration(ticks*m.tick) * time.Microsecond
}

// Reset gives a client all of its limit again, on all replicas: what is counted in Redis goes first, then each replica is told to forget what
// it knows, what it has leased and refused. It returns how many have been told, 1 without Redis; in a Cluster it is those of one node, and at
// least 1. A replica that is not connected at that moment forgets the refusals that it remembers as soon as it is.
func (l *Limiter) Reset(ctx context.Context, name, key string) (replicas int64, err error) {
	m := l.Current().find(name)
	if m == nil {
		return 0, ErrNoLimit
	}
	key = m.keyOf(key)
	defer m.forget(key)
	if l.shared == nil {
		return 1, nil
	}
	if err := l.shared.client.Unlink(ctx, m.redisKey(key)).Err(); err != nil {
		return 0, fmt.Errorf("limiter: resetting a client of %s: %w", name, err)
	}
	text, _ := json.Marshal([2]string{name, key}) // strings: cannot fail
	replicas, err = l.shared.client.Publish(ctx, l.shared.channel(), text).Result()
	if err != nil {
		return 0, fmt.Errorf("limiter: telling the replicas of a reset: %w", err)
	}
	return max(1, replicas), nil
}

// forget forgets what this process knows of a client.
func (m *limit) forget(key string) {
	s, e := m.table.find(key)
	if e != nil {
		e.forget()
	}
	s.mu.Unlock()
}

// channel is where resets are published.
func (s *shared) channel() string { return s.prefix + ":limits" }

// listen hears of resets until the Limiter is closed.
func (s *shared) listen() {
	s.mu.Lock()
	if s.deaf {
		s.mu.Unlock()
		return
	}
	s.heard = s.client.Subscribe(s.ending, s.channel())
	s.mu.Unlock()
	first := true
	for message := range s.heard.ChannelWithSubscriptions() {
		switch m := message.(type) {
		case *redis.Subscription:
			if !first {
				s.limiter.doubt() // what was published meanwhile is lost
			}
			first = false
		case *redis.Message:
			s.hear(m.Payload)
		}
	}
}

func (s *shared) stopListening() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = true
	if s.heard != nil {
		_ = s.heard.Close() // nobody hears what it says
	}
}

func (s *shared) hear(text string) {
	var named [2]string
	if json.NewDecoder(strings.NewReader(text)).Decode(&named) != nil {
		return
	}
	if m := s.limiter.Current().find(named[0]); m != nil {
		m.forget(named[1])
	}
}

// doubt forgets all refusals, and gives up what is leased: a client may have been reset without this process knowing.
func (l *Limiter) doubt() {
	for _, m := range l.Current().all {
		for i := range m.table.shards {
			s := &m.table.shards[i]
			s.mu.Lock()
			for _, e := range s.held {
				e.refusedUntil, e.retry, e.stale = 0, 0, 0
			}
			s.mu.Unlock()
		}
	}
}
