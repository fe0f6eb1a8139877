package wire

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/metrics"
)

// limit is how long anything may take that should happen at once.
const limit = 10 * time.Second

// server is an http.Server behind a Gate.
type server struct {
	t       *testing.T
	address string
	public  *http.Server
	gate    *Gate

	mu      sync.Mutex
	refused []string
}

// serve serves h on loopback until the test ends.
func serve(t *testing.T, h http.HandlerFunc, o Options, s Source) *server {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &server{t: t, address: inner.Addr().String(), public: &http.Server{Handler: h, Protocols: new(http.Protocols)}}
	o.Refused = func(r Refusal) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.refused = append(v.refused, r.Fault.Name)
	}
	o.Name = "cacheproxy"
	v.public.Protocols.SetHTTP1(true)
	v.public.Protocols.SetHTTP2(true)
	v.public.Protocols.SetUnencryptedHTTP2(true)
	v.gate = NewGate(o)
	l := v.gate.Wrap(inner, s)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = v.public.Serve(l)
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := v.public.Shutdown(ctx); err != nil {
			t.Errorf("connections are left: %v", err)
			v.public.Close()
		}
		<-ended
	})
	return v
}

func (s *server) faults() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.refused, " ")
}

// client is a raw connection.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (s *server) dial() *client {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(limit))
	return &client{s.t, conn, bufio.NewReader(conn)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// gets reads a response and checks its status and body.
func (c *client) gets(status int, body string) *http.Response {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("no response: %v", err)
	}
	got, err := io.ReadAll(r.Body)
	if r.StatusCode != status || body != "*" && string(got) != body || err != nil {
		c.t.Fatalf("%d %q, %v; want %d %q", r.StatusCode, got, err, status, body)
	}
	return r
}

// ended wants the connection closed with nothing more on it.
func (c *client) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
		c.t.Errorf("then %q, %v", rest, err)
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "bad content", http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
}

func TestRequestsPassUntouched(t *testing.T) {
	s := serve(t, echo, Options{}, Source{})
	c := s.dial()
	c.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcPOST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\nGET /4 HT")
	c.gets(200, "GET /1 ")
	c.gets(200, "POST /2 abc")
	c.gets(200, "POST /3 de")
	c.send("TP/1.1\r\nHost: a\r\n\r\n")
	c.gets(200, "GET /4 ")
	if got := s.faults(); got != "" {
		t.Errorf("refused: %s", got)
	}
}

// What is at fault behind a good request is refused after the response to that, wherever the pieces end.
func TestFaultAfterAGoodRequest(t *testing.T) {
	const good, bad = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET /2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n"
	for cut := range len(bad) {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			begun, answer := make(chan struct{}, 2), make(chan struct{})
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				begun <- struct{}{}
				<-answer
				echo(w, r)
			}, Options{}, Source{})
			c := s.dial()
			c.send(good + bad[:cut])
			<-begun
			c.send(bad[cut:])
			close(answer)
			c.gets(200, "GET /1 ")
			r := c.gets(400, "*")
			if got := r.Header.Get("Cache-Status"); got != "cacheproxy; detail=host-repeated" || r.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%v", r.Header)
			}
			c.ended()
			if got := s.faults(); got != "host-repeated" || len(begun) > 0 {
				t.Errorf("refused %q, %d more requests", got, len(begun))
			}
		})
	}
}

func TestFaultInContentIsTheHandlers(t *testing.T) {
	s := serve(t, echo, Options{}, Source{})
	c := s.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.gets(400, "bad content\n")
	c.ended()
}

func TestLenient(t *testing.T) {
	s := serve(t, echo, Options{Lenient: true}, Source{})
	c := s.dial()
	c.send("GET / HTTP/1.1\nHost: a\n\n")
	c.gets(200, "GET / ")
}

// upgrading switches protocols for /yes and echoes lines then; it takes its time.
func upgrading(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/yes" {
		w.WriteHeader(http.StatusEarlyHints) // decides nothing
		fmt.Fprintf(w, "no %s", r.URL.Path)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
	_ = rw.Flush()
	line, _ := rw.ReadString('\n')
	fmt.Fprint(rw, line)
	_ = rw.Flush()
}

const upgrade = " HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"

// What follows a request for another protocol belongs to that protocol if the response says so, and is the next request if not.
func TestUpgrade(t *testing.T) {
	for _, pause := range []bool{false, true} {
		s := serve(t, upgrading, Options{}, Source{})
		c := s.dial()
		then := func(text string) {
			if pause {
				time.Sleep(20 * time.Millisecond) // either order must do; this one is likelier with a pause
			}
			c.send(text)
		}
		c.send("GET /no" + upgrade)
		then("GET /no" + upgrade)
		c.gets(103, "")
		c.gets(200, "no /no")
		c.gets(103, "")
		c.gets(200, "no /no")
		c.send("GET /yes" + upgrade)
		then("a\x00b: no\x7f HTTP\n")
		if r := c.gets(101, "*"); r.Header.Get("Upgrade") != "x" {
			t.Errorf("%v", r.Header)
		}
		if line, err := c.r.ReadString('\n'); line != "a\x00b: no\x7f HTTP\n" {
			t.Errorf("%q, %v", line, err)
		}
		c.ended()
	}
}

// The response to the request before says nothing of the one for another protocol, though both came together.
func TestUpgradeBehindAnotherRequest(t *testing.T) {
	s := serve(t, upgrading, Options{}, Source{})
	c := s.dial()
	c.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /yes" + upgrade + "a\x00b: no\x7f HTTP\n")
	c.gets(103, "")
	c.gets(200, "no /first")
	c.gets(101, "*")
	if line, err := c.r.ReadString('\n'); line != "a\x00b: no\x7f HTTP\n" {
		t.Errorf("%q, %v", line, err)
	}
	c.ended()
}

func TestFaultBehindARefusedUpgrade(t *testing.T) {
	s := serve(t, upgrading, Options{}, Source{})
	c := s.dial()
	c.send("GET /no" + upgrade + "GET / HTTP/1.1\r\n\r\n")
	c.gets(103, "")
	c.gets(200, "no /no")
	c.gets(400, "*")
	c.ended()
}

func TestPriorKnowledge(t *testing.T) {
	s := serve(t, echo, Options{}, Source{})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	r, err := (&http.Client{Transport: transport}).Post("http://"+s.address+"/a", "text/plain", strings.NewReader("b"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, _ := io.ReadAll(r.Body); r.ProtoMajor != 2 || string(body) != "POST /a b" {
		t.Errorf("HTTP/%d %q", r.ProtoMajor, body)
	}
	for _, begin := range []string{"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n", "PRI * HTTP/1.1\r\nHost: a\r\n\r\n", "PRI /a HTTP/1.1\r\n\r\n"} {
		c := s.dial()
		c.send(begin)
		if r, err := http.ReadResponse(c.r, nil); err != nil || r.StatusCode < 400 {
			t.Errorf("%q: %v, %v", begin, r, err)
		}
	}
	c := s.dial()
	c.send("PRIX /a HTTP/1.1\r\nHost: a\r\n\r\n")
	c.gets(200, "PRIX /a ")
}

func TestSlowHeads(t *testing.T) {
	const soon = 50 * time.Millisecond
	s := serve(t, echo, Options{HeaderTimeout: soon, IdleTimeout: soon}, Source{})
	for name, begin := range map[string]string{"a head": "GET / HTTP/1.1\r\nHo", "perhaps HTTP/2": "PRI * HT", "a second head": "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET"} {
		c := s.dial()
		c.send(begin)
		if name == "a second head" {
			c.gets(200, "GET / ")
		}
		c.gets(408, "*")
		c.ended()
	}
	for name, begin := range map[string]string{"nothing": "", "idle": "GET / HTTP/1.1\r\nHost: a\r\n\r\n"} {
		c := s.dial()
		c.send(begin)
		if name == "idle" {
			c.gets(200, "GET / ")
		}
		c.ended()
	}
	if got := s.faults(); got != "head-timeout head-timeout head-timeout" {
		t.Errorf("refused: %s", got)
	}
}

// A handler may take longer than the times of heads and idle connections.
func TestSlowHandler(t *testing.T) {
	const soon = 20 * time.Millisecond
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(5 * soon):
		case <-r.Context().Done():
			t.Error("the client was thought to have left")
		}
		echo(w, r)
	}, Options{HeaderTimeout: soon, IdleTimeout: 100 * soon, BodyTimeout: soon}, Source{})
	c := s.dial()
	c.send("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na")
	c.gets(200, "POST /1 a")
	c.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
	c.gets(200, "GET /2 ")
}

func TestSlowContent(t *testing.T) {
	s := serve(t, echo, Options{BodyTimeout: 20 * time.Millisecond}, Source{})
	c := s.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
	c.gets(400, "bad content\n")
	c.ended()
}

// A client that takes nothing is ended; one that takes a little now and then is not.
func TestSlowReaders(t *testing.T) {
	const soon = time.Second // of which most is left to a busy machine
	const size = 8 << 20
	wrote := make(chan error, 1)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := w.Write(make([]byte, size))
		wrote <- err
	}, Options{WriteTimeout: soon}, Source{})
	c := s.dial()
	_ = c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if err := <-wrote; err == nil {
		t.Error("all was written to a client that takes nothing")
	}
	c.Close()

	c = s.dial()
	_ = c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	got := 0
	for p := make([]byte, 1<<20); got < size; {
		n, err := io.ReadFull(c.r, p[:min(len(p), size-got)])
		if got += n; err != nil {
			t.Fatalf("%d bytes, %v", got, err)
		}
		time.Sleep(soon / 5) // in all more than soon
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

func TestBoundPerClient(t *testing.T) {
	s := serve(t, echo, Options{MaxPerClient: 2, Metrics: metrics.New()}, Source{})
	one, two := s.dial(), s.dial()
	for _, c := range []*client{one, two} {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		c.gets(200, "GET / ")
	}
	third := s.dial()
	third.gets(503, "*")
	third.ended()
	one.Close()
	two.Close()
	awaitNobody(t, s)
	again := s.dial()
	again.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	again.gets(200, "GET / ")
}
