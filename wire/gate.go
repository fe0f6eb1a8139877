package wire

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Gate is what all listeners of a server share: the bounds of their connections. It is safe for concurrent use.
type Gate struct {
	opt   Options
	slots chan struct{} // one for each connection that is open; nil = no bound
	hands chan struct{} // one for each connection that is being named or secured

	live atomic.Pointer[Live]

	mu      sync.Mutex
	clients map[netip.Prefix]int // connections of each client; nil = no bound
}

// maxHands is how many PROXY headers and TLS handshakes are awaited at once. Each may take HeaderTimeout.
const maxHands = 1024

// NewGate makes a Gate.
func NewGate(o Options) *Gate {
	o.setDefaults()
	g := &Gate{opt: o, hands: make(chan struct{}, maxHands)}
	g.Adopt(o.Live)
	if o.MaxConnections > 0 {
		g.slots = make(chan struct{}, o.MaxConnections)
	}
	if o.MaxPerClient > 0 {
		g.clients = make(map[netip.Prefix]int)
	}
	return g
}

// Adopt replaces Options.Live, for connections that are accepted and requests that are refused from now on.
func (g *Gate) Adopt(l Live) {
	setDefault(&l.IPv6Prefix, 64)
	g.live.Store(&l)
}

// trusts reports whether the PROXY protocol is read from the peer: those of a unix socket are this machine's.
func (g *Gate) trusts(addr net.Addr) bool {
	if addr.Network() == "unix" {
		return true
	}
	ip := addrOf(addr)
	return slices.ContainsFunc(g.live.Load().Trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// enter takes a slot for a connection that is there; a listener that took one to wait with would keep it from the others. It
// reports false when closed is closed first.
func (g *Gate) enter(closed <-chan struct{}) bool {
	if g.slots == nil {
		g.opt.Metrics.Connections(1)
		return true
	}
	select {
	case g.slots <- struct{}{}:
		g.opt.Metrics.Connections(1)
		return true
	case <-closed:
		return false
	}
}

func (g *Gate) leave() {
	g.opt.Metrics.Connections(-1)
	if g.slots != nil {
		<-g.slots
	}
}

// admit counts a connection of the client at addr, and returns how it is counted out. It reports false for one too many.
func (g *Gate) admit(addr net.Addr) (leave func(), ok bool) {
	client, known := g.client(addr)
	if g.clients == nil || !known {
		return func() {}, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.clients[client] >= g.opt.MaxPerClient {
		return nil, false
	}
	g.clients[client]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.clients[client]--; g.clients[client] == 0 {
			delete(g.clients, client)
		}
	}, true
}

// client is the network that counts as one client.
func (g *Gate) client(addr net.Addr) (p netip.Prefix, known bool) {
	ip := addrOf(addr)
	if !ip.IsValid() {
		return netip.Prefix{}, false
	}
	bits := ip.BitLen()
	if ip.Is6() {
		bits = g.live.Load().IPv6Prefix
	}
	p, err := ip.Prefix(bits)
	return p, err == nil
}

// addrOf is the address of a TCP peer; invalid for any other.
func addrOf(addr net.Addr) netip.Addr {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(tcp.IP)
	return ip.Unmap()
}

// addrOfText is the same of http.Request.RemoteAddr.
func addrOfText(remote string) netip.Addr {
	peer, _ := netip.ParseAddrPort(remote) // a unix socket has none
	return peer.Addr().Unmap()
}

// refused counts a refusal and tells of it.
func (g *Gate) refused(f *Fault, conn net.Conn) {
	g.opt.Metrics.Fault(f.Name)
	if g.opt.Refused != nil {
		g.opt.Refused(Refusal{Fault: f, Client: addrOf(conn.RemoteAddr()), Time: time.Now()})
	}
}
