package store

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// An address that does not even refuse: the kernel drops what a full backlog cannot take.
func TestRedisUnreachable(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}).String()
	for {
		conn, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			break
		}
		defer conn.Close()
	}
	s, m := troubled(t, "redis://"+addr, func(o *Options) { o.Breaker.Cooldown = time.Hour })
	failUntilOpen(t, s)
	if got := count(t, m, "redis_errors_total", "cause", "timeout"); got != 3 {
		t.Errorf("%v errors counted under timeout", got)
	}
}
