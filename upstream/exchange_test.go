package upstream

import (
	"bufio"
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cacheproxy/internal/bubble"
	"cacheproxy/metrics"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestIdleTimeout(t *testing.T) {
	for _, scheme := range []string{"Content-Length: 6\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n3\r\n"} {
		bubble.Run(t, func(t *testing.T) {
			m := metrics.New()
			u, end := pipeUpstream(t, Options{URL: "http://h", IdleTimeout: time.Minute, Metrics: m}, func(c net.Conn, r *bufio.Reader) {
				readHead(r)
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+scheme+"ab")
				time.Sleep(59 * time.Second) // just within the gap allowed
				io.WriteString(c, "c")
				io.Copy(io.Discard, r)
			})
			defer end()
			resp, err := u.RoundTrip(get(t))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			began := time.Now()
			got, err := io.ReadAll(resp.Body)
			if string(got) != "abc" {
				t.Errorf("body %q before the gap", got)
			}
			wantCause(t, m, err, ConnectionReadTimeout)
			if took := time.Since(began); took != 119*time.Second {
				t.Errorf("failed after %v, want 59 s and a minute", took)
			}
			if _, heads := counted(t, m); heads != 1 {
				t.Errorf("%d heads counted, want 1", heads)
			}
		})
	}
}

func TestSlowReaderIsNoGap(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		u, end := pipeUpstream(t, Options{URL: "http://h", IdleTimeout: time.Minute}, answer("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef"))
		defer end()
		resp, err := u.RoundTrip(get(t))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for range 6 {
			time.Sleep(time.Hour)
			if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := resp.Body.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%d bytes, %v at the end", n, err)
		}
	})
}

// TestUpgradePassesUntouched also shows that IdleTimeout does not apply after a 101.
func TestUpgradePassesUntouched(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		u, end := pipeUpstream(t, Options{URL: "http://h", IdleTimeout: time.Second}, func(c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(c, r)
		})
		defer end()
		r := get(t)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "echo")
		resp, err := u.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		conn, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			t.Fatalf("the body of a 101 is a %T", resp.Body)
		}
		for range 2 {
			time.AfterFunc(time.Hour, func() { io.WriteString(conn, "ping") })
			got := make([]byte, 4)
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != "ping" {
				t.Fatalf("%q, %v", got, err)
			}
		}
	})
}

func TestTrailersAndInterimResponses(t *testing.T) {
	serve := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "Sum")
		io.WriteString(w, "body")
		w.Header().Set("Sum", "42")
		w.Header().Set(http.TrailerPrefix+"Unannounced", "yes")
	}
	h1 := httptest.NewServer(http.HandlerFunc(serve))
	t.Cleanup(h1.Close)
	for _, server := range []string{h1.URL, "h2c://" + h2cServer(t, serve)} {
		u := mustNew(t, Options{URL: server, IdleTimeout: time.Minute})
		var interim []int
		r := get(t)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				interim = append(interim, code)
				return nil
			},
		}))
		resp, body := exchangeBody(t, u, r)
		if len(interim) != 1 || interim[0] != 103 {
			t.Errorf("%s: interim responses %v", server, interim)
		}
		if body != "body" || resp.Trailer.Get("Sum") != "42" || resp.Trailer.Get("Unannounced") != "yes" {
			t.Errorf("%s: body %q, trailers %v", server, body, resp.Trailer)
		}
		if resp.Request != r {
			t.Errorf("%s: the response names another request", server)
		}
	}
}

// TestConnectionsAreKept: neither the gap timer's context nor our wrapping may cost a connection.
func TestConnectionsAreKept(t *testing.T) {
	dials := 0
	var end func()
	bubble.Run(t, func(t *testing.T) {
		var u *Upstream
		u, end = pipeUpstream(t, Options{URL: "http://h", IdleTimeout: time.Minute}, func(c net.Conn, r *bufio.Reader) {
			dials++
			for {
				switch head := readHead(r); {
				case head == "":
					return
				case strings.HasPrefix(head, "HEAD"):
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
				case strings.Contains(head, "If-None-Match"):
					io.WriteString(c, "HTTP/1.1 304 Not Modified\r\n\r\n")
				default:
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
				}
			}
		})
		defer end()
		for range 20 {
			exchangeBody(t, u, get(t))
			head := get(t)
			head.Method = http.MethodHead
			exchangeBody(t, u, head)
			conditional := get(t)
			conditional.Header.Set("If-None-Match", `"x"`)
			exchangeBody(t, u, conditional)
		}
	})
	if dials != 1 {
		t.Errorf("%d connections for requests one after the other, want 1", dials)
	}
}

func TestCloseWhileReading(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		m := metrics.New()
		u, end := pipeUpstream(t, Options{URL: "http://h", IdleTimeout: time.Minute, Metrics: m}, func(c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
			io.Copy(io.Discard, r)
		})
		defer end()
		resp, err := u.RoundTrip(get(t))
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() { resp.Body.Close() })
		if _, err := io.ReadAll(resp.Body); CauseOf(err) != CauseNone || err == nil {
			t.Errorf("error %v, want one without a cause", err)
		}
		if errs, _ := counted(t, m); len(errs) != 0 {
			t.Errorf("counted %v for our own Close", errs)
		}
	})
}

// TestTLS: HTTP/2 by ALPN, HTTP/1.1 for an upgrade on the same upstream, our own certificate presented, the CA from a file.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) != 1 {
			http.Error(w, "no client certificate", http.StatusForbidden)
			return
		}
		if r.Header.Get("Upgrade") == "" {
			io.WriteString(w, r.Proto)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)

	o := Options{URL: server.URL, TLS: testCertificate(t, server), IdleTimeout: time.Minute}
	o.TLS.ServerName = "example.com" // a name of httptest's certificate
	u := mustNew(t, o)
	if resp, body := exchangeBody(t, u, get(t)); body != "HTTP/2.0" {
		t.Errorf("status %d, %q; want HTTP/2.0", resp.StatusCode, body)
	}
	r := get(t)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	resp, body := exchangeBody(t, u, r)
	if resp.StatusCode != http.StatusSwitchingProtocols || body != "hello" {
		t.Errorf("upgrade: status %d, %q", resp.StatusCode, body)
	}
}

// testCertificate writes the server's own certificate to files, as CA and as our certificate.
func testCertificate(t *testing.T, server *httptest.Server) TLSOptions {
	t.Helper()
	dir := t.TempDir()
	o := TLSOptions{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "ca.pem"), Key: filepath.Join(dir, "key.pem")}
	key, err := marshalKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		o.CA:  {Type: "CERTIFICATE", Bytes: server.Certificate().Raw},
		o.Key: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}
