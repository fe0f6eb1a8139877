package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// newTransport is the one place where net/http's client side is tuned. Proxy stays nil: an upstream is reached directly,
// whatever HTTP_PROXY says in the environment.
func newTransport(a address, o Options) (*http.Transport, error) {
	t := &http.Transport{
		Protocols:   protocols(a.scheme),
		DialContext: dialTo(a, (&net.Dialer{Timeout: o.ConnectTimeout}).DialContext),

		// The client said what it accepts; bodies are stored and forwarded as they are, and decoding here would break validators.
		DisableCompression: true,

		// All connections go to one server, so the two bounds are one. Too few cost a handshake for every burst.
		MaxIdleConns:        o.MaxIdleConns,
		MaxIdleConnsPerHost: o.MaxIdleConns,
		// Under the 5 s after which Node.js, the shortest of the common servers, closes an idle connection: a request that meets
		// that close is sent again by net/http only when it may be repeated, so a POST would fail. Under load connections are
		// never idle that long.
		IdleConnTimeout: 4 * time.Second,

		TLSHandshakeTimeout:   o.ConnectTimeout,
		ResponseHeaderTimeout: o.HeadTimeout,
		// How long a client's Expect: 100-continue is honoured before its body is sent all the same.
		ExpectContinueTimeout: time.Second,
		// net/http's 10 MiB for each response being read is an invitation; no real head comes near 1 MiB.
		MaxResponseHeaderBytes: 1 << 20,

		// Head and body of a common page in one read, an upload in few writes; both are held by idle connections too, so no more.
		// Larger reads go past the buffer.
		ReadBufferSize:  16 << 10,
		WriteBufferSize: 16 << 10,

		HTTP2: &http.HTTP2Config{
			// One dead connection would hold up every request until TCP gives up: ask after 15 s of silence, wait 5 s.
			SendPingTimeout: 15 * time.Second,
			PingTimeout:     5 * time.Second,
			// net/http's 4 MiB are buffered for each response that nobody reads; 1 MiB still fills 1 Gbit/s over 8 ms.
			MaxReceiveBufferPerStream: 1 << 20,
		},
	}
	if a.scheme != "https" {
		if o.TLS != (TLSOptions{}) {
			return nil, fmt.Errorf("tls: %s:// does not use TLS; use https:// or leave tls out", a.scheme)
		}
		return t, nil
	}
	config, err := tlsConfig(o.TLS)
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig = config
	t.DialTLSContext = dialTLSTo(t, o.ConnectTimeout, "h2", "http/1.1")
	return t, nil
}

// newSwitching makes, of the Transport of an https upstream, the one for requests that ask for another protocol: HTTP/2 has none, and a
// dialer of one's own is not told by net/http that a request wants HTTP/1.1.
func newSwitching(t *http.Transport, timeout time.Duration) *http.Transport {
	s := t.Clone()
	s.Protocols = protocols("http")
	s.DialTLSContext = dialTLSTo(s, timeout, "http/1.1")
	return s
}

// dialTLSTo makes the handshake too, so that what speaks HTTP/1.1 within it is guarded. What speaks HTTP/2 must stay a *tls.Conn for
// net/http to see it.
func dialTLSTo(t *http.Transport, timeout time.Duration, speaks ...string) dialFunc {
	config := t.TLSClientConfig.Clone()
	config.NextProtos = speaks
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := t.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := config
		if c.ServerName == "" {
			c = config.Clone()
			c.ServerName, _, _ = net.SplitHostPort(addr)
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		secure := tls.Client(conn, c)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, &Error{Cause: ConnectionTimeout, Err: errors.New("TLS handshake timeout")}
			}
			return nil, err
		}
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			return secure, nil
		}
		return newGuard(secure), nil
	}
}

// protocols sets exactly what a scheme means. net/http speaks cleartext HTTP/2 without being asked by the server only when
// HTTP/1 is off, hence one Transport for each scheme; naming the protocols makes ForceAttemptHTTP2 needless.
func protocols(scheme string) *http.Protocols {
	p := new(http.Protocols)
	switch scheme {
	case "h2c":
		p.SetUnencryptedHTTP2(true)
	case "https":
		p.SetHTTP1(true)
		p.SetHTTP2(true)
	default:
		p.SetHTTP1(true)
	}
	return p
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// dialTo connects to a, whatever address net/http derives from the URL, and classifies failures here, where it is certain that
// they are failures to connect.
func dialTo(a address, dial dialFunc) dialFunc {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dial(ctx, a.network, a.dial)
		if err != nil {
			return nil, &Error{Cause: dialCause(err), Err: err}
		}
		if a.scheme == "http" || a.scheme == "unix" {
			return newGuard(conn), nil
		}
		return conn, nil
	}
}

func tlsConfig(o TLSOptions) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12, // RFC 9325 section 3.1.1
		ServerName:         o.ServerName,
		InsecureSkipVerify: o.InsecureSkipVerify,
		ClientSessionCache: tls.NewLRUClientSessionCache(64), // a resumed handshake needs no certificate check; one server fills few
	}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: no certificate in %s; want PEM", o.CA)
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("tls.cert and tls.key: want both or neither")
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert, tls.key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
