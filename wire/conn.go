package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// preface is how a client begins that speaks HTTP/2 by prior knowledge (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// A conn is a connection that net/http serves, with a scanner that reads along.
//
// net/http reads from a connection in two ways, and the difference matters: with its buffer of 4,096 bytes where it wants the next bytes of a
// message, and, while a handler runs and has had all of its request, one single byte to see whether the client leaves. So a Read of more
// than one byte, when the scanner stands at the begin of a message, says that the response before has been written: this is
// when a fault can be answered.
//
// Bytes go into net/http's own buffer. They are kept back, in held, in two cases: behind the end of a message, so that net/http asks for
// the next one when it has answered this one, whose response may say that they are of another protocol; and while they may be the preface of
// HTTP/2.
type conn struct {
	net.Conn
	gate    *Gate
	scanner scanner
	mode    mode                  // guarded by mu where two goroutines meet: Write decides what Read waits for
	held    []byte                // read but not handed over
	fault   *Fault                // ends the connection
	told    bool                  // the fault was answered
	content atomic.Pointer[Fault] // the same fault, where it is in content; for Malformed
	first   bool                  // no request has ended yet
	born    time.Time

	mu      sync.Mutex
	changed chan struct{} // closed when mode or httpRead changes; nil = nobody waits
	reading bool          // a Read has set its deadline
	closed  bool

	httpRead time.Time // net/http's read deadline
	ownRead  time.Time // of this Read
	setRead  time.Time // what the connection has
	until    time.Time // of the idle time or the head under way; zero = not begun
}

// mode is what the bytes of a connection are.
type mode uint8

const (
	unknown   mode = iota // perhaps the preface of HTTP/2
	requests              // of HTTP/1.1
	undecided             // behind a request that asks for another protocol
	tunnel                // of another protocol: nobody here reads them
)

func newConn(inner net.Conn, g *Gate) *conn {
	c := &conn{Conn: inner, gate: g, first: true, born: time.Now()}
	c.scanner.most, c.scanner.lines = g.opt.MaxHeader, g.opt.MaxFields
	if g.opt.Lenient {
		c.mode = tunnel
	}
	return c
}

// tlsConn is a conn over TLS. Its ConnectionState is what net/http makes Request.TLS of; a conn without TLS must have none.
type tlsConn struct {
	*conn
	secure *tls.Conn
}

// ConnectionState implements what net/http asks of a connection for Request.TLS.
func (c *tlsConn) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if c.fault != nil {
			return c.refuse(p)
		}
		m := c.now()
		if m == undecided {
			if err := c.awaitDecision(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := c.fill(p, m)
		switch m {
		case unknown:
			n = c.guess(p[:n])
		case requests:
			n = c.follow(p[:n])
		}
		switch {
		case n > 0:
			return n, nil // an error comes again
		case err != nil && c.fault == nil:
			return 0, err
		}
	}
}

// now is the mode of the moment.
func (c *conn) now() mode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mode
}

// fill reads into p what is held, or else from the connection.
func (c *conn) fill(p []byte, m mode) (int, error) {
	if len(c.held) > 0 && m != unknown {
		n := copy(p, c.held)
		if c.held = c.held[n:]; len(c.held) == 0 {
			c.held = nil
		}
		return n, nil
	}
	c.beginRead(c.deadline(len(p), m))
	n, err := c.Conn.Read(p)
	c.endRead()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.late(len(p), m)
	}
	return n, err
}

// guess looks for the preface of HTTP/2 while all bytes so far are its begin, and keeps them back for so long.
func (c *conn) guess(p []byte) int {
	if len(c.held) == 0 && len(p) > 0 && p[0] != preface[0] {
		c.become(requests)
		return c.follow(p)
	}
	all := append(c.held, p...)
	n := min(len(all), len(preface))
	switch {
	case string(all[:n]) != preface[:n]:
		c.become(requests)
	case n == len(preface):
		c.become(tunnel)
	}
	c.held = all
	return 0
}

// follow lets the scanner read p, of which the first n bytes may be handed over; the others are held, or of no interest any more.
func (c *conn) follow(p []byte) (n int) {
	if len(p) == 0 {
		return 0
	}
	s := &c.scanner
	idle := s.idle()
	n, fault := s.scan(p)
	if fault != nil {
		c.fault = fault
		return n
	}
	if idle || s.state == atBoundary {
		c.until = time.Time{} // the time of the head, or the idle time after it, begins with the next Read
	}
	if s.state == atBoundary {
		c.endMessage()
		if n < len(p) {
			c.held = slices.Concat(p[n:], c.held) // what is held already is behind p
		}
	}
	return n
}

// endMessage awaits the next one, or the response that says what follows.
func (c *conn) endMessage() {
	s := &c.scanner
	asks := s.head.upgrade || s.head.method == methodConnect
	s.begin()
	c.first = false
	if cap(s.keep) > 4<<10 {
		s.keep = nil
	}
	if asks {
		c.become(undecided)
	}
}

// become changes the mode and tells whoever waits for it.
func (c *conn) become(m mode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mode = m
	c.wake()
}

// wake tells awaitDecision that something has changed. Called with the lock held.
func (c *conn) wake() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// awaitDecision waits until the response to a request for another protocol has begun, or net/http's deadline is over. It does not read
// meanwhile: what comes may be of either protocol.
func (c *conn) awaitDecision() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.mode == undecided {
		if c.closed {
			return net.ErrClosed
		}
		var over <-chan time.Time
		if !c.httpRead.IsZero() {
			left := time.Until(c.httpRead)
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(left)
			defer timer.Stop() // mostly one
			over = timer.C
		}
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-over:
		}
		c.mu.Lock()
	}
	return nil
}

// Write implements net.Conn. The response to a request for another protocol decides what follows that request.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.mode == undecided {
		c.decide(p)
	}
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// decide looks at the status line that p begins with, as net/http begins each head with a write of its own. Interim responses decide
// nothing. Called with the lock held.
func (c *conn) decide(p []byte) {
	const line, at = "HTTP/1.1 101", len("HTTP/1.1 ")
	if len(p) < len(line) {
		return
	}
	switch {
	case string(p[:len(line)]) == line:
		c.mode = tunnel
	case p[at] == '1':
		return
	default:
		c.mode = requests
	}
	c.wake()
}

// refuse answers the fault, where it is the begin of a message that is at fault, and ends the connection. Content that is at fault is
// the handler's to answer, which has its error.
func (c *conn) refuse(p []byte) (int, error) {
	switch {
	case c.told:
		return 0, io.EOF
	case len(p) == 1: // the response to the request before is not written yet; a byte says that the client is there, and completes nothing
		p[0] = ' '
		return 1, nil
	case !c.scanner.inHead():
		if c.content.Swap(c.fault) == nil {
			c.gate.refused(c.fault, c.Conn)
		}
		return 0, c.fault
	}
	c.told = true
	c.gate.refused(c.fault, c.Conn)
	answer(c.Conn, c.fault, c.gate.live.Load().Name)
	return 0, io.EOF
}

// answer writes the response to a fault, and gives the client a moment to read it: a connection that is closed with bytes unread is
// reset, and what was sent may be lost.
func answer(conn net.Conn, f *Fault, cache string) {
	const patience, most = 500 * time.Millisecond, 256 << 10
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(f.response(time.Now(), cache)); err != nil {
		return
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, conn, most)
}

// CloseWrite lets net/http end a response before the rest of a request was read.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.wake()
	c.mu.Unlock()
	return c.Conn.Close()
}

// handshake makes the TLS handshake in time.
func handshake(ctx context.Context, conn *tls.Conn, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return conn.HandshakeContext(ctx)
}
