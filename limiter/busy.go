package limiter

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Who asks most is counted by each process, and told to Redis once a second: for each limit, the first hundred. Redis adds them up in a
// sorted set for each minute, of which it keeps the first thousand members, and forgets it after some minutes. So it costs the same whatever
// comes, and somebody who asks little on every replica may be missing.

//go:embed busy.lua
var busySource string

var busyScript = redis.NewScript(busySource)

const (
	busyTold    = 100
	busyKept    = 1000
	busyMinutes = 5 // that are looked back on, this one included
)

// Busy is a client that asks much.
type Busy struct {
	Key     string
	Asked   int64 // requests in the last minutes
	Refused int64 // of them
}

// busiest collects those who ask most of one limit.
type busiest struct {
	mu    sync.Mutex
	now   []Busy // since they were told
	lasts [busyMinutes]busyMinute
}

// busyMinute is kept where there is no Redis.
type busyMinute struct {
	minute  int64
	clients map[string]*Busy
}

// add takes what an entry has counted. Its shard is locked.
func (b *busiest) add(e *entry) {
	if e.asked == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = append(b.now, Busy{e.key, int64(e.asked), int64(e.refused)})
	e.asked, e.refused = 0, 0
	if len(b.now) >= 16*busyTold {
		b.now = first(b.now, busyTold)
	}
}

// first keeps the n that have asked most.
func first(list []Busy, n int) []Busy {
	slices.SortFunc(list, func(a, b Busy) int { return cmp.Or(cmp.Compare(b.Asked, a.Asked), cmp.Compare(a.Key, b.Key)) })
	return list[:min(n, len(list))]
}

// take empties what was collected.
func (b *busiest) take() []Busy {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := first(b.now, busyTold)
	b.now = nil
	return list
}

// keep adds what was collected to what this process knows of the minute.
func (b *busiest) keep() {
	list := b.take()
	if len(list) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	minute := time.Now().Unix() / 60
	m := &b.lasts[minute%busyMinutes]
	if m.minute != minute {
		*m = busyMinute{minute, map[string]*Busy{}}
	}
	for _, one := range list {
		known := m.clients[one.Key]
		if known == nil {
			if len(m.clients) >= busyKept {
				continue
			}
			known = &Busy{Key: one.Key}
			m.clients[one.Key] = known
		}
		known.Asked += one.Asked
		known.Refused += one.Refused
	}
}

// here adds up what this process knows of the last minutes.
func (b *busiest) here() map[string]*Busy {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]*Busy{}
	minute := time.Now().Unix() / 60
	for i := range b.lasts {
		if m := &b.lasts[i]; m.minute > minute-busyMinutes {
			for key, one := range m.clients {
				addBusy(all, key, one.Asked, one.Refused)
			}
		}
	}
	return all
}

func addBusy(all map[string]*Busy, key string, asked, refused int64) {
	one := all[key]
	if one == nil {
		one = &Busy{Key: key}
		all[key] = one
	}
	one.Asked += asked
	one.Refused += refused
}

func (m *limit) busyKeys(minute int64) (asked, refused string) {
	begin := m.limiter.opt.Prefix + ":r:{" + m.spec.Name + "}:"
	return fmt.Sprintf("%sasked:%d", begin, minute), fmt.Sprintf("%srefused:%d", begin, minute)
}

// tellBusy tells Redis who has asked most since it was told last. It is no loss if that fails.
func (s *shared) tellBusy(ctx context.Context, m *limit) {
	list := m.busy.take()
	if len(list) == 0 || !s.breaker.Allow() {
		return
	}
	asked, refused := m.busyKeys(time.Now().Unix() / 60)
	arguments := []any{busyKept, (busyMinutes * time.Minute).Milliseconds()}
	for _, one := range list {
		arguments = append(arguments, one.Key, one.Asked, strconv.FormatInt(one.Refused, 10))
	}
	_ = busyScript.Run(ctx, s.client, []string{asked, refused}, arguments...).Err()
}

// Busiest returns the clients of a limit that have asked most in the last five minutes, those first that have asked most; n of them at the
// most. Without Redis they are those of this process.
func (l *Limiter) Busiest(ctx context.Context, name string, n int) ([]Busy, error) {
	m := l.Current().find(name)
	if m == nil {
		return nil, ErrNoLimit
	}
	all := m.busy.here()
	if l.shared != nil {
		var err error
		if all, err = l.shared.busiest(ctx, m); err != nil {
			return nil, fmt.Errorf("limiter: asking who is busiest: %w", err)
		}
	}
	list := make([]Busy, 0, len(all))
	for _, one := range all {
		list = append(list, *one)
	}
	return first(list, n), nil
}

func (s *shared) busiest(ctx context.Context, m *limit) (map[string]*Busy, error) {
	pipe := s.client.Pipeline()
	var lists [2][]*redis.ZSliceCmd
	minute := time.Now().Unix() / 60
	for ago := range int64(busyMinutes) {
		asked, refused := m.busyKeys(minute - ago)
		lists[0] = append(lists[0], pipe.ZRangeWithScores(ctx, asked, 0, -1))
		lists[1] = append(lists[1], pipe.ZRangeWithScores(ctx, refused, 0, -1))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	all := map[string]*Busy{}
	for kind, list := range lists {
		for _, cmd := range list {
			for _, z := range cmd.Val() {
				key, _ := z.Member.(string)
				n := int64(z.Score)
				addBusy(all, key, n*int64(1-kind), n*int64(kind))
			}
		}
	}
	return all, nil
}
