// Package upstream carries a request to the server that answers it, and says in one vocabulary what went wrong.
//
// An Upstream is an http.RoundTripper for requests that name no server of their own: it picks a member, puts the member's
// address (and base path) in, and sends the request over that member's connections. What reaches the server is what was asked,
// byte for byte: path, query and Host are neither cleaned nor encoded again (see target.go for the few that are refused), no
// field is added, nothing is decompressed. Interim responses, trailers and upgraded connections pass through untouched.
//
// A URL says how to connect:
//
//	http://host[:port][/base]    HTTP/1.1
//	https://host[:port][/base]   TLS, HTTP/2 where the server agrees by ALPN, else HTTP/1.1
//	h2c://host[:port][/base]     cleartext HTTP/2 with prior knowledge
//	unix:/path/to/socket[:/base] HTTP/1.1 over a unix socket
//
// Every failure is an *Error with a Cause, a proxy error type of RFC 9209. There are three limits of time, each of which has its
// own cause: ConnectTimeout for TCP and for the TLS handshake, HeadTimeout for the head of the response, IdleTimeout for
// each gap in its body. There is none for the whole, because a download or an event stream may last.
package upstream

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cacheproxy/metrics"
)

// Options describe an upstream. Only URL is needed.
type Options struct {
	// Name appears in errors and as the upstream label of metrics; empty means "default".
	Name string
	// URL is the server's address, as in the package comment.
	URL string
	// Host replaces the request's Host field; empty preserves it.
	Host string

	// ConnectTimeout bounds connecting, name lookup included, and after that the TLS handshake; zero means 5 s.
	ConnectTimeout time.Duration
	// HeadTimeout bounds the wait from the request's last byte to the final response's head; zero means no bound.
	HeadTimeout time.Duration
	// IdleTimeout bounds each wait for more of the response's body; zero means no bound. A slow reader of the
	// body costs nothing of it, and upgraded connections (101) are exempt.
	IdleTimeout time.Duration

	// TLS is for https.
	TLS TLSOptions

	// MaxIdleConns is how many unused connections are kept; zero means 256.
	MaxIdleConns int

	// Metrics counts exchanges and failures; nil counts nothing.
	Metrics *metrics.Metrics
	// Health is told how exchanges end; nil notices nothing.
	Health *Health
}

// TLSOptions say whom to trust over https and who we are. CA, Cert and Key are paths of PEM files.
type TLSOptions struct {
	// CA replaces the system's roots; empty keeps them.
	CA string
	// Cert and Key are the certificate we present, for servers that ask for one; both or neither.
	Cert, Key string
	// ServerName replaces the URL's host name in SNI and verification.
	ServerName string
	// InsecureSkipVerify accepts any certificate.
	InsecureSkipVerify bool
}

// Upstream is a group of interchangeable servers, of which there is one. It may be used concurrently.
type Upstream struct {
	member *Member
}

// New returns an upstream; it connects to nothing yet. Errors name the configuration key below the upstream's own.
func New(o Options) (*Upstream, error) {
	o.Name = cmp.Or(o.Name, "default")
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 5*time.Second)
	o.MaxIdleConns = cmp.Or(o.MaxIdleConns, 256)
	a, err := parseAddress(o.URL)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: url: %w", o.Name, err)
	}
	if err := checkHost(o.Host); err != nil {
		return nil, fmt.Errorf("upstream %s: host: %w", o.Name, err)
	}
	transport, err := newTransport(a, o)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", o.Name, err)
	}
	switching := transport
	if a.scheme == "https" {
		switching = newSwitching(transport, o.ConnectTimeout)
	}
	return &Upstream{member: &Member{
		name: o.Name, host: o.Host, address: a, idle: o.IdleTimeout, transport: transport, switching: switching, metrics: o.Metrics, health: o.Health,
	}}, nil
}

// Pick returns the member that is to answer r now.
func (u *Upstream) Pick(*http.Request) *Member { return u.member }

// RoundTrip sends r to the picked member; see Member.RoundTrip.
func (u *Upstream) RoundTrip(r *http.Request) (*http.Response, error) { return u.Pick(r).RoundTrip(r) }

// Close closes connections that are not in use; those in use are closed when their exchange ends.
func (u *Upstream) Close() {
	u.member.transport.CloseIdleConnections()
	u.member.switching.CloseIdleConnections()
}

// Member is one server of an upstream. It may be used concurrently.
type Member struct {
	name      string // the upstream's
	host      string
	address   address
	idle      time.Duration
	transport *http.Transport
	switching *http.Transport // for requests that ask for another protocol
	metrics   *metrics.Metrics
	health    *Health
}

// URL is the member's address in the form in which it was configured.
func (m *Member) URL() string { return m.address.text }

// RoundTrip implements http.RoundTripper. It needs of r the method, the path and query (URL.Path with RawPath, or URL.Opaque
// for a path whose bytes url.URL would change; RawQuery), Host, Header and Body; it changes nothing of r. Errors, those
// of reading the body included, are *Error. A request that failed on a kept connection before the server answered may be
// sent again by net/http where it has no body and its method is idempotent.
func (m *Member) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	target, err := m.address.target(r)
	if err != nil {
		if r.Body != nil {
			r.Body.Close() // RoundTripper: also on errors
		}
		return nil, m.failed(&Error{Cause: HTTPRequestError, Err: err})
	}
	x := newExchange(m, r)
	out := r.WithContext(traced(x.ctx))
	out.URL = target
	out.Host = cmp.Or(m.host, r.Host)
	out.Header = silentUserAgent(r.Header)
	out.Body = x.watchRequestBody(r.Body)

	transport := m.transport
	if len(out.Header["Upgrade"]) > 0 {
		transport = m.switching
	}
	resp, err := transport.RoundTrip(out)
	if err != nil {
		x.end()
		explained := x.explain(err, inHead)
		m.health.failed(explained.Cause)
		return nil, m.failed(explained)
	}
	m.health.answered()
	m.metrics.UpstreamSeconds(m.name, time.Since(began))
	resp.Request = r
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.Body == http.NoBody {
		x.end() // net/http has let go of the request's context by now
		return resp, nil
	}
	resp.Body = x.watchResponseBody(resp.Body)
	return resp, nil
}

// failed counts err and adds the upstream's name to it.
func (m *Member) failed(err *Error) error {
	if err.Cause.upstreamsFault() {
		m.metrics.UpstreamError(err.Cause.String())
	}
	return &Error{Cause: err.Cause, Err: fmt.Errorf("%s: %w", m.name, err.Err)}
}

// silentUserAgent returns h, or a copy that keeps net/http from naming itself where the client named nothing.
func silentUserAgent(h http.Header) http.Header {
	if _, ok := h["User-Agent"]; ok {
		return h
	}
	silent := make(http.Header, len(h)+1)
	for name, values := range h {
		silent[name] = values
	}
	silent["User-Agent"] = nil
	return silent
}

var errNoScheme = errors.New(`want http://, https://, h2c:// or unix:/path, for example "http://127.0.0.1:3000"`)
