//go:build soak

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// What purging costs: how soon a receipt comes, and what everybody else notices. Figures, not limits: docs/performance.md has what came out.

// soakFleet starts replicas on one Redis, in front of a pageOrigin whose pages under /86400/tagged/N/ carry the tag set-N.
func soakFleet(t *testing.T, server *redistest.Server, n int) []*process {
	t.Helper()
	origin := newPageOrigin(t)
	file := filepath.Join(t.TempDir(), "c.yaml")
	rules := "rules:\n  - match: {path: '/86400/tagged/**'}\n    tags: ['set-{path.3}']\n"
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	all := make([]*process, n)
	for i := range all {
		all[i] = start(t, []string{fmt.Sprint("CACHEPROXY_INSTANCE=replica", i), "CACHEPROXY_REDIS_PREFIX=cp", "CACHEPROXY_REDIS_TIMEOUT=5s", "CACHEPROXY_LOG_ACCESS_SAMPLE=0"},
			"--config", file, "--upstream", "http://"+origin.address, "--redis", server.URL())
		all[i].await("following the log of purges")
	}
	return all
}

// fill asks once for each of so many pages, and waits now and then until their saves have ended, so that few are dropped.
func (p *process) fill(t *testing.T, count int64, target func(n uint64) string) {
	t.Helper()
	const batch = 2000
	before := p.metric("cacheproxy_saves_total", "")
	for from := int64(0); from < count; from += batch {
		n := min(batch, count-from)
		s := traffic{address: p.host(), connections: 16, duration: time.Minute, count: n, target: func(k uint64) string { return target(uint64(from) + k) }}.run(t)
		if s.failed > 0 {
			t.Fatalf("%d failed: %v", s.failed, s.failures)
		}
		p.until("not saved", func() bool { return p.metric("cacheproxy_saves_total", "") >= before+float64(from+n) })
	}
	t.Logf("%.0f of %.0f saves were made", p.metric("cacheproxy_saves_total", `result="ok"`), p.metric("cacheproxy_saves_total", ""))
}

// Receipts of four replicas, of which all answer while nothing else is to be done.
func TestSoakPurgeReceipts(t *testing.T) {
	all := soakFleet(t, redistest.Start(t), 4)
	all[0].fill(t, 20_000, func(n uint64) string { return fmt.Sprintf("/86400/page/%d", n) })
	timed := func(what string, purges int, again func(i int), body func(i int) string) {
		took := make([]time.Duration, 0, purges)
		for i := range purges {
			if again != nil {
				again(i)
			}
			p := all[rand.IntN(len(all))]
			begin := time.Now()
			status, r, told := p.purge("?wait=5s", body(i))
			if took = append(took, time.Since(begin)); status != http.StatusOK || len(r.Applied) != len(all) {
				t.Fatalf("%s: %d %v", what, status, told)
			}
		}
		slices.Sort(took)
		t.Logf("%s: receipts of %d replicas, %d purges: median %v, p99 %v, max %v", what, len(all), purges,
			took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	}
	timed("by URL", 1000, nil, func(i int) string { return fmt.Sprintf(`{"url": "http://page.example/86400/page/%d"}`, i) })
	for i := range 20 {
		all[1].fill(t, 1000, func(n uint64) string { return fmt.Sprintf("/86400/tagged/%d/%d", i, n) })
	}
	timed("by a tag of 1,000 entries", 20, nil, func(i int) string { return fmt.Sprintf(`{"tags": ["set-%d"]}`, i) })
	timed("by pattern", 20, nil, func(i int) string { return fmt.Sprintf(`{"pattern": "http://page.example/86400/page/1%d*"}`, i) })
}

// What a hundred purges a second cost a replica that serves hits as fast as it can: of four replicas, one is asked for hits by as many
// connections as keep it busy, in turns with purges and without.
func TestSoakPurgesBesideHits(t *testing.T) {
	all := soakFleet(t, redistest.Start(t), 4)
	target := func(n uint64) string { return fmt.Sprintf("/86400/page/%d", n%1000) }
	all[0].fill(t, 1000, target)
	var perRequest [2][]float64 // microseconds of the processor, without and with
	for range 6 {
		for with := range 2 {
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			purges := 0
			if with == 1 {
				wg.Go(func() {
					for tick := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; <-tick.C {
						purges++
						all[1+purges%3].purge("?wait=0s", fmt.Sprintf(`{"url": "http://page.example/86400/other/%d"}`, purges))
					}
				})
			}
			before := all[0].metric("process_cpu_seconds_total", "")
			s := traffic{address: all[0].host(), connections: 16, duration: 10 * time.Second, target: target}.run(t)
			spent := all[0].metric("process_cpu_seconds_total", "") - before
			stop()
			wg.Wait()
			if s.failed > 0 || s.outcomes["hit"] != s.requests {
				t.Errorf("%v %v", s, s.failures)
			}
			cost := 1e6 * spent / float64(s.requests)
			perRequest[with] = append(perRequest[with], cost)
			t.Logf("%d purges: %.0f requests a second, %.2f µs of processor time each, p99 %v", purges, float64(s.requests)/10, cost, s.quantile(.99))
		}
	}
	var ratios []float64
	for i := range perRequest[0] {
		ratios = append(ratios, perRequest[1][i]/perRequest[0][i])
	}
	slices.Sort(ratios)
	t.Logf("processor time of a hit with 100 purges a second to that without: median %.3f, from %.3f to %.3f", ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
}

// A purge of one URL and, when its horizon is over, its forgetting cost no other entry a hit, in near memory or in Redis.
func TestSoakForgettingCostsNoHit(t *testing.T) {
	const entries = 100_000
	server := redistest.Start(t)
	all := soakFleet(t, server, 2)
	target := func(n uint64) string { return fmt.Sprintf("/86400/page/%d", n%entries) }
	all[0].fill(t, entries, target)
	round := func(when string, p *process, misses int64) {
		t.Helper()
		s := traffic{address: p.host(), connections: 16, duration: 10 * time.Minute, count: entries, target: target}.run(t)
		t.Logf("%s: %v; from near memory %.0f, from Redis %.0f", when, s, p.metric("cacheproxy_requests_total", `tier="near"`), p.metric("cacheproxy_requests_total", `tier="redis"`))
		if s.failed > 0 || s.requests-s.outcomes["hit"] != misses {
			t.Errorf("%s: %d of %d were no hits, asked %d: %v %v", when, s.requests-s.outcomes["hit"], s.requests, misses, s.outcomes, s.failures)
		}
	}
	round("before", all[0], 0)
	for i := range 2 { // the last record of a log is never forgotten
		if status, _, told := all[0].purge("?wait=5s", fmt.Sprintf(`{"url": "http://page.example/86400/page/%d"}`, i)); status != http.StatusOK {
			t.Fatal(status, told)
		}
	}
	round("after the purges", all[0], 2)
	log := server.Admin()
	for begin := time.Now(); log.XLen(t.Context(), "cp:{inv}:log").Val() > 1; time.Sleep(time.Second) {
		if time.Since(begin) > 5*time.Minute {
			t.Fatal("nothing is forgotten")
		}
	}
	round("when it was forgotten", all[0], 0)
	round("by a replica that holds nothing yet", all[1], 0)
}

// A pattern that matches one in a thousand of a million stored responses is swept while somebody else uses Redis.
func TestSoakPatternOverAMillion(t *testing.T) {
	server := redistest.Start(t)
	all := soakFleet(t, server, 1)
	all[0].fill(t, soaked, stored)
	log := server.Admin()
	t.Logf("%d keys", log.DBSize(t.Context()).Val())
	log.Set(t.Context(), "somebody:else", "x", 0)
	beside := func(what string, ctx context.Context) {
		var took []time.Duration
		for ctx.Err() == nil {
			begin := time.Now()
			if err := log.Get(t.Context(), "somebody:else").Err(); err != nil {
				t.Error(err)
			}
			took = append(took, time.Since(begin))
			time.Sleep(time.Millisecond)
		}
		slices.Sort(took)
		t.Logf("%s: another client's GET: %d, median %v, p99 %v, max %v", what, len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	}
	idle, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	beside("idle", idle)
	sweeping, swept := context.WithCancel(t.Context())
	begin := time.Now()
	status, receipt, told := all[0].purge("?wait=5s", `{"pattern": "http://page.example/86400/page/*777"}`)
	if status != http.StatusOK {
		t.Fatal(status, told)
	}
	t.Logf("receipt after %v", time.Since(begin))
	go func() {
		defer swept()
		for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if noted := log.HGet(t.Context(), "cp:{inv}:swept", receipt.Sequence.String()).Val(); strings.Contains(noted, `"passes":1`) {
				t.Logf("swept after %v: %s", time.Since(begin), noted)
				return
			}
		}
		t.Error("it is never swept")
	}()
	beside("during the sweep", sweeping)
}

// host is the address that p listens on.
func (p *process) host() string { return strings.TrimPrefix(p.public, "http://") }
