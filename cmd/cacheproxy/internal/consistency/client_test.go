//go:build consistency

package consistency

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// patience bounds what a client waits for. It is longer than any fault lasts.
const patience = 60 * time.Second

// seen is what a client saw.
type seen struct {
	status  int
	version int64 // of the body
	valid   int64 // the origin's when the body was fetched, or last validated
	said    string
}

// stale reports whether the response was said to be a stored one that is stale, and is being validated meanwhile.
func (s *seen) stale() bool {
	return s.hit() && (strings.Contains(s.said, "; ttl=-") || strings.Contains(s.said, "; ttl=0")) && strings.Contains(s.said, "; detail=stale-while-revalidate")
}

func (s *seen) hit() bool { return strings.Contains(s.said, "; hit") }

func (s *seen) String() string {
	return fmt.Sprintf("version %d, valid as of %d, %s", s.version, s.valid, s.said)
}

// conn is a client that keeps its connection. It speaks HTTP itself since it asks hundreds of thousands of times, beside what it tests.
type conn struct {
	address string
	c       net.Conn
	r       *bufio.Reader
	head    []byte
	body    []byte
}

func (c *conn) close() {
	if c.c != nil {
		_ = c.c.Close()
		c.c = nil
	}
}

// send begins a request: it has arrived when this returns, although the one who is asked may be stopped.
func (c *conn) send(path string, fields ...string) (err error) {
	if c.c == nil {
		if c.c, err = net.DialTimeout("tcp", c.address, patience); err != nil {
			c.c = nil
			return err
		}
		if c.r == nil {
			c.r = bufio.NewReaderSize(nil, 16<<10)
		}
		c.r.Reset(c.c)
	}
	c.head = append(append(append(c.head[:0], "GET "...), path...), " HTTP/1.1\r\nHost: "+host+"\r\n"...)
	for _, field := range fields {
		c.head = append(append(c.head, field...), "\r\n"...)
	}
	c.head = append(c.head, "\r\n"...)
	_ = c.c.SetDeadline(time.Now().Add(patience))
	_, err = c.c.Write(c.head)
	return err
}

// get is a whole exchange. A connection that failed is not used again.
func (c *conn) get(path string, fields ...string) (s seen, err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := c.send(path, fields...); err != nil {
		return s, err
	}
	return c.receive()
}

// receive reads the response. Broken is what no fault may cause: a body that is not whole, or not of one version.
func (c *conn) receive() (s seen, err error) {
	line, err := c.line()
	if err != nil {
		return s, err
	}
	if len(line) < 12 {
		return s, fmt.Errorf("status line %q", line)
	}
	if s.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return s, err
	}
	length, checksum, closes := int64(-1), "", false
	for {
		line, err := c.line()
		if err != nil {
			return s, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := strings.Cut(string(line), ": ")
		switch textproto.CanonicalMIMEHeaderKey(name) {
		case "Content-Length":
			length, err = strconv.ParseInt(value, 10, 64)
		case "Cache-Status":
			s.said = value
		case "X-Valid":
			s.valid, err = strconv.ParseInt(value, 10, 64)
		case "X-Sum":
			checksum = value
		case "Connection":
			closes = value == "close"
		}
		if err != nil {
			return s, err
		}
	}
	if length < 0 {
		return s, errors.New("a response without length")
	}
	if int64(cap(c.body)) < length {
		c.body = make([]byte, length)
	}
	body := c.body[:length]
	if _, err := io.ReadFull(c.r, body); err != nil {
		return s, err
	}
	if closes {
		c.close()
	}
	if s.status != 200 {
		return s, nil
	}
	if checksum == "" {
		s.version, err = strconv.ParseInt(string(body), 10, 64)
		return s, err
	}
	return s, s.readLarge(body, checksum)
}

// errBroken is what no fault may cause.
var errBroken = errors.New("the body is broken")

func (s *seen) readLarge(body []byte, checksum string) error {
	if len(body) != largeLen || sum(body) != checksum {
		return fmt.Errorf("%w: %d bytes, sum %s, want %s", errBroken, len(body), sum(body), checksum)
	}
	s.version = int64(binary.BigEndian.Uint64(body))
	for at := 0; at < largeLen; at += blockLen {
		if v := int64(binary.BigEndian.Uint64(body[at:])); v != s.version {
			return fmt.Errorf("%w: version %d at the begin, %d at %d", errBroken, s.version, v, at)
		}
	}
	return nil
}

func (c *conn) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return line[:max(len(line)-2, 0)], nil
}
