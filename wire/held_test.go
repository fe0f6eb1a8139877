package wire

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// pieces is a connection whose Reads return one piece each.
type pieces struct {
	net.Conn
	left []string
}

func (c *pieces) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.left[0])
	if c.left[0] = c.left[0][n:]; c.left[0] == "" {
		c.left = c.left[1:]
	}
	return n, nil
}

func (c *pieces) Write(p []byte) (int, error)     { return len(p), nil }
func (c *pieces) SetReadDeadline(time.Time) error { return nil }

// What is held may be more than a Read takes, and what is behind a request that asks for another protocol in that Read comes before what is left.
func TestBytesThatAreHeldStayInOrder(t *testing.T) {
	const asks = "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n"
	sent := asks
	for i := 0; len(sent) < 5000; i++ {
		sent += strings.Repeat(string(rune('a'+i%26)), 7)
	}
	c := newConn(&pieces{left: []string{sent[:1], sent[1:]}}, NewGate(Options{}))
	buffer := make([]byte, 4096)
	n, err := c.Read(buffer)
	if got := string(buffer[:n]); got != asks || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(c)
	if !bytes.Equal(rest, []byte(sent[len(asks):])) || err != nil {
		t.Errorf("the bytes of the other protocol came in another order: %q, %v", rest, err)
	}
}
