package main

import (
	"context"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"cacheproxy/limiter"
)

const (
	limit  = 100
	window = 10 * time.Second
	burst  = 20 // of gcra
	length = time.Minute
	bin    = 500 * time.Millisecond // of what is drawn
)

// phase is a time in which a client asks evenly.
type phase struct {
	from, to time.Duration
	rate     time.Duration // requests in a second
}

// traffic asks once, so that a fixed window begins, and is silent until that is nearly over; asks much around its end; is silent; and then asks
// three times as often as it may.
var traffic = []phase{
	{1 * time.Second, 2 * time.Second, 1},
	{9 * time.Second, 13 * time.Second, 50},
	{25 * time.Second, length, 30},
}

// admissions are the limits that the traffic is held to.
var admissions = []admission{
	{limiter.Spec{Algorithm: limiter.Fixed}, traffic},
	{limiter.Spec{Algorithm: limiter.Sliding}, traffic},
	{limiter.Spec{Algorithm: limiter.GCRA, Burst: burst}, traffic},
}

// admission is a limit, and a client that asks.
type admission struct {
	spec    limiter.Spec
	traffic []phase
}

func (a *admission) name() string { return string(a.spec.Algorithm) }

// asked is a request, and what came of it.
type asked struct {
	at       time.Duration
	admitted bool
}

// curve is what a limit made of the traffic.
type curve struct {
	spec limiter.Spec
	all  []asked
	ends []time.Duration // of fixed windows
}

// clock is a clock that is set. Other goroutines of a limiter read it.
type clock struct{ now atomic.Int64 }

func (c *clock) set(at time.Duration) { c.now.Store(int64(at)) }

// Now is for limiter.Options.
func (c *clock) Now() time.Time { return time.Unix(0, c.now.Load()) }

var client = netip.MustParseAddr("192.0.2.7")

// run holds the traffic to the limit, without Redis: this process counts.
func (a *admission) run() (*curve, error) {
	c := &curve{spec: a.spec}
	c.spec.Name, c.spec.Limit, c.spec.Window = a.name(), limit, window
	var now clock
	l, err := limiter.New(limiter.Options{Limits: []limiter.Spec{c.spec}, Now: now.Now})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	defer func() { _ = l.Close(ctx) }() // nothing is kept anywhere
	set, err := l.Current().All()
	if err != nil {
		return nil, err
	}
	for _, p := range a.traffic {
		for n := range p.count() {
			at := p.from + n*time.Second/p.rate
			now.set(at)
			c.all = append(c.all, asked{at, reserve(ctx, set)})
			standing, err := l.Standing(ctx, c.spec.Name, client.String())
			if err != nil {
				return nil, err
			}
			c.end(at.Truncate(time.Millisecond) + standing.Reset) // it counts in milliseconds
		}
	}
	return c, nil
}

// count is how many requests come in a phase.
func (p *phase) count() time.Duration { return (p.to - p.from) * p.rate / time.Second }

// end notes when the window ends that a request is in.
func (c *curve) end(at time.Duration) {
	if c.spec.Algorithm == limiter.Fixed && (len(c.ends) == 0 || c.ends[len(c.ends)-1] != at) {
		c.ends = append(c.ends, at)
	}
}

var request = &http.Request{Method: http.MethodGet, Host: "shop.example"}

// reserve asks as the client does, and reports whether it is admitted.
func reserve(ctx context.Context, set *limiter.Set) bool {
	var r limiter.Reservation
	set.Reserve(ctx, &limiter.Asker{Request: request, Client: client}, &r)
	if r.Refused() {
		return false
	}
	r.Settle(limiter.Miss)
	return true
}

// between counts the requests from one time on and before another, and those of them that were admitted.
func (c *curve) between(from, to time.Duration) (all, admitted int) {
	for _, one := range c.all {
		if one.at >= from && one.at < to {
			all++
			if one.admitted {
				admitted++
			}
		}
	}
	return all, admitted
}
