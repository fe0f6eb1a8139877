package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// runSpec is what tells one run from another.
type runSpec struct {
	name   string
	config string // key of expected.json; configFiles has its file
	redis  bool
	far    bool // nothing fits near memory: each stored response is read from Redis
}

// settle is how long the client waits before each request. Responses are saved
// to Redis off the request's path, so where only Redis has them the next request
// must not follow at once.
func (s runSpec) settle() time.Duration {
	if s.far {
		return 300 * time.Millisecond
	}
	return 0
}

// configFiles has the configuration file of each configuration, in the directory
// of this command; "" is no file at all.
var configFiles = map[string]string{"defaults": "", "suite": "suite.yaml"}

var allRuns = []runSpec{
	{name: "defaults", config: "defaults"},
	{name: "suite", config: "suite"},
	{name: "defaults+redis", config: "defaults", redis: true},
	{name: "suite+redis", config: "suite", redis: true},
	{name: "suite+redis-only", config: "suite", redis: true, far: true},
}

func runNames() (names []string) {
	for _, r := range allRuns {
		names = append(names, r.name)
	}
	return names
}

// chooseRuns returns the runs with the given comma-separated names, or all.
func chooseRuns(names string) ([]runSpec, error) {
	if names == "" {
		return allRuns, nil
	}
	var chosen []runSpec
next:
	for name := range strings.SplitSeq(names, ",") {
		for _, r := range allRuns {
			if r.name == name {
				chosen = append(chosen, r)
				continue next
			}
		}
		return nil, fmt.Errorf("conformance: no run %q, only %s", name, strings.Join(runNames(), ", "))
	}
	return chosen, nil
}

// proxyName begins the name of each cacheproxy process; the run's follows.
const proxyName = "cacheproxy-"

// lab holds the processes of all runs.
type lab struct {
	suiteDir string // where node_modules is
	work     string // logs and Redis's working directories
	pace     time.Duration
	upstream string // URL of the origin, set by startOrigin

	mu        sync.Mutex
	processes []*process
	ports     map[int]bool // handed out by freePorts
}

func (l *lab) own(p *process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes = append(l.processes, p)
}

// stop ends all processes, side by side: none needs another to end well. It
// reports each cacheproxy that did not end as it should after SIGTERM, with
// status 0, as one does not that panicked or that raced when built with -race.
func (l *lab) stop() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var wg sync.WaitGroup
	for _, p := range l.processes {
		wg.Go(p.stop)
	}
	wg.Wait()
	var errs []error
	for _, p := range l.processes {
		if p.err != nil && strings.HasPrefix(p.name, proxyName) {
			errs = append(errs, fmt.Errorf("conformance: %s ended badly: %w\n%s", p.name, p.err, p.tail()))
		}
	}
	l.processes = nil
	return errors.Join(errs...)
}

// startOrigin starts the suite's server on port, 0 for any, and learns its port
// from the first line that it prints. One origin serves all runs: every test of
// every run has a random path.
func (l *lab) startOrigin(ctx context.Context, port int) error {
	r, w := io.Pipe()
	p, err := start("origin", l.work, nil, w, "node", filepath.Join(l.suiteDir, "origin.mjs"), strconv.Itoa(port))
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("conformance: node is not installed; the suite needs Node.js 18 or newer")
	}
	if err != nil {
		return err
	}
	l.own(p)
	first := make(chan string, 1)
	go func() {
		lines := bufio.NewReader(r)
		line, _ := lines.ReadString('\n')
		first <- strings.TrimSpace(line)
		io.Copy(io.Discard, lines) // the handlers' warnings; the client reports their effect
	}()
	go func() { <-p.done; w.Close() }()
	select {
	case line := <-first:
		if _, err := strconv.Atoi(line); err != nil {
			return fmt.Errorf("conformance: the origin printed %q instead of its port\n%s", line, p.tail())
		}
		l.upstream = "http://127.0.0.1:" + line
		return nil
	case <-ctx.Done():
		return fmt.Errorf("conformance: start origin: %w", ctx.Err())
	}
}

// do starts the processes of one run and passes the suite through them. They go
// on running until l.stop, for retries.
func (l *lab) do(ctx context.Context, spec runSpec, o options) (*run, error) {
	r := &run{spec: spec, base: o.base}
	if r.base == "" {
		var err error
		if r.base, err = l.startProxy(ctx, spec, o); err != nil {
			return nil, err
		}
	}
	var ids []string
	if o.only != "" {
		ids = strings.Split(o.only, ",")
	}
	var err error
	r.results, err = l.client(ctx, r, ids)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", spec.name, err)
	}
	return r, nil
}

// startProxy starts cacheproxy (and Redis) for a run, waits until it is ready
// and returns its URL.
func (l *lab) startProxy(ctx context.Context, spec runSpec, o options) (string, error) {
	if _, err := os.Stat(o.bin); err != nil {
		return "", fmt.Errorf("conformance: %w (make build builds it; -bin names another)", err)
	}
	ports, err := l.freePorts(3)
	if err != nil {
		return "", err
	}
	listen, admin := "127.0.0.1:"+ports[0], "127.0.0.1:"+ports[1]
	args := []string{"serve", "--upstream", l.upstream, "--listen", listen, "--admin", admin}
	if file := configFiles[spec.config]; file != "" {
		args = append(args, "--config", filepath.Join(o.dir, file))
	}
	if spec.redis {
		url, err := l.startRedis(ctx, spec, ports[2])
		if err != nil {
			return "", err
		}
		args = append(args, "--redis", url)
	}
	env := []string{"CACHEPROXY_DRAIN_DELAY=0s"} // nobody has to notice that it is going away
	if spec.redis {
		// This machine is busier than a proxy's: a slow answer of Redis is not what
		// the suite is about.
		env = append(env, "CACHEPROXY_REDIS_TIMEOUT=2s")
	}
	if spec.far {
		env = append(env, "CACHEPROXY_NEAR_MAX_OBJECT=1")
	}
	p, err := start(proxyName+spec.name, l.work, env, nil, o.bin, args...)
	if err != nil {
		return "", err
	}
	l.own(p)
	return "http://" + listen, p.until(ctx, func() error { return answersOK("http://" + admin + "/readyz") })
}

// startRedis starts a redis-server that persists nothing and returns its URL.
func (l *lab) startRedis(ctx context.Context, spec runSpec, port string) (string, error) {
	dir := filepath.Join(l.work, "redis-"+spec.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("conformance: %w", err)
	}
	p, err := start("redis-server-"+spec.name, l.work, nil, nil, "redis-server",
		"--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", dir)
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("conformance: redis-server is not installed; -runs defaults,suite does without")
	}
	if err != nil {
		return "", err
	}
	l.own(p)
	addr := "127.0.0.1:" + port
	return "redis://" + addr, p.until(ctx, func() error { return answersPing(addr) })
}

// client runs the suite's client against r.base, all tests or those with ids.
func (l *lab) client(ctx context.Context, r *run, ids []string) ([]result, error) {
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	args := append([]string{
		"--no-warnings", filepath.Join(l.suiteDir, "client.mjs"), r.base, ms(l.pace), ms(r.spec.settle()),
	}, ids...)
	cmd := exec.CommandContext(ctx, "node", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("conformance: the suite's client: %w\n%s", err, stderr.Bytes())
	}
	return parseResults(stdout)
}

// freePorts returns n loopback ports that are free now and that it returned to
// nobody before. They lie below the range from which the system takes the local
// ports of outgoing connections, which come and go by the thousand here.
func (l *lab) freePorts(n int) ([]string, error) {
	const lowest, highest = 20000, 32000
	l.mu.Lock()
	defer l.mu.Unlock()
	var ports []string
	for range 1000 {
		port := lowest + rand.IntN(highest-lowest)
		ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		ln.Close()
		if l.ports[port] {
			continue
		}
		l.ports[port] = true
		if ports = append(ports, strconv.Itoa(port)); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("conformance: no free loopback ports between %d and %d", lowest, highest)
}

// answersOK reports whether url answers 200.
func answersOK(url string) error {
	c := http.Client{Timeout: time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return nil
}

// answersPing reports whether a Redis at addr answers PING.
func answersPing(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if line != "+PONG\r\n" {
		return fmt.Errorf("redis answered %q to PING", line)
	}
	return nil
}
