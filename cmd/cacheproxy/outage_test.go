package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// What clients and operators see of a Redis in trouble: the rows of the table "When things break". Each case runs the command under a
// steady load, breaks Redis and mends it. Not one request may fail, and every body is checked.

// outage is what happens to Redis, and how it is made well again.
type outage struct {
	name        string
	begin       func(*testing.T, *redistest.Server, *redistest.Fault)
	end         func(*testing.T, *redistest.Server, *redistest.Fault)
	unavailable bool   // lookups fail, so that the breaker opens
	cause       string // of cacheproxy_redis_errors_total; "" = none need be counted
	doubted     bool   // the log of purges may be lost, and with it what near memory holds
}

var outages = []outage{
	{"killed", func(_ *testing.T, s *redistest.Server, _ *redistest.Fault) { s.Kill() },
		func(_ *testing.T, s *redistest.Server, _ *redistest.Fault) { s.Restart() }, true, "connect", false},
	{"stopped", func(_ *testing.T, s *redistest.Server, _ *redistest.Fault) { s.Pause() },
		func(_ *testing.T, s *redistest.Server, _ *redistest.Fault) { s.Resume() }, true, "timeout", false},
	{"cut off", func(_ *testing.T, _ *redistest.Server, f *redistest.Fault) { f.Cut() },
		func(_ *testing.T, _ *redistest.Server, f *redistest.Fault) { f.Heal() }, true, "connect", false},
	{"slow", func(_ *testing.T, _ *redistest.Server, f *redistest.Fault) { f.Delay(time.Second) },
		func(_ *testing.T, _ *redistest.Server, f *redistest.Fault) { f.Heal() }, true, "timeout", false},
	{"garbage", func(_ *testing.T, _ *redistest.Server, f *redistest.Fault) { f.Garbage() },
		func(_ *testing.T, _ *redistest.Server, f *redistest.Fault) { f.Heal() }, true, "connection", false},
	{"half replies", func(_ *testing.T, _ *redistest.Server, f *redistest.Fault) { f.Halve() },
		func(_ *testing.T, _ *redistest.Server, f *redistest.Fault) { f.Heal() }, true, "connection", false},
	{"loading", func(t *testing.T, s *redistest.Server, _ *redistest.Fault) { loadSlowly(t, s) }, nil, true, "loading", true},
	{"evicting", func(t *testing.T, s *redistest.Server, _ *redistest.Fault) { fill(t, s) }, order("CONFIG", "SET", "maxmemory", "0"), false, "", true},
	{"emptied", order("FLUSHALL"), nil, false, "", true},
	{"full", order("CONFIG", "SET", "maxmemory", "1"), order("CONFIG", "SET", "maxmemory", "0"), false, "oom", false},
	{"a replica", order("REPLICAOF", "127.0.0.1", "1"), order("REPLICAOF", "NO", "ONE"), false, "readonly", false},
}

// order is an outage that an order to Redis brings about.
func order(words ...any) func(*testing.T, *redistest.Server, *redistest.Fault) {
	return func(t *testing.T, s *redistest.Server, _ *redistest.Fault) {
		t.Helper()
		if err := s.Admin().Do(t.Context(), words...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// loadSlowly restarts Redis, which then refuses everything while it reads its data.
func loadSlowly(t *testing.T, s *redistest.Server) {
	t.Helper()
	s.Stop()
	s.Args("--appendonly", "no", "--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024") // in microseconds a key, and often enough to answer
	s.Restart()
}

// fill bounds the memory of Redis to a little more than it has, and lets it evict.
func fill(t *testing.T, s *redistest.Server) {
	t.Helper()
	order("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")(t, s, nil)
	used := s.Admin().InfoMap(t.Context(), "memory").Item("Memory", "used_memory")
	order("CONFIG", "SET", "maxmemory", used)(t, s, nil)
	t.Cleanup(func() {
		if s.Admin().InfoMap(t.Context(), "stats").Item("Stats", "evicted_keys") == "0" {
			t.Error("nothing was evicted")
		}
	})
}

// phase is how long each of well, broken and well again lasts.
const phase = 400 * time.Millisecond

func TestOutages(t *testing.T) {
	for _, near := range []string{"4MiB", "1"} { // hits from near memory, and from Redis alone
		for _, o := range outages {
			t.Run(o.name+" near "+near, func(t *testing.T) {
				t.Parallel()
				o.run(t, near, phase, 200)
			})
		}
	}
}

// run loads a process with hits and misses while Redis goes through the outage.
func (o outage) run(t *testing.T, near string, phase time.Duration, rate float64) {
	server := redistest.Start(t, "--appendonly", "yes")
	fault := server.Fault()
	origin := newPageOrigin(t)
	env := []string{"CACHEPROXY_LOG_ACCESS_SAMPLE=0", "CACHEPROXY_NEAR_MAX_OBJECT=" + near, "CACHEPROXY_BREAKER_COOLDOWN=200ms"}
	if !o.unavailable || o.cause == "loading" {
		env = append(env, "CACHEPROXY_REDIS_TIMEOUT=5s") // a busy machine is not what is tested
	}
	p := start(t, env, "--upstream", "http://"+origin.address, "--redis", fault.URL())
	address := strings.TrimPrefix(p.public, "http://")
	known := func(n uint64) string { return fmt.Sprintf("/600/known/%d", n%20) }
	if s := (traffic{address: address, connections: 1, count: 20, duration: limit, target: known}).run(t); s.failed > 0 {
		t.Fatalf("%v", s.failures)
	}

	var wg sync.WaitGroup
	done := make(chan struct{})
	load := func(what string, target func(uint64) string) *seen {
		s := new(seen)
		wg.Go(func() {
			*s = *traffic{address: address, connections: 8, rate: rate, duration: time.Hour, done: done, target: target}.run(t)
			if s.failed > 0 {
				t.Errorf("%d of %d %s failed: %v", s.failed, s.requests, what, s.failures)
			}
		})
		return s
	}
	hits := load("hits", known)
	misses := load("misses", func(n uint64) string { return fmt.Sprintf("/600/new/%d", n) })
	time.Sleep(phase)
	o.begin(t, server, fault)
	time.Sleep(phase)
	if o.cause != "" {
		p.awaitMetric("cacheproxy_redis_errors_total", o.cause)
	}
	saved := p.metric("cacheproxy_saves_total", `"ok"`)
	if o.end != nil {
		o.end(t, server, fault)
	}
	time.Sleep(phase)
	close(done)
	wg.Wait()
	t.Logf("hits %v\nmisses %v", hits, misses)
	if ready := ask(t, p.operator+"/readyz").status; ready != 200 {
		t.Errorf("/readyz says %d", ready)
	}
	told := misses.outcomes["fwd=miss;detail=store-unavailable"]
	switch often := told > misses.requests/10; {
	case o.doubted && !o.unavailable: // it may be not asked for a moment, until the process follows the log again
	case often != o.unavailable:
		t.Errorf("%d of %d misses say that the store is unavailable", told, misses.requests)
	}
	if near != "1" && !o.doubted && hits.outcomes["hit"] < hits.requests {
		t.Errorf("hits in near memory became %v", hits.outcomes)
	}
	// Well again: what was missed is saved, and the breaker is closed.
	deadline := time.Now().Add(limit)
	for p.metric("cacheproxy_saves_total", `"ok"`) == saved || p.metric("cacheproxy_breaker_state", "redis") != 0 {
		if time.Now().After(deadline) {
			t.Fatalf("Redis is not used again:\n%s", p.text())
		}
		traffic{address: address, connections: 1, count: 1, duration: limit, target: func(uint64) string { return fmt.Sprintf("/600/after/%d", time.Now().UnixNano()) }}.run(t)
		time.Sleep(20 * time.Millisecond)
	}
	again := traffic{address: address, connections: 1, count: 40, duration: limit, target: known}
	if s := again.run(t); s.failed > 0 || s.outcomes["hit"] < 20 { // the second time at the latest
		t.Errorf("what was hit before is now %v %v", s.outcomes, s.failures)
	}
}
