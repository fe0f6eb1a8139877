//go:build consistency

package consistency

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cacheproxy/redistest"
)

// replica is a process of cacheproxy serve, or what comes after it under the same name.
type replica struct {
	t      testing.TB
	name   string
	fault  *redistest.Fault // between it and Redis
	state  *redistest.Fault // between it and the Redis of the log, where that is another one
	config string
	env    []string

	mu       sync.Mutex
	process  *exec.Cmd
	public   string        // address
	operator string        // address
	id       string        // among those who follow the log; "" = it does not follow yet
	since    time.Time     // when it began to follow
	gone     chan struct{} // closed when it has ended and its log is read
	log      []string
	news     chan struct{}
}

// start runs the process, and returns when it listens.
func (r *replica) start() {
	r.t.Helper()
	command := exec.Command(binaryOf(r.t, r.env), "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config", r.config)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "CACHEPROXY_") {
			command.Env = append(command.Env, variable)
		}
	}
	command.Env = append(command.Env, r.env...)
	stderr, err := command.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	started := make(chan error)
	gone := make(chan struct{})
	r.mu.Lock()
	r.public, r.operator, r.id, r.gone, r.log = "", "", "", gone, nil
	r.news = make(chan struct{}, 1)
	r.mu.Unlock()
	go func() {
		runtime.LockOSThread() // the kernel ends the child of a thread that ends
		defer runtime.UnlockOSThread()
		defer close(gone)
		err := command.Start()
		started <- err
		if err != nil {
			return
		}
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			r.read(lines.Bytes())
		}
		_ = command.Wait()
	}()
	if err := <-started; err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.process = command
	r.mu.Unlock()
	r.await("listens", func() bool { return r.public != "" && r.operator != "" })
}

// binaryOf is the shipped binary, or the crippled one where rules are taken out.
func binaryOf(t testing.TB, env []string) string {
	get := shipped
	for _, variable := range env {
		if strings.HasPrefix(variable, "TAKEN_OUT=") {
			get = crippled
		}
	}
	path, err := get()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// read takes a line of the log.
func (r *replica) read(text []byte) {
	var line struct{ Msg, Address, Replica string }
	_ = json.Unmarshal(text, &line)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch line.Msg {
	case "listening":
		r.public = line.Address
	case "listening for operators":
		r.operator = line.Address
	case "following the log of purges":
		r.id, r.since = line.Replica, time.Now()
	}
	if r.log = append(r.log, string(text)); len(r.log) > 400 {
		r.log = r.log[100:]
	}
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *replica) await(what string, is func() bool) {
	r.t.Helper()
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		ok := is()
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.news:
		case <-r.gone:
			r.t.Fatalf("%s has ended before it %s:\n%s", r.name, what, r.text())
		case <-timeout:
			r.t.Fatalf("%s never %s:\n%s", r.name, what, r.text())
		}
	}
}

// followed waits until the replica follows the log: from then on receipts cover it.
func (r *replica) followed() {
	r.t.Helper()
	r.await("follows the log", func() bool { return r.id != "" })
}

// follows is its id, or "", and since when.
func (r *replica) follows() (id string, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id, r.since
}

func (r *replica) address() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.public
}

func (r *replica) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.log, "\n")
}

func (r *replica) signal(s syscall.Signal) {
	r.mu.Lock()
	process := r.process.Process
	r.mu.Unlock()
	_ = process.Signal(s) // it may have ended
}

// stop stops the process, and returns when all its threads are.
func (r *replica) stop() {
	r.t.Helper()
	r.signal(syscall.SIGSTOP)
	for {
		err := unix.Waitid(unix.P_PID, r.process.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == nil {
			return
		}
		if err != unix.EINTR {
			r.t.Fatalf("%s does not stop: %v", r.name, err)
		}
	}
}

// kill ends the process as a crash would.
func (r *replica) kill() {
	r.signal(syscall.SIGKILL)
	<-r.gone
}

// leave ends it in order.
func (r *replica) leave() {
	r.t.Helper()
	r.signal(syscall.SIGTERM)
	select {
	case <-r.gone:
	case <-time.After(patience):
		r.t.Fatalf("%s does not end:\n%s", r.name, r.text())
	}
}

// sha is what Redis calls one of the product's scripts.
func sha(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return sha1Hex(text)
}

// metric is the sum of a metric of the replica.
func metric(page []byte, name string) (sum float64) {
	for line := range bytes.Lines(page) {
		series, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if base, _, _ := strings.Cut(series, "{"); base == name {
			var v float64
			_, _ = fmt.Sscan(value, &v)
			sum += v
		}
	}
	return sum
}
