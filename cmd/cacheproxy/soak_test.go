//go:build soak

package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// The soaks run for minutes and want a machine for themselves: make soak. What they found is in docs/.

const soaked = 1_000_000

func stored(n uint64) string { return fmt.Sprintf("/86400/page/%07d", n%soaked) }

// A million responses of 1 KB under near.size 2GiB: filling, serving 20,000 hits and 2,000 inserts a second, evicting. The same load on
// few responses says what of the latency is the machine's.
func TestSoakNearMemory(t *testing.T) {
	origin := newPageOrigin(t)
	run := func(entries uint64) {
		p := start(t, []string{"CACHEPROXY_LOG_ACCESS_SAMPLE=0", "CACHEPROXY_NEAR_SIZE=2GiB"}, "--upstream", "http://"+origin.address)
		address := strings.TrimPrefix(p.public, "http://")
		report := func(what string, s *seen) {
			now, highest := p.resident()
			t.Logf("%d entries, %s: %v\n  resident %d MiB, highest %d MiB; near %.0f MiB in %.0f entries, %.0f evicted", entries, what, s, now>>20, highest>>20,
				p.metric("cacheproxy_near_bytes", "")/(1<<20), p.metric("cacheproxy_near_entries", ""), p.metric("cacheproxy_near_evictions_total", ""))
			if s.failed > 0 {
				t.Errorf("%d failed: %v", s.failed, s.failures)
			}
			if highest > 2<<30*13/10 {
				t.Errorf("resident memory reached %d MiB", highest>>20)
			}
		}
		report("filling", traffic{address: address, connections: 32, duration: 10 * time.Minute, count: int64(entries), target: stored}.run(t))

		before := collection(p)
		var wg sync.WaitGroup
		wg.Go(func() {
			s := traffic{address: address, connections: 64, rate: 20_000, duration: time.Minute, target: func(uint64) string { return stored(rand.Uint64N(entries)) }}.run(t)
			report("20,000 hits a second", s)
		})
		wg.Go(func() {
			s := traffic{address: address, connections: 16, rate: 2_000, duration: time.Minute, target: func(n uint64) string { return fmt.Sprintf("/86400/new/%d/%d", entries, n) }}.run(t)
			report("2,000 inserts a second", s)
		})
		wg.Wait()
		t.Logf("%d entries: of processor time %s", entries, collection(p).since(before))
		report("evicting", traffic{address: address, connections: 32, duration: 5 * time.Minute, count: int64(entries / 2), target: func(n uint64) string { return fmt.Sprintf("/86400/more/%d", n) }}.run(t))
	}
	run(1_000)
	run(soaked)
}

// spent is the processor time of a process, in seconds, and what the collector took of it: by workers that keep others from running and by
// those who allocate (busy), by workers that run while a processor has nothing else to do (idle), and while all stand still (pause).
type spent struct{ all, busy, idle, pause, cycles float64 }

func collection(p *process) spent {
	class := func(name string) float64 { return p.metric("go_cpu_classes_gc_"+name+"_cpu_seconds_total", "") }
	return spent{
		all: p.metric("process_cpu_seconds_total", ""), busy: class("mark_dedicated") + class("mark_assist"), idle: class("mark_idle"), pause: class("pause"),
		cycles: p.metric("go_gc_cycles_total_gc_cycles_total", ""),
	}
}

func (s spent) since(b spent) string {
	all := s.all - b.all
	part := func(after, before float64) string {
		return fmt.Sprintf("%.2f s (%.1f %%)", after-before, 100*(after-before)/all)
	}
	return fmt.Sprintf("%.1f s the collector took %s, and %s where a processor was idle, and stood still %s, in %.0f cycles",
		all, part(s.busy, b.busy), part(s.idle, b.idle), part(s.pause, b.pause), s.cycles-b.cycles)
}

func TestSoakLargeBodiesOfOneURL(t *testing.T) { testBodiesDoNotMix(t, time.Minute) }

// Redis is killed, or stopped, under load: latency before, during and after, how soon it is used again, and over how many connections.
func TestSoakRedisLost(t *testing.T) {
	for _, paused := range []bool{false, true} {
		t.Run(fmt.Sprintf("paused=%v", paused), func(t *testing.T) {
			server := redistest.Start(t, "--appendonly", "yes")
			origin := newPageOrigin(t)
			p := start(t, []string{"CACHEPROXY_LOG_ACCESS_SAMPLE=0"}, "--upstream", "http://"+origin.address, "--redis", server.URL())
			address := strings.TrimPrefix(p.public, "http://")
			load := func(what string) {
				var wg sync.WaitGroup
				one := func(kind string, rate float64, target func(n uint64) string) {
					wg.Go(func() {
						s := traffic{address: address, connections: 64, rate: rate, duration: 10 * time.Second, target: target}.run(t)
						if t.Logf("%s, %s: %v", what, kind, s); s.failed > 0 {
							t.Errorf("%d failed: %v", s.failed, s.failures)
						}
					})
				}
				one("hits", 2000, func(n uint64) string { return fmt.Sprintf("/600/known/%d", n%1000) })
				one("misses", 500, func(n uint64) string { return fmt.Sprintf("/600/%s/%d", what, n) })
				wg.Wait()
			}
			load("warming")
			load("before")
			if paused {
				server.Pause()
			} else {
				server.Kill()
			}
			load("lost")
			after := make(chan struct{})
			go func() { load("back"); close(after) }()
			saved := p.metric("cacheproxy_saves_total", `"ok"`)
			if paused {
				server.Resume()
			} else {
				server.Restart()
			}
			back := time.Now()
			admin := server.Admin()
			var again time.Duration
			var most int
			for open := true; open; time.Sleep(5 * time.Millisecond) {
				clients, _ := strconv.Atoi(admin.InfoMap(t.Context(), "clients").Item("Clients", "connected_clients"))
				most = max(most, clients-1)
				if again == 0 && p.metric("cacheproxy_saves_total", `"ok"`) > saved {
					again = time.Since(back)
				}
				select {
				case <-after:
					open = false
				default:
				}
			}
			t.Logf("saved again after %v, over %d connections at the most, of %d for this machine", again.Round(time.Millisecond), most, 10*runtime.GOMAXPROCS(0))
		})
	}
}
