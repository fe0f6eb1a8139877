package wire

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair writes a self-signed certificate for the names into files.
func writePair(t *testing.T, p Pair, names ...string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{p.Cert: {Type: "CERTIFICATE", Bytes: cert}, p.Key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func newPair(t *testing.T, names ...string) Pair {
	t.Helper()
	dir := t.TempDir()
	p := Pair{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	writePair(t, p, names...)
	return p
}

// clientTLS asks for a name and says which certificate it got.
func clientTLS(name string, got *string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		*got = s.PeerCertificates[0].Subject.CommonName
		return nil
	}}
}

func TestCertificates(t *testing.T) {
	first, second := newPair(t, "a.example", "*.a.example"), newPair(t, "b.example")
	c, err := LoadCertificates([]Pair{first, second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %v %s", r.Proto, r.TLS != nil, r.Host)
	}, Options{}, Source{TLS: c.Config()})
	ask := func(name string, h2 bool) (cert, body string) {
		t.Helper()
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		transport := &http.Transport{TLSClientConfig: clientTLS(name, &cert), Protocols: protocols}
		defer transport.CloseIdleConnections()
		r, err := (&http.Client{Transport: transport}).Get("https://" + s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, _ := io.ReadAll(r.Body)
		return cert, string(text)
	}
	for name, want := range map[string]string{"a.example": "a.example", "x.a.example": "a.example", "b.example": "b.example", "c.example": "a.example"} {
		for proto, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
			if cert, body := ask(name, h2); cert != want || body != proto+" true "+s.address {
				t.Errorf("%s: %s, %q", name, cert, body)
			}
		}
	}
	if changed, err := c.Reload(); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	writePair(t, second, "new.example", "b.example")
	if changed, err := c.Reload(); !changed || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
	if cert, _ := ask("b.example", false); cert != "new.example" {
		t.Errorf("after a change: %s", cert)
	}
	if err := os.WriteFile(second.Cert, []byte("no"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := c.Reload(); changed || err == nil || !strings.Contains(err.Error(), second.Cert) {
		t.Errorf("%v, %v", changed, err)
	}
	if cert, _ := ask("b.example", false); cert != "new.example" {
		t.Errorf("after a bad change: %s", cert)
	}
}

func TestTLSFaults(t *testing.T) {
	c, err := LoadCertificates([]Pair{newPair(t, "a.example")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, echo, Options{HeaderTimeout: 100 * time.Millisecond}, Source{TLS: c.Config()})
	plain := s.dial()
	plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	plain.gets(400, "*")
	silent := s.dial()
	silent.ended()
	var cert string
	secure := tls.Client(s.dial(), clientTLS("a.example", &cert))
	fmt.Fprint(secure, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
	if got, err := io.ReadAll(secure); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 400 ") {
		t.Errorf("%q, %v", got, err)
	}
	for _, c := range []net.Conn{plain, silent, secure} {
		c.Close()
	}
	for _, want := range []string{"plaintext-on-tls", "tls-handshake", "host-repeated"} {
		for end := time.Now().Add(limit); !strings.Contains(s.faults(), want); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("refused: %s", s.faults())
			}
		}
	}
}

func TestProxyProtocol(t *testing.T) {
	client := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }
	const v1 = "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n"
	const v2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x04\xd2\x00\x50"
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	o := Options{Live: Live{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, MaxPerClient: 1, HeaderTimeout: 200 * time.Millisecond}
	s := serve(t, client, o, Source{ProxyProtocol: true})
	for _, header := range []string{v1, v2} {
		c := s.dial()
		c.send(header + get)
		c.gets(200, "192.0.2.1:1234")
		second := s.dial()
		second.send(header + get)
		second.gets(503, "*") // counted by whom the header names, not by the peer
		c.Close()
		awaitNobody(t, s)
	}
	const local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	for _, header := range []string{"PROXY UNKNOWN\r\n", local, "PROXY UNKNOWN\r\n", local} { // open at once: a peer is not a client
		c := s.dial()
		c.send(header[:3])
		c.send(header[3:] + get)
		c.gets(200, c.LocalAddr().String())
	}
	for _, begin := range []string{get, "PROXY nonsense\r\n", ""} {
		c := s.dial()
		c.send(begin)
		c.ended()
	}

	o.Trusted, o.MaxPerClient = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, 0
	s = serve(t, client, o, Source{ProxyProtocol: true})
	c := s.dial()
	c.send(get)
	c.gets(200, c.LocalAddr().String())
	c = s.dial()
	c.send(v1 + get)
	c.gets(400, "*")
}

// awaitNobody waits until the gate counts no client any more.
func awaitNobody(t *testing.T, s *server) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		s.gate.mu.Lock()
		n := len(s.gate.clients)
		s.gate.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d clients are counted", n)
		}
	}
}

// TLS over the PROXY protocol: the header comes before the handshake.
func TestProxyProtocolBeforeTLS(t *testing.T) {
	certs, err := LoadCertificates([]Pair{newPair(t, "a.example")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr, r.TLS != nil) },
		Options{Live: Live{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}, Source{ProxyProtocol: true, TLS: certs.Config()})
	c := s.dial()
	c.send("PROXY TCP6 2001:db8::1 2001:db8::2 1234 443\r\n")
	var cert string
	secure := tls.Client(c.Conn, clientTLS("a.example", &cert))
	fmt.Fprint(secure, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if got, _ := io.ReadAll(secure); !strings.HasSuffix(string(got), "[2001:db8::1]:1234true") {
		t.Errorf("%q", got)
	}
}

// Close ends what is being prepared, and Accept.
func TestCloseWhileClientsAreSlow(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	certs, err := LoadCertificates([]Pair{newPair(t, "a.example")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := NewGate(Options{HeaderTimeout: time.Hour, Live: Live{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}).Wrap(inner, Source{TLS: certs.Config(), ProxyProtocol: true})
	for _, begin := range []string{"", "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n"} {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, begin)
	}
	accepted := make(chan error)
	go func() {
		_, err := l.Accept()
		accepted <- err
	}()
	closed := make(chan error)
	go func() { closed <- l.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for range 2 {
		select {
		case err := <-accepted:
			if err == nil {
				t.Error("a connection was accepted")
			}
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
		case <-ctx.Done():
			t.Fatal("closing waits for clients")
		}
	}
}

// Kubernetes lays secrets behind a symlink to a directory, and renews them by putting another symlink in its place.
func TestCertificatesBehindASymlink(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		writePair(t, Pair{filepath.Join(dir, version, "cert.pem"), filepath.Join(dir, version, "key.pem")}, version+".example")
	}
	point := func(version string) {
		t.Helper()
		if err := os.Symlink(version, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "data")); err != nil {
			t.Fatal(err)
		}
	}
	point("1")
	c, err := LoadCertificates([]Pair{{filepath.Join(dir, "data", "cert.pem"), filepath.Join(dir, "data", "key.pem")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	point("2")
	changed, err := c.Reload()
	if got := (*c.now.Load())[0].Leaf.Subject.CommonName; !changed || err != nil || got != "2.example" {
		t.Errorf("%v, %v: %s is served", changed, err, got)
	}
}
