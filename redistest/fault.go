package redistest

// The fault proxy: listener -> link (client connection, server connection) -> two pumps, one each way. A pump reads a piece,
// asks the gate what is to become of it, and writes it. The gate looks at the mode; while the mode says hold, the pump waits for
// the mode to change. Every change of mode closes the channel `changed` and makes a new one, which wakes all who wait.

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Fault is a TCP proxy in front of a server, through which everything passes until it is told otherwise. Its methods replace
// each other: the last one called holds, for the connections that exist (those that were not cut) and for new ones. Unlike
// those of Server they may be called from any goroutine.
type Fault struct {
	t    testing.TB
	addr string

	mu       sync.Mutex
	server   *Server // nil in front of something else
	target   string
	mode     mode
	delay    time.Duration
	changed  chan struct{}
	listener net.Listener // nil while cut or closed
	links    map[*link]struct{}
	catches  []*Catch       // also those that are over
	running  sync.WaitGroup // the accept loop and all pumps
}

type mode uint8

const (
	pass     mode = iota
	delayed       // bytes from the server wait before they go on
	held          // nothing goes on, nothing is lost
	garbled       // bytes from the server are replaced
	halved        // of bytes from the server half go on, and the connection ends
	deafened      // nothing from the server goes on, nothing is lost
	muted         // nothing from the client goes on, nothing is lost
	cut           // no connection exists and none is accepted
	closed        // the test is over
)

// garbage is no RESP, no TLS record and no HTTP, whatever a parser looks at first.
const garbage = "\x00\xff garbage \xfe\r\n"

// link is one client's connection and the one to the server that belongs to it.
type link struct {
	client, server net.Conn
	silenced       *Catch // holds the server's answers; nil = nothing does
}

// Fault puts a proxy in front of the server. It stays usable while the server restarts.
func (s *Server) Fault() *Fault {
	s.t.Helper()
	f := NewFault(s.t, s.Addr())
	f.server = s
	return f
}

// NewFault puts a proxy in front of any TCP address.
func NewFault(t testing.TB, target string) *Fault {
	t.Helper()
	f := &Fault{
		t: t, addr: loopback(freePort(t)), target: target,
		changed: make(chan struct{}), links: map[*link]struct{}{},
	}
	if err := f.listen(); err != nil {
		t.Fatalf("redistest: fault proxy: %v", err)
	}
	t.Cleanup(f.close)
	return f
}

// Addr is the proxy's address, 127.0.0.1:port; it stays the same when the proxy was cut and heals.
func (f *Fault) Addr() string { return f.addr }

// URL is the server's URL through the proxy; empty when the proxy is not in front of a Server.
func (f *Fault) URL() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.server == nil {
		return ""
	}
	return f.server.urlAt(f.addr)
}

// Heal lets everything pass again; bytes that were held or delayed go on at once.
func (f *Fault) Heal() { f.set(pass, 0) }

// Delay holds each piece (up to 64 KiB) that comes from the server back for d.
func (f *Fault) Delay(d time.Duration) { f.set(delayed, d) }

// Hold accepts connections and bytes and lets nothing through, in either direction, until Heal.
func (f *Fault) Hold() { f.set(held, 0) }

// Deafen lets nothing from the server through until Heal; what clients say reaches it.
func (f *Fault) Deafen() { f.set(deafened, 0) }

// Mute lets nothing from clients through until Heal; what the server says reaches them.
func (f *Fault) Mute() { f.set(muted, 0) }

// Garbage replaces each piece that comes from the server by bytes that are no valid reply.
func (f *Fault) Garbage() { f.set(garbled, 0) }

// Halve lets half of each piece that comes from the server pass, and then ends the connection.
func (f *Fault) Halve() { f.set(halved, 0) }

// Cut resets all connections and refuses new ones until another method is called.
func (f *Fault) Cut() { f.set(cut, 0) }

func (f *Fault) close() {
	f.set(closed, 0)
	f.running.Wait()
}

// set changes the mode, wakes the pumps, and brings listener and links in line with it.
func (f *Fault) set(m mode, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode == closed {
		return
	}
	f.mode, f.delay = m, delay
	close(f.changed)
	f.changed = make(chan struct{})
	if m < cut {
		if err := f.listen(); err != nil {
			f.t.Errorf("redistest: fault proxy cannot listen again: %v", err)
		}
		return
	}
	if f.listener != nil {
		f.listener.Close()
		f.listener = nil
	}
	for l := range f.links {
		l.reset()
	}
}

// listen opens the listener unless it is open; called with mu held, or before anybody else knows of f. A listener that was closed here is still
// open for a moment where another thread has forked meanwhile, until the child executes its program.
func (f *Fault) listen() error {
	if f.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", f.addr)
	for end := time.Now().Add(5 * time.Second); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(end); l, err = net.Listen("tcp", f.addr) {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		return err
	}
	f.listener = l
	f.running.Go(func() { f.accept(l) })
	return nil
}

func (f *Fault) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		target := f.target
		f.mu.Unlock()
		server, err := net.Dial("tcp", target)
		if err != nil {
			// The server is down, and a proxy cannot take back that it accepted: reset is the nearest to refused.
			(&link{client: client, server: client}).reset()
			continue
		}
		f.join(&link{client: client, server: server}, target)
	}
}

// join starts the pumps of l, unless the proxy was cut, or aimed elsewhere, since l was accepted.
func (f *Fault) join(l *link, target string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mode >= cut || f.target != target {
		l.reset()
		return
	}
	f.links[l] = struct{}{}
	f.running.Go(func() { f.pump(l, l.server, l.client, false) })
	f.running.Go(func() { f.pump(l, l.client, l.server, true) })
}

// pump moves bytes one way until either side ends, then ends both.
func (f *Fault) pump(l *link, dst, src net.Conn, fromServer bool) {
	defer f.leave(l)
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			piece, ok := f.gate(l, buf[:n], fromServer)
			if _, err := dst.Write(piece); err != nil || !ok {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (f *Fault) leave(l *link) {
	l.client.Close()
	l.server.Close()
	f.mu.Lock()
	delete(f.links, l)
	f.mu.Unlock()
}

// gate returns what is to be written instead of piece, once it may be; not ok means that the connection is over after that.
func (f *Fault) gate(l *link, piece []byte, fromServer bool) (out []byte, ok bool) {
	var catch *Catch
	if !fromServer {
		catch = f.caughtBy(l, piece)
	}
	for {
		if fromServer {
			catch = f.silencedBy(l)
		}
		f.mu.Lock()
		m, delay, changed := f.mode, f.delay, f.changed
		f.mu.Unlock()
		switch {
		case m >= cut:
			return nil, false
		case catch.holds():
			select {
			case <-catch.over:
			case <-changed:
			}
		case m == held, m == deafened && fromServer, m == muted && !fromServer:
			<-changed
		case m == delayed && fromServer:
			timer := time.NewTimer(delay)
			select {
			case <-timer.C:
				return piece, true
			case <-changed:
				timer.Stop()
			}
		case m == garbled && fromServer:
			return []byte(garbage), true
		case m == halved && fromServer:
			return piece[:len(piece)/2], false
		default:
			return piece, true
		}
	}
}

// reset closes both connections so that the peers see a reset, not an end.
func (l *link) reset() {
	for _, c := range []net.Conn{l.client, l.server} {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
}
