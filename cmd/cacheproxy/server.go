package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/admin"
	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/metrics"
	"cacheproxy/wire"
)

// server is a running proxy: its listeners, and the parts behind them. It is started by newServer and run, and ended by drain.
type server struct {
	parts
	current  atomic.Pointer[snapshot]
	draining atomic.Bool           // /readyz fails
	redis    redis.UniversalClient // nil without Redis
	state    redis.UniversalClient // for what must not be evicted; redis itself, unless redis.state_url names another
	purges   redis.UniversalClient // the log of purges, in the same; nil without Redis
	counts   redis.UniversalClient // for limits, in the same; nil without Redis
	fleet    fleetWatch
	events   eventing

	public, operator *http.Server // operator is nil without admin.listen
	gate             *wire.Gate
	listeners        []net.Listener
	certificates     []*wire.Certificates
	operatorListener net.Listener

	load      func() (*config.Loaded, error) // reads the configuration again, from where the first was read
	reloading sync.Mutex
	left      bool // nothing is reloaded any more

	failed  chan error // a listener that ended by itself
	work    sync.WaitGroup
	ending  context.Context // ends when drain does
	end     context.CancelFunc
	leaving retirement
}

// newServer builds all parts and opens all listeners, so that every address that is taken is known before anything is served. load reads
// the configuration again for each reload.
func newServer(loaded *config.Loaded, load func() (*config.Loaded, error), log *slog.Logger) (*server, error) {
	c := loaded.Config
	s := &server{parts: parts{log: log, metrics: metrics.New()}, load: load, failed: make(chan error, len(c.Listen)+1)}
	s.leaving.cut = make(chan struct{})
	s.health = &healths{changed: s.upstreamChanged}
	if c.Admin.Listen != "" {
		s.feed = admin.NewFeed()
	}
	s.ending, s.end = context.WithCancel(context.Background())
	if err := s.openStore(c); err != nil {
		return nil, errors.Join(err, s.closeStore(context.Background()))
	}
	first, err := build(loaded, 1, s.parts)
	if err != nil {
		return nil, errors.Join(err, s.closeStore(context.Background()))
	}
	s.events.rules = loaded.Events
	s.current.Store(first)
	s.limiter.Adopt(first.limits)
	s.metrics.Generation(first.generation)
	s.public = publicServer(c, http.HandlerFunc(s.serve), log)
	if err := s.listen(c); err != nil {
		s.closeListeners()
		return nil, errors.Join(err, first.close(context.Background()), s.closeStore(context.Background()))
	}
	return s, nil
}

// run begins to serve, and says on the log what is served where. A listener that fails is reported on failed.
func (s *server) run() {
	c := s.current.Load().config
	s.awaitFollower()
	for _, l := range s.listeners {
		s.log.Info("listening", "address", address(l), "upstream", upstreamName(c))
		s.start(s.public, l)
	}
	if s.operator != nil {
		s.log.Info("listening for operators", "address", address(s.operatorListener), "paths", "/livez /readyz /metrics /v1/version")
		s.start(s.operator, s.operatorListener)
	}
	s.listenToEvents()
	s.work.Go(s.watchFleet)
	for _, certs := range s.certificates {
		s.work.Go(func() { certs.Watch(s.ending, watchPause) })
	}
	if c.Redis.StateURL != "" {
		s.work.Go(func() {
			s.askRedis(asked{"the Redis for state", "redis.state_url", c.Redis.StateURL, s.state, "serving without it", stateHint})
		})
	}
	if s.redis == nil {
		s.log.Info("no Redis is configured: responses are kept in near memory alone, which ends with this process",
			"near", c.Near.Size.String(), "hint", "redis.url")
		return
	}
	s.work.Go(func() {
		s.askRedis(asked{"Redis", "redis.url", c.Redis.URL, s.redis, "serving from near memory until it does", storeHint})
	})
}

func (s *server) start(h *http.Server, l net.Listener) {
	s.work.Go(func() {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("%s: %w", address(l), err)
		}
	})
}

// drain ends the server, which already says on the operator's listener that it is not ready: for delay everything is still
// served, then nothing new is accepted, connections that would last are told (proxy.Handler.Leave), and what is in flight has until
// timeout to end. What is left then is cut.
func (s *server) drain(ctx context.Context, delay, timeout time.Duration) error {
	sleep(ctx, delay)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s.leave()
	if err := s.public.Shutdown(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) { // else a second signal, which its receiver tells of
			s.log.Warn("requests were cut: they had not ended in time", "timeout", timeout.String(), "hint", "drain.timeout")
		}
		s.public.Close()
	}
	s.leaving.retire(s.current.Load(), s.log)
	s.leaving.wait(ctx)
	err := s.closeStore(ctx)
	if s.operator != nil {
		s.feed.Close() // those who follow see the last requests
		s.operator.Close()
	}
	s.end()
	s.work.Wait()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// leave lets no configuration take the place of the one in use any more, and tells connections that would last.
func (s *server) leave() {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.left = true
	s.leaving.tell()
	s.current.Load().proxy.Leave()
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
