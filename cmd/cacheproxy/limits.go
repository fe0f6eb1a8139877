package main

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/internal/breaker"
	"cacheproxy/limiter"
	"cacheproxy/store"
)

// One limiter counts for the process, whatever its configuration becomes: it outlives snapshots, each of which has the limits of its own.

// limitPatience is how long giving back what is leased may take at the end.
const limitPatience = time.Second

// openLimiter makes what counts for limits: in the Redis for state, or in this process where there is none. It has connections of its own, so
// that a request does not wait for a large body to be read before it is known whether it may ask at all.
func (s *server) openLimiter(c *config.Config) (err error) {
	o := limiter.Options{
		Prefix: c.Redis.Prefix, Timeout: c.Redis.Timeout.Std(), IPv6Prefix: c.Client.IPv6Prefix,
		Breaker:  breaker.Options{Failures: c.Breaker.Failures, Cooldown: c.Breaker.Cooldown.Std()},
		Replicas: s.fleet.lastLive,
		Metrics:  s.metrics, Log: s.log,
	}
	if s.state != nil {
		key, url := stateRedis(c)
		if s.counts, err = dialRedis(c, key, url, store.DialOptions{}); err != nil {
			return err
		}
		o.Redis = s.counts
	}
	s.limiter, err = limiter.New(o)
	return err
}

// closeLimiter gives back what is leased.
func (s *server) closeLimiter(ctx context.Context) {
	if s.limiter != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limitPatience)
		defer cancel()
		_ = s.limiter.Close(ctx) // what could not be given back ends with its window
	}
	closeClient(s.counts)
}

func closeClient(client redis.UniversalClient) {
	if client != nil {
		_ = client.Close() // of a client that nobody uses
	}
}
