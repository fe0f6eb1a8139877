package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// A master is lost under load, and a replica takes its place: no request fails, every body is right, near memory serves on, and what is
// missed is saved again once there is a new master. What was lost comes back as a replica and changes nothing.
func TestFailover(t *testing.T) {
	for _, kind := range []string{"sentinel", "cluster"} {
		for _, paused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s paused=%v", kind, paused), func(t *testing.T) {
				t.Parallel()
				var url string
				var master *redistest.Server
				if kind == "cluster" {
					c := redistest.StartCluster(t, 3, 1)
					url, master = c.URL(), c.Nodes[0]
				} else {
					s := redistest.StartSentinel(t, 1)
					url, master = s.URL(), s.Nodes[0]
				}
				testFailover(t, url, master, paused)
			})
		}
	}
}

func testFailover(t *testing.T, url string, master *redistest.Server, paused bool) {
	origin := newPageOrigin(t)
	p := start(t, []string{"CACHEPROXY_LOG_ACCESS_SAMPLE=0", "CACHEPROXY_REDIS_TIMEOUT=1s"}, "--upstream", "http://"+origin.address, "--redis", url)
	address := strings.TrimPrefix(p.public, "http://")
	ctx, end := context.WithCancel(t.Context())
	load := func(what, path string, pages uint64) (wait func() *seen) {
		s, done := new(seen), make(chan struct{})
		go func() {
			defer close(done)
			*s = *traffic{address: address, connections: 8, rate: 200, duration: time.Minute, done: ctx.Done(),
				target: func(n uint64) string { return fmt.Sprintf("/600/%s/%d", path, n%pages) }}.run(t)
		}()
		return sync.OnceValue(func() *seen {
			end()
			<-done
			t.Logf("%s: %v", what, s)
			if s.failed > 0 {
				t.Errorf("%d of %d %s failed: %v", s.failed, s.requests, what, s.failures)
			}
			return s
		})
	}
	hits, misses := load("hits", "known", 20), load("misses", "new", 1<<60)
	defer func() { hits(); misses() }()
	p.awaitSaves(time.Minute)

	lost := time.Now()
	if paused {
		master.Pause()
	} else {
		master.Kill()
	}
	p.awaitErrors()
	t.Logf("saves go on without errors %v after the master was lost", p.awaitSaves(time.Minute).Sub(lost).Round(10*time.Millisecond))
	if paused {
		master.Resume()
	} else {
		master.Restart()
	}
	p.awaitSaves(time.Minute)
	if n := hits().outcomes["hit"]; n < hits().requests*9/10 { // all but the first of each page
		t.Errorf("%d of %d were hits", n, hits().requests)
	}
	if ready := ask(t, p.operator+"/readyz").status; ready != 200 {
		t.Errorf("/readyz says %d", ready)
	}
}

// awaitErrors waits until an error of Redis is counted.
func (p *process) awaitErrors() {
	p.t.Helper()
	errors := p.metric("cacheproxy_redis_errors_total", "")
	p.until("no error was counted", func() bool { return p.metric("cacheproxy_redis_errors_total", "") > errors })
}

// awaitSaves waits until entries are saved and, for half a second, nothing of Redis fails. It returns when that began. Meanwhile
// others, or what is given, must ask for pages that are not stored.
func (p *process) awaitSaves(patience time.Duration, meanwhile ...func()) time.Time {
	p.t.Helper()
	const calm = 500 * time.Millisecond
	state := func() (errors, saves float64) {
		return p.metric("cacheproxy_redis_errors_total", "") + p.metric("cacheproxy_breaker_state", "redis"), p.metric("cacheproxy_saves_total", `"ok"`)
	}
	since := time.Now()
	errors, saves := state()
	for deadline := since.Add(patience); ; time.Sleep(20 * time.Millisecond) {
		for _, do := range meanwhile {
			do()
		}
		e, s := state()
		switch {
		case e != errors || p.metric("cacheproxy_breaker_state", "redis") != 0:
			since, errors, saves = time.Now(), e, s
		case s > saves && time.Since(since) > calm:
			return since
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("Redis is not used again:\n%s", p.text())
		}
	}
}
