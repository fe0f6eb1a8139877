package store

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cacheproxy/policy"
	"cacheproxy/redistest"
)

func BenchmarkLookupNear(b *testing.B) {
	s := newStore(b, Options{})
	red := header("Color", "red", "Accept", "*/*")
	plain, vary := draft("http://shop.example/products/12345?color=red"), varied("http://shop.example/vary", "Color", red)
	s.Save(mustEntry(b, plain))
	s.Save(mustEntry(b, vary))
	for _, c := range []struct {
		name string
		key  policy.Key
		want bool
	}{{"plain", plain.Key, true}, {"vary", vary.Key, true}, {"miss", policy.Key{URL: "http://shop.example/absent"}, false}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := s.LookupNear(c.key, red); ok != c.want {
					b.Fatal(ok)
				}
			}
		})
	}
	// With Redis behind, a miss also looks at what waits to be saved: here one entry, of another URL.
	server := redistest.Start(b)
	behind := newStore(b, farOptions(dial(b, server.URL(), DialOptions{Timeout: patience})))
	server.Pause()
	defer server.Resume()
	behind.Save(mustEntry(b, plain))
	for name, key := range map[string]policy.Key{"miss-waiting": {URL: "http://shop.example/absent"}, "hit-waiting": plain.Key} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				behind.LookupNear(key, red)
			}
		})
	}
}

// typicalDraft has the fields of a page behind a framework.
func typicalDraft(size int) Draft {
	d := draft("http://shop.example/products/12345?color=red")
	d.Header = http.Header{
		"Cache-Control": {"public, max-age=60"}, "Content-Type": {"text/html; charset=utf-8"}, "Date": {"Sun, 06 Nov 1994 08:49:37 GMT"},
		"Etag": {`"33a64df551425fcc55e4d42a148795d9f25f89d4"`}, "Last-Modified": {"Sun, 06 Nov 1994 08:49:37 GMT"}, "Server": {"nginx"},
		"X-Content-Type-Options": {"nosniff"}, "Content-Length": {fmt.Sprint(size)}, "Vary": {"Accept-Encoding"}, "Link": {"</a>", "</b>"},
	}
	d.Body = make([]byte, size)
	return d
}

func BenchmarkAppendTo(b *testing.B) {
	e := mustEntry(b, typicalDraft(1))
	h := make(http.Header, 16)
	b.ReportAllocs()
	for b.Loop() {
		clear(h)
		e.AppendTo(h, 4)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 1 << 20} {
		e := mustEntry(b, typicalDraft(size))
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(e.block()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNewEntry(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10} {
		d := typicalDraft(size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustEntry(b, d)
			}
		})
	}
}

// A hit in Redis beside what it cannot be cheaper than: a bare GET of the same bytes. cpu-ns/op is the processor time of this
// process, user and system; what Redis takes is not in it.
func BenchmarkRedisHit(b *testing.B) {
	server := redistest.Start(b)
	client := dial(b, server.URL(), DialOptions{Timeout: patience})
	s := newStore(b, farOptions(client))
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10, 256 << 10} {
		d := typicalDraft(size)
		d.Key.URL += fmt.Sprint(size)
		e := saved(b, s, d)
		key := newKeyspace("cp").of(e.URL()).entryKey(e.variant())
		b.Run(fmt.Sprintf("%d/get", size), func(b *testing.B) {
			measured(b, func() bool { return client.Get(b.Context(), key).Err() == nil })
		})
		b.Run(fmt.Sprintf("%d/lookup", size), func(b *testing.B) {
			measured(b, func() bool { return s.Lookup(b.Context(), e.Key(), nil).Entry != nil })
		})
	}
	// A root is read whole: what a URL with as many variants as it may have costs more.
	var red http.Header
	for i := range 64 {
		red = header("Color", fmt.Sprint(i))
		saved(b, s, varied("http://shop.example/vary", "Color", red))
	}
	b.Run("64 variants/lookup", func(b *testing.B) {
		measured(b, func() bool {
			return s.Lookup(b.Context(), policy.Key{URL: "http://shop.example/vary"}, red).Entry != nil
		})
	})
	b.Run("miss", func(b *testing.B) {
		measured(b, func() bool {
			return s.Lookup(b.Context(), policy.Key{URL: "http://shop.example/absent"}, nil).Entry == nil
		})
	})
}

// The same two, in turns, so that whatever else the machine does meets both alike: medians over batches.
func BenchmarkRedisHitBesideGet(b *testing.B) {
	const batch = 50
	server := redistest.Start(b)
	client := dial(b, server.URL(), DialOptions{Timeout: patience})
	s := newStore(b, farOptions(client))
	for _, size := range []int{1 << 10, 16 << 10, 64 << 10} {
		d := typicalDraft(size)
		d.Key.URL += fmt.Sprint(size)
		e := saved(b, s, d)
		key := newKeyspace("cp").of(e.URL()).entryKey(e.variant())
		ways := []struct {
			name string
			do   func() bool
		}{
			{"get", func() bool { return client.Get(b.Context(), key).Err() == nil }},
			{"lookup", func() bool { return s.Lookup(b.Context(), e.Key(), nil).Entry != nil }},
		}
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			wall, cpu := make([][]float64, len(ways)), make([][]float64, len(ways))
			for b.Loop() {
				for i, way := range ways {
					start, before := time.Now(), processorTime(b)
					for range batch {
						if !way.do() {
							b.Fatal(way.name)
						}
					}
					wall[i] = append(wall[i], float64(time.Since(start))/batch)
					cpu[i] = append(cpu[i], float64(processorTime(b)-before)/batch)
				}
			}
			for i, way := range ways {
				slices.Sort(wall[i])
				slices.Sort(cpu[i])
				b.ReportMetric(wall[i][len(wall[i])/2], way.name+"-ns")
				b.ReportMetric(cpu[i][len(cpu[i])/2], way.name+"-cpu-ns")
			}
		})
	}
}

// Hits in Redis by how many are asked for at once, each with a context of its own, as net/http gives each request one. Those that wait for
// a pipeline (gather.go) go another way than those that have one.
func BenchmarkRedisHitsAtOnce(b *testing.B) {
	server := redistest.Start(b)
	s := newStore(b, farOptions(dial(b, server.URL(), DialOptions{Timeout: patience})))
	e := saved(b, s, typicalDraft(1<<10))
	for _, askers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(askers), func(b *testing.B) {
			b.ReportAllocs()
			before := processorTime(b)
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(b.N))
			for range askers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						ctx, leave := context.WithCancel(b.Context())
						if s.Lookup(ctx, e.Key(), nil).Entry == nil {
							b.Error("no hit")
						}
						leave()
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// measured runs do until the benchmark has enough, and reports allocations and processor time.
func measured(b *testing.B, do func() bool) {
	b.ReportAllocs()
	before, n := processorTime(b), 0
	for b.Loop() {
		if !do() {
			b.Fatal("not as expected")
		}
		n++
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(n), "cpu-ns/op")
}

// processorTime is what this process has taken so far.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkSaveNear(b *testing.B) {
	s := newStore(b, Options{})
	e := mustEntry(b, typicalDraft(1<<10))
	b.ReportAllocs()
	for b.Loop() {
		s.Save(e)
	}
}

// What packing costs a save and a hit in Redis, and how much shorter it makes a body such as APIs send.
func BenchmarkPack(b *testing.B) {
	var body []byte
	for i := 0; len(body) < 64<<10; i++ {
		body = fmt.Appendf(body, `{"id":%d,"name":"product %d","price":%d.99,"tags":["new","sale"],"stock":%d},`, i*7919%100000, i, i*31%500, i*17%90)
	}
	for _, c := range []policy.Compression{policy.S2, policy.Zstd} {
		d := typicalDraft(0)
		d.Body, d.Compress = body, c
		e := mustEntry(b, d)
		value := packed(e)
		b.Run(c.String()+"/pack", func(b *testing.B) {
			for b.Loop() {
				packed(e)
			}
			b.ReportMetric(float64(len(body))/float64(len(value)), "times-shorter")
		})
		b.Run(c.String()+"/unpack", func(b *testing.B) {
			for b.Loop() {
				if _, err := unpack(value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
