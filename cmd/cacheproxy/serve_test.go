package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// origin answers every path with a page that may be kept for a minute and says how many requests came before it.
func origin(t *testing.T) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "%s, request %d\n", r.URL.Path, requests.Add(1))
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

var hitStatus = regexp.MustCompile(`^cacheproxy; hit; ttl=(59|60|5\d)$`)

func TestSecondRequestIsAHit(t *testing.T) {
	url, requests := origin(t)
	p := start(t, nil, "--upstream", url)
	first := ask(t, p.public+"/page")
	if got := first.header.Get("Cache-Status"); !strings.HasPrefix(got, "cacheproxy; fwd=uri-miss") || !strings.Contains(got, "; stored") {
		t.Errorf("first answer: Cache-Status %q", got)
	}
	second := ask(t, p.public+"/page")
	if got := second.header.Get("Cache-Status"); !hitStatus.MatchString(got) {
		t.Errorf("second answer: Cache-Status %q", got)
	}
	if second.header.Get("Age") == "" || second.body != first.body || requests.Load() != 1 {
		t.Errorf("second answer: %+v after %d requests upstream", second, requests.Load())
	}
	p.await("no Redis is configured: responses are kept in near memory alone, which ends with this process")
}

func TestOperatorListener(t *testing.T) {
	url, _ := origin(t)
	p := start(t, nil, "--upstream", url)
	ask(t, p.public+"/")
	for path, want := range map[string]string{
		"/livez":      "live",
		"/readyz":     "ready",
		"/v1/version": `"version":"devel"`,
		"/metrics":    `cacheproxy_requests_total{outcome="uri-miss",tier="none"} 1`,
	} {
		if got := ask(t, p.operator+path); got.status != http.StatusOK || !strings.Contains(got.body, want) {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := ask(t, p.public+"/metrics"); strings.Contains(got.body, "cacheproxy_requests_total") {
		t.Error("the public listener shows metrics")
	}
}

func TestRestartedProcessAnswersFromRedis(t *testing.T) {
	url, requests := origin(t)
	server := redistest.Start(t)
	arguments := []string{"--upstream", url, "--redis", server.URL()}
	patient := []string{"CACHEPROXY_REDIS_TIMEOUT=10s"} // this is not about timeouts, and the machine may be busy
	p := start(t, patient, arguments...)
	p.await("Redis answers")
	first := p.askAs("http://shop.example/page")
	p.signal(syscall.SIGTERM) // ending writes what waits to be saved
	if code := p.end(); code != exitFine {
		t.Fatalf("exit code %d:\n%s", code, p.text())
	}
	p = start(t, patient, arguments...)
	got := p.askAs("http://shop.example/page")
	if !hitStatus.MatchString(got.header.Get("Cache-Status")) || got.body != first.body || requests.Load() != 1 {
		t.Errorf("after the restart: %+v after %d requests upstream", got, requests.Load())
	}
}

func TestRedisThatDoesNotAnswerIsNoReasonToEnd(t *testing.T) {
	url, _ := origin(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	p := start(t, []string{"CACHEPROXY_REDIS_URL=redis://user:hunter2@" + closed.Addr().String()}, "--upstream", url)
	if line := p.await("Redis does not answer: serving from near memory until it does"); line["level"] != "WARN" {
		t.Errorf("%v", line)
	}
	ask(t, p.public+"/page")
	if got := ask(t, p.public+"/page"); !hitStatus.MatchString(got.header.Get("Cache-Status")) {
		t.Errorf("Cache-Status %q", got.header.Get("Cache-Status"))
	}
	if got := ask(t, p.operator+"/readyz"); got.status != http.StatusOK {
		t.Errorf("not ready: %s", got.body)
	}
	if strings.Contains(p.text(), "hunter2") {
		t.Errorf("the password was logged:\n%s", p.text())
	}
}

// A Redis that comes later is used, and named with what decides how well it serves.
func TestRedisThatComesLater(t *testing.T) {
	url, _ := origin(t)
	server := redistest.Start(t, "--maxmemory", "64mb")
	server.Stop()
	p := start(t, []string{"CACHEPROXY_REDIS_TIMEOUT=10s", "CACHEPROXY_BREAKER_COOLDOWN=100ms"}, "--upstream", url, "--redis", server.URL())
	p.await("Redis does not answer: serving from near memory until it does")
	if got := ask(t, p.public+"/early"); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	server.Restart()
	line := p.await("Redis answers")
	if line["maxmemory"] != "64MiB" || line["eviction"] != "noeviction" || !strings.Contains(fmt.Sprint(line["hint"]), "allkeys-lru") {
		t.Errorf("%v", line)
	}
	p.awaitSaves(limit, func() { ask(t, p.public+fmt.Sprintf("/late/%d", time.Now().UnixNano())) })
}

// The Redis of redis.state_url is another one, named with its own hint: what is kept there must not be evicted.
func TestStateRedisIsNamed(t *testing.T) {
	url, _ := origin(t)
	cache, state := redistest.Start(t), redistest.Start(t, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
	p := start(t, []string{"CACHEPROXY_REDIS_STATE_URL=" + state.URL()}, "--upstream", url, "--redis", cache.URL())
	if line := p.await("the Redis for state answers"); !strings.Contains(fmt.Sprint(line["hint"]), "maxmemory-policy noeviction") {
		t.Errorf("%v", line)
	}
	if line := p.await("Redis answers"); strings.Contains(fmt.Sprint(line["hint"]), "state") {
		t.Errorf("%v", line)
	}
}

// slowOrigin answers when it is told to: arrived receives for each request, and each waits for one value of answer.
func slowOrigin(t *testing.T) (url string, arrived, answer chan struct{}) {
	t.Helper()
	arrived, answer = make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-answer:
			fmt.Fprint(w, "done")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, arrived, answer
}

func TestTermLetsRequestsEnd(t *testing.T) {
	url, arrived, answer := slowOrigin(t)
	p := start(t, nil, "--upstream", url)
	result := make(chan response, 1)
	go func() { result <- ask(t, p.public+"/slow") }()
	<-arrived
	p.signal(syscall.SIGTERM)
	p.await("ending: requests in flight may finish")
	if got := ask(t, p.operator+"/readyz"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "drain") {
		t.Errorf("/readyz while ending: %d %s", got.status, got.body)
	}
	answer <- struct{}{}
	if got := <-result; got.status != http.StatusOK || got.body != "done" {
		t.Errorf("the request in flight got %+v", got)
	}
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d:\n%s", code, p.text())
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	url, arrived, _ := slowOrigin(t)
	p := start(t, nil, "--upstream", url)
	cut := make(chan error, 1)
	transport := &http.Transport{DisableKeepAlives: true}
	go func() {
		r, err := (&http.Client{Transport: transport}).Get(p.public + "/slow")
		if err == nil {
			r.Body.Close()
		}
		cut <- err
	}()
	<-arrived
	p.signal(syscall.SIGINT)
	p.await("ending: requests in flight may finish")
	p.signal(syscall.SIGINT)
	if code := p.end(); code != exitFailed {
		t.Errorf("exit code %d:\n%s", code, p.text())
	}
	if <-cut == nil {
		t.Error("the request in flight was answered")
	}
}

func TestCutsWhatDoesNotEndInTime(t *testing.T) {
	url, arrived, _ := slowOrigin(t)
	p := start(t, []string{"CACHEPROXY_DRAIN_TIMEOUT=50ms"}, "--upstream", url)
	transport := &http.Transport{DisableKeepAlives: true}
	cut := make(chan error, 1)
	go func() {
		r, err := (&http.Client{Transport: transport}).Get(p.public + "/slow")
		if err == nil {
			r.Body.Close()
		}
		cut <- err
	}()
	<-arrived
	p.signal(syscall.SIGTERM)
	p.await("requests were cut: they had not ended in time")
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d:\n%s", code, p.text())
	}
	if lines := p.log(); lines[len(lines)-1]["msg"] != "ended" || p.await("request")["target"] != "/slow" {
		t.Errorf("the process ended before what it cut was logged:\n%s", p.text())
	}
	<-cut
}

func TestCleartextHTTP2WithPriorKnowledge(t *testing.T) {
	url, _ := origin(t)
	p := start(t, nil, "--upstream", url)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	for range 2 {
		got := askOver(t, &http.Transport{Protocols: protocols}, p.public+"/page")
		if got.proto != "HTTP/2.0" || got.status != http.StatusOK {
			t.Errorf("%+v", got)
		}
	}
	if got := ask(t, p.public+"/page"); got.proto != "HTTP/1.1" || !hitStatus.MatchString(got.header.Get("Cache-Status")) {
		t.Errorf("over HTTP/1.1: %+v", got)
	}
}

// net/http answers it by itself unless told not to.
func TestOptionsOfTheWholeServer(t *testing.T) {
	var asked atomic.Int64
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions && r.RequestURI == "*" {
			asked.Add(1)
		}
		w.Header().Set("Allow", "GET, BREW")
	}))
	upstream.Config.DisableGeneralOptionsHandler = true
	upstream.Start()
	t.Cleanup(upstream.Close)
	p := start(t, nil, "--upstream", upstream.URL)
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "OPTIONS * HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	got, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || got.Header.Get("Allow") != "GET, BREW" || asked.Load() != 1 {
		t.Errorf("%v, %v; upstream was asked %d times", got, err, asked.Load())
	}
}

// Several listeners, one of them a unix socket that a killed process left behind.
func TestListensOnSeveralAddresses(t *testing.T) {
	url, _ := origin(t)
	socket := filepath.Join(t.TempDir(), "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf("listen: ['127.0.0.1:0', 'unix:%s']\nadmin: {listen: ''}\nupstream: %s\n", socket, url)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, nil, "serve", "--config", file)
	p.await("no Redis is configured: responses are kept in near memory alone, which ends with this process")
	over := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	if got := askOver(t, over, "http://shop.example/page"); got.status != http.StatusOK {
		t.Errorf("over the socket: %+v", got)
	}
	if got := ask(t, "http://"+p.await("listening")["address"].(string)+"/page"); got.status != http.StatusOK {
		t.Errorf("over TCP: %+v", got)
	}
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d:\n%s", code, p.text())
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket was left behind")
	}
}

// On SIGTERM the process serves on for drain.delay, so that balancers have time to see that /readyz fails.
func TestDrainDelay(t *testing.T) {
	url, _ := origin(t)
	p := start(t, []string{"CACHEPROXY_DRAIN_DELAY=1h"}, "--upstream", url)
	p.signal(syscall.SIGTERM)
	p.await("ending: requests in flight may finish")
	if got := ask(t, p.operator+"/readyz"); got.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %+v", got)
	}
	if got := ask(t, p.public+"/page"); got.status != http.StatusOK {
		t.Errorf("during the delay: %+v", got)
	}
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != exitFailed {
		t.Errorf("exit code %d after a second signal", code)
	}
	p = start(t, []string{"CACHEPROXY_DRAIN_DELAY=1h"}, "--upstream", url)
	p.signal(syscall.SIGINT) // a person does not wait for balancers
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d after SIGINT", code)
	}
}
