package wire

import (
	"net"
	"testing"
	"time"
)

func TestBoundedListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := NewGate(Options{MaxConnections: 1})
	l := g.Wrap(inner, Source{})
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	for range 3 {
		dial()
	}
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	one := <-accepted
	if len(g.slots) != 1 {
		t.Errorf("%d slots are taken", len(g.slots))
	}
	one.(interface{ CloseWrite() error }).CloseWrite()
	one.Close()
	one.Close() // a second Close gives nothing back
	two := <-accepted
	l.Close() // while Accept waits for a slot
	if conn, more := <-accepted; more {
		t.Errorf("accepted %v after Close", conn)
	}
	two.Close()
}

// A listener that waits for a client keeps no slot from the others.
func TestListenersShareTheBound(t *testing.T) {
	g := NewGate(Options{MaxConnections: 1})
	var listeners [2]net.Listener
	accepted := make(chan int)
	for i := range listeners {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := g.Wrap(inner, Source{})
		t.Cleanup(func() { l.Close() })
		listeners[i] = l
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conn.Close()
				accepted <- i
			}
		}()
	}
	for _, i := range []int{0, 1, 1, 0} {
		conn, err := net.Dial("tcp", listeners[i].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-accepted:
			if got != i {
				t.Errorf("listener %d accepted, want %d", got, i)
			}
		case <-time.After(limit):
			t.Fatalf("listener %d accepts nothing while no connection is open", i)
		}
		conn.Close()
	}
}
