package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cacheproxy/internal/bubble"
	"cacheproxy/metrics"
)

// refusedAddr is a loopback address where nobody listens.
func refusedAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}

// wantCause checks err, and that the upstream's failures are counted once and others not.
func wantCause(t *testing.T, m *metrics.Metrics, err error, want Cause) {
	t.Helper()
	var typed *Error
	if !errors.As(err, &typed) || typed.Cause != want {
		t.Fatalf("error %v, want cause %q", err, want)
	}
	errs, _ := counted(t, m)
	if want.upstreamsFault() && (len(errs) != 1 || errs[want.String()] != 1) {
		t.Errorf("counted %v, want one %s", errs, want)
	}
	if !want.upstreamsFault() && len(errs) != 0 {
		t.Errorf("counted %v for what is not the upstream's fault", errs)
	}
}

// httpServers are proper servers that fail on demand: one with a certificate that nobody trusts, one that wants a certificate
// of ours, and the address of one that speaks cleartext HTTP/2.
func httpServers(t *testing.T) (tlsServer, wantsCertificate *httptest.Server, h2 string) {
	tlsServer = httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsServer.Config.ErrorLog = discardLog()
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	wantsCertificate = httptest.NewUnstartedServer(http.NotFoundHandler())
	wantsCertificate.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	wantsCertificate.Config.ErrorLog = discardLog()
	wantsCertificate.StartTLS()
	t.Cleanup(wantsCertificate.Close)
	h2 = h2cServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abort":
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/abort-head":
			panic(http.ErrAbortHandler)
		case "/big":
			for range 128 { // just over 1 MiB; net/http drops the connection as a protocol error where much more follows
				w.Header().Add("X", strings.Repeat("x", 8<<10))
			}
		}
	})
	return tlsServer, wantsCertificate, h2
}

// TestCausesOfRealFailures provokes each cause from a server that misbehaves.
func TestCausesOfRealFailures(t *testing.T) {
	tlsServer, wantsCertificate, h2 := httpServers(t)
	raw := func(serve func(net.Conn, *bufio.Reader)) string { return "http://" + rawServer(t, serve) }
	ok := "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name string
		o    Options
		path string
		want Cause
	}{
		{"refused", Options{URL: "http://" + refusedAddr(t)}, "/", ConnectionRefused},
		{"no socket", Options{URL: "unix:" + filepath.Join(t.TempDir(), "none")}, "/", ConnectionRefused},
		{"connecting takes too long", Options{URL: "http://" + refusedAddr(t), ConnectTimeout: 1}, "/", ConnectionTimeout},
		{"closed before the head", Options{URL: raw(func(c net.Conn, r *bufio.Reader) { readHead(r) })}, "/", ConnectionTerminated},
		{"closed within the head", Options{URL: raw(answer(ok + "A: b\r\nConnection: close"))}, "/", ConnectionTerminated},
		{"reset before the head", Options{URL: raw(func(c net.Conn, r *bufio.Reader) {
			readHead(r)
			c.(*net.TCPConn).SetLinger(0)
		})}, "/", ConnectionTerminated},
		{"garbage", Options{URL: raw(answer("\x00\xff garbage\r\n\r\n"))}, "/", HTTPProtocolError},
		{"another protocol", Options{URL: raw(answer("-ERR unknown command\r\n"))}, "/", HTTPProtocolError},
		{"status no number", Options{URL: raw(answer("HTTP/1.1 abc OK\r\n\r\n"))}, "/", HTTPProtocolError},
		{"field without colon", Options{URL: raw(answer(ok + "no colon here\r\n\r\n"))}, "/", HTTPProtocolError},
		{"two lengths", Options{URL: raw(answer(ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"))}, "/", HTTPProtocolError},
		{"bad length", Options{URL: raw(answer(ok + "Content-Length: -5\r\n\r\n"))}, "/", HTTPProtocolError},
		{"unknown transfer coding", Options{URL: raw(answer(ok + "Transfer-Encoding: zip\r\n\r\n"))}, "/", HTTPProtocolError},
		{"oversized head", Options{URL: raw(answer(ok + "X: " + strings.Repeat("x", 2<<20) + "\r\n\r\n"))}, "/", HTTPResponseHeaderSectionSize},
		{"HTTP/2 to HTTP/1", Options{URL: "h2c://" + rawServer(t, answer("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))}, "/", HTTPProtocolError},
		{"HTTP/2 stream reset", Options{URL: "h2c://" + h2}, "/abort-head", ConnectionTerminated},
		{"HTTP/2 oversized head", Options{URL: "h2c://" + h2}, "/big", HTTPResponseHeaderSectionSize},
		{"unknown CA", Options{URL: tlsServer.URL}, "/", TLSCertificateError},
		{"plaintext to TLS", Options{URL: "https://" + rawServer(t, func(c net.Conn, r *bufio.Reader) {
			r.ReadByte()
			io.WriteString(c, ok+"\r\n")
		})}, "/", TLSProtocolError},
		{"no certificate of ours", Options{URL: wantsCertificate.URL, TLS: TLSOptions{InsecureSkipVerify: true}}, "/", TLSAlertReceived},
		{"closed in the handshake", Options{URL: "https://" + rawServer(t, func(c net.Conn, r *bufio.Reader) { r.ReadByte() })}, "/", ConnectionTerminated},

		{"cut within the body", Options{URL: raw(answer(ok + "Content-Length: 9\r\nConnection: close\r\n\r\nabc"))}, "/", HTTPResponseIncomplete},
		{"cut within a chunk", Options{URL: raw(answer(ok + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n9\r\nabc"))}, "/", HTTPResponseIncomplete},
		{"broken chunk", Options{URL: raw(answer(ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc"))}, "/", HTTPResponseTransferCoding},
		{"HTTP/2 stream reset within the body", Options{URL: "h2c://" + h2}, "/abort", HTTPResponseIncomplete},
	} {
		t.Run(tt.name, func(t *testing.T) {
			provoke(t, tt.o, tt.path, tt.want)
		})
	}
}

// provoke sends one request for path, reads the body if there is one, and checks how it fails.
func provoke(t *testing.T, o Options, path string, want Cause) {
	m := metrics.New()
	o.Metrics, o.Name = m, "shop"
	u := mustNew(t, o)
	r := get(t)
	r.URL.Path = path
	resp, err := u.RoundTrip(r)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_, again := resp.Body.Read(make([]byte, 1))
		if again != err {
			t.Errorf("read again: %v, want %v", again, err)
		}
		resp.Body.Close()
	}
	wantCause(t, m, err, want)
	if !strings.HasPrefix(err.Error(), "upstream: "+want.String()+": shop: ") || strings.Count(err.Error(), "upstream: ") != 1 {
		t.Errorf("error says %q", err)
	}
}

// TestNameLookup asks a name server of its own.
func TestNameLookup(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers bool
		want    Cause
	}{
		{"no such name", true, DNSError},
		{"no answer", false, DNSTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := metrics.New()
			u := mustNew(t, Options{URL: "http://nowhere.example.", Metrics: m})
			dialer := &net.Dialer{Timeout: 50 * time.Millisecond, Resolver: resolverOf(t, nameServer(t, tt.answers))}
			if tt.answers {
				dialer.Timeout = 10 * time.Second
			}
			u.member.transport.DialContext = dialTo(u.member.address, dialer.DialContext)
			_, err := u.RoundTrip(get(t))
			wantCause(t, m, err, tt.want)
		})
	}
}

// resolverOf returns a resolver that asks server alone. A lookup goes on after the dialer has given up, for as long as the
// resolver's own patience lasts; the test's end cuts it short.
func resolverOf(t *testing.T, server string) *net.Resolver {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "udp", server)
			if err == nil {
				context.AfterFunc(ctx, func() { conn.Close() })
			}
			return conn, err
		},
	}
}

// nameServer answers each query with "no such name", or not at all.
func nameServer(t *testing.T, answers bool) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if !answers || n < 12 {
				continue
			}
			end := 12 // the question: labels, a zero byte, type, class
			for end < n && buf[end] != 0 {
				end += 1 + int(buf[end])
			}
			buf[2] |= 0x80                         // a response
			buf[3] = buf[3]&0xf0 | 3               // NXDOMAIN
			binary.BigEndian.PutUint32(buf[8:], 0) // neither authority nor additional records
			conn.WriteTo(buf[:min(end+1+2+2, n)], from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().String()
}

func TestDialCauses(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Cause
	}{
		{syscall.EHOSTUNREACH, DestinationIPUnroutable},
		{syscall.ENETUNREACH, DestinationIPUnroutable},
		{syscall.ETIMEDOUT, ConnectionTimeout},
		{syscall.ECONNRESET, ConnectionTerminated},
		{syscall.EMFILE, ProxyInternalError},
		{syscall.EACCES, ProxyInternalError},
		{errors.New("something else"), DestinationUnavailable},
	} {
		if got := dialCause(&net.OpError{Op: "dial", Err: tt.err}); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestTimeouts(t *testing.T) {
	silent := func(_ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) }
	for _, tt := range []struct {
		name string
		o    Options
		want Cause
	}{
		{"head", Options{URL: "http://h", HeadTimeout: 10 * time.Second}, HTTPResponseTimeout},
		{"head over HTTP/2", Options{URL: "h2c://h", HeadTimeout: 10 * time.Second}, HTTPResponseTimeout},
		{"TLS handshake", Options{URL: "https://h", ConnectTimeout: 10 * time.Second}, ConnectionTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Run(t, func(t *testing.T) {
				m := metrics.New()
				tt.o.Metrics = m
				u, end := pipeUpstream(t, tt.o, silent)
				defer end()
				began := time.Now()
				_, err := u.RoundTrip(get(t))
				wantCause(t, m, err, tt.want)
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestCallerGivesUp(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		m := metrics.New()
		u, end := pipeUpstream(t, Options{URL: "http://h", Metrics: m, IdleTimeout: time.Hour}, func(c net.Conn, r *bufio.Reader) {
			if strings.HasPrefix(readHead(r), "GET /body") {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
			}
			io.Copy(io.Discard, r)
		})
		defer end()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := u.RoundTrip(get(t).WithContext(ctx))
		wantCause(t, m, err, HTTPResponseTimeout) // a deadline that this program set

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = u.RoundTrip(get(t).WithContext(ctx))
		if CauseOf(err) != CauseNone || !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want the caller's own", err)
		}

		ctx, cancel = context.WithCancel(t.Context())
		r := get(t).WithContext(ctx)
		r.URL = &url.URL{Path: "/body"}
		resp, err := u.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, cancel)
		if _, err = io.ReadAll(resp.Body); CauseOf(err) != CauseNone || !errors.Is(err, context.Canceled) {
			t.Errorf("reading the body: %v, want the caller's own", err)
		}
		resp.Body.Close()
		if errs, _ := counted(t, m); len(errs) != 1 {
			t.Errorf("counted %v, want the deadline alone", errs)
		}
	})
}

func TestClientsBodyBreaksOff(t *testing.T) {
	m := metrics.New()
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	u := mustNew(t, Options{URL: "http://" + addr, Metrics: m})
	r := get(t)
	r.Method = http.MethodPost
	r.ContentLength = -1
	r.Body = http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("four")), 3)
	_, err := u.RoundTrip(r)
	wantCause(t, m, err, HTTPRequestError)
	var tooLarge *http.MaxBytesError
	if !errors.As(err, &tooLarge) {
		t.Errorf("error %v hides that the body was too large", err)
	}
}

func TestCauseOf(t *testing.T) {
	if c := CauseOf(nil); c != CauseNone {
		t.Errorf("nil: %v", c)
	}
	if c := CauseOf(io.EOF); c != ProxyInternalError {
		t.Errorf("not ours: %v", c)
	}
	if c := Cause(200); c.String() != "proxy_internal_error" || c.Status() != 500 {
		t.Errorf("unknown: %v %d", c, c.Status())
	}
	for c := CauseNone + 1; c < causeCount; c++ {
		if c.String() == "" || c.Status() < 400 {
			t.Errorf("cause %d lacks token or status", c)
		}
	}
	if s := HTTPResponseTimeout.Status(); s != 504 {
		t.Errorf("http_response_timeout: %d", s)
	}
}
