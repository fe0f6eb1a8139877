// Package poll waits for many sockets in one thread and asks the kernel for no more than that: the event loop that the benchmark's floor and its load
// generator are written around, so that what is measured is the server between them.
//
// It is epoll of Linux, level-triggered: whoever reads less than there is hears of it again. The sockets do not block; Read and Write go to the
// kernel without telling the scheduler of Go, which may be done because they return at once. Wait tells it, as it may take long, unless it is Alone.
// A Poller is for the goroutine that owns it, but for Wake.
package poll

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What to wait for. A closed connection is reported as In and Out, and reading or writing says what is wrong.
const (
	In  = unix.EPOLLIN
	Out = unix.EPOLLOUT
)

// Event is what has happened to a socket.
type Event struct {
	Tag     int // as it was added with
	In, Out bool
}

// Poller waits for sockets.
type Poller struct {
	// Alone has Wait not tell the scheduler of Go either, which else takes the processor away each time, and has to be asked for it again: a third of
	// the CPU time of a server that is asked now and then. Other goroutines wait up to 10 ms for the scheduler to interrupt Wait where there is no
	// other processor (GOMAXPROCS), so it is for programs that do nothing else.
	Alone bool

	epoll, wake int
	raw         [256]unix.EpollEvent
	events      [256]Event
	limit       unix.Timespec
}

// wakeTag is the tag of wake.
const wakeTag = -1

// New makes a Poller. Close ends it.
func New() (*Poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("poll: epoll_create: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll) // the first error is the one to tell
		return nil, fmt.Errorf("poll: eventfd: %w", err)
	}
	p := &Poller{epoll: epoll, wake: wake}
	if err := p.Add(wake, wakeTag, In); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close frees what New took. The sockets are left open.
func (p *Poller) Close() {
	_ = unix.Close(p.wake) // nobody is left who could be told
	_ = unix.Close(p.epoll)
}

// Wake has Wait return, now or the next time that it is called. Any goroutine may call it, before Close.
func (p *Poller) Wake() {
	_, _ = unix.Write(p.wake, []byte{7: 1}) // full = woken already
}

// Add waits for what happens to a socket from now on. A tag is not negative, and Wait tells it.
func (p *Poller) Add(fd, tag int, what uint32) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, tag, what)
}

// Change waits for something else.
func (p *Poller) Change(fd, tag int, what uint32) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, tag, what)
}

func (p *Poller) control(op, fd, tag int, what uint32) error {
	if err := unix.EpollCtl(p.epoll, op, fd, &unix.EpollEvent{Events: what, Fd: int32(tag)}); err != nil {
		return fmt.Errorf("poll: epoll_ctl: %w", err)
	}
	return nil
}

// Wait returns what has happened, at most 256 at once and valid until the next call, or nothing after a time or by Wake. A negative time is for ever.
// It is as exact as the timers of the kernel: PreciseTimers.
func (p *Poller) Wait(atMost time.Duration) ([]Event, error) {
	var limit *unix.Timespec
	if atMost >= 0 {
		p.limit = unix.NsecToTimespec(int64(atMost))
		limit = &p.limit
	}
	// epoll_wait counts in milliseconds, in which a fast server answers a hundred requests.
	call := unix.Syscall6
	if p.Alone {
		call = unix.RawSyscall6
	}
	n, _, errno := call(unix.SYS_EPOLL_PWAIT2, uintptr(p.epoll), uintptr(unsafe.Pointer(&p.raw)), uintptr(len(p.raw)),
		uintptr(unsafe.Pointer(limit)), 0, 0)
	switch errno {
	case 0:
	case unix.EINTR:
		return nil, nil
	default:
		return nil, fmt.Errorf("poll: epoll_pwait2: %w", errno)
	}
	all := p.events[:0]
	for _, e := range p.raw[:n] {
		if e.Fd == wakeTag {
			_, _ = unix.Read(p.wake, make([]byte, 8)) // empty = read already
			continue
		}
		over := e.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0
		all = append(all, Event{int(e.Fd), over || e.Events&In != 0, over || e.Events&Out != 0})
	}
	return all, nil
}

// PreciseTimers has the kernel wake this thread when it is due, and not up to 50 µs later to save energy. The goroutine is locked to its thread.
func PreciseTimers() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) } // else it is later

// Read reads from a socket. It returns 0 at its end, and EAGAIN when there is nothing yet.
func Read(fd int, b []byte) (int, syscall.Errno) { return transfer(unix.SYS_RECVFROM, fd, b) }

// Write writes to a socket as much as there is room for; EAGAIN when there is none.
func Write(fd int, b []byte) (int, syscall.Errno) { return transfer(unix.SYS_SENDTO, fd, b) }

func transfer(call uintptr, fd int, b []byte) (int, syscall.Errno) {
	if len(b) == 0 {
		return 0, 0
	}
	for {
		n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if errno != unix.EINTR {
			return done(n, errno)
		}
	}
}

// done makes -1 no bytes.
func done(n uintptr, errno syscall.Errno) (int, syscall.Errno) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
