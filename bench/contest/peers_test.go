package main

import (
	"bytes"
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
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/bench/body"
)

// TestContestantsAnswerFromTheirCache starts each one that is installed and asks it for what it is measured with. It takes a minute or two, and
// so wants BENCH_PEERS=1.
func TestContestantsAnswerFromTheirCache(t *testing.T) {
	if testing.Short() || os.Getenv("BENCH_PEERS") == "" {
		t.Skip("BENCH_PEERS is not set")
	}
	for _, c := range contestants {
		t.Run(c.name, func(t *testing.T) {
			b := startBench(t, c)
			b.run("plain", nil, (*bench).checkPlain)
			for _, f := range c.can {
				if check := checks[f]; check != nil {
					b.run(string(f), []feature{f}, check)
				}
			}
		})
	}
}

// checks are those of features.
var checks = map[feature]func(*bench, *testing.T){
	overTLS:   (*bench).checkTLS,
	overHTTP2: (*bench).checkHTTP2,
	accessLog: (*bench).checkAccessLog,
	inRedis:   (*bench).checkFromCache,
	limiting:  (*bench).checkFromCache,
	surviving: (*bench).checkSurviving,
}

// bench is what one contestant is tried on.
type bench struct {
	t      *testing.T
	c      *contestant
	s      setup
	origin *countingOrigin
	i      *instance
}

// startBench has an origin running, and all that c is told but what it is tried with.
func startBench(t *testing.T, c *contestant) *bench {
	b := &bench{t: t, c: c}
	var err error
	if c.build != nil {
		b.s.Program, err = c.build(t.Context(), t.TempDir())
	} else {
		b.s.Program, err = find(c.program)
	}
	if err != nil {
		t.Skip(err)
	}
	version, err := c.version(t.Context(), b.s.Program)
	if err != nil || version == "" {
		t.Errorf("version %q, %v", version, err)
	}
	t.Log(version)
	b.s.Host, b.s.OriginHost = "127.0.0.1", "127.0.0.1"
	b.s.CacheMiB, b.s.Objects, b.s.LimitPerSecond, b.s.Size = 512, 2000, 1_000_000, 1024
	b.s.CertFile, b.s.KeyFile, b.s.PEMFile = certificate(t)
	b.origin, b.s.OriginPort = startOrigin(t)
	return b
}

// run starts the contestant with features, and stops it when check is done.
func (b *bench) run(name string, with []feature, check func(*bench, *testing.T)) {
	b.t.Run(name, func(t *testing.T) {
		b.s.With = map[feature]bool{}
		for _, f := range with {
			b.s.With[f] = true
		}
		b.s.Dir, b.s.CacheDir = enterable(t, ""), enterable(t, "/dev/shm")
		b.s.LogFile = filepath.Join(b.s.Dir, "access.log")
		ports := freePorts(t, 3)
		b.s.Port, b.s.TLSPort, b.s.AdminPort = ports[0], ports[1], ports[2]
		if b.s.With[inRedis] || b.s.With[surviving] {
			b.s.RedisPort = startRedis(t)
		}
		b.start(t)
		defer func() { b.stop(t) }()
		check(b, t)
	})
}

func (b *bench) start(t *testing.T) {
	t.Helper()
	var err error
	if b.i, err = startInstance(t.Context(), b.c, b.s, -1); err != nil {
		t.Fatal(err)
	}
	if len(b.i.pids()) == 0 {
		t.Error("no processes")
	}
}

func (b *bench) stop(t *testing.T) {
	t.Helper()
	if b.i == nil {
		return
	}
	if err := b.i.stop(); err != nil {
		t.Error(err)
	}
	if pids := b.i.pids(); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
	b.i = nil
}

// enterable is a new directory below parent that every user may enter, removed with the test. Its path is shorter than of t.TempDir.
func enterable(t *testing.T, parent string) string {
	dir, err := os.MkdirTemp(parent, "contest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startRedis returns the port of a redis-server without persistence.
func startRedis(t *testing.T) int {
	program, err := find("redis-server")
	if err != nil {
		t.Skip(err)
	}
	port := freePorts(t, 1)[0]
	argv := []string{program, "--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--save", "", "--appendonly", "no"}
	p, err := startProcess(enterable(t, ""), "redis.out", argv, -1)
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{processes: []*process{p}}
	t.Cleanup(func() {
		if err := i.stop(); err != nil {
			t.Error(err)
		}
	})
	if err := i.accepts(t.Context(), "127.0.0.1", port); err != nil {
		t.Fatal(err)
	}
	return port
}

// certificate makes one of localhost: its file, that of its key, and one with both.
func certificate(t *testing.T) (cert, key, both string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := enterable(t, "")
	write := func(name string, blocks ...*pem.Block) string {
		var text bytes.Buffer
		for _, block := range blocks {
			if err := pem.Encode(&text, block); err != nil {
				t.Fatal(err)
			}
		}
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	c, k := &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}
	return write("cert.pem", c), write("key.pem", k), write("both.pem", c, k)
}

// client is one with connections of its own, closed with the test. It takes any certificate.
func client(t *testing.T, protocols func(*http.Protocols)) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
		MaxIdleConnsPerHost: 64,
		Protocols:           new(http.Protocols),
	}
	protocols(transport.Protocols)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func http1(p *http.Protocols)      { p.SetHTTP1(true) }
func http2(p *http.Protocols)      { p.SetHTTP2(true) }
func clearHTTP2(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }

// get asks for r and checks that the response is right.
func get(t *testing.T, c *http.Client, base string, r body.Resource, fields ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+r.Path(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(fields); n += 2 {
		request.Header.Set(fields[n], fields[n+1])
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		t.Fatalf("%s: %v", r.Path(), err)
	}
	if request.Header.Get("If-None-Match") != "" {
		return response
	}
	if response.StatusCode != http.StatusOK || !bytes.Equal(got, r.AppendBody(nil)) {
		t.Fatalf("%s: %s with %d bytes, or others than it should be", r.Path(), response.Status, len(got))
	}
	return response
}

// asked counts what the origin is asked by do.
func (b *bench) asked(do func()) int {
	before := b.origin.requests.Load()
	do()
	return int(b.origin.requests.Load() - before)
}

// hit counts, by the contestant's own count, what it answers from its cache in do.
func (b *bench) hit(t *testing.T, wanted int64, do func()) {
	t.Helper()
	if b.c.hits == nil {
		do()
		if b.c.noHits == "" && !b.c.fixed {
			t.Error("neither hits nor a reason")
		}
		return
	}
	before, err := b.c.hits(t.Context(), b.s)
	if err != nil {
		t.Fatal(err)
	}
	do()
	var now int64
	// Some add up what their threads have counted only now and then.
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if now, err = b.c.hits(t.Context(), b.s); err != nil {
			t.Fatal(err)
		}
		if now-before >= wanted {
			break
		}
	}
	if now-before != wanted {
		t.Errorf("it counts %d hits of %d", now-before, wanted)
	}
}

func (b *bench) plain() string { return fmt.Sprintf("http://%s:%d", b.s.Host, b.s.Port) }
func (b *bench) tls() string   { return fmt.Sprintf("https://%s:%d", b.s.Host, b.s.TLSPort) }

// checkPlain is of what all can.
func (b *bench) checkPlain(t *testing.T) {
	b.checkFromCache(t)
	if b.c.fixed {
		return
	}
	c, url := client(t, http1), b.plain()
	r := body.Resource{Kind: body.Hit, Size: 1024, ID: 1}
	if n := b.asked(func() {
		if response := get(t, c, url, r, "If-None-Match", r.ETag()); response.StatusCode != http.StatusNotModified {
			t.Errorf("of what is unchanged: %s", response.Status)
		}
	}); n != 0 {
		t.Errorf("whether it is unchanged was asked of the origin")
	}
	b.checkPass(t, c)
	b.checkMany(t, c)
	b.checkCollapsing(t, c)
}

// checkFromCache is of hits of all sizes.
func (b *bench) checkFromCache(t *testing.T) { b.checkHits(t, client(t, http1), b.plain()) }

func (b *bench) checkHits(t *testing.T, c *http.Client, url string) {
	t.Helper()
	sizes, times := []int{1 << 10, 16 << 10, 64 << 10, 1 << 20}, 3
	if b.c.fixed {
		sizes = []int{b.s.Size}
	}
	for _, size := range sizes {
		r := body.Resource{Kind: body.Hit, Size: size, ID: 1}
		if b.c.fixed {
			response := get(t, c, url, r)
			t.Logf("%d bytes: %v", size, response.Header)
			continue
		}
		get(t, c, url, r)
		time.Sleep(stored(b.s))
		if n := b.asked(func() {
			b.hit(t, int64(times), func() {
				for n := range times {
					response := get(t, c, url, r)
					if n == 0 && size == 1024 {
						t.Logf("%s %v", response.Proto, response.Header)
					}
				}
			})
		}); n != 0 {
			t.Errorf("%d bytes: the origin was asked %d times", size, n)
		}
	}
}

// stored is how long it may take until a response that a client has is one that others get: what is kept in Redis alone is written behind.
func stored(s setup) time.Duration {
	if s.With[inRedis] {
		return 300 * time.Millisecond
	}
	return 20 * time.Millisecond
}

// checkPass is of what must not be stored: each request is the origin's, and they do not wait for each other.
func (b *bench) checkPass(t *testing.T, c *http.Client) {
	r := body.Resource{Kind: body.Pass, Size: 2048, ID: 3}
	const clients, each = 8, 5
	get(t, c, b.plain(), r)
	began := time.Now()
	n := b.asked(func() {
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for range each {
					get(t, c, b.plain(), r)
				}
			})
		}
		wg.Wait()
	})
	if n != clients*each {
		t.Errorf("of %d requests for what is not to be stored the origin had %d", clients*each, n)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("requests for what is not to be stored wait for each other: %v", took)
	}
}

// checkMany is of a thousand keys.
func (b *bench) checkMany(t *testing.T, c *http.Client) {
	const keys = 1000
	all := func() {
		for id := range uint64(keys) {
			get(t, c, b.plain(), body.Resource{Kind: body.Hit, Size: 16 << 10, ID: 1000 + id})
		}
	}
	if n := b.asked(all); n != keys {
		t.Errorf("at first %d requests of %d came to the origin", n, keys)
	}
	if n := b.asked(func() { b.hit(t, keys, all) }); n != 0 {
		t.Errorf("of %d keys %d were not kept", keys, n)
	}
}

// checkCollapsing says how many of concurrent requests for one URL come to the origin; it is for the reader, not a claim.
func (b *bench) checkCollapsing(t *testing.T, c *http.Client) {
	const clients = 16
	n := b.asked(func() {
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() { get(t, c, b.plain(), body.Resource{Kind: body.Slow, Size: 1024, ID: 5}) })
		}
		time.Sleep(300 * time.Millisecond)
		close(b.origin.slow)
		wg.Wait()
	})
	t.Logf("of %d concurrent requests for what was not there %d came to the origin", clients, n)
}

func (b *bench) checkTLS(t *testing.T) {
	c := client(t, http1)
	b.checkHits(t, c, b.tls())
	r := body.Resource{Kind: body.Hit, Size: 1024, ID: 1}
	if response := get(t, c, b.tls(), r); response.TLS.Version != tls.VersionTLS13 || response.ProtoMajor != 1 {
		t.Errorf("%s over TLS %x", response.Proto, response.TLS.Version)
	}
}

func (b *bench) checkHTTP2(t *testing.T) {
	c, url := client(t, http2), b.tls()
	if b.c.clearHTTP2 {
		c, url = client(t, clearHTTP2), b.plain()
	}
	b.checkHits(t, c, url)
	if response := get(t, c, url, body.Resource{Kind: body.Hit, Size: 1024, ID: 1}); response.ProtoMajor != 2 {
		t.Errorf("it speaks %s", response.Proto)
	}
	if !b.c.clearHTTP2 {
		get(t, client(t, http1), url, body.Resource{Kind: body.Hit, Size: 1024, ID: 1}) // both are offered
	}
}

// checkAccessLog expects a line with the path for each request.
func (b *bench) checkAccessLog(t *testing.T) {
	const requests = 50
	c, r := client(t, http1), body.Resource{Kind: body.Hit, Size: 1024, ID: 77}
	// Varnish has its lines written by another program, which reads no more than what is said once it is there.
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		get(t, c, b.plain(), body.Resource{Kind: body.Hit, Size: 1024, ID: 76})
		if info, err := os.Stat(b.s.LogFile); err == nil && info.Size() > 0 {
			break
		}
	}
	for range requests {
		get(t, c, b.plain(), r)
	}
	var lines []string
	for deadline := time.Now().Add(8 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		data, err := os.ReadFile(b.s.LogFile)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		lines = slices.DeleteFunc(strings.Split(string(data), "\n"), func(line string) bool { return !strings.Contains(line, r.Path()) })
		if len(lines) >= requests {
			t.Log(lines[0])
			break
		}
	}
	if len(lines) != requests {
		t.Errorf("%d lines of %d requests", len(lines), requests)
	}
}

// checkSurviving expects what was stored before a stop after the next start.
func (b *bench) checkSurviving(t *testing.T) {
	b.checkFromCache(t)
	time.Sleep(4 * time.Second) // what is written behind, or once a second
	b.stop(t)
	b.start(t)
	time.Sleep(time.Second) // some look through what they have in the background
	c := client(t, http1)
	if n := b.asked(func() { get(t, c, b.plain(), body.Resource{Kind: body.Hit, Size: 16 << 10, ID: 1}) }); n != 0 {
		t.Error("nothing has survived")
	}
}
