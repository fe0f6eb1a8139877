// Package breaker knows whether a Redis answers, and what its errors mean.
//
// A Breaker stands between requests and one Redis: after some failures in a row nothing is asked any more, so that no request waits for
// what will not come, until a probe of the breaker's own was answered. Classify tells a Redis that is not there from one that is there
// and says no, which is no reason to stop asking.
package breaker

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"cacheproxy/metrics"
)

// Options say when to stop asking a Redis that does not answer, and for how long.
type Options struct {
	// Failures is the number of failures in a row after which Redis is no longer asked. Default 5. Lower means less waiting
	// when it dies, and more needless misses when single packets are lost.
	Failures int
	// Cooldown is how long it is left alone before a probe asks whether it is back. Default 1 s; up to a quarter more or
	// less is added at random, so that the replicas do not all ask at once.
	Cooldown time.Duration
}

// A Breaker remembers whether Redis answers. Closed, it lets everything through and counts failures in a row. Open, it lets
// nothing through; a goroutine of its own probes after each cooldown, so that no request is spent on finding out, and the
// first answer closes it.
type Breaker struct {
	target  string
	options Options
	probe   func(context.Context) error // nil error: Redis answers
	metrics *metrics.Metrics
	log     *slog.Logger

	isOpen   atomic.Bool
	closedAt atomic.Pointer[time.Time] // when Redis was last found to answer again; nil = it was never open

	mu       sync.Mutex
	failures int           // in a row, while closed
	closed   chan struct{} // closed while the breaker is
	stopped  bool

	stop  context.Context // ends the probing
	end   context.CancelFunc
	tasks sync.WaitGroup
}

// States as cacheproxy_breaker_state has them.
const (
	Closed   = 0
	HalfOpen = 1
	Open     = 2
)

// New makes a breaker that is closed. target is the label of its metric; probe asks Redis something, and returns nil where it answers.
func New(target string, options Options, probe func(context.Context) error, m *metrics.Metrics, log *slog.Logger) *Breaker {
	options.Failures = cmp.Or(options.Failures, 5)
	options.Cooldown = cmp.Or(options.Cooldown, time.Second)
	b := &Breaker{target: target, options: options, probe: probe, metrics: m, log: log, closed: make(chan struct{})}
	close(b.closed)
	b.stop, b.end = context.WithCancel(context.Background())
	m.BreakerState(b.target, Closed)
	return b
}

// Allow reports whether Redis may be asked.
func (b *Breaker) Allow() bool { return !b.isOpen.Load() }

// ClosedAt is when Redis was last found to answer again; the zero Time if the breaker was never open.
func (b *Breaker) ClosedAt() time.Time {
	if at := b.closedAt.Load(); at != nil {
		return *at // with its monotonic reading: a clock that is set changes nothing
	}
	return time.Time{}
}

// WhenClosed returns a channel that is closed as soon as Redis may be asked again; it is closed already where it may be now.
func (b *Breaker) WhenClosed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Success notes that Redis answered something that was asked while the breaker was closed.
func (b *Breaker) Success() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = 0
}

// Failure notes that Redis did not answer, and opens the breaker when that was one too many. Failures of what was asked
// before it opened do not count again.
func (b *Breaker) Failure(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	if b.failures < b.options.Failures || b.isOpen.Load() || b.stopped {
		return
	}
	b.isOpen.Store(true)
	b.closed = make(chan struct{})
	b.metrics.BreakerState(b.target, Open)
	b.log.Warn("redis does not answer; going on without it", "for", b.target, "failures", b.failures, "error", err)
	b.tasks.Go(b.recover)
}

// recover probes until Redis answers or the breaker is stopped.
func (b *Breaker) recover() {
	opened := time.Now()
	for {
		cooldown := time.Duration(float64(b.options.Cooldown) * (0.75 + rand.Float64()/2))
		select {
		case <-time.After(cooldown):
		case <-b.stop.Done():
			return
		}
		b.metrics.BreakerState(b.target, HalfOpen)
		err := b.probe(b.stop)
		if err == nil {
			break
		}
		b.metrics.BreakerState(b.target, Open)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = 0
	now := time.Now()
	b.closedAt.Store(&now)
	b.isOpen.Store(false)
	close(b.closed)
	b.metrics.BreakerState(b.target, Closed)
	b.log.Info("redis answers again", "for", b.target, "after", time.Since(opened).Round(time.Millisecond).String())
}

// Close ends the probing and waits for it. The breaker stays as it is.
func (b *Breaker) Close() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.end()
	b.tasks.Wait()
}
