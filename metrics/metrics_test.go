package metrics

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write testdata/exposition.golden from what is exposed now")

const golden = "testdata/exposition.golden"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exposition returns what a scrape of m shows of our own metrics.
func exposition(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var own strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			own.WriteString(line)
		}
	}
	return own.String()
}

// everything counts one of each.
func everything(m *Metrics) {
	m.Requests("hit", "near").Observe(40 * time.Microsecond)
	m.Requests("hit", "redis").Observe(400 * time.Microsecond)
	m.Requests("uri-miss", "none")
	m.UpstreamSeconds("default", 20*time.Millisecond)
	m.UpstreamError("connection_refused")
	m.RedisSeconds("lookup", 300*time.Microsecond)
	m.RedisError("timeout")
	m.BreakerState("redis", 2)
	m.NearSource(func() float64 { return 4096 }, func() float64 { return 3 })
	m.NearEviction(2)
	m.Save("ok")
	m.Refusal("no-store")
	m.FillWaiters(3)
	m.FillWaiters(-1)
	m.Connections(2)
	m.Connections(-1)
	m.Fault("bare-lf")
	m.Generation(2)
	m.Reload("ok")
	m.Limit("per-client", "allowed").Inc()
	m.LimitSource("per-client", "lease").Inc()
	m.Corrupt()
	m.Purges("unsafe", "ok", 1)
	m.Event("appended")
	m.EventCut()
	m.EventSent("purge", "ok")
	m.PurgeSource(func() PurgeLog {
		return PurgeLog{Sequence: 1795690000000000, Lag: .25, Replicas: map[string]int{"live": 2, "silent": 1, "fenced": 0, "unregistered": 0}}
	})
}

func TestExposition(t *testing.T) {
	m := New()
	everything(m)
	got := exposition(t, m)
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the exposition changed; it is a contract. If that is meant, run go test ./metrics -update\n got:\n%s\nwant:\n%s", got, want)
	}
}

func TestRuntimeIsExposed(t *testing.T) {
	families, err := New().Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		seen[f.GetName()] = true
	}
	for _, name := range []string{"go_goroutines", "process_start_time_seconds"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestNearIsSilentWithoutSource(t *testing.T) {
	m := New()
	if got := exposition(t, m); strings.Contains(got, "cacheproxy_near_bytes") {
		t.Error("near_bytes shown although nothing feeds it")
	}
	m.NearSource(func() float64 { return 1 }, func() float64 { return 1 })
	m.NearSource(func() float64 { return 2 }, func() float64 { return 1 })
	if got := exposition(t, m); !strings.Contains(got, "cacheproxy_near_bytes 2\n") {
		t.Error("the second source did not replace the first")
	}
}

func TestNilCountsNothing(t *testing.T) {
	var m *Metrics
	everything(m)
	if m.Registry() != nil {
		t.Error("a nil Metrics has a registry")
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("status %d, want 404", w.Code)
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	o := New().Requests("hit", "near")
	if n := testing.AllocsPerRun(100, func() { o.Observe(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	o := New().Requests("hit", "near")
	b.ReportAllocs()
	for b.Loop() {
		o.Observe(40 * time.Microsecond)
	}
}
