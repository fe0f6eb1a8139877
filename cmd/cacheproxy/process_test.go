package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a cacheproxy of its own: the test binary, told to be the command.
type process struct {
	t        *testing.T
	command  *exec.Cmd
	public   string // http://127.0.0.1:PORT
	operator string
	ended    chan int // its exit code, once

	mu    sync.Mutex
	lines []logLine
	news  chan struct{} // a line came, or the stream ended
}

// logLine is one line of the log: a JSON object, or prose under "text".
type logLine map[string]any

// limit bounds every wait of these tests; nothing comes near it unless something hangs.
const limit = 30 * time.Second

// start runs `cacheproxy serve` on free ports with more arguments and variables, and waits until it listens.
func start(t *testing.T, variables []string, arguments ...string) *process {
	t.Helper()
	arguments = append([]string{"serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, arguments...)
	p := launch(t, variables, arguments...)
	p.public = "http://" + p.await("listening")["address"].(string)
	p.operator = "http://" + p.await("listening for operators")["address"].(string)
	return p
}

// launch starts any command line. The process is ended with the test.
func launch(t *testing.T, variables []string, arguments ...string) *process {
	t.Helper()
	return launchTo(t, nil, variables, arguments...)
}

// launchTo is launch with a place for standard output; nil = nowhere.
func launchTo(t *testing.T, stdout *os.File, variables []string, arguments ...string) *process {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, command: exec.Command(binary, arguments...), ended: make(chan int, 1), news: make(chan struct{}, 1)}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "CACHEPROXY_") {
			p.command.Env = append(p.command.Env, variable)
		}
	}
	p.command.Env = append(p.command.Env, asCacheproxy+"=1", quickRace, "CACHEPROXY_DRAIN_DELAY=0s")
	p.command.Env = append(p.command.Env, variables...)
	if stdout != nil {
		p.command.Stdout = stdout
	}
	stderr, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go p.read(stderr, read)
	go func() {
		<-read
		_ = p.command.Wait()
		p.ended <- p.command.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-read
	})
	return p
}

func (p *process) read(stderr io.Reader, done chan<- struct{}) {
	defer close(done)
	scanner := bufio.NewScanner(stderr)
	for scanner.Scan() {
		line := logLine{}
		if json.Unmarshal(scanner.Bytes(), &line) != nil {
			line = logLine{"text": scanner.Text()}
		}
		p.mu.Lock()
		p.lines = append(p.lines, line)
		p.mu.Unlock()
		select {
		case p.news <- struct{}{}:
		default:
		}
	}
}

// await returns the first line of the log whose msg, or text, is what, waiting for it.
func (p *process) await(what string) logLine {
	p.t.Helper()
	timeout := time.After(limit)
	for {
		for _, line := range p.log() {
			if line["msg"] == what || line["text"] == what {
				return line
			}
		}
		select {
		case <-p.news:
		case code := <-p.ended:
			p.ended <- code
			p.t.Fatalf("it ended with code %d before %q:\n%s", code, what, p.text())
		case <-timeout:
			p.t.Fatalf("%q was not logged:\n%s", what, p.text())
		}
	}
}

func (p *process) log() []logLine {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]logLine(nil), p.lines...)
}

// text is the whole log, for messages and searches.
func (p *process) text() string {
	var all strings.Builder
	for _, line := range p.log() {
		text, _ := json.Marshal(line)
		all.Write(append(text, '\n'))
	}
	return all.String()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// end waits until the process has ended and returns its exit code.
func (p *process) end() int {
	p.t.Helper()
	select {
	case code := <-p.ended:
		p.ended <- code
		return code
	case <-time.After(limit):
		p.t.Fatalf("it did not end:\n%s", p.text())
		return -1
	}
}

// response is what ask saw.
type response struct {
	status int
	header http.Header
	body   string
	proto  string
}

// ask sends a GET on a connection of its own and reads all of the response.
func ask(t *testing.T, url string) response {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	return askOver(t, transport, url)
}

// askAs sends a GET for a URL of any host to the process: the host is part of what responses are kept under.
func (p *process) askAs(url string) response {
	p.t.Helper()
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(p.public, "http://"))
	}
	return askOver(p.t, &http.Transport{DialContext: dial}, url)
}

func askOver(t *testing.T, transport *http.Transport, url string) response {
	t.Helper()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: limit}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{r.StatusCode, r.Header, string(body), r.Proto}
}

// metric is the sum of a metric's series whose labels contain with.
func (p *process) metric(name, with string) (sum float64) {
	p.t.Helper()
	scanner := bufio.NewScanner(strings.NewReader(ask(p.t, p.operator+"/metrics").body))
	for scanner.Scan() {
		series, value, _ := strings.Cut(scanner.Text(), " ")
		if base, labels, _ := strings.Cut(series, "{"); base == name && strings.Contains(labels, with) {
			v, _ := strconv.ParseFloat(value, 64)
			sum += v
		}
	}
	return sum
}

// await asks until what it waits for is so. If that takes too long the test ends with what otherwise says.
func await(t testing.TB, is func() bool, otherwise func() string) {
	t.Helper()
	for deadline := time.Now().Add(limit); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", limit, otherwise())
		}
	}
}

// until is await; when that has taken too long, what the process has said is told too.
func (p *process) until(otherwise string, is func() bool) {
	p.t.Helper()
	await(p.t, is, func() string { return otherwise + "\n" + p.text() })
}

// awaitMetric waits until a metric, summed as by metric, is above 0.
func (p *process) awaitMetric(name, with string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%s{%s} stays 0", name, with), func() bool { return p.metric(name, with) > 0 })
}

// resident is the memory of the process in bytes, now and at its highest.
func (p *process) resident() (now, highest int64) {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			now = kib << 10
		case "VmHWM":
			highest = kib << 10
		}
	}
	return now, highest
}
