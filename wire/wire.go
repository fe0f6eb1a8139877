// Package wire is what happens on a connection before net/http sees it.
//
// A Gate wraps the listeners of a server. For each connection that is accepted, in this order, it
//
//	admits    counts it against the bounds of the server and of its client's network          gate.go
//	names     reads the PROXY protocol's header, where the peer is trusted to write one         listener.go
//	secures   makes the TLS handshake, in goroutines of which there is a bounded number         listener.go
//	reads     follows the bytes of each request while net/http reads them                       conn.go
//
// The last is why the package exists. Two servers that read one request differently can be played against each other (request
// smuggling), and a handler cannot see any more what could be read two ways: net/http has read it one way by then. So a scanner
// (scanner.go, head.go, body.go) reads along, byte for byte and without keeping or changing any, with nothing of HTTP/1.1's leniency: every
// line ends with CRLF, a body has one length, a request names one host. What violates that is a Fault, answered here with its own
// status, and not one byte of it from the fault on reaches net/http. Everything else passes untouched.
//
//	what                                              RFC                     refused as
//	Content-Length with Transfer-Encoding             9112 section 6.1        length-and-coding
//	Content-Lengths that differ, or are no number     9112 section 6.3        length
//	a coding that is not exactly chunked              9112 sections 6.1, 7    coding (400), unknown-coding (501)
//	chunks that are framed in any other way           9112 section 7.1        chunk
//	a line that ends with a bare LF or CR             9112 section 2.2        bare-lf, bare-cr
//	a field line that begins with white space         9112 section 5.2        obs-fold
//	white space between a field's name and its colon  9112 section 5.1        field-name
//	NUL and other controls in a value                 9110 section 5.5        field-value
//	no Host, several, or none that is a host          9112 section 3.2        host-missing, host-repeated, host
//	absolute-form that contradicts Host               9112 section 3.2.2      host-contradicts
//	a request line of any other form                  9112 sections 3, 3.2    request-line, target, method, version
//	an Expect of anything but one 100-continue        9110 section 10.1.1     expectation
//
// The scanner knows where each request ends, so it also keeps the times: how long a head may take, how long a connection may be idle,
// how long a client may send or take nothing in the middle of a body. net/http's own read deadlines still hold where they are
// earlier.
//
// HTTP/2 is framed and has no doubts of where a request ends; net/http reads it from the connection itself (prior knowledge) or from the
// *tls.Conn. What its fields say must still fit into a request of HTTP/1.1: Gate.Refuse (http2.go) sees to that.
package wire

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"cacheproxy/metrics"
)

// Options configure a Gate. Every zero value means what its comment says.
type Options struct {
	// HeaderTimeout bounds a request's head, from its first byte (of a connection's first request from the accept) to its end, and
	// a PROXY header and a TLS handshake as well. 0 = 10 s.
	HeaderTimeout time.Duration
	// IdleTimeout bounds the wait for the next request of a connection. 0 = 75 s.
	IdleTimeout time.Duration
	// BodyTimeout bounds the wait for the next bytes of a request's content. 0 = 60 s.
	BodyTimeout time.Duration
	// WriteTimeout bounds how long a client may take nothing of a response. 0 = 60 s.
	WriteTimeout time.Duration
	// MaxHeader is how many bytes a head may have; trailers count as one of their own. 0 = 32 KiB.
	MaxHeader int
	// MaxFields is how many field lines a head may have. 0 = 256.
	MaxFields int
	// MaxConnections is how many connections may be open at once; further ones wait in the kernel's queue, but for one. 0 = no bound.
	MaxConnections int
	// MaxPerClient is how many of them a client may have; further ones are refused with 503. A client is an IPv4 address, or a
	// prefix of IPv6Prefix bits. Peers that write the PROXY protocol, and those of unix sockets, are not counted themselves, but the
	// clients that they name are. 0 = no bound.
	MaxPerClient int
	// Live is what Adopt may change later.
	Live
	// Lenient leaves the reading of requests to net/http alone: what it takes is not refused here.
	Lenient bool
	// Refused is told of each request and connection that is refused. It must not block. Nil = nobody is.
	Refused func(Refusal)
	Metrics *metrics.Metrics // nil: nothing is counted
	Log     *slog.Logger     // nil: slog.Default()
}

// Live are the options that may change while connections are open.
type Live struct {
	// Trusted are the peers that the PROXY protocol is read from, on listeners that have it.
	Trusted []netip.Prefix
	// Name is the cache's in the Cache-Status of refusals; "" = they have none.
	Name       string
	IPv6Prefix int // 0 = 64
}

// Refusal is what was refused, and why.
type Refusal struct {
	Fault  *Fault
	Client netip.Addr // invalid for a unix socket
	Time   time.Time
}

// Source is one listener to take connections from.
type Source struct {
	// TLS, when set, makes every connection one of TLS. Its NextProtos are set here.
	TLS *tls.Config
	// ProxyProtocol says that trusted peers begin with the PROXY protocol, version 1 or 2. One that does not is refused. Of other peers it is not
	// read, so that theirs is a malformed request.
	ProxyProtocol bool
}

func (o *Options) setDefaults() {
	setDefault(&o.HeaderTimeout, 10*time.Second)
	setDefault(&o.IdleTimeout, 75*time.Second)
	setDefault(&o.BodyTimeout, time.Minute)
	setDefault(&o.WriteTimeout, time.Minute)
	setDefault(&o.MaxHeader, 32<<10)
	setDefault(&o.MaxFields, 256)
	setDefault(&o.Log, slog.Default())
}

// setDefault gives *field the value where it is zero.
func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
