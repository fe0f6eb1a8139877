package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"cacheproxy/bench/body"
)

// Origin answers GET and HEAD of every resource of package body, over connections that are kept, and GET of CountsPath with its Counts. Of the fields
// of a request it knows If-None-Match, Connection and Content-Length: bodies of requests are read and forgotten.
type Origin struct {
	Slow time.Duration // how long resources of kind slow take

	requests, slow, openSlow, openSlowMax atomic.Int64
	date                                  atomic.Pointer[date]
}

// CountsPath is where the Counts are, as JSON.
const CountsPath = "/counts"

// Counts is what was asked for so far, but for the counts themselves.
type Counts struct {
	Requests    int64 `json:"requests"`      // for a resource
	Slow        int64 `json:"slow"`          // of them for one of kind slow
	OpenSlowMax int64 `json:"open_slow_max"` // the most of those that were open at the same moment
}

// Counts is what was asked for so far.
func (o *Origin) Counts() Counts {
	return Counts{o.requests.Load(), o.slow.Load(), o.openSlowMax.Load()}
}

// Serve accepts connections until ctx is done, and closes them and the listener.
func (o *Origin) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept says so
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close() // nobody answers there any more
			}
			return nil
		}
		if err != nil {
			_ = l.Close() // the first error is the one to tell
			return fmt.Errorf("serve: accept: %w", err)
		}
		all.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			defer conn.Close()
			c := &originConn{Origin: o, ctx: ctx, conn: conn, in: bufio.NewReader(conn)}
			for c.exchange() == nil {
			}
		})
	}
}

// originConn is a connection.
type originConn struct {
	*Origin
	ctx  context.Context
	conn net.Conn
	in   *bufio.Reader
	out  []byte // what is sent next, and after it
	rest [2][]byte
	request
}

// request is what is known of one.
type request struct {
	method, target []byte // valid until more is read
	old            bool   // HTTP/1.0
	last           bool   // the connection ends with it
	length         int64  // of its body
	ifNoneMatch    string
}

var (
	errLast = errors.New("serve: the connection ends")
	errBad  = errors.New("serve: not a request")
)

// exchange reads a request and answers it. An error is the end of the connection.
func (c *originConn) exchange() error {
	resource, found, err := c.read()
	switch {
	case errors.Is(err, errBad):
		c.last = true
		return c.answerEmpty("400 Bad Request")
	case err != nil:
		return err
	case string(c.method) != "GET" && string(c.method) != "HEAD":
		return c.answerEmpty("405 Method Not Allowed")
	case !found && string(c.target) == CountsPath:
		return c.answerCounts()
	case !found:
		return c.answerEmpty("404 Not Found")
	}
	c.requests.Add(1)
	if resource.Kind == body.Slow {
		if err := c.wait(); err != nil {
			return err
		}
	}
	return c.answer(resource)
}

// wait takes the time that a slow resource takes.
func (c *originConn) wait() error {
	c.slow.Add(1)
	open := c.openSlow.Add(1)
	defer c.openSlow.Add(-1)
	for most := c.openSlowMax.Load(); open > most && !c.openSlowMax.CompareAndSwap(most, open); {
		most = c.openSlowMax.Load()
	}
	select {
	case <-c.ctx.Done():
		return c.ctx.Err()
	case <-time.After(c.Slow):
		return nil
	}
}

// read reads a request with its body, and which resource its target names.
func (c *originConn) read() (r body.Resource, found bool, err error) {
	line, err := c.line()
	if err != nil {
		return r, false, err
	}
	method, after, _ := bytes.Cut(line, []byte(" "))
	target, version, _ := bytes.Cut(after, []byte(" "))
	c.request = request{old: string(version) == "HTTP/1.0"}
	c.last = c.old
	if !c.old && string(version) != "HTTP/1.1" {
		return r, false, errBad
	}
	// The line is gone with the next one: what is kept of it is copied, into room that it had before.
	c.out = append(append(c.out[:0], method...), target...)
	c.method, c.target = c.out[:len(method)], c.out[len(method):]
	path, _, _ := bytes.Cut(c.target, []byte("?"))
	r, errPath := body.Parse(string(path))
	for {
		if line, err = c.line(); err != nil {
			return r, false, err
		}
		if len(line) == 0 {
			break
		}
		if err := c.field(line); err != nil {
			return r, false, err
		}
	}
	_, err = io.CopyN(io.Discard, c.in, c.length)
	return r, errPath == nil, err
}

// line reads a line without its end. It is valid until the next one.
func (c *originConn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errBad
	}
	return bytes.TrimRight(line, "\r\n"), err
}

// field reads a field of a request. Most are none of those that are known, and of another length.
func (c *originConn) field(line []byte) (err error) {
	name, value, found := bytes.Cut(line, []byte(":"))
	if !found {
		return errBad
	}
	value = bytes.TrimSpace(value)
	switch {
	case is(name, "Content-Length"):
		if c.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || c.length < 0 {
			return errBad
		}
	case is(name, "Transfer-Encoding"):
		return errBad
	case is(name, "Connection") && is(value, "close"):
		c.last = true
	case is(name, "Connection") && is(value, "keep-alive"):
		c.last = false
	case is(name, "If-None-Match"):
		c.ifNoneMatch = string(value)
	}
	return nil
}

// is compares a text with a name, in whatever case.
func is(b []byte, name string) bool {
	return len(b) == len(name) && bytes.EqualFold(b, []byte(name))
}

// copyUpTo is the longest body that is copied behind its head, which is cheaper than to name two pieces to the kernel.
const copyUpTo = 16 << 10

// answer sends a resource.
func (c *originConn) answer(r body.Resource) error {
	head := string(c.method) == "HEAD"
	date := c.now()
	if c.ifNoneMatch != "" && matches(c.ifNoneMatch, r) {
		c.out = appendNotModified(c.out[:0], r, date, c.connection())
		return c.send(nil)
	}
	c.out = appendHead(c.out[:0], r, "200 OK", date, c.connection())
	if head {
		return c.send(nil)
	}
	if r.Size <= copyUpTo {
		c.out = r.AppendBody(c.out)
		return c.send(nil)
	}
	c.out = r.AppendFirst(c.out)
	return c.send(r.Rest())
}

func (c *originConn) answerCounts() error {
	text, err := json.Marshal(c.Counts())
	if err != nil {
		return fmt.Errorf("serve: counts: %w", err)
	}
	c.out = fmt.Appendf(c.out[:0], "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nDate: %s\r\n%s\r\n%s",
		len(text), c.now(), c.connection(), text)
	return c.send(nil)
}

func (c *originConn) answerEmpty(status string) error {
	c.out = fmt.Appendf(c.out[:0], "HTTP/1.1 %s\r\nContent-Length: 0\r\nDate: %s\r\n%s\r\n", status, c.now(), c.connection())
	return c.send(nil)
}

// connection is the field Connection where it has something to say.
func (c *originConn) connection() string {
	switch {
	case c.last:
		return "Connection: close\r\n"
	case c.old:
		return "Connection: keep-alive\r\n"
	}
	return ""
}

// send sends out, and rest behind it.
func (c *originConn) send(rest []byte) (err error) {
	if len(rest) == 0 {
		_, err = c.conn.Write(c.out)
	} else {
		c.rest = [2][]byte{c.out, rest}
		both := net.Buffers(c.rest[:])
		_, err = both.WriteTo(c.conn)
	}
	if err == nil && c.last {
		err = errLast
	}
	return err
}

// matches reports whether a list of entity tags has that of the resource (RFC 9110, 13.1.2).
func matches(list string, r body.Resource) bool {
	tag := r.ETag()
	for one := range bytes.SplitSeq([]byte(list), []byte(",")) {
		one = bytes.TrimPrefix(bytes.TrimSpace(one), []byte("W/"))
		if string(one) == tag || string(one) == "*" {
			return true
		}
	}
	return false
}

// date is a second, and what the field Date has in it.
type date struct {
	unix int64
	text string
}

// now is the value of Date, made once in each second.
func (o *Origin) now() string {
	now := time.Now()
	d := o.date.Load()
	if d == nil || d.unix != now.Unix() {
		d = &date{now.Unix(), now.UTC().Format(dateFormat)}
		o.date.Store(d)
	}
	return d.text
}
