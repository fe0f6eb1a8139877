package redistest

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent has the kernel kill the child when the thread that started it ends, which is when this process dies in
// whatever way: cleanups do not run after a panic in another goroutine or when go test's time limit is over.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// waitStopped returns when the child has stopped. kill(2) returns before SIGSTOP has stopped every thread. WNOWAIT leaves the
// child's state to whoever reaps it.
func waitStopped(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}
