package main

import (
	"context"
	"maps"
	"sync"
	"time"

	"cacheproxy/admin"
	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/invalidation"
	"cacheproxy/metrics"
	"cacheproxy/proxy"
	"cacheproxy/store"
)

// One process follows the log of purges once, whatever its configuration becomes: the follower outlives snapshots, and what it was built
// from cannot be reloaded (redis, instance, cache.max_fill, cache.horizon).

const (
	// logPatience is for the clients of the log. No request waits for them, and a purge that fails for 50 ms is worse than one that
	// takes longer.
	logPatience = 250 * time.Millisecond
	// logConnections are kept for purges, heartbeats and questions, apart from those of requests: a pool that requests have emptied must not
	// make a replica silent. Of the others one waits for purges, one for sweeps, and two are for a cluster's own questions.
	logConnections, waitingConnections = 4, 4
	// leavePatience is for taking this replica off the list at its end.
	leavePatience = time.Second
	// registerPatience is how long the first requests wait for this replica to be registered, since nothing in Redis is used before that.
	// It takes some milliseconds, if Redis answers; if not, waiting longer would not help.
	registerPatience = 500 * time.Millisecond
	// fleetPause is between two looks at who follows the log.
	fleetPause = 5 * time.Second
)

// openFollower starts this replica's part in the log of purges: in the Redis for state, or in this process where there is none.
func (s *server) openFollower(c *config.Config) (err error) {
	o := invalidation.Options{
		Lease:  leaseOf(c),
		Prefix: c.Redis.Prefix, Instance: c.InstanceName(), Version: thisBinary().Version, Horizon: horizon(c), Log: s.log,
	}
	if s.state != nil {
		key, url := stateRedis(c)
		if s.purges, err = dialRedis(c, key, url, store.DialOptions{Timeout: logPatience, PoolSize: logConnections}); err != nil {
			return err
		}
		// Reads that wait bring their own deadline, which the client library takes for the connection's.
		if o.Waiting, err = dialRedis(c, key, url, store.DialOptions{Timeout: logPatience, PoolSize: waitingConnections}); err != nil {
			return err
		}
		o.Redis, o.Purged = s.purges, s.purged
	}
	s.follower, err = invalidation.Start(o)
	if err == nil {
		s.doubts = proxy.NewDoubts(proxy.DoubtsOptions{Purge: purger(s.follower), Wait: c.Redis.Timeout.Std(), Metrics: s.metrics, Log: s.log})
		s.metrics.PurgeSource(s.purgeLog)
	}
	return err
}

// stateRedis is where what must not be evicted is kept, and the key that names it.
func stateRedis(c *config.Config) (key, url string) {
	if c.Redis.StateURL != "" {
		return "redis.state_url", c.Redis.StateURL
	}
	return "redis.url", c.Redis.URL
}

// leaseOf is for how long a strict replica serves without a heartbeat; 0 = it is not strict.
func leaseOf(c *config.Config) time.Duration {
	if !c.Near.Strict {
		return 0
	}
	return c.Near.Lease.Std()
}

// purger is what proxy.Options.Purge wants: ctx bounds the waiting for replicas, not the appending.
func purger(f *invalidation.Follower) func(context.Context, invalidation.Purge) (*invalidation.Receipt, error) {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, p invalidation.Purge) (*invalidation.Receipt, error) {
		wait := time.Second
		if end, bounded := ctx.Deadline(); bounded {
			wait = time.Until(end)
		}
		return f.Purge(context.WithoutCancel(ctx), p, wait)
	}
}

// awaitFollower waits a little for this replica to be registered.
func (s *server) awaitFollower() {
	ctx, cancel := context.WithTimeout(s.ending, registerPatience)
	defer cancel()
	s.follower.AwaitRegistered(ctx)
}

// horizon is for how long purges are remembered. A record may be forgotten when nothing can turn up any more that was fetched before it: a
// fetch that may be saved takes cache.max_fill at most. Of the 30 s the follower takes 12 for a margin and for what is saved until it is
// confirmed (NotAfter); the rest is more than waiting in the queue of saves and the save itself take, each with its own bound of some seconds.
// A shorter one, which cache.horizon may name, forbids nothing that is right: Redis refuses what comes too late, and near memory drops it.
func horizon(c *config.Config) time.Duration {
	if c.Cache.Horizon > 0 {
		return c.Cache.Horizon.Std()
	}
	return c.Cache.MaxFill.Std() + 30*time.Second
}

// closeFollower leaves the fleet, whether or not the time for draining is over: who does not leave is waited for.
func (s *server) closeFollower(ctx context.Context) {
	if s.follower != nil {
		s.doubts.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leavePatience)
		defer cancel()
		if err := s.follower.Close(ctx); err != nil {
			s.log.Warn("this replica could not take itself off the list of those who follow the purges: it will be called silent until it is back "+
				"or removed", "replica", s.follower.ID(), "error", err.Error(), "hint", "cacheproxy replicas --remove")
		}
	}
	closeClient(s.purges)
}

// fleetWatch is who followed the log at the last look.
type fleetWatch struct {
	mu     sync.Mutex
	states map[string]int // nil = not known
	live   int            // how many were live when that was known last; 0 = it never was
}

// lastLive is how many processes were live when that was known last.
func (w *fleetWatch) lastLive() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.live
}

// watchFleet looks at who follows the log, for the metrics: a scrape must not wait for Redis.
func (s *server) watchFleet() {
	for s.ending.Err() == nil {
		replicas, err := s.follower.Replicas(s.ending)
		s.fleet.saw(replicas, err)
		sleep(s.ending, fleetPause)
	}
}

func (w *fleetWatch) saw(replicas []invalidation.Replica, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.states = nil; err != nil {
		return
	}
	w.states = map[string]int{"live": 0, "silent": 0, "fenced": 0}
	for i := range replicas {
		w.states[stateOf(&replicas[i])]++
	}
	w.live = w.states["live"]
}

// stateOf is a replica's state in a word.
func stateOf(r *invalidation.Replica) string {
	switch {
	case r.Fenced:
		return "fenced"
	case r.Silent:
		return "silent"
	}
	return "live"
}

// purgeLog is what the metrics say of the log.
func (s *server) purgeLog() metrics.PurgeLog {
	status := s.follower.Status()
	told := metrics.PurgeLog{Sequence: uint64(status.Applied.Seq), Lag: status.Lag.Seconds(), Replicas: map[string]int{"unregistered": 0}}
	if !status.Registered {
		told.Replicas["unregistered"] = 1
	}
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	maps.Copy(told.Replicas, s.fleet.states)
	return told
}

// notes says what is worth knowing of this process although it may be sent requests.
func (s *server) notes() []admin.Problem {
	if s.follower.Status().Registered {
		return nil
	}
	return []admin.Problem{{Name: "purges", Detail: "this process has not registered with the log of purges in Redis: purges do not reach it, and no receipt covers it"}}
}
