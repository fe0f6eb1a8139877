package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clients of every kind ask without a pause, and everything that fails is counted: HTTP/1.1 and HTTP/2, in cleartext and over TLS, with
// kept connections and with new ones, and event streams, which may end only between two events.
type clients struct {
	plain, secure string // base URLs
	mu            sync.Mutex
	failures      []string
	failed        atomic.Int64
	requests      atomic.Int64
	streams       atomic.Int64 // event streams that ended as they should
}

// run asks until done is closed.
func (c *clients) run(done <-chan struct{}) {
	var wg sync.WaitGroup
	kinds := []struct {
		name    string
		base    string
		h2, new bool
	}{
		{"HTTP/1.1", c.plain, false, false}, {"HTTP/1.1, new connections", c.plain, false, true}, {"HTTP/2", c.plain, true, false},
		{"TLS, HTTP/1.1", c.secure, false, false}, {"TLS, HTTP/2", c.secure, true, false}, {"TLS, new connections", c.secure, false, true},
	}
	for i, k := range kinds {
		if k.base == "" {
			continue
		}
		client := &http.Client{Transport: transportOf(k.h2, k.new), Timeout: limit}
		wg.Go(func() {
			defer client.CloseIdleConnections()
			for n := 0; !over(done); n++ {
				c.requests.Add(1)
				if err := askPage(client, k.base, fmt.Sprintf("/1/%d/%d", i, n/5)); err != nil {
					c.fail(k.name, err)
				}
			}
		})
		wg.Go(func() {
			defer client.CloseIdleConnections()
			for !over(done) {
				if err := c.follow(client, k.base, done); err != nil {
					c.fail(k.name+", events", err)
				}
			}
		})
	}
	wg.Wait()
}

func over(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func transportOf(h2, everNew bool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	protocols.SetUnencryptedHTTP2(h2)
	return &http.Transport{Protocols: protocols, DisableKeepAlives: everNew, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "a.example"}}
}

func (c *clients) fail(kind string, err error) {
	c.failed.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failures) < 5 {
		c.failures = append(c.failures, kind+": "+err.Error())
	}
}

// check says what failed.
func (c *clients) check(t *testing.T) {
	t.Helper()
	t.Logf("%d requests, %d event streams ended, %d failures", c.requests.Load(), c.streams.Load(), c.failed.Load())
	if c.failed.Load() > 0 {
		t.Errorf("%q", c.failures)
	}
}

func askPage(client *http.Client, base, target string) error {
	r, err := client.Get(base + target)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, %w", r.StatusCode, err)
	}
	return checkPage(target, body)
}

// follow reads one event stream to its end.
func (c *clients) follow(client *http.Client, base string, done <-chan struct{}) error {
	r, err := client.Get(base + "/events")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", r.StatusCode)
	}
	lines := bufio.NewReader(r.Body)
	for n := 0; !over(done); n++ {
		event, err := lines.ReadString('\n')
		if err == io.EOF && event == "" {
			c.streams.Add(1)
			return nil
		}
		end, err2 := lines.ReadString('\n')
		if err := errors.Join(err, err2); err != nil || event != fmt.Sprintf("data: %d\n", n) || end != "\n" {
			return fmt.Errorf("event %d: %q %q, %w", n, event, end, err)
		}
	}
	return nil
}

// newClientsOrigin serves pages, and event streams at /events.
func newClientsOrigin(t *testing.T) string {
	t.Helper()
	pages := new(pageOrigin)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/events" {
			pages.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		for n := 0; r.Context().Err() == nil; n++ {
			fmt.Fprintf(w, "data: %d\n\n", n)
			_ = control.Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// writeCertificate writes a self-signed certificate for name into cert.pem and key.pem of dir. Each has a serial number of its own.
func writeCertificate(t *testing.T, dir, name string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// listening returns the addresses of all public listeners, in their order.
func (p *process) listening() []string {
	var list []string
	for _, line := range p.log() {
		if line["msg"] == "listening" {
			list = append(list, fmt.Sprint(line["address"]))
		}
	}
	return list
}

// startSecure starts a process with a cleartext listener and one of TLS, configured by a file whose further lines are more.
func startSecure(t *testing.T, origin, more string, variables ...string) (p *process, file, dir string) {
	t.Helper()
	dir = t.TempDir()
	writeCertificate(t, dir, "a.example", 1)
	file = filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("listen: ['127.0.0.1:0', {address: 'localhost:0', tls: {cert: '%s/cert.pem', key: '%s/key.pem'}}]\nadmin: {listen: '127.0.0.1:0'}\nupstream: %s\n%s",
		dir, dir, origin, more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p = launch(t, append(variables, "CACHEPROXY_LOG_ACCESS_SAMPLE=0"), "serve", "--config", file)
	p.operator = "http://" + p.await("listening for operators")["address"].(string)
	at := p.listening()
	p.public = "http://" + at[0]
	return p, file, dir
}

// secureOf is the base URL of the TLS listener of startSecure.
func (p *process) secureOf() string {
	_, port, _ := net.SplitHostPort(p.listening()[1])
	return "https://localhost:" + port
}

func rewrite(t *testing.T, file, old, with string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%q is not in the file", old)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, with, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}
