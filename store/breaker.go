package store

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"cacheproxy/metrics"
)

// BreakerOptions say when to stop asking a Redis that does not answer, and for how long.
type BreakerOptions struct {
	// Failures is the number of failures in a row after which Redis is no longer asked. Default 5. Lower means less waiting
	// when it dies, and more needless misses when single packets are lost.
	Failures int
	// Cooldown is how long it is left alone before a probe asks whether it is back. Default 1 s; up to a quarter more or
	// less is added at random, so that the replicas do not all ask at once.
	Cooldown time.Duration
}

// A breaker remembers whether Redis answers. Closed, it lets everything through and counts failures in a row. Open, it lets
// nothing through; a goroutine of its own probes after each cooldown, so that no request is spent on finding out, and the
// first answer closes it.
type breaker struct {
	options BreakerOptions
	probe   func(context.Context) error // nil error: Redis answers
	metrics *metrics.Metrics
	log     *slog.Logger

	isOpen atomic.Bool

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
	breakerClosed   = 0
	breakerHalfOpen = 1
	breakerOpen     = 2
	breakerTarget   = "redis"
)

func newBreaker(options BreakerOptions, probe func(context.Context) error, m *metrics.Metrics, log *slog.Logger) *breaker {
	setDefault(&options.Failures, 5)
	setDefault(&options.Cooldown, time.Second)
	b := &breaker{options: options, probe: probe, metrics: m, log: log, closed: make(chan struct{})}
	close(b.closed)
	b.stop, b.end = context.WithCancel(context.Background())
	m.BreakerState(breakerTarget, breakerClosed)
	return b
}

// allow reports whether Redis may be asked.
func (b *breaker) allow() bool { return !b.isOpen.Load() }

// whenClosed returns a channel that is closed as soon as Redis may be asked again; it is closed already where it may be now.
func (b *breaker) whenClosed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// success notes that Redis answered something that was asked while the breaker was closed.
func (b *breaker) success() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = 0
}

// failure notes that Redis did not answer, and opens the breaker when that was one too many. Failures of what was asked
// before it opened do not count again.
func (b *breaker) failure(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	if b.failures < b.options.Failures || b.isOpen.Load() || b.stopped {
		return
	}
	b.isOpen.Store(true)
	b.closed = make(chan struct{})
	b.metrics.BreakerState(breakerTarget, breakerOpen)
	b.log.Warn("redis does not answer; going on without it", "failures", b.failures, "error", err)
	b.tasks.Go(b.recover)
}

// recover probes until Redis answers or the breaker is stopped.
func (b *breaker) recover() {
	opened := time.Now()
	for {
		cooldown := time.Duration(float64(b.options.Cooldown) * (0.75 + rand.Float64()/2))
		select {
		case <-time.After(cooldown):
		case <-b.stop.Done():
			return
		}
		b.metrics.BreakerState(breakerTarget, breakerHalfOpen)
		err := b.probe(b.stop)
		if err == nil {
			break
		}
		b.metrics.BreakerState(breakerTarget, breakerOpen)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = 0
	b.isOpen.Store(false)
	close(b.closed)
	b.metrics.BreakerState(breakerTarget, breakerClosed)
	b.log.Info("redis answers again", "after", time.Since(opened).Round(time.Millisecond).String())
}

// close ends the probing and waits for it. The breaker stays as it is.
func (b *breaker) close() {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	b.end()
	b.tasks.Wait()
}
