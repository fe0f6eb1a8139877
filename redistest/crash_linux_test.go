package redistest

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestServersDieWithTheTestBinary runs this test binary again with a panic in a goroutine that is no test's, so that no
// cleanup runs, and looks whether the server is gone.
func TestServersDieWithTheTestBinary(t *testing.T) {
	binary(t)
	if os.Getenv(crashEnv) != "" {
		s := Start(t)
		os.Stdout.WriteString("pid=" + strconv.Itoa(s.Pid()) + "\n")
		go panic("on purpose")
		select {}
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), crashEnv+"=1", "TMPDIR="+t.TempDir()) // nobody is left to remove its files
	out, err := child.Output()
	if err == nil {
		t.Fatal("the child did not crash")
	}
	_, rest, ok := bytes.Cut(out, []byte("pid="))
	if !ok {
		t.Fatalf("the child started no server: %s", out)
	}
	line, _, _ := strings.Cut(string(rest), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return // gone already
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// A pidfd becomes readable when its process ends.
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
	if n != 1 {
		t.Errorf("pid %d outlived the test binary: %d, %v", pid, n, err)
	}
}
