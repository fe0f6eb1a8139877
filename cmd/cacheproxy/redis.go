package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/internal/breaker"
	"cacheproxy/store"
)

// openStore connects to nothing yet: it makes the clients of Redis where one is configured, starts to follow the log of purges, and builds
// the store. What was opened when it fails is for closeStore.
func (s *server) openStore(c *config.Config) (err error) {
	if c.Redis.URL != "" {
		if s.redis, err = dialRedis(c, "redis.url", c.Redis.URL, store.DialOptions{}); err != nil {
			return err
		}
	}
	s.state = s.redis
	if c.Redis.StateURL != "" {
		if s.state, err = dialRedis(c, "redis.state_url", c.Redis.StateURL, store.DialOptions{}); err != nil {
			return err
		}
	}
	if err := s.openEvents(c); err != nil {
		return err
	}
	if err := s.openFollower(c); err != nil {
		return err
	}
	if err := s.openLimiter(c); err != nil {
		return err
	}
	s.store, err = store.New(store.Options{
		NearSize: int64(c.Near.Size), NearMaxObject: int64(c.Near.MaxObject),
		Redis: s.redis, State: s.state, Prefix: c.Redis.Prefix, Timeout: c.Redis.Timeout.Std(),
		Breaker:  breaker.Options{Failures: c.Breaker.Failures, Cooldown: c.Breaker.Cooldown.Std()},
		Follower: s.follower, Strict: c.Near.Strict, Metrics: s.metrics, Log: s.log, ShownURL: s.shownURL,
	})
	if err == nil {
		s.follower.Sweep(s.store)
	}
	return err
}

// dialRedis makes a client, whose mistakes are those of the key.
func dialRedis(c *config.Config, key, url string, o store.DialOptions) (redis.UniversalClient, error) {
	o.ConfigKey, o.Timeout = key, max(o.Timeout, c.Redis.Timeout.Std())
	client, err := store.Dial(url, o)
	if err != nil {
		return nil, config.Mistakes{{Key: key, Message: err.Error()}}
	}
	return client, nil
}

// closeStore ends what openStore began. The log of purges is left when the store is closed: until then others wait for this replica.
func (s *server) closeStore(ctx context.Context) (err error) {
	s.stopListening()
	if s.store != nil {
		err = s.store.Close(ctx)
	}
	s.closeLimiter(ctx)
	s.closeFollower(ctx)
	s.closeEvents()
	if s.redis != nil {
		err = errors.Join(err, s.redis.Close())
	}
	if s.state != nil && s.state != s.redis {
		err = errors.Join(err, s.state.Close())
	}
	return err
}

// redisPatience is between two questions to a Redis that has not answered since the start.
const redisPatience = 2 * time.Second

// asked is a Redis that askRedis asks.
type asked struct {
	name, key, url string // key is the configuration's
	client         redis.UniversalClient
	meanwhile      string // what happens until it answers
	hint           func(store.Facts) string
}

// askRedis says whether a Redis answers, and what it is as soon as it does. It is no condition for serving.
func (s *server) askRedis(r asked) {
	target := "?"
	if t, err := store.ParseURL(r.url); err == nil {
		target = t.String()
	}
	for first := true; s.ending.Err() == nil; first = false {
		ctx, cancel := context.WithTimeout(s.ending, redisPatience)
		facts, err := store.Inspect(ctx, r.client)
		cancel()
		if err == nil {
			s.log.Info(r.name+" answers", append([]any{"redis", target}, describe(facts, r.hint)...)...)
			return
		}
		if first && s.ending.Err() == nil {
			s.log.Warn(r.name+" does not answer: "+r.meanwhile, "redis", target, "error", err.Error(), "hint", r.key)
		}
		sleep(s.ending, redisPatience)
	}
}

// describe names what of a Redis decides what happens when it is full.
func describe(f store.Facts, hint func(store.Facts) string) []any {
	if f.Policy == "" {
		return []any{"eviction", "unknown", "hint", "this Redis user may not ask (+info)"}
	}
	bound := config.Size(f.MaxMemory).String()
	if f.MaxMemory == 0 {
		bound = "none"
	}
	told := []any{"version", f.Version, "maxmemory", bound, "eviction", f.Policy}
	if h := hint(f); h != "" {
		told = append(told, "hint", h)
	}
	return told
}

// storeHint is for a Redis that keeps responses: it should evict.
func storeHint(f store.Facts) string {
	switch {
	case f.MaxMemory == 0:
		return "without maxmemory it takes what its machine has"
	case strings.Contains(f.Policy, "noeviction"):
		return "with noeviction nothing new is stored while it is full; allkeys-lfu or allkeys-lru evict for it"
	}
	return ""
}

// stateHint is for a Redis that keeps what must not be evicted.
func stateHint(f store.Facts) string {
	if f.Policy != "noeviction" {
		return "state may be evicted here: set maxmemory-policy noeviction"
	}
	return ""
}
