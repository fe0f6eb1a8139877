package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// Two replicas fetch one URL again and again, each time another version of 5 MiB, while four clients read it: every body is whole and of
// one version.
func TestLargeBodiesOfOneURLDoNotMix(t *testing.T) { testBodiesDoNotMix(t, 5*time.Second) }

func testBodiesDoNotMix(t *testing.T, duration time.Duration) {
	server := redistest.Start(t)
	origin := newPageOrigin(t)
	var replicas []*process
	for range 2 {
		replicas = append(replicas, start(t, []string{"CACHEPROXY_LOG_ACCESS_SAMPLE=0", "CACHEPROXY_NEAR_MAX_OBJECT=1MiB", "CACHEPROXY_REDIS_TIMEOUT=1s"},
			"--upstream", "http://"+origin.address, "--redis", server.URL()))
	}
	var wg sync.WaitGroup
	for _, p := range replicas {
		wg.Go(func() {
			s := traffic{address: strings.TrimPrefix(p.public, "http://"), connections: 2, duration: duration,
				target: func(uint64) string { return fmt.Sprint("/1/big?size=", 5<<20) }}.run(t)
			t.Log(s)
			if s.failed > 0 {
				t.Errorf("%d of %d failed: %v", s.failed, s.requests, s.failures)
			}
			if s.outcomes["hit"] == 0 && s.requests > 20 { // a busy machine may take longer for one than it is fresh
				t.Error("nothing came from Redis")
			}
		})
	}
	wg.Wait()
	if n := origin.asked.Load(); n < 2 {
		t.Errorf("%d versions", n)
	}
}

// A body of 128 MiB is stored, served and cut into ranges without ever being held whole, and a transfer whose chunks vanish is aborted:
// what the client has is a beginning of the body, and not taken for the whole.
func TestBodyOf128MiB(t *testing.T) {
	const size = 128 << 20
	target := fmt.Sprint("/600/big?size=", size)
	server := redistest.Start(t)
	client := server.Client()
	origin := newPageOrigin(t)
	p := start(t, []string{"CACHEPROXY_CACHE_MAX_OBJECT=256MiB", "CACHEPROXY_REDIS_TIMEOUT=1s"}, "--upstream", "http://"+origin.address, "--redis", server.URL())
	get := func(fields ...string) (*http.Response, error) {
		r, err := http.NewRequest("GET", p.public+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(fields); i += 2 {
			r.Header.Set(fields[i], fields[i+1])
		}
		return http.DefaultTransport.RoundTrip(r)
	}
	read := func(status int, want []byte, fields ...string) {
		t.Helper()
		res, err := get(fields...)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != status {
			t.Fatalf("status %d, %v", res.StatusCode, res.Header)
		}
		if err := sameBytes(res.Body, want); err != nil {
			t.Fatal(err)
		}
	}
	_, before := p.resident()
	var want []byte
	for p.metric("cacheproxy_saves_total", `"ok"`) == 0 { // it is not stored where Redis is much too slow, as on a busy machine
		n := origin.asked.Load()
		if n == 10 {
			t.Fatal("it is not stored")
		}
		want = page(target, uint64(n+1))
		tried := p.metric("cacheproxy_saves_total", "")
		read(200, want)
		p.until("nothing is said of what came of it", func() bool { return p.metric("cacheproxy_saves_total", "") > tried })
	}
	_, stored := p.resident()
	asked := origin.asked.Load()
	// What waits to be saved is bounded by 64 MiB, and the upstream is faster than Redis. The rest is what is not collected yet; were the
	// body held beside it, it would be 192 MiB.
	if stored-before > 160<<20 {
		t.Errorf("storing took %d MiB", (stored-before)>>20)
	}
	read(200, want)
	read(206, want[60<<20:60<<20+1000], "Range", fmt.Sprintf("bytes=%d-%d", 60<<20, 60<<20+999))
	if n := origin.asked.Load(); n != asked {
		t.Errorf("%d requests upstream", n)
	}
	if _, highest := p.resident(); highest-stored > 64<<20 {
		t.Errorf("serving took %d MiB", (highest-stored)>>20)
	}

	res, err := get()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := sameBytes(io.LimitReader(res.Body, 1<<20), want[:1<<20]); err != nil {
		t.Fatal(err)
	}
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := sameBytes(res.Body, want[1<<20:]); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a transfer whose chunks are gone ends with %v", err)
	}
	read(200, page(target, uint64(asked+1)))
}

// sameBytes reads r and says where it is not what is wanted, or how it ended before that did.
func sameBytes(r io.Reader, want []byte) error {
	buf := make([]byte, 64<<10)
	for offset := 0; ; {
		n, err := r.Read(buf)
		if offset+n > len(want) || !bytes.Equal(buf[:n], want[offset:offset+n]) {
			return fmt.Errorf("other bytes within %d after %d", n, offset)
		}
		offset += n
		switch {
		case err == io.EOF && offset == len(want):
			return nil
		case err == io.EOF:
			return fmt.Errorf("ended after %d of %d bytes", offset, len(want))
		case err != nil:
			return err
		}
	}
}
