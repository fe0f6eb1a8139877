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

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/metrics"
	"cacheproxy/store"
)

// server is a running proxy: its listeners, and the parts behind them. It is started by newServer and run, and ended by drain.
type server struct {
	parts
	current  atomic.Pointer[snapshot]
	draining atomic.Bool           // /readyz fails
	redis    redis.UniversalClient // nil without Redis

	public, operator *http.Server // operator is nil without admin.listen
	listeners        []net.Listener
	operatorListener net.Listener

	failed chan error // a listener that ended by itself
	work   sync.WaitGroup
}

// newServer builds all parts and opens all listeners, so that every address that is taken is known before anything is served.
func newServer(loaded *config.Loaded, log *slog.Logger) (*server, error) {
	c := loaded.Config
	s := &server{parts: parts{log: log, metrics: metrics.New()}, failed: make(chan error, len(c.Listen)+1)}
	if err := s.openStore(c); err != nil {
		return nil, err
	}
	first, err := build(loaded, 1, s.parts)
	if err != nil {
		return nil, errors.Join(err, s.closeStore(context.Background()))
	}
	s.current.Store(first)
	s.public = publicServer(c, http.HandlerFunc(s.serve), log)
	if err := s.listen(c); err != nil {
		s.closeListeners()
		return nil, errors.Join(err, first.close(context.Background()), s.closeStore(context.Background()))
	}
	return s, nil
}

// serve hands a request to the snapshot of the moment.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.current.Load().front.ServeHTTP(w, r)
}

// publicServer speaks HTTP/1.1 and, to clients that begin with its preface, cleartext HTTP/2.
func publicServer(c *config.Config, handler http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: c.Server.HeaderTimeout.Std(),
		IdleTimeout:       c.Server.IdleTimeout.Std(),
		MaxHeaderBytes:    int(c.Server.MaxHeader),
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// openStore builds the store, with Redis behind it where one is configured.
func (s *server) openStore(c *config.Config) (err error) {
	if c.Redis.URL != "" {
		if s.redis, err = store.Dial(c.Redis.URL, store.DialOptions{Timeout: c.Redis.Timeout.Std()}); err != nil {
			return config.Mistakes{{Key: "redis.url", Message: err.Error()}}
		}
	}
	s.store, err = store.New(store.Options{
		NearSize: int64(c.Near.Size), NearMaxObject: int64(c.Near.MaxObject),
		Redis: s.redis, Prefix: c.Redis.Prefix, Timeout: c.Redis.Timeout.Std(),
		Breaker: store.BreakerOptions{Failures: c.Breaker.Failures, Cooldown: c.Breaker.Cooldown.Std()},
		Metrics: s.metrics, Log: s.log,
	})
	return err
}

func (s *server) closeStore(ctx context.Context) error {
	err := s.store.Close(ctx)
	if s.redis != nil {
		err = errors.Join(err, s.redis.Close())
	}
	return err
}

func (s *server) listen(c *config.Config) error {
	slots := make(chan struct{}, c.Server.MaxConnections)
	for _, l := range c.Listen {
		listener, err := listen(l.Address)
		if err != nil {
			return listenError(err, "listen", "--listen")
		}
		s.listeners = append(s.listeners, newBounded(listener, slots))
	}
	if c.Admin.Listen == "" {
		return nil
	}
	listener, err := listen(c.Admin.Listen)
	if err != nil {
		return listenError(err, "admin.listen", "--admin")
	}
	s.operatorListener = listener
	s.operator, err = s.operatorServer(c)
	return err
}

func (s *server) closeListeners() {
	for _, l := range s.listeners {
		l.Close()
	}
	if s.operatorListener != nil {
		s.operatorListener.Close()
	}
}

// run begins to serve, and says on the log what is served where. A listener that fails is reported on failed.
func (s *server) run() {
	c := s.current.Load().config
	for _, l := range s.listeners {
		s.log.Info("listening", "address", address(l), "upstream", upstreamName(c))
		s.start(s.public, l)
	}
	if s.operator != nil {
		s.log.Info("listening for operators", "address", address(s.operatorListener), "paths", "/livez /readyz /metrics /v1/version")
		s.start(s.operator, s.operatorListener)
	}
	if s.redis == nil {
		s.log.Info("no Redis is configured: responses are kept in near memory alone, which ends with this process",
			"near", c.Near.Size.String(), "hint", "redis.url")
		return
	}
	s.work.Go(s.askRedis)
}

func (s *server) start(h *http.Server, l net.Listener) {
	s.work.Go(func() {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("%s: %w", address(l), err)
		}
	})
}

// askRedis says once whether Redis answers. It is no condition for serving: the store goes on without, and uses it when it is
// there.
func (s *server) askRedis() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	target := "?"
	if t, err := store.ParseURL(s.current.Load().config.Redis.URL); err == nil {
		target = t.String()
	}
	if err := s.redis.Ping(ctx).Err(); err != nil {
		s.log.Warn("Redis does not answer: serving from near memory until it does", "redis", target, "error", err.Error(), "hint", "redis.url")
		return
	}
	s.log.Info("Redis answers", "redis", target)
}

// drain ends the server, which already says on the operator's listener that it is not ready: for delay everything is still
// served, then nothing new is accepted and what is in flight has until timeout to end. What is left then is cut.
func (s *server) drain(ctx context.Context, delay, timeout time.Duration) error {
	sleep(ctx, delay)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.public.Shutdown(ctx); err != nil {
		s.log.Warn("requests were cut: they had not ended in time", "timeout", timeout.String(), "hint", "drain.timeout")
		s.public.Close()
	}
	err := errors.Join(s.current.Load().close(ctx), s.closeStore(ctx))
	if s.operator != nil {
		s.operator.Close()
	}
	s.work.Wait()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func address(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return l.Addr().String()
}

func upstreamName(c *config.Config) string {
	if text, _, ok := c.Named(c.Upstream); ok {
		return text
	}
	return "of each site"
}
