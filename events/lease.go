package events

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed lead.lua
var leadSource string

var leadScript = redis.NewScript(leadSource)

const (
	leaseTime = 2 * time.Second        // without a renewal; then another replica takes over
	beatEvery = 500 * time.Millisecond // a subscription is pinged, and the lease asked for
	overdue   = 5 * time.Second        // what nobody has vouched for is appended by whoever has it
	// passing is what a message may take from one node of a Cluster to another, where a PING does not wait for it. It is added on both sides of
	// a span.
	passing = time.Second
)

// lease is who leads, as Redis has it.
type lease struct {
	client redis.UniversalClient
	key    string
	id     string
	clock  clock
}

// span is a time by the clock of Redis, in microseconds since 1970: all after since and before until. The zero value is none.
type span struct{ since, until int64 }

// ask takes or renews the lease for d, or says who holds it and what that one vouches for.
func (l *lease) ask(ctx context.Context, d time.Duration, vouched span) (holder string, theirs span, err error) {
	ctx, cancel := context.WithTimeout(ctx, beatEvery)
	defer cancel()
	sent := time.Now()
	reply, err := leadScript.Run(ctx, l.client, []string{l.key}, l.id, d.Milliseconds(),
		strconv.FormatInt(vouched.since, 10), strconv.FormatInt(vouched.until, 10)).StringSlice()
	if err == nil && len(reply) != 4 {
		err = fmt.Errorf("an answer of another form: %q", reply)
	}
	if err != nil {
		return "", span{}, fmt.Errorf("events: asking who leads: %w", err)
	}
	var numbers [3]int64
	for i, text := range reply[1:] {
		n, bad := strconv.ParseInt(text, 10, 64)
		numbers[i], err = n, errors.Join(err, bad)
	}
	if err != nil {
		return "", span{}, fmt.Errorf("events: asking who leads: %w", err)
	}
	l.clock = clock{redis: numbers[2], sent: sent, got: time.Now()}
	return reply[0], span{numbers[0], numbers[1]}, nil
}

// clock tells what the time was by Redis when it was some time here. Redis said its time between sent and got, so there is a bound on either
// side; that both clocks run at about the same rate is all that is assumed.
type clock struct {
	redis     int64 // microseconds since 1970
	sent, got time.Time
}

func (c *clock) known() bool { return c.redis != 0 }

func (c *clock) notBefore(t time.Time) int64 { return c.redis + t.Sub(c.got).Microseconds() }
func (c *clock) notAfter(t time.Time) int64  { return c.redis + t.Sub(c.sent).Microseconds() + 1 }

// vouch is the span between two times here: nothing was lost since the one, and all was received that was published before the other.
func (c *clock) vouch(since, before time.Time) span {
	if !c.known() || before.Sub(since) <= passing {
		return span{}
	}
	return span{c.notAfter(since), c.notBefore(before.Add(-passing))}
}

// covers reports whether what was published between two times here, as far as one connection tells, was published in a span.
func (c *clock) covers(s span, after, before time.Time) bool {
	return s.until != 0 && !after.IsZero() && c.notBefore(after.Add(-passing)) >= s.since && c.notAfter(before) < s.until
}
