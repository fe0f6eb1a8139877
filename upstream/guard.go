package upstream

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
)

// A guard is a connection to a server that speaks HTTP/1.1. It reads along while net/http reads responses, for two things that net/http
// lets pass.
//
// Bytes behind the end of a response. net/http looks at them when the connection is idle already, and another request that takes it in
// that moment is answered with them: a body sent in answer to HEAD, or a second response that somebody had written into the first one, is
// the response to somebody else's request. Here what comes when nothing was asked is never handed over, and nothing is sent any more; net/http
// then takes another connection.
//
// Heads that can be read in two ways (RFC 9112 sections 2.2, 5.1, 6.1): Content-Length beside Transfer-Encoding, a Transfer-Encoding in HTTP/1.0,
// white space before a colon, a line that ends with LF alone among such that end with CRLF, as where a server writes into a field what a
// client has sent. They make the exchange fail with http_protocol_error. Everything else is net/http's to judge.
type guard struct {
	net.Conn

	mu      sync.Mutex // Read and Write are called by two goroutines
	taken   bool       // the next Write begins a request
	asked   bool       // a request has begun whose response has not ended
	head    bool       // it is a HEAD
	err     *Error     // ends the connection
	state   guardState
	left    int64  // of content, or of a chunk
	line    []byte // under way, as far as it is kept
	long    bool   // it is longer
	cr      bool   // its last byte is CR
	bareLF  bool   // the status line ended so, and the others may
	first   bool   // the next line is the status line
	status  int
	minor   byte
	length  string
	coding  string
	framing bool // the field line under way, or before it, frames the message
	trailer bool
}

// guardState is the place of the next byte.
type guardState uint8

const (
	inLines   guardState = iota // of a head, or of trailers
	inLength                    // content of a known length
	inSize                      // a chunk's first line
	inChunk                     // a chunk, and the two bytes behind it
	inTheRest                   // content that ends with the connection, or another protocol
)

// maxGuardedLine is how much of a line is kept: none that matters is longer.
const maxGuardedLine = 256

func newGuard(inner net.Conn) net.Conn {
	g := &guard{Conn: inner}
	g.begin()
	return g
}

// begin awaits a response, or the final one behind an interim one.
func (g *guard) begin() {
	g.state, g.first, g.trailer, g.line = inLines, true, false, g.line[:0]
	g.bareLF, g.length, g.coding = false, "", ""
}

// traced tells guards that a request is going to be written. What is written behind a response need not be one: a server may answer before
// it has had all of a request, and net/http keeps the connection where the rest goes out soon.
func traced(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if g, ok := got.Conn.(*guard); ok {
			g.take()
		}
	}})
}

// take says that net/http has taken the connection for a request.
func (g *guard) take() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken = true
}

// Write implements net.Conn.
func (g *guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	if g.err != nil {
		defer g.mu.Unlock()
		return 0, g.err
	}
	if g.taken {
		g.taken, g.asked, g.head = false, true, bytes.HasPrefix(p, []byte("HEAD "))
	}
	g.mu.Unlock()
	return g.Conn.Write(p)
}

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	g.mu.Lock()
	if g.err != nil {
		defer g.mu.Unlock()
		return 0, g.err
	}
	g.mu.Unlock()
	n, err := g.Conn.Read(p)
	if n == 0 {
		return n, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch n = g.follow(p[:n]); {
	case g.err == nil:
		return n, nil // an error comes again
	case n == 0:
		return 0, g.err
	case !g.asked:
		// The response is good, and whoever takes the connection next fails. net/http keeps none that has ended; it would take the response away from
		// its request where the next one fails before that has it.
		return n, io.EOF
	}
	return n, nil
}

// follow reads p and returns how much of it may be handed over.
func (g *guard) follow(p []byte) (n int) {
	for n < len(p) {
		if !g.asked {
			g.surplus(p[n:])
			return n
		}
		switch g.state {
		case inTheRest:
			return len(p)
		case inLength, inChunk:
			took := int(min(g.left, int64(len(p)-n)))
			n += took
			if g.left -= int64(took); g.left > 0 {
				continue
			}
			if g.state == inChunk {
				g.state = inSize
			} else {
				g.end()
			}
		default:
			took, whole := g.gather(p[n:])
			if !whole {
				return len(p)
			}
			if g.endLine(); g.err != nil {
				return n // without its end the line is none
			}
			n += took
		}
	}
	return n
}

// gather adds to the line under way and reports whether it is whole.
func (g *guard) gather(p []byte) (n int, whole bool) {
	part := p
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		part, whole = p[:i], true
	}
	if len(part) > 0 {
		g.cr = part[len(part)-1] == '\r'
	}
	keep := min(len(part), maxGuardedLine-len(g.line))
	g.line = append(g.line, part[:keep]...)
	g.long = g.long || keep < len(part)
	if whole {
		return len(part) + 1, true
	}
	return len(part), false
}

// end: the response is over.
func (g *guard) end() {
	g.asked = false
	g.begin()
}

// surplus ends the connection for what comes behind a response, and says so as net/http would, but for the bytes: they may be somebody's
// response. A 408 is how some servers close a connection that was idle.
func (g *guard) surplus(p []byte) {
	g.fail("bytes that belong to no response")
	if !bytes.HasPrefix(p, []byte("HTTP/1.1 408 ")) && !bytes.HasPrefix(p, []byte("HTTP/1.0 408 ")) {
		log.Printf("upstream: bytes that belong to no response came from %s", g.RemoteAddr())
	}
}

func (g *guard) fail(why string) {
	g.err = &Error{HTTPProtocolError, guardError(why)}
}

type guardError string

func (e guardError) Error() string { return "the server sent " + string(e) }

// endLine judges a line that is whole.
func (g *guard) endLine() {
	line, bare := g.line, !g.cr
	if !bare && !g.long {
		line = line[:len(line)-1]
	}
	g.line, g.cr = g.line[:0], false
	defer func() { g.long = false }()
	switch {
	case g.state == inSize:
		g.endSize(line)
	case g.first:
		g.bareLF = bare
		g.endStatus(line)
	case bare && !g.bareLF:
		g.fail("a line that ends with LF alone among others that end with CRLF")
	case len(line) == 0 && g.trailer:
		g.end()
	case len(line) == 0:
		g.endHead()
	case !g.trailer:
		g.endField(line)
	}
}

func (g *guard) endStatus(line []byte) {
	if len(line) < len("HTTP/1.1 200") || string(line[:7]) != "HTTP/1." || line[7] != '0' && line[7] != '1' {
		g.fail("something that does not begin as a response of HTTP/1.1")
		return
	}
	g.first, g.framing, g.minor = false, false, line[7]
	status, _, _ := bytes.Cut(bytes.TrimLeft(line[8:], " "), []byte(" ")) // as net/http finds it
	g.status, _ = strconv.Atoi(string(status))
}

// endField keeps what frames the message. Folded lines are net/http's to put together, but for those of such a field.
func (g *guard) endField(line []byte) {
	if line[0] == ' ' || line[0] == '\t' {
		if g.framing {
			g.fail("a framing field that is folded")
		}
		return
	}
	g.framing = false
	name, value, found := bytes.Cut(line, []byte(":"))
	if !found || len(name) == 0 {
		return // net/http refuses it
	}
	if last := name[len(name)-1]; last == ' ' || last == '\t' {
		g.fail("white space before a colon")
		return
	}
	var to *string
	switch {
	case strings.EqualFold(string(name), "content-length"):
		to = &g.length
	case strings.EqualFold(string(name), "transfer-encoding"):
		to = &g.coding
	default:
		return
	}
	g.framing = true
	if *to = string(bytes.Trim(value, " \t")); g.long {
		g.fail("a framing field that does not end")
	}
}

// endHead finds how long the content is (RFC 9112 section 6.3).
func (g *guard) endHead() {
	switch {
	case g.coding != "" && g.length != "":
		g.fail("Content-Length beside Transfer-Encoding")
	case g.coding != "" && g.minor == '0':
		g.fail("a Transfer-Encoding in HTTP/1.0")
	case g.status == 101:
		g.state = inTheRest
	case g.status < 200:
		g.begin()
	case g.head || g.status == 204 || g.status == 304:
		g.end()
	case strings.EqualFold(g.coding, "chunked"):
		g.state = inSize
	case g.coding != "":
		g.state = inTheRest // net/http refuses it
	case g.length != "":
		n, err := strconv.ParseInt(g.length, 10, 64)
		switch {
		case err != nil || n < 0:
			g.state = inTheRest // net/http refuses it
		case n == 0:
			g.end()
		default:
			g.state, g.left = inLength, n
		}
	default:
		g.state = inTheRest
	}
}

// endSize finds the length of a chunk. What is no size is net/http's to refuse.
func (g *guard) endSize(line []byte) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseUint(string(bytes.TrimRight(digits, " \t")), 16, 62)
	switch {
	case err != nil:
		g.state = inTheRest
	case n == 0:
		g.state, g.trailer = inLines, true
	default:
		g.state, g.left = inChunk, int64(n)+2
	}
}
