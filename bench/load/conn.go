package load

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cacheproxy/bench/body"
	"cacheproxy/bench/poll"
)

// conn is a connection, and the request that it has.
type conn struct {
	fd    int // valid unless down
	state state
	at    time.Duration // when the request was sent, the connection was begun, or is to be begun again
	free  time.Duration // since when it was idle
	out   []byte        // what is sent
	rest  []byte        // of it, what there was no room for
	receiver
	resource body.Resource
	pattern  int
	due      time.Duration
}

type state int

const (
	down state = iota
	connecting
	idle
	busy
)

// retryAfter is how long after an error a connection is made again.
const retryAfter = 10 * time.Millisecond

var errTimeout = errors.New("load: no answer in time")

// requestParts are what a request has before and after its path, and whether it has a condition, so that 304 is right.
func requestParts(s *Spec) (prefix, suffix []byte, conditional bool) {
	suffix = fmt.Appendf(nil, " HTTP/1.1\r\nHost: %s\r\n", s.Host)
	for _, line := range s.Header {
		suffix = append(append(suffix, line...), crlf...)
		name, _, _ := strings.Cut(line, ":")
		conditional = conditional || strings.EqualFold(name, "If-None-Match")
	}
	return []byte("GET "), append(suffix, crlf...), conditional
}

// dial begins a connection.
func (r *runner) dial(i int) {
	c := &r.conns[i]
	fd, err := unix.Socket(r.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		c.at, c.state = r.now+retryAfter, down
		r.down++
		r.result.fail(FailConnect, fmt.Errorf("load: connect: socket: %w", err))
		return
	}
	c.fd, c.state, c.at = fd, connecting, r.now
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // it has nothing to wait for either way
	if err := unix.Connect(fd, r.addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		r.fail(i, FailConnect, fmt.Errorf("load: connect: %w", err))
		return
	}
	if err := r.poller.Add(fd, i, poll.Out); err != nil {
		r.fail(i, FailConnect, err)
	}
}

// fail ends a connection by an error. It is made again.
func (r *runner) fail(i int, kind Failure, err error) {
	r.result.fail(kind, err)
	r.hangUp(i)
	r.conns[i].at = r.now + retryAfter
	r.down++
	r.beat = min(r.beat, r.now+retryAfter)
}

// hangUp closes a connection, whatever it is at.
func (r *runner) hangUp(i int) {
	c := &r.conns[i]
	switch c.state {
	case busy:
		r.inFlight--
	case idle:
		for n, j := range r.idle {
			if i == j {
				r.idle = append(r.idle[:n], r.idle[n+1:]...)
				break
			}
		}
	}
	_ = unix.Close(c.fd) // the poller forgets it too
	c.state = down
}

// again makes a connection again that the server has closed by right.
func (r *runner) again(i int) {
	r.result.Reconnects++
	r.hangUp(i)
	r.dial(i)
}

// handle does what an event asks for.
func (r *runner) handle(e poll.Event) {
	i := e.Tag
	switch c := &r.conns[i]; c.state {
	case down: // an event from before
	case connecting:
		r.connected(i)
	default:
		if e.Out && len(c.rest) > 0 && !r.write(i) {
			return
		}
		if e.In {
			r.receive(i)
		}
	}
}

func (r *runner) connected(i int) {
	c := &r.conns[i]
	errno, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = syscall.Errno(errno)
	}
	if err == nil {
		err = r.poller.Change(c.fd, i, poll.In)
	}
	if err != nil {
		r.fail(i, FailConnect, fmt.Errorf("load: connect: %w", err))
		return
	}
	r.rest(i)
}

// rest has a connection free, for what is due or will be.
func (r *runner) rest(i int) {
	c := &r.conns[i]
	c.state, c.free = idle, r.now
	r.idle = append(r.idle, i)
	if r.began {
		r.issue()
	}
}

// send sends the next request.
func (r *runner) send(i int, due time.Duration) {
	c := &r.conns[i]
	c.resource, c.pattern = r.keys.draw()
	c.due, c.at, c.state = due, r.now, busy
	c.begin(c.resource, r.Check > 0 && (r.Check == 1 || r.keys.random.Float64() < r.Check))
	r.inFlight++
	if r.measured(due) {
		r.issued++
		r.sent++
		if r.Rate > 0 && c.free <= due {
			record(r.oversleep, r.now-due)
		}
	}
	c.out = append(c.resource.AppendPath(append(c.out[:0], r.prefix...)), r.suffix...)
	c.rest = c.out
	r.write(i)
}

// write sends what is left of a request, as far as there is room. It reports whether the connection goes on.
func (r *runner) write(i int) bool {
	c := &r.conns[i]
	n, errno := poll.Write(c.fd, c.rest)
	waited := len(c.rest) < len(c.out)
	c.rest = c.rest[n:]
	what := uint32(poll.In)
	switch {
	case errno != 0 && errno != unix.EAGAIN:
		r.fail(i, FailRead, fmt.Errorf("load: send %s: %w", c.resource.Path(), errno))
		return false
	case len(c.rest) > 0:
		what |= poll.Out
	case !waited:
		return true // as nearly always
	}
	if err := r.poller.Change(c.fd, i, what); err != nil {
		r.fail(i, FailRead, err)
		return false
	}
	return true
}

// receive reads once.
func (r *runner) receive(i int) {
	c := &r.conns[i]
	n, errno := poll.Read(c.fd, r.in)
	r.clock()
	switch {
	case errno == unix.EAGAIN:
	case c.state == idle && n == 0: // it has closed, or was reset
		r.again(i)
	case c.state == idle:
		r.fail(i, FailHead, fmt.Errorf("%w: %.100q came unasked", errHead, r.in[:n]))
	case errno != 0:
		r.fail(i, FailRead, fmt.Errorf("load: receive %s: %w", c.resource.Path(), errno))
	case n == 0:
		if err := c.end(); err != nil {
			r.fail(i, FailRead, fmt.Errorf("%w: %s", err, c.resource.Path()))
			return
		}
		r.answered(i)
	default:
		r.take(i, r.in[:n])
	}
}

// take takes what was read.
func (r *runner) take(i int, b []byte) {
	c := &r.conns[i]
	used, done, err := c.feed(b)
	switch {
	case err != nil:
		r.fail(i, FailHead, fmt.Errorf("%w: %s", err, c.resource.Path()))
	case done && used < len(b):
		r.fail(i, FailHead, fmt.Errorf("%w: %.100q came after %s", errHead, b[used:], c.resource.Path()))
	case done:
		r.answered(i)
	}
}

// answered judges a response and has the connection go on.
func (r *runner) answered(i int) {
	c := &r.conns[i]
	r.count(c)
	r.answer = r.now
	if r.measured(c.due) {
		r.result.Requests++
		r.result.Patterns[c.pattern].Requests++
		r.result.Statuses[c.status]++
		r.result.Bytes += c.size
	}
	if kind, err := c.judge(c.resource, r.accept); err != nil {
		r.result.fail(kind, err)
	}
	if c.checked && c.status == http.StatusOK && r.measured(c.due) {
		r.result.Checked++
	}
	if c.last || len(c.rest) > 0 {
		r.again(i)
		return
	}
	r.inFlight--
	r.rest(i)
}

// judge says what is wrong with a whole response.
func (r *receiver) judge(resource body.Resource, conditional bool) (Failure, error) {
	switch {
	case r.status == http.StatusNotModified && conditional:
	case r.status != http.StatusOK:
		return FailStatus, fmt.Errorf("load: status %d of %s", r.status, resource.Path())
	case r.size != int64(resource.Size):
		return FailLength, fmt.Errorf("load: %d bytes in the body of %s", r.size, resource.Path())
	case r.wrong:
		return FailBody, fmt.Errorf("load: the body of %s is another", resource.Path())
	}
	return "", nil
}

func (r *runner) closeAll() {
	for i := range r.conns {
		if c := &r.conns[i]; c.state != down {
			_ = unix.Close(c.fd) // nothing is expected there any more
		}
	}
}
