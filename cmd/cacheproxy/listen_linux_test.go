package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// The socket of a process that is alive and does not come to accepting is not taken away from it.
func TestSocketOfABusyProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	busy, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(busy)
	if err := errors.Join(syscall.Bind(busy, &syscall.SockaddrUnix{Name: path}), syscall.Listen(busy, 0)); err != nil {
		t.Fatal(err)
	}
	for { // until its queue is full
		conn, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		defer conn.Close()
	}
	if l, err := listen("unix:" + path); !errors.Is(err, syscall.EADDRINUSE) {
		l.Close()
		t.Errorf("listening: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket: %v", err)
	}
}
