package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
)

// listener is what Gate.Wrap returns.
type listener struct {
	net.Listener
	gate   *Gate
	source Source
	tls    *tls.Config // of source, completed; nil = none

	ready  chan net.Conn // connections that had to be named or secured
	closed chan struct{}
	mu     sync.Mutex
	ended  bool           // Close was called: no more work begins
	failed error          // why nothing more is accepted; set before broken is closed
	broken chan struct{}  // closed when the loop has ended
	work   sync.WaitGroup // the loop, and connections in hand
	ctx    context.Context
	cancel context.CancelFunc
}

// Wrap returns a listener whose connections have passed the gate: an http.Server serves them as any others. It takes l over. What has
// to be said before HTTP (PROXY protocol, TLS) is said in goroutines, so that Accept never waits for a slow client; Close ends
// those, waits for them and leaves accepted connections alone.
func (g *Gate) Wrap(l net.Listener, s Source) net.Listener {
	w := &listener{Listener: l, gate: g, source: s, closed: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	if s.TLS == nil && !s.ProxyProtocol {
		return w
	}
	if s.TLS != nil {
		w.tls = s.TLS.Clone()
		w.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	w.ready, w.broken = make(chan net.Conn), make(chan struct{})
	w.work.Go(w.loop)
	return w
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	if l.ready == nil {
		return l.plain()
	}
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.broken:
		return nil, l.failed
	}
}

// plain accepts a connection that begins with HTTP.
func (l *listener) plain() (net.Conn, error) {
	for {
		k, err := l.accept()
		if err != nil {
			return nil, err
		}
		leave, ok := l.gate.admit(k.RemoteAddr())
		if ok {
			k.and(leave)
			return newConn(k, l.gate), nil
		}
		l.gate.refused(faultPerClient, k)
		l.spawn(k, func() {
			defer context.AfterFunc(l.ctx, func() { k.Close() })()
			defer k.Close()
			answer(k, faultPerClient, l.gate.live.Load().Name)
		})
	}
}

// accept takes the next connection of the network, once there is a slot for it.
func (l *listener) accept() (*link, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if !l.gate.enter(l.closed) {
		conn.Close()
		return nil, net.ErrClosed
	}
	return &link{Conn: conn, timeout: l.gate.opt.WriteTimeout, leaves: []func(){l.gate.leave}}, nil
}

// loop accepts connections and has each of them prepared.
func (l *listener) loop() {
	defer close(l.broken)
	for {
		k, err := l.accept()
		if isPassing(err) {
			l.pause()
			continue
		}
		if err != nil {
			l.failed = err
			return
		}
		select {
		case l.gate.hands <- struct{}{}:
		case <-l.closed:
			k.Close()
			l.failed = net.ErrClosed
			return
		}
		l.spawn(k, func() {
			conn, fault := l.prepare(k)
			<-l.gate.hands
			if fault != nil {
				l.gate.refused(fault, k)
				k.Close()
				return
			}
			select {
			case l.ready <- conn:
			case <-l.closed:
				conn.Close()
			}
		})
	}
}

// spawn does the work with a connection in a goroutine that Close waits for. After Close the connection is closed instead.
func (l *listener) spawn(k *link, work func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		k.Close()
		return
	}
	l.work.Go(work)
}

// isPassing reports whether the next Accept may go well: the connection had gone, or the process has no descriptor left for it now.
func isPassing(err error) bool {
	for _, passing := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// pause lets a moment go by, so that a process without descriptors does not spin.
func (l *listener) pause() {
	const moment = 20 * time.Millisecond
	timer := time.NewTimer(moment)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.closed:
	}
}

// prepare names and secures a connection.
func (l *listener) prepare(k *link) (conn net.Conn, fault *Fault) {
	stop := context.AfterFunc(l.ctx, func() { k.Close() })
	defer stop()
	conn = k
	counted := true
	if l.source.ProxyProtocol && l.gate.trusts(k.RemoteAddr()) {
		named := proxyproto.NewConn(k, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(l.gate.opt.HeaderTimeout))
		header := named.ProxyHeader()
		if header == nil {
			return nil, faultProxy
		}
		conn = &halves{named, k}
		counted = !header.Command.IsLocal() // else it speaks for itself, or for somebody whom it does not know
	}
	if counted {
		leave, ok := l.gate.admit(conn.RemoteAddr())
		if !ok {
			if l.tls == nil {
				answer(conn, faultPerClient, l.gate.live.Load().Name)
			}
			return nil, faultPerClient
		}
		k.and(leave)
	}
	if l.tls == nil {
		return newConn(conn, l.gate), nil
	}
	return l.secure(conn)
}

// secure makes the handshake. HTTP/2 is served from the *tls.Conn itself, as net/http wants it.
func (l *listener) secure(conn net.Conn) (net.Conn, *Fault) {
	secure := tls.Server(conn, l.tls)
	err := handshake(l.ctx, secure, l.gate.opt.HeaderTimeout)
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record) && record.Conn != nil && looksLikeHTTP(record.RecordHeader):
		answer(conn, faultPlain, l.gate.live.Load().Name)
		return nil, faultPlain
	case err != nil:
		return nil, faultHandshake
	case secure.ConnectionState().NegotiatedProtocol == "h2":
		return secure, nil
	}
	return &tlsConn{newConn(secure, l.gate), secure}, nil
}

// looksLikeHTTP reports whether what should have been a TLS record begins with a method that browsers use.
func looksLikeHTTP(record [5]byte) bool {
	return slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH"}, string(record[:]))
}

// halves is a connection named by the PROXY protocol with the half-close of the link below.
type halves struct {
	*proxyproto.Conn
	link *link
}

// CloseWrite ends the sending half.
func (h *halves) CloseWrite() error { return h.link.CloseWrite() }

// Close implements net.Listener.
func (l *listener) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	if !l.ended {
		l.ended = true
		close(l.closed)
	}
	l.mu.Unlock()
	l.cancel()
	l.work.Wait()
	return err
}
