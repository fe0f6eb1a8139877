package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
)

const (
	// startWait is how long a contestant may take until it accepts connections. Squid and Traffic Server take seconds on a busy machine.
	startWait = 60 * time.Second
	// stopWait is how long its processes may take to end after SIGTERM; then they are killed.
	stopWait = 10 * time.Second
)

// instance is a contestant that is running.
type instance struct {
	processes []*process
}

// startInstance renders the files of c into s.Dir, runs what it wants to have run before, and starts its processes, pinned to core unless that
// is negative. When it returns, the ports that s asks for accept connections. What was started is ended if anything fails.
func startInstance(ctx context.Context, c *contestant, s setup, core int) (_ *instance, err error) {
	if err := render(c, s); err != nil {
		return nil, err
	}
	if c.before != nil {
		for _, argv := range c.before(s) {
			out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
			if err != nil {
				return nil, fmt.Errorf("contest: %s: %s: %w\n%s", c.name, strings.Join(argv, " "), err, out)
			}
		}
	}
	i := &instance{}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.stop())
		}
	}()
	for n, argv := range c.processes(s) {
		p, err := startProcess(s.Dir, fmt.Sprintf("%s-%d.out", filepath.Base(c.name), n), argv, core)
		if err != nil {
			return nil, fmt.Errorf("contest: %s: %w", c.name, err)
		}
		i.processes = append(i.processes, p)
		if n > 0 {
			continue
		}
		// The others connect to the first, or read what it has laid down by then.
		if err := i.accepts(ctx, s.Host, s.Port); err != nil {
			return nil, fmt.Errorf("contest: %s: %w", c.name, err)
		}
	}
	if s.TLS() {
		if err := i.accepts(ctx, s.Host, s.TLSPort); err != nil {
			return nil, fmt.Errorf("contest: %s: %w", c.name, err)
		}
	}
	return i, nil
}

// render writes the files of c to s.Dir.
func render(c *contestant, s setup) error {
	for _, name := range c.files {
		from := path.Join("peers", c.name, name)
		t, err := template.New(name).Funcs(template.FuncMap{"dir": filepath.Dir, "base": filepath.Base}).ParseFS(peerFiles, from)
		if err != nil {
			return fmt.Errorf("contest: %w", err)
		}
		var b bytes.Buffer
		if err := t.Execute(&b, s); err != nil {
			return fmt.Errorf("contest: %s: %w", from, err)
		}
		if err := os.WriteFile(filepath.Join(s.Dir, name), b.Bytes(), 0o644); err != nil {
			return fmt.Errorf("contest: %w", err)
		}
	}
	return nil
}

// accepts waits until the port does.
func (i *instance) accepts(ctx context.Context, host string, port int) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	address := net.JoinHostPort(host, strconv.Itoa(port))
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		for _, p := range i.processes {
			if p.ended() {
				return fmt.Errorf("%s ended: %w\n%s", p.argv[0], p.err, p.tail())
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing accepts at %s: %w\n%s", address, err, i.processes[0].tail())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// stop ends all processes, the last started first, and waits for all that they have started. It reports those that had to be killed.
func (i *instance) stop() error {
	var errs []error
	for n := len(i.processes) - 1; n >= 0; n-- {
		errs = append(errs, i.processes[n].stop())
	}
	return errors.Join(errs...)
}

// pids are those of all living processes of the instance: what it was started as, and what they have started since.
func (i *instance) pids() []int {
	var pids []int
	for _, p := range i.processes {
		for _, t := range descent(p.group()) {
			pids = append(pids, t.pid)
		}
	}
	return pids
}

// process is one that we have started, at the head of a process group of its own.
type process struct {
	argv []string
	out  string // file of what it writes to its standard output and error
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended
	wait time.Duration // how long it may take to end
	err  error         // how it has ended; valid after done
}

// startProcess runs argv in dir, pinned to core unless that is negative.
func startProcess(dir, out string, argv []string, core int) (*process, error) {
	p := &process{argv: argv, out: filepath.Join(dir, out), done: make(chan struct{}), wait: stopWait}
	program, err := find(argv[0])
	if err != nil {
		return nil, err
	}
	argv = append([]string{program}, argv[1:]...)
	if core >= 0 {
		argv = append([]string{"taskset", "-c", strconv.Itoa(core)}, argv...) // taskset becomes the program: no process more
	}
	file, err := os.OpenFile(p.out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, file, file
	// The group lets stop find children whose parent is gone. The signal is for what we leave behind if we are killed; a program that changes
	// its user loses it again.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	err = p.cmd.Start()
	if closed := file.Close(); err == nil && closed != nil {
		err = closed
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// group is the process group of p, and the PID of its head.
func (p *process) group() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop asks the head of the group to end, and after p.wait kills all that is left.
func (p *process) stop() error {
	all := descent(p.group()) // now: a child in a group of its own cannot be found once its parent has ended
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	for deadline := time.Now().Add(p.wait); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if p.ended() && len(remaining(all)) == 0 && len(descent(p.group())) == 0 {
			return nil
		}
	}
	_ = syscall.Kill(-p.group(), syscall.SIGKILL)
	for _, t := range remaining(all) {
		_ = syscall.Kill(t.pid, syscall.SIGKILL)
	}
	<-p.done
	return fmt.Errorf("contest: %s had to be killed\n%s", p.argv[0], p.tail())
}

// tail is the end of what the process has written.
func (p *process) tail() string {
	const most = 4 << 10
	data, err := os.ReadFile(p.out)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(data[max(0, len(data)-most):]))
}
