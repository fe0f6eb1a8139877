package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// patience bounds every wait for a process. It is far above what a loaded machine needs, so reaching it is a failure.
const patience = 30 * time.Second

// process is one run of redis-server: from a successful start until it was reaped.
type process struct {
	cmd     *exec.Cmd
	started chan error    // one value: cmd.Start's
	ready   chan struct{} // closed when it accepts connections
	exited  chan struct{} // closed when it was reaped and its output read to the end

	mu    sync.Mutex
	lines strings.Builder
}

// startProcess returns when the process accepts connections, or an error with its output when it exits before.
func startProcess(binary string, args ...string) (*process, error) {
	p := &process{
		cmd:     exec.Command(binary, args...),
		started: make(chan error, 1),
		ready:   make(chan struct{}),
		exited:  make(chan struct{}),
	}
	p.cmd.SysProcAttr = dieWithParent()
	go p.run()
	if err := <-p.started; err != nil {
		<-p.exited
		return nil, err
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-p.ready:
		return p, nil
	case <-p.exited:
		return nil, fmt.Errorf("it exited:\n%s", p.log())
	case <-limit.C:
		p.kill()
		return nil, fmt.Errorf("it accepts no connections after %v:\n%s", patience, p.log())
	}
}

// run starts the process, reads its output and reaps it. It keeps its thread for as long: the kernel ends a child whose
// parent *thread* died (see dieWithParent), and only a locked thread is certain to live as long as the child.
func (p *process) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.exited)
	output, err := p.cmd.StdoutPipe()
	if err == nil {
		p.cmd.Stderr = p.cmd.Stdout
		err = p.cmd.Start()
	}
	p.started <- err
	if err != nil {
		return
	}
	p.readLog(output)
	p.cmd.Wait() // how it ended is of no interest: most are killed
}

func (p *process) readLog(output io.Reader) {
	isReady := false
	for lines := bufio.NewScanner(output); lines.Scan(); {
		p.mu.Lock()
		p.lines.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		// With a TCP port and a socket Redis says it once for each; the port comes first, and both listen by then.
		// A sentinel says nothing of the kind, but names itself once it listens.
		if line := lines.Text(); !isReady && (strings.Contains(line, "eady to accept connections") || strings.Contains(line, "Sentinel ID is")) {
			isReady = true
			close(p.ready)
		}
	}
	io.Copy(io.Discard, output) // a line too long for the scanner must not block the server
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines.String()
}

// wait reports whether the process ended within patience.
func (p *process) wait() bool {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-p.exited:
		return true
	case <-limit.C:
		return false
	}
}

// kill ends the process, paused or not, and returns when it was reaped.
func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("redistest: cannot kill pid %d: %v", p.pid(), err))
	}
	<-p.exited
}
