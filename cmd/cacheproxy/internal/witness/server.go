package witness

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// A Reply is what the witness sends for a request, byte for byte.
type Reply struct {
	Bytes []byte
	Close bool // the connection, afterwards
}

// Server is a witness that listens on loopback.
type Server struct {
	URL string // http://127.0.0.1:PORT

	listener net.Listener
	answer   func(*Message) Reply
	work     sync.WaitGroup

	mu       sync.Mutex
	open     map[net.Conn]bool // nil: closed
	messages []*Message
	doubts   []string
}

// Start starts a witness, which is closed with the test. answer says what each request is answered; nil = Echo.
func Start(t testing.TB, answer func(*Message) Reply) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if answer == nil {
		answer = Echo
	}
	s := &Server{URL: "http://" + l.Addr().String(), listener: l, answer: answer, open: map[net.Conn]bool{}}
	s.work.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

// Echo answers with what was asked, as Message.String has it, to be kept for a minute.
func Echo(m *Message) Reply {
	body := m.String()
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", len(body))
	if m.Method == "HEAD" {
		body = ""
	}
	return Reply{Bytes: []byte(head + body)}
}

// Messages are the requests that were whole and in no doubt, in the order in which they ended.
func (s *Server) Messages() []*Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Message(nil), s.messages...)
}

// Doubts name all that could have been read in two ways, with the bytes.
func (s *Server) Doubts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.doubts...)
}

// Forget begins anew.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages, s.doubts = nil, nil
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.open == nil {
			conn.Close()
		} else {
			s.open[conn] = true
			s.work.Go(func() { s.serve(conn) })
		}
		s.mu.Unlock()
	}
}

func (s *Server) close() {
	s.listener.Close()
	s.mu.Lock()
	for conn := range s.open {
		conn.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.work.Wait()
}

// serve reads requests, one after the other, until the proxy closes the connection or leaves a doubt.
func (s *Server) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.open, conn)
		s.mu.Unlock()
	}()
	var all []byte // that belong to no message yet
	part := make([]byte, 64<<10)
	continued := false
	for {
		n, err := conn.Read(part)
		all = append(all, part[:n]...)
		for len(all) > 0 {
			m, unfinished, doubt := Parse(all, FromProxy)
			if unfinished {
				if !continued && strings.EqualFold(strings.Join(m.Get("Expect"), ""), "100-continue") {
					_, _ = conn.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
					continued = true
				}
				break
			}
			if doubt != nil {
				s.note(func() { s.doubts = append(s.doubts, fmt.Sprintf("%v in %q", doubt, all)) })
				return
			}
			s.note(func() { s.messages = append(s.messages, m) })
			all, continued = all[len(m.Raw):], false
			reply := s.answer(m)
			if _, err := conn.Write(reply.Bytes); err != nil || reply.Close {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (s *Server) note(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}
