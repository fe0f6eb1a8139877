package store

import (
	"fmt"
	"net/http"
	"testing"

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
				if _, err := Decode(e.block); err != nil {
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

// A hit in Redis beside what it cannot be cheaper than: a bare GET of the same bytes.
func BenchmarkRedisHit(b *testing.B) {
	server := redistest.Start(b)
	client := dial(b, server.URL(), DialOptions{Timeout: patience})
	s := newStore(b, farOptions(client))
	for _, size := range []int{1 << 10, 16 << 10, 256 << 10} {
		e := saved(b, s, typicalDraft(size))
		key := newKeyspace("cp").of(e.URL()).entryKey(e.variant())
		b.Run(fmt.Sprintf("%d/get", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := client.Get(b.Context(), key).Err(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/lookup", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := s.Lookup(b.Context(), e.Key(), nil); r.Entry == nil {
					b.Fatal(r)
				}
			}
		})
	}
	b.Run("miss", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Lookup(b.Context(), policy.Key{URL: "http://shop.example/absent"}, nil)
		}
	})
}

func BenchmarkSaveNear(b *testing.B) {
	s := newStore(b, Options{})
	e := mustEntry(b, typicalDraft(1<<10))
	b.ReportAllocs()
	for b.Loop() {
		s.Save(e)
	}
}
