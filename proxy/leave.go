package proxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Two kinds of response last as long as both sides like: event streams, and upgraded connections. A process that ends need not wait
// for them, nor cut them where they are. Leave tells them:
//
//   - An event stream (text/event-stream) ends after the event under way, as any response does. Its client connects again, elsewhere.
//   - A WebSocket gets a Close frame with 1001, "going away", behind the frame under way (RFC 6455 sections 5.5.1, 7.4.1). Its client answers
//     with one of its own, which the upstream sees, and everything after that is the two peers' usual end.
//
// Other upgraded connections have no such word; they go on until they end, or Close ends them.

// Leave tells connections that would last that this Handler is going to be closed, those that come later too. Everything else goes on
// as before. It may be called more than once.
func (h *Handler) Leave() { h.leave() }

// eventStream is the body of such a response. It ends behind an event once leaving is done.
type eventStream struct {
	io.ReadCloser
	leaving context.Context
	stop    func() bool // of the function that waits for it

	mu      sync.Mutex
	between bool // what was read ends with a whole event
	blank   bool // the line under way is empty so far
	cr      bool // the last byte was CR
}

func newEventStream(body io.ReadCloser, leaving context.Context) *eventStream {
	s := &eventStream{ReadCloser: body, leaving: leaving, between: true, blank: true}
	s.stop = context.AfterFunc(leaving, s.leave)
	return s
}

// leave ends the reading that waits for an event that has not begun. One under way may end: Read cuts behind it.
func (s *eventStream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.between {
		_ = s.ReadCloser.Close()
	}
}

// Read implements io.Reader.
func (s *eventStream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	leaving := s.leaving.Err() != nil
	for i, b := range p[:n] {
		if s.follow(b); leaving && s.between {
			return i + 1, io.EOF
		}
	}
	if leaving && s.between && err != nil {
		err = io.EOF
	}
	return n, err
}

// follow keeps track of where events end: at an empty line, which ends with CR, LF or both.
func (s *eventStream) follow(b byte) {
	switch {
	case b == '\n' && s.cr: // of one line end
		s.cr = false
		return
	case b == '\n' || b == '\r':
		s.between = s.blank
		s.blank = true
	default:
		s.between, s.blank = false, false
	}
	s.cr = b == '\r'
}

// Close implements io.Closer.
func (s *eventStream) Close() error {
	s.stop()
	return s.ReadCloser.Close()
}

// Hijack implements http.Hijacker, for ReverseProxy: the connection of a WebSocket can be told that we leave.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.webSocket != nil {
		conn = newWebSocket(conn, w.webSocket)
	}
	return conn, rw, err
}

// isWebSocket reports whether the request asks for a WebSocket.
func isWebSocket(h http.Header) bool { return strings.EqualFold(h.Get("Upgrade"), "websocket") }

// goingAway is a whole Close frame of a server, with status 1001.
var goingAway = []byte{0x88, 2, 0x03, 0xe9}

// webSocket is the client's connection, to which the upstream's frames are written.
type webSocket struct {
	net.Conn
	stop func() bool // of the function that waits for leaving

	mu      sync.Mutex
	leaving bool
	ended   bool // a Close frame has been written; nothing may follow it
	head    []byte
	left    uint64 // bytes of the frame under way that are still to come, when its head is whole
	closes  bool   // the frame under way is a Close
}

func newWebSocket(conn net.Conn, leaving context.Context) *webSocket {
	s := &webSocket{Conn: conn}
	s.stop = context.AfterFunc(leaving, s.leave)
	return s
}

// leave writes the Close frame, unless a frame is under way: then Write does.
func (s *webSocket) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	if s.between() && !s.ended {
		_, _ = s.Conn.Write(goingAway)
		s.ended = true
	}
}

func (s *webSocket) between() bool { return len(s.head) == 0 && s.left == 0 }

// Write implements net.Conn.
func (s *webSocket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return len(p), nil
	}
	most := len(p)
	for n := 0; n < len(p); {
		n += s.follow(p[n:])
		if !s.between() {
			continue
		}
		if s.closes {
			s.ended = true
		}
		if s.leaving || s.ended {
			most = n
			break
		}
	}
	if n, err := s.Conn.Write(p[:most]); err != nil {
		return n, err
	}
	if s.leaving && s.between() && !s.ended {
		s.ended = true
		if _, err := s.Conn.Write(goingAway); err != nil {
			return most, err
		}
	}
	return len(p), nil
}

// follow takes what p begins with: bytes of a frame's head, or of its payload (RFC 6455 section 5.2).
func (s *webSocket) follow(p []byte) int {
	if s.left > 0 {
		n := min(s.left, uint64(len(p)))
		s.left -= n
		return int(n)
	}
	s.head = append(s.head, p[0])
	if len(s.head) < 2 {
		return 1
	}
	size, length := 2, uint64(s.head[1]&0x7f)
	switch length {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if len(s.head) < size {
		return 1
	}
	switch length {
	case 126:
		length = uint64(binary.BigEndian.Uint16(s.head[2:]))
	case 127:
		length = binary.BigEndian.Uint64(s.head[2:])
	}
	if s.head[1]&0x80 != 0 { // a mask, which no server sends
		length += 4
	}
	s.closes = s.head[0]&0x0f == 8
	s.left, s.head = length, s.head[:0]
	return 1
}

// Close implements net.Conn.
func (s *webSocket) Close() error {
	s.stop()
	return s.Conn.Close()
}
