package main

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/bench/body"
)

// TestContestantsAnswerFromTheirCache starts each one and asks it for what it is measured with. Those that are built here are always tried. Those that are
// installed take a minute or two, and wait for BENCH_PEERS=1.
func TestContestantsAnswerFromTheirCache(t *testing.T) {
	for _, c := range contestants {
		t.Run(c.name, func(t *testing.T) {
			if c.build == nil && os.Getenv("BENCH_PEERS") == "" {
				t.Skip("BENCH_PEERS is not set: make bench-test sets it, and installs who is tried")
			}
			b := startBench(t, c)
			if c.takesPart(nil) {
				b.run("plain", nil, (*bench).checkPlain)
			}
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
	overTLS:    (*bench).checkTLS,
	overHTTP2:  (*bench).checkHTTP2,
	accessLog:  (*bench).checkAccessLog,
	inRedis:    (*bench).checkFromCache,
	limiting:   (*bench).checkLimiting,
	surviving:  (*bench).checkSurviving,
	collapsing: (*bench).checkCollapsing,
}

// checkPlain is of what all can.
func (b *bench) checkPlain(t *testing.T) {
	b.checkFromCache(t)
	if b.c.fixed {
		return
	}
	c, url := client(t, http1), b.plain()
	r := body.Resource{Kind: body.Hit, Size: 1024, ID: 1}
	if n := b.asked(func() {
		b.hit(t, 1, func() {
			if response := get(t, c, url, r, "If-None-Match", r.ETag()); response.StatusCode != http.StatusNotModified {
				t.Errorf("of what is unchanged: %s", response.Status)
			}
		})
	}); n != 0 {
		t.Errorf("whether it is unchanged was asked of the origin")
	}
	b.checkPass(t, c)
	b.checkMany(t, c)
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
			r.ID = 0 // it has no other
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

// checkCollapsing expects one of concurrent requests for a URL to come to the origin. It answers when all have been sent, and the contestant has answered
// something else that was sent after them: then it has read them too, as it has one thread for all, or as good as.
func (b *bench) checkCollapsing(t *testing.T) {
	const clients = 16
	c := client(t, http1)
	n := b.asked(func() {
		var sent, answered sync.WaitGroup
		sent.Add(clients)
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { sent.Done() }})
		for range clients {
			answered.Go(func() { getWith(ctx, t, c, b.plain(), body.Resource{Kind: body.Slow, Size: 1024, ID: 5}) })
		}
		sent.Wait()
		for id := range uint64(clients) {
			get(t, client(t, http1), b.plain(), body.Resource{Kind: body.Hit, Size: 1024, ID: 500 + id})
		}
		close(b.origin.slow)
		answered.Wait()
	})
	if n -= clients; n != 1 {
		t.Errorf("of %d concurrent requests for what was not there %d came to the origin", clients, n)
	}
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
	b.checkHits(t, c, url)
	if response := get(t, c, url, body.Resource{Kind: body.Hit, Size: 1024, ID: 1}); response.ProtoMajor != 2 {
		t.Errorf("it speaks %s", response.Proto)
	}
	get(t, client(t, http1), url, body.Resource{Kind: body.Hit, Size: 1024, ID: 1}) // both are offered
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

// checkLimiting expects a limit that nobody reaches to be asked of each hit nevertheless: it is the same with a low one, which is reached.
func (b *bench) checkLimiting(t *testing.T) {
	b.checkFromCache(t)
	defer func(was int) { b.s.LimitPerSecond = was }(b.s.LimitPerSecond)
	b.stop(t)
	b.s.LimitPerSecond = 1
	b.start(t)
	const burst = 10_000 // of nginx
	c, url := client(t, http1), b.plain()+body.Resource{Kind: body.Hit, Size: 1024, ID: 1}.Path()
	for range burst + 50 {
		response, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
		_ = response.Body.Close()
		if response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable {
			return
		}
	}
	t.Error("no request was one too many")
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
