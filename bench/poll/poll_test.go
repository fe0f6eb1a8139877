package poll

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is two sockets that are connected.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	both, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(both[0]); unix.Close(both[1]) })
	return both[0], both[1]
}

// until waits for an event.
func until(t *testing.T, p *Poller) Event {
	t.Helper()
	for {
		all, err := p.Wait(5 * time.Second)
		if err != nil || len(all) > 1 {
			t.Fatal(all, err)
		}
		if len(all) == 1 {
			return all[0]
		}
	}
}

func TestPoller(t *testing.T) {
	for _, alone := range []bool{false, true} {
		p, err := New()
		if err != nil {
			t.Fatal(err)
		}
		p.Alone = alone
		a, b := pair(t)
		in := make([]byte, 100)
		if n, errno := Read(a, in); n != 0 || errno != unix.EAGAIN {
			t.Errorf("%d, %v", n, errno)
		}
		if err := p.Add(a, 7, In); err != nil {
			t.Fatal(err)
		}
		if err := p.Add(a, 7, In); err == nil {
			t.Error("it is added twice")
		}
		if all, err := p.Wait(0); err != nil || len(all) != 0 {
			t.Error(all, err)
		}
		if n, errno := Write(b, []byte("hello")); n != 5 || errno != 0 {
			t.Errorf("%d, %v", n, errno)
		}
		if e := until(t, p); e != (Event{7, true, false}) {
			t.Errorf("%+v", e)
		}
		if n, errno := Read(a, in); n != 5 || errno != 0 || string(in[:5]) != "hello" {
			t.Errorf("%d, %v", n, errno)
		}
		if err := p.Change(a, 8, Out); err != nil {
			t.Fatal(err)
		}
		if e := until(t, p); e != (Event{8, false, true}) {
			t.Errorf("%+v", e)
		}
		for big := bytes.Repeat([]byte("a"), 1<<20); ; {
			if _, errno := Write(a, big); errno == unix.EAGAIN {
				break
			} else if errno != 0 {
				t.Fatal(errno)
			}
		}
		if all, err := p.Wait(0); err != nil || len(all) != 0 {
			t.Error(all, err)
		}
		_ = unix.Shutdown(b, unix.SHUT_RDWR)
		if e := until(t, p); e != (Event{8, true, true}) {
			t.Errorf("%+v", e)
		}
		if _, errno := Write(a, in); errno != unix.EPIPE {
			t.Error(errno)
		}
		p.Close()
	}
}

func TestWaitEnds(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	begin := time.Now()
	for time.Since(begin) < 300*time.Microsecond {
		if all, err := p.Wait(300*time.Microsecond - time.Since(begin)); err != nil || len(all) != 0 {
			t.Fatal(all, err)
		}
	}
	go p.Wake()
	if all, err := p.Wait(-1); err != nil || len(all) != 0 {
		t.Error(all, err)
	}
}
