package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// limitsFile is a configuration whose clients are named by X-Forwarded-For, with one limit for all requests.
func limitsFile(t *testing.T, limit string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "limits.yaml")
	text := "client: {trusted: [127.0.0.1]}\nlog: {access: {sample: 0}}\nrules:\n  - limit: [per-client]\nlimits:\n  - {name: per-client, " + limit + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// patient is for a test of what is counted when Redis answers, however slow the machine is.
const patient = "CACHEPROXY_REDIS_TIMEOUT=10s"

// limited are some replicas, and clients that ask them.
type limited struct {
	t        *testing.T
	client   *http.Client
	statuses [600]atomic.Int64
}

func newLimited(t *testing.T) *limited {
	l := &limited{t: t, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: limit}}
	t.Cleanup(l.client.CloseIdleConnections)
	return l
}

// ask sends a request of a client, and counts its status: 0 where the process does not answer.
func (l *limited) ask(p *process, from string) *http.Response {
	r, _ := http.NewRequestWithContext(l.t.Context(), http.MethodGet, p.public+"/", nil)
	r.Header.Set("X-Forwarded-For", from)
	res, err := l.client.Do(r)
	if err != nil {
		l.statuses[0].Add(1)
		return nil
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	l.statuses[res.StatusCode].Add(1)
	return res
}

// offer sends n requests of one client to all replicas, over two connections each.
func (l *limited) offer(replicas []*process, n int64) {
	var left atomic.Int64
	left.Store(n)
	var work sync.WaitGroup
	for _, p := range replicas {
		for range 2 {
			work.Go(func() {
				for left.Add(-1) >= 0 {
					l.ask(p, "192.0.2.7")
				}
			})
		}
	}
	work.Wait()
}

// Four processes admit together what the limit says: all of it where Redis decides each request, and never more where they lease; a process
// that is killed takes with it what it has leased, and no more.
func TestProcessesShareALimit(t *testing.T) { shareALimit(t, 2_500) }

// shareALimit offers so many requests to a limit of 1,000.
func shareALimit(t *testing.T, requests int64) {
	t.Helper()
	for _, accuracy := range []string{"exact", "leased"} {
		t.Run(accuracy, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			upstream, _ := origin(t)
			file := limitsFile(t, "limit: 1000, window: 1h, accuracy: "+accuracy)
			replicas := make([]*process, 4)
			for i := range replicas {
				replicas[i] = start(t, []string{patient}, "--config", file, "--upstream", upstream, "--redis", s.URL())
			}
			l := newLimited(t)
			if accuracy == "leased" {
				l.offer(replicas, 600)
				_ = replicas[3].command.Process.Kill()
				replicas[3].end()
				replicas = replicas[:3]
				if err := s.Client().ScriptFlush(t.Context()).Err(); err != nil {
					t.Error(err)
				}
			}
			l.offer(replicas, requests-l.statuses[200].Load())
			admitted, refused := l.statuses[200].Load(), l.statuses[429].Load()
			t.Logf("%d admitted, %d refused, %d not answered", admitted, refused, l.statuses[0].Load())
			switch {
			case admitted+refused < requests*95/100:
				t.Errorf("%d requests were answered", admitted+refused)
			case accuracy == "exact" && admitted != 1000, admitted > 1000, admitted < 750:
				t.Errorf("%d were admitted", admitted)
			}
			if p := replicas[0]; accuracy == "exact" {
				asked := p.metric("cacheproxy_limit_decisions_total", `by="redis"`)
				if known := p.metric("cacheproxy_limit_decisions_total", `by="refusal"`); known < 1 || asked > 1100 {
					t.Errorf("one process asked Redis %v times, and knew %v refusals", asked, known)
				}
			}
		})
	}
}

// Replicas are killed at any moment, and no key of a limit stays for ever.
func TestKilledReplicasLeaveNoKeyForEver(t *testing.T) { killReplicas(t, 4) }

// killReplicas kills one of two replicas so many times, under a load of many clients.
func killReplicas(t *testing.T, times int) {
	t.Helper()
	s := redistest.Start(t)
	upstream, _ := origin(t)
	file := limitsFile(t, "limit: 20, window: 1h, cost: {hit: 0}")
	begin := func() *process {
		return start(t, nil, "--config", file, "--upstream", upstream, "--redis", s.URL())
	}
	var replicas [2]atomic.Pointer[process]
	replicas[0].Store(begin())
	replicas[1].Store(begin())
	l := newLimited(t)
	done := make(chan struct{})
	var work sync.WaitGroup
	for i := range 6 {
		work.Go(func() {
			for n := 0; !over(done); n++ {
				l.ask(replicas[n%2].Load(), fmt.Sprintf("192.0.%d.%d", i, rand.N(250)))
			}
		})
	}
	for i := range times {
		time.Sleep(time.Duration(rand.N(int64(500 * time.Millisecond)))) // whatever it is doing then
		old := replicas[i%2].Load()
		_ = old.command.Process.Signal(syscall.SIGKILL)
		old.end()
		replicas[i%2].Store(begin())
	}
	close(done)
	work.Wait()
	client := s.Client()
	keys := 0
	for iter := client.Scan(t.Context(), 0, "cp:r:*", 1000).Iterator(); iter.Next(t.Context()); keys++ {
		if ttl, err := client.PTTL(t.Context(), iter.Val()).Result(); err != nil || ttl == -1 {
			t.Errorf("%s has no expiry: %v, %v", iter.Val(), ttl, err)
		}
	}
	if keys < 100 {
		t.Errorf("there are only %d keys", keys)
	}
	t.Logf("%d kills, %d keys, statuses 200: %d, 429: %d, none: %d", times, keys, l.statuses[200].Load(), l.statuses[429].Load(), l.statuses[0].Load())
}

// What clients see of a limit while Redis is away, and that a reload takes another limit into use.
func TestLimitsWithoutRedis(t *testing.T) {
	s := redistest.Start(t)
	upstream, _ := origin(t)
	file := limitsFile(t, "limit: 5, window: 1h, on_outage: closed")
	p := start(t, nil, "--config", file, "--upstream", upstream, "--redis", s.URL())
	l := newLimited(t)
	if res := l.ask(p, "192.0.2.7"); res == nil || res.StatusCode != 200 || res.Header.Get("RateLimit-Policy") != `"per-client";q=5;w=3600` {
		t.Fatalf("%+v", res)
	}
	s.Kill()
	var closed *http.Response
	p.until("it is not closed", func() bool {
		closed = l.ask(p, "192.0.2.7")
		return closed != nil && closed.StatusCode == http.StatusServiceUnavailable
	})
	if detail := closed.Header.Get("Cache-Status"); detail != "cacheproxy; detail=limit-unavailable" || closed.Header.Get("Retry-After") != "1" ||
		closed.Header.Get("Cache-Control") != "no-store" || closed.Header.Get("RateLimit") != "" {
		t.Errorf("%v", closed.Header)
	}
	rewrite(t, file, "on_outage: closed", "on_outage: local")
	if status, body := p.postReload(); status != http.StatusOK {
		t.Fatalf("%d %v", status, body)
	}
	for range 10 {
		l.ask(p, "192.0.2.8")
	}
	if n := l.statuses[429].Load(); n != 5 {
		t.Errorf("%d of ten were refused by a limit of five, counted here", n)
	}
	rewrite(t, file, "limit: 5", "limit: 0")
	if status, body := p.postReload(); status != http.StatusUnprocessableEntity || !strings.Contains(fmt.Sprint(body), "limits[0].limit") {
		t.Errorf("%d %v", status, body)
	}
}
