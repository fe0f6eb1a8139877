package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cacheproxy/admin"
	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/redistest"
)

// replica starts a process of that name on a Redis, and waits until it follows the log of purges.
func replica(t *testing.T, name, redisURL string, more ...string) *process {
	t.Helper()
	url, _ := origin(t)
	p := start(t, append([]string{"CACHEPROXY_INSTANCE=" + name, "CACHEPROXY_REDIS_PREFIX=cp"}, more...), "--upstream", url, "--redis", redisURL)
	p.await("following the log of purges")
	return p
}

// tell runs a command line against p, and returns what it says and its exit code.
func (p *process) tell(arguments ...string) (out, prose string, code int) {
	p.t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(append(arguments, "--admin", p.operator), &stdout, &stderr)
	return stdout.String(), stderr.String(), code
}

// purge posts a purge and returns the receipt, or the problem's detail.
func (p *process) purge(query, body string) (status int, r admin.Receipt, told map[string]any) {
	p.t.Helper()
	res, err := http.Post(p.operator+"/v1/purge"+query, "application/json", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &told); err != nil {
		p.t.Fatalf("%v: %s", err, text)
	}
	if res.StatusCode/100 == 2 {
		if err := json.Unmarshal(text, &r); err != nil || r.Receipt == nil {
			p.t.Fatalf("%v: %s", err, text)
		}
	}
	return res.StatusCode, r, told
}

// stop stops the process, and returns when all its threads are.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	for deadline := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.command.Process.Pid))
		stopped := 0
		for _, file := range threads {
			stat, _ := os.ReadFile(file)
			if i := bytes.LastIndexByte(stat, ')'); i > 0 && bytes.HasPrefix(stat[i:], []byte(") T")) {
				stopped++
			}
		}
		if stopped > 0 && stopped == len(threads) {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%d of %d threads are stopped", stopped, len(threads))
		}
	}
}

// named reports whether the ids are those of instances.
func named(ids []string, instances ...string) bool {
	var got []string
	for _, id := range ids {
		instance, _, _ := strings.Cut(id, "#")
		got = append(got, instance)
	}
	return slices.Equal(got, instances)
}

// A receipt is complete when both have applied the purge, and names the one that is stopped, until it is back.
func TestPurgeOnTwoReplicas(t *testing.T) {
	server := redistest.StartSettled(t)
	a, b := replica(t, "a", server.URL()), replica(t, "b", server.URL())
	status, first, _ := a.purge("?wait=20s", `{"url": "https://shop.example/products/1"}`)
	if status != 200 || !first.Complete || !named(first.Applied, "a", "b") {
		t.Errorf("%d %+v", status, first)
	}
	out, prose, code := b.tell("purge", "https://shop.example/products/2", "https://shop.example/products*", "--soft", "--wait", "20s")
	for _, want := range []string{"soft, URL https://shop.example/products/2\n", "soft, pattern https://shop.example/products*\n", "applied   by all, 2 of 2\n", "          a#", "          b#"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if code != exitFine || prose != "" {
		t.Errorf("exit code %d: %s", code, prose)
	}

	b.stop()
	status, r, _ := a.purge("?wait=50ms", `{"tags": ["product-42"]}`)
	if status != 202 || r.Complete || !named(r.Applied, "a") || !named(append(r.Lagging, r.Silent...), "b") {
		t.Errorf("%d %+v", status, r.Receipt)
	}
	a.until("b is never silent", func() bool {
		_, r, _ = a.purge("?wait=0", `{"all": true}`)
		return r.Receipt != nil && named(r.Silent, "b") // nil where the log did not answer in time
	})
	out, prose, code = a.tell("purge", "--tag", "x", "--tag", "y", "--match-all")
	if code != exitFailed || !strings.Contains(out, "all of tags x, y\n") || !strings.Contains(out, "applied   by 1 of 2\n") ||
		!regexp.MustCompile(`\n +b#\w{8}: has not, and is silent`).MatchString(out) || !strings.Contains(prose, "1 of 1 purges are appended") {
		t.Errorf("exit code %d: %s\n%s", code, prose, out)
	}
	if out, _, _ := a.tell("replicas"); !regexp.MustCompile(`(?m)^live +a#`).MatchString(out) || !regexp.MustCompile(`(?m)^silent +b#`).MatchString(out) {
		t.Error(out)
	}
	a.awaitMetric("cacheproxy_replicas", `"silent"`)

	b.signal(syscall.SIGCONT)
	recorded := ask(t, fmt.Sprintf("%s/v1/purges/%v?wait=20s", a.operator, r.Sequence))
	var one admin.Recorded
	for deadline := time.Now().Add(limit); !one.Receipt.Complete; recorded = ask(t, fmt.Sprintf("%s/v1/purges/%v", a.operator, r.Sequence)) {
		if err := json.Unmarshal([]byte(recorded.body), &one); err != nil || time.Now().After(deadline) {
			t.Fatalf("%v: %s", err, recorded.body)
		}
	}
	out, _, _ = b.tell("purges", "-n", "2")
	if lines := strings.Split(out, "\n"); len(lines) != 3 || !strings.Contains(lines[0], "all of tags x, y  by 127.0.0.1 cacheproxy purge") || !strings.Contains(lines[1], "everything  by 127.0.0.1") {
		t.Error(out)
	}
	if out, prose, code := b.tell("purges", first.Sequence.String()); code != exitFine || !strings.Contains(out, "URL https://shop.example/products/1") || !strings.Contains(out, "by all, 2 of 2") {
		t.Errorf("exit code %d: %s\n%s", code, prose, out)
	}
	for deadline := time.Now().Add(limit); b.metric("cacheproxy_invalidation_sequence", "") < float64(r.Sequence); {
		if time.Now().After(deadline) {
			t.Fatal("the sequence does not move")
		}
	}
}

// What is purged on one replica is served by none, from memory or from Redis; softly, it is stale.
func TestPurgedIsServedByNobody(t *testing.T) {
	server := redistest.StartSettled(t)
	patient := "CACHEPROXY_REDIS_TIMEOUT=10s"
	a, b := replica(t, "a", server.URL(), patient), replica(t, "b", server.URL(), patient)
	// Each has an origin of its own, so that both can be seen to have asked.
	status := func(p *process) string { return p.askAs("http://shop.example/page").header.Get("Cache-Status") }
	for _, purge := range []string{`{"url": "http://shop.example/page"}`, `{"pattern": "shop.example/p*"}`, `{"all": true}`, `{"all": true, "soft": true}`} {
		for _, p := range []*process{a, b} {
			for deadline := time.Now().Add(limit); !hitStatus.MatchString(status(p)); {
				if time.Now().After(deadline) {
					t.Fatalf("never a hit:\n%s", p.text())
				}
			}
		}
		if code, r, _ := a.purge("?wait=20s", purge); code != 200 {
			t.Errorf("%d %+v", code, r.Receipt)
		}
		if got := status(b); !strings.Contains(got, "fwd=") {
			t.Errorf("%s: %s", purge, got)
		}
	}
	for deadline := time.Now().Add(limit); server.Admin().Exists(t.Context(), "cp:{inv}:swept").Val() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is swept")
		}
	}
}

// One that ends leaves the list; one that is killed stays on it until it is struck off, or its name is taken again.
func TestReplicasThatGo(t *testing.T) {
	server := redistest.StartSettled(t)
	a, b, c := replica(t, "a", server.URL()), replica(t, "b", server.URL()), replica(t, "c", server.URL())
	c.signal(syscall.SIGTERM)
	if code := c.end(); code != exitFine {
		t.Errorf("exit code %d:\n%s", code, c.text())
	}
	if status, r, _ := a.purge("?wait=20s", `{"all": true}`); status != 200 || !named(r.Applied, "a", "b") {
		t.Errorf("%d %+v", status, r.Receipt)
	}
	b.signal(syscall.SIGKILL)
	b.end()
	status, r, _ := a.purge("?wait=2s", `{"all": true}`)
	if status != 202 || !named(r.Applied, "a") || !named(append(r.Lagging, r.Silent...), "b") {
		t.Fatalf("%d %+v", status, r.Receipt)
	}
	dead := append(r.Lagging, r.Silent...)[0]
	if _, prose, code := a.tell("replicas", "--remove", dead); code != exitFine || !strings.Contains(prose, dead+" is struck off") {
		t.Errorf("exit code %d: %s", code, prose)
	}
	if _, prose, code := a.tell("replicas", "--remove", dead); code != exitFailed || !strings.Contains(prose, "404") {
		t.Errorf("exit code %d: %s", code, prose)
	}
	if status, r, _ := a.purge("?wait=20s", `{"all": true}`); status != 200 || !named(r.Applied, "a") {
		t.Errorf("%d %+v", status, r.Receipt)
	}
	replica(t, "b", server.URL())
	if status, r, _ := a.purge("?wait=20s", `{"all": true}`); status != 200 || !named(r.Applied, "a", "b") {
		t.Errorf("%d %+v", status, r.Receipt)
	}
}

// Whatever becomes of Redis, the answer says what is known, and the history shows what happened.
func TestPurgeWhileRedisIsInTrouble(t *testing.T) {
	server := redistest.StartSettled(t)
	p := replica(t, "a", server.URL())
	fails := func(appended string) {
		t.Helper()
		status, _, told := p.purge("", `{"all": true}`)
		detail, _ := told["detail"].(string)
		if status != 503 || told["appended"] != appended || strings.Contains(detail, "nothing was purged") != (appended == "no") ||
			strings.Contains(detail, "may have been appended") != (appended == "unknown") {
			t.Errorf("%d %v, want %q", status, told, appended)
		}
	}
	admin := server.Admin()
	for _, set := range [][2]string{{"maxmemory-policy", "noeviction"}, {"maxmemory", "1"}} {
		if err := admin.ConfigSet(t.Context(), set[0], set[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := admin.Set(t.Context(), "cp:x", "x", 0).Err(); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("Redis is not full: %v", err)
	}
	if status, r, _ := p.purge("?wait=20s", `{"url": "http://full.example/"}`); status != 200 || !r.Complete {
		t.Errorf("a full Redis: %d %+v", status, r.Receipt)
	}
	if err := admin.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	server.Pause()
	fails("unknown")
	if _, prose, code := p.tell("purge", "http://paused.example/"); code != exitFailed || !strings.Contains(prose, "URL http://paused.example/: 503 Service Unavailable: ") {
		t.Errorf("exit code %d: %s", code, prose)
	}
	if got := ask(t, p.operator+"/v1/purges"); got.status != 503 {
		t.Errorf("%+v", got)
	}
	server.Resume()
	if status, r, _ := p.purge("?wait=20s", `{"url": "http://back.example/"}`); status != 200 || !r.Complete {
		t.Errorf("%d %+v", status, r.Receipt)
	}
	if body := ask(t, p.operator+"/v1/purges").body; !strings.Contains(body, `"all":true`) { // it was taken when Redis went on
		t.Error(body)
	}
	server.Kill()
	fails("no")
	if got := ask(t, p.operator+"/readyz"); got.status != 200 {
		t.Errorf("%+v", got)
	}
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d:\n%s", code, p.text())
	}
	p.await("this replica could not take itself off the list of those who follow the purges: it will be called silent until it is back or removed")
}

// A process that has not found its Redis yet may be sent requests, and says that purges do not reach it.
func TestNotRegistered(t *testing.T) {
	server := redistest.StartSettled(t)
	server.Kill()
	url, _ := origin(t)
	p := start(t, []string{"CACHEPROXY_INSTANCE=a"}, "--upstream", url, "--redis", server.URL())
	if got := ask(t, p.operator+"/readyz"); got.status != 200 || !strings.Contains(got.body, `"notes":[{"name":"purges"`) {
		t.Errorf("%+v", got)
	}
	if n := p.metric("cacheproxy_replicas", `"unregistered"`); n != 1 {
		t.Errorf("%v unregistered", n)
	}
	server.Restart()
	p.await("following the log of purges")
	if got := ask(t, p.operator+"/readyz"); got.status != 200 || strings.Contains(got.body, "notes") {
		t.Errorf("%+v", got)
	}
	if n := p.metric("cacheproxy_replicas", `"unregistered"`); n != 0 {
		t.Errorf("%v unregistered", n)
	}
}

func TestPurgeNeedsTheToken(t *testing.T) {
	url, _ := origin(t)
	right, wrong := tokenFile(t, "s3cret"), tokenFile(t, "other")
	p := start(t, []string{"CACHEPROXY_ADMIN_TOKEN_FILE=" + right}, "--upstream", url)
	if _, prose, code := p.tell("purge", "--all"); code != exitFailed || !strings.Contains(prose, "401 Unauthorized: want Authorization: Bearer") {
		t.Errorf("exit code %d: %s", code, prose)
	}
	if _, prose, code := p.tell("purge", "--all", "--token-file", wrong); code != exitFailed || !strings.Contains(prose, "401 Unauthorized: ") {
		t.Errorf("exit code %d: %s", code, prose)
	}
	out, prose, code := p.tell("purge", "--all", "--token-file", right, "--json")
	var r admin.Receipt
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitFine || !r.Complete || len(r.Applied) != 1 {
		t.Errorf("exit code %d: %s\n%s", code, prose, out)
	}
	if out, _, _ := p.tell("purges", "--token-file", right); strings.Count(out, "\n") != 1 {
		t.Errorf("more was purged than the token allowed: %s", out)
	}
}

// The log is where state is, in every kind of Redis, also through the loss of its master.
func TestPurgeByWayOf(t *testing.T) {
	t.Run("another Redis for state", func(t *testing.T) {
		responses, state := redistest.StartSettled(t), redistest.StartSettled(t)
		p := replica(t, "a", responses.URL(), "CACHEPROXY_REDIS_STATE_URL="+state.URL())
		if status, r, _ := p.purge("?wait=20s", `{"all": true}`); status != 200 || !r.Complete {
			t.Errorf("%d %+v", status, r.Receipt)
		}
		if n, m := responses.Admin().Exists(t.Context(), "cp:{inv}:log").Val(), state.Admin().Exists(t.Context(), "cp:{inv}:log").Val(); n != 0 || m != 1 {
			t.Errorf("the log is in %d of the first and %d of the second", n, m)
		}
	})
	t.Run("cluster", func(t *testing.T) {
		cluster := redistest.StartCluster(t, 3, 1)
		testPurgeThroughFailover(t, cluster.URL(), func() { cluster.MasterOf("cp:{inv}:log").Kill() })
	})
	t.Run("sentinel", func(t *testing.T) {
		sentinel := redistest.StartSentinel(t, 1)
		testPurgeThroughFailover(t, sentinel.URL(), func() { sentinel.Master().Kill() })
	})
}

func testPurgeThroughFailover(t *testing.T, url string, lose func()) {
	a := replica(t, "a", url)
	replica(t, "b", url)
	if status, r, _ := a.purge("?wait=20s", `{"all": true}`); status != 200 || !named(r.Applied, "a", "b") {
		t.Fatalf("%d %+v", status, r)
	}
	lose()
	status, r, told := a.purge("?wait=20s", `{"all": true}`)
	for deadline := time.Now().Add(limit); status != 200 || !named(r.Applied, "a", "b"); status, r, told = a.purge("?wait=20s", `{"all": true}`) {
		if time.Now().After(deadline) {
			t.Fatalf("%d %v\n%s", status, told, a.text())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestHorizon(t *testing.T) {
	c := config.Default()
	if got := horizon(c); got != 90*time.Second {
		t.Errorf("%v", got)
	}
}

func TestWhatAnArgumentIs(t *testing.T) {
	for _, tt := range []struct {
		argument       string
		exact, pattern bool
		want           string
	}{
		{argument: "http://a.example/?q=[1]", want: "URL http://a.example/?q=[1]"},
		{argument: "http://[::1]:8080/", want: "URL http://[::1]:8080/"},
		{argument: "http://a.example/*", want: "pattern http://a.example/*"},
		{argument: `http://a.example/\*x`, want: "URL http://a.example/*x"},
		{argument: `http://a.example/\*x*`, want: `pattern http://a.example/\*x*`},
		{argument: "http://a.example/*", exact: true, want: "URL http://a.example/*"},
		{argument: `http://a.example/\*`, exact: true, want: `URL http://a.example/\*`},
		{argument: "http://a.example/?", pattern: true, want: "pattern http://a.example/?"},
	} {
		f := purgeFlags{exact: tt.exact, pattern: tt.pattern}
		list, err := f.purges([]string{tt.argument})
		if err != nil || len(list) != 1 || selection(&list[0]) != tt.want || (list[0].Pattern != nil) != strings.HasPrefix(tt.want, "pattern") {
			t.Errorf("%s: %+v, %v", tt.argument, list, err)
		}
	}
}
