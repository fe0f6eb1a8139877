package wire

import "time"

// Two want to bound a Read: net/http, by SetReadDeadline, and this package, by what the scanner knows. The connection has the earlier
// of both. net/http sets its deadline several times in a request while nothing is being read; that costs nothing until the next Read.
// And it sets one in the past to interrupt a Read that is under way; that is passed on at once.

// deadline is this package's own for the next Read. A Read of one byte has none: a handler takes the time that it takes.
func (c *conn) deadline(size int, m mode) time.Time {
	s, o := &c.scanner, &c.gate.opt
	switch {
	case m == tunnel || size == 1:
		return time.Time{}
	case !s.inHead():
		return time.Now().Add(o.BodyTimeout)
	case !c.until.IsZero():
	case c.first && s.idle():
		c.until = c.born.Add(o.HeaderTimeout)
	case s.idle():
		c.until = time.Now().Add(o.IdleTimeout)
	default:
		c.until = time.Now().Add(o.HeaderTimeout)
	}
	return c.until
}

// late makes a fault of a head that was not complete in time. A connection that has sent nothing is closed without a word.
func (c *conn) late(size int, m mode) {
	c.mu.Lock()
	own := c.setRead.Equal(c.ownRead)
	c.mu.Unlock()
	begun := !c.scanner.idle() || m == unknown && len(c.held) > 0
	if own && m != tunnel && size > 1 && begun && c.scanner.inHead() {
		c.fault = faultHeadTimeout
	}
}

// beginRead sets the deadline of a Read; endRead says that it is over.
func (c *conn) beginRead(own time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ownRead, c.reading = own, true
	c.apply()
}

func (c *conn) endRead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
}

// apply gives the connection the earlier deadline. Called with the lock held.
func (c *conn) apply() {
	at := c.httpRead
	if at.IsZero() || !c.ownRead.IsZero() && c.ownRead.Before(at) {
		at = c.ownRead
	}
	if !at.Equal(c.setRead) {
		c.setRead = at
		_ = c.Conn.SetReadDeadline(at) // fails where the connection is closed, and so does the Read
	}
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.httpRead = t
	c.wake()
	if c.reading {
		c.apply()
	}
	return nil
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
