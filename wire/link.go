package wire

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// A link is an admitted connection of the network: it gives its places back when it is closed, and it ends a client who takes nothing.
// It lies below TLS and the scanner, since what a client takes is the network's bytes.
type link struct {
	net.Conn
	timeout time.Duration // for a Write that moves nothing

	mu     sync.Mutex
	leaves []func()  // give its places back
	closed bool      // they have been called
	limit  time.Time // the write deadline that was asked for
	set    time.Time // the one that the connection has
}

// and lets the link give another place back when it is closed.
func (l *link) and(leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		leave()
		return
	}
	l.leaves = append(l.leaves, leave)
}

// Write implements net.Conn. Its own deadline begins anew as long as the client takes some bytes.
func (l *link) Write(p []byte) (n int, err error) {
	for {
		own := l.arm()
		m, err := l.Conn.Write(p[n:])
		n += m
		if m == 0 || !own || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// arm sets the deadline for a Write, and reports whether it is our own. One that has most of its time left is left alone: setting
// it costs as much as a small Write's copying.
func (l *link) arm() (own bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	at := now.Add(l.timeout)
	if !l.limit.IsZero() && l.limit.Before(at) {
		at = l.limit
	}
	own = !at.Equal(l.limit)
	if own && l.set.After(now.Add(l.timeout/4*3)) && !l.set.After(at) {
		return own
	}
	if !at.Equal(l.set) {
		l.set = at
		_ = l.Conn.SetWriteDeadline(at) // fails where the connection is closed, and so does the Write
	}
	return own
}

// SetWriteDeadline implements net.Conn.
func (l *link) SetWriteDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = t
	if t.IsZero() {
		return nil // the next Write sets its own
	}
	l.set = t
	return l.Conn.SetWriteDeadline(t) // a Write that is under way is to end then
}

// SetDeadline implements net.Conn.
func (l *link) SetDeadline(t time.Time) error {
	if err := l.SetReadDeadline(t); err != nil {
		return err
	}
	return l.SetWriteDeadline(t)
}

// CloseWrite ends the sending half, where the connection has halves.
func (l *link) CloseWrite() error {
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close implements net.Conn.
func (l *link) Close() error {
	err := l.Conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, leave := range l.leaves {
		leave()
	}
	l.leaves = nil
	return err
}
