package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cacheproxy/bench/body"
)

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
		t.Fatalf("%v: bench/needs installs it, as root on Debian", err)
	}
	version, err := c.version(t.Context(), b.s.Program)
	if err != nil || version == "" {
		t.Errorf("version %q, %v", version, err)
	}
	t.Log(version)
	b.s.Host, b.s.OriginHost = "127.0.0.1", "127.0.0.1"
	b.s.CacheMiB, b.s.LimitPerSecond, b.s.Size, b.s.Files = 512, 1_000_000, 1024, mostFiles()
	certs, err := makeCertificates(enterable(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	b.s.CertFile, b.s.KeyFile, b.s.PEMFile = certs.cert, certs.key, certs.pem
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

func http1(p *http.Protocols) { p.SetHTTP1(true) }
func http2(p *http.Protocols) { p.SetHTTP2(true) }

// get asks for r and checks that the response is right.
func get(t *testing.T, c *http.Client, base string, r body.Resource, fields ...string) *http.Response {
	t.Helper()
	return getWith(t.Context(), t, c, base, r, fields...)
}

func getWith(ctx context.Context, t *testing.T, c *http.Client, base string, r body.Resource, fields ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+r.Path(), nil)
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
