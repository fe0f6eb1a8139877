package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cacheproxy/bench/body"
	"cacheproxy/bench/poll"
)

// Floor answers every request with the same bytes, made beforehand: what it costs to read and to write them and nothing else, in one thread. Of
// a request it only looks for the end, so it must have no body.
type Floor struct {
	Size        int  // of the body: it answers with /hit/SIZE/0
	NotModified bool // it answers with 304 where it reads of If-None-Match, whatever that says
	Alone       bool // this process does nothing else: Poller.Alone
}

// maxConns is how many connections are open at the same moment; those above are closed at once.
const maxConns = 4096

// floor is a Floor that serves.
type floor struct {
	poller   *poll.Poller
	listener int
	response []byte
	short    []byte // a 304; nil = it has none
	in       []byte // of whoever is read from
	conns    [maxConns]floorConn
	free     []int
}

// floorConn is a connection.
type floorConn struct {
	fd   int
	end  int // how much of the end of a head has come
	owed int // responses that it waits for, the first of them sent up to sent
	sent int
	full bool // there is no room to send more: nothing is read until there is
	// conditional is whether it was asked with If-None-Match last.
	conditional bool
}

// listenTag is after those of connections.
const listenTag = maxConns

// Serve accepts connections until ctx is done, and closes the listener.
func (f *Floor) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	runtime.LockOSThread() // the others of this process have nothing to do
	defer runtime.UnlockOSThread()
	resource := body.Resource{Kind: body.Hit, Size: f.Size}
	s := &floor{in: make([]byte, 64<<10)}
	date := time.Now().UTC().Format(dateFormat)
	s.response = resource.AppendBody(appendHead(nil, resource, "200 OK", date, "Age: 1\r\n"))
	if f.NotModified {
		s.short = appendNotModified(nil, resource, date, "Age: 1\r\n")
	}
	for i := range maxConns {
		s.free = append(s.free, maxConns-1-i)
	}
	var err error
	if s.poller, err = poll.New(); err != nil {
		return err
	}
	s.poller.Alone = f.Alone
	defer s.poller.Close()
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { s.poller.Wake(); close(stopped) })
	defer func() {
		if !stop() {
			<-stopped
		}
	}()
	if s.listener, err = descriptor(l); err != nil {
		return err
	}
	defer func() { _ = unix.Close(s.listener) }() // it is closed either way
	defer s.closeAll()
	if err := s.poller.Add(s.listener, listenTag, poll.In); err != nil {
		return err
	}
	for ctx.Err() == nil {
		events, err := s.poller.Wait(-1)
		if err != nil {
			return err
		}
		for _, e := range events {
			s.handle(e)
		}
	}
	return nil
}

// descriptor is the socket that a listener has, a second time.
func descriptor(l net.Listener) (int, error) {
	of, ok := l.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("serve: a %T has no socket", l)
	}
	raw, err := of.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("serve: socket of the listener: %w", err)
	}
	fd := 0
	var errDup error
	err = raw.Control(func(old uintptr) { fd, errDup = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err := errors.Join(err, errDup); err != nil {
		return 0, fmt.Errorf("serve: socket of the listener: %w", err)
	}
	return fd, nil
}

// handle does what an event asks for.
func (s *floor) handle(e poll.Event) {
	if e.Tag == listenTag {
		s.accept()
		return
	}
	c := &s.conns[e.Tag]
	switch {
	case c.fd == 0 || c.full && !e.Out: // it was closed by another event, or waits
	case c.full && !s.send(c, e.Tag), !c.full && e.In && !s.receive(c, e.Tag):
		_ = unix.Close(c.fd) // epoll forgets it too
		*c = floorConn{}
		s.free = append(s.free, e.Tag)
	}
}

func (s *floor) accept() {
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // nobody is left, or has gone again
		}
		if len(s.free) == 0 {
			_ = unix.Close(fd) // one too many
			continue
		}
		tag := s.free[len(s.free)-1]
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // else it is slower, and seen
		if s.poller.Add(fd, tag, poll.In) != nil {
			_ = unix.Close(fd) // it would never be heard
			continue
		}
		s.free = s.free[:len(s.free)-1]
		s.conns[tag] = floorConn{fd: fd}
	}
}

// receive reads once and answers what has come whole. It reports whether the connection goes on.
func (s *floor) receive(c *floorConn, tag int) bool {
	n, errno := poll.Read(c.fd, s.in)
	if errno == unix.EAGAIN {
		return true
	}
	if n == 0 || errno != 0 {
		return false
	}
	if s.short != nil && c.owed == 0 { // who asks for several at a time has them alike
		c.conditional = bytes.Contains(s.in[:n], []byte("\r\nIf-None-Match:"))
	}
	n, c.end = ends(s.in[:n], c.end)
	c.owed += n
	return c.owed == 0 || s.send(c, tag)
}

// send sends what is owed, as far as there is room. It reports whether the connection goes on.
func (s *floor) send(c *floorConn, tag int) bool {
	response := s.response
	if c.conditional {
		response = s.short
	}
	for c.owed > 0 {
		n, errno := poll.Write(c.fd, response[c.sent:])
		if errno == unix.EAGAIN {
			was := c.full
			c.full = true
			return was || s.poller.Change(c.fd, tag, poll.Out) == nil
		}
		if errno != 0 {
			return false
		}
		if c.sent += n; c.sent == len(response) {
			c.sent = 0
			c.owed--
		}
	}
	if !c.full {
		return true
	}
	c.full = false
	return s.poller.Change(c.fd, tag, poll.In) == nil
}

func (s *floor) closeAll() {
	for _, c := range s.conns {
		if c.fd != 0 {
			_ = unix.Close(c.fd) // it is closed either way
		}
	}
}

const headEnd = "\r\n\r\n"

// ends counts the heads that end in b. Before it, so many bytes of an end have come; what it returns is the same for what comes after b.
func ends(b []byte, have int) (n, left int) {
	step := func(c byte) {
		switch {
		case c == headEnd[have]:
			have++
		case c == '\r':
			have = 1
		default:
			have = 0
		}
		if have == len(headEnd) {
			have = 0
			n++
		}
	}
	for ; len(b) > 0 && have > 0; b = b[1:] {
		step(b[0])
	}
	for {
		i := bytes.Index(b, []byte(headEnd))
		if i < 0 {
			break
		}
		b = b[i+len(headEnd):]
		n++
	}
	for _, c := range b[max(0, len(b)-len(headEnd)+1):] {
		step(c)
	}
	return n, have
}
