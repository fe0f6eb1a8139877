package load

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cacheproxy/bench/body"
)

// Ranks come as often as Zipf's law says: chi-square over the first ranks and over what is beyond them, by powers of two.
func TestZipf(t *testing.T) {
	const draws = 50_000
	for _, n := range []uint64{2, 10, 1000, 100_000} {
		for _, s := range []float64{0.5, 0.8, 0.99, 1, 1.0000001, 1.2, 3} {
			bucket := func(rank uint64) int {
				if rank <= 16 {
					return int(rank) - 1
				}
				return 12 + int(math.Log2(float64(rank)))
			}
			want, sum := make([]float64, 40), 0.0
			for rank := uint64(1); rank <= n; rank++ {
				p := math.Pow(float64(rank), -s)
				want[bucket(rank)] += p
				sum += p
			}
			z, random, got := newZipf(n, s), rand.New(rand.NewPCG(1, 2)), make([]float64, 40)
			for range draws {
				rank := z.draw(random)
				if rank < 1 || rank > n {
					t.Fatalf("n %d, s %v: rank %d", n, s, rank)
				}
				got[bucket(rank)]++
			}
			square, free := 0.0, -1.0
			for i, p := range want {
				if expect := p / sum * draws; expect > 5 {
					square += (got[i] - expect) * (got[i] - expect) / expect
					free++
				}
			}
			// About four standard deviations from the mean of chi-square.
			if square > free+4*math.Sqrt(2*free)+4 {
				t.Errorf("n %d, s %v: chi-square is %.1f with %v degrees of freedom", n, s, square, free)
			}
		}
	}
}

func TestHeads(t *testing.T) {
	for text, want := range map[string]head{
		"HTTP/1.1 200 OK\r\n\r\n":                                                     {status: 200, length: -1},
		"HTTP/1.1 200\r\nContent-Length: 17\r\n\r\n":                                  {status: 200, length: 17},
		"HTTP/1.1 404 Not Found\r\ncontent-length:0 \r\nConnection: Close\r\n\r\n":    {status: 404, last: true},
		"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n":                                {status: 200, length: 1, last: true},
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n":      {status: 200, length: 1},
		"HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: Chunked\r\n\r\n":                       {status: 200, length: -1, chunked: true},
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\nContent-Length: 5\r\n\r\n":   {status: 200, length: 5},
		"HTTP/1.1 304 Not Modified\r\nX-Content-Length: 7\r\nContent-Type: a\r\n\r\n": {status: 304, length: -1},
	} {
		if got, err := parseHead([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{
		"", "\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nA\r\n\r\n",
		"HTTP/1.1 200 OK\r\n: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
	} {
		if got, err := parseHead([]byte(bad)); err == nil {
			t.Errorf("%q is taken for %+v", bad, got)
		}
	}
}

// whole has a receiver take all, in pieces.
func whole(r *receiver, all []byte, piece int) (used int, done bool, err error) {
	r.begin(body.Resource{Kind: body.Hit, Size: 100}, true)
	for !done && err == nil && used < len(all) {
		var n int
		n, done, err = r.feed(all[used:min(len(all), used+piece)])
		used += n
	}
	return used, done, err
}

// Whatever comes, and however it is cut, is judged the same; and what net/http reads as a whole response is as long and has the same status.
func FuzzResponse(f *testing.F) {
	b := body.Resource{Kind: body.Hit, Size: 100}.AppendBody(nil)
	f.Add(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n%sHTTP", b))
	f.Add(fmt.Appendf(nil, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n%s\r\n24;x\r\n%s\r\n0\r\nA: b\r\n\r\n", b[:64], b[64:]))
	f.Add([]byte("HTTP/1.0 304 Not Modified\r\nConnection: keep-alive\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP"))
	f.Fuzz(func(t *testing.T, all []byte) {
		var r receiver
		used, done, err := whole(&r, all, max(1, len(all)))
		for _, piece := range []int{1, 3, 50} {
			var other receiver
			used2, done2, err2 := whole(&other, all, piece)
			if done2 != done || (err2 == nil) != (err == nil) || other.head != r.head || done && used2 != used || other.size != r.size || other.wrong != r.wrong {
				t.Fatalf("%q: %d, %v, %v, %+v; in pieces of %d: %d, %v, %v, %+v", all, used, done, err, r.head, piece, used2, done2, err2, other.head)
			}
		}
		if !done {
			return
		}
		response, errRead := http.ReadResponse(bufio.NewReader(bytes.NewReader(all)), nil)
		if errRead != nil || response.StatusCode != r.status {
			return // it is stricter, or there is 100 before
		}
		n, errRead := io.Copy(io.Discard, response.Body)
		if errRead == nil && n != r.size && r.status != http.StatusNotModified {
			t.Fatalf("%q: %d bytes, net/http reads %d", all, r.size, n)
		}
	})
}

// The watcher sees what is wrong, and the fields that it is asked for.
func TestWatch(t *testing.T) {
	n := 0
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n%4 == 0 {
			w.Header().Set("X-Cache", "MISS")
			_, _ = io.WriteString(w, strings.Repeat("a", 3000))
			return
		}
		w.Header().Set("X-Cache", "HIT")
		w.Header().Set("Seen", fmt.Sprint(n))
		resource, _ := body.Parse(r.URL.Path)
		_, _ = w.Write(resource.AppendBody(nil))
	})
	for _, secure := range []bool{false, true} {
		n = 0
		server := httptest.NewUnstartedServer(handler)
		if server.Start(); secure {
			server.Close()
			server = httptest.NewTLSServer(handler)
		}
		w, err := Watch(context.Background(), WatchSpec{
			Addr: server.Listener.Addr().String(), TLS: secure, Rate: 2000, MaxRequests: 100, Fields: []string{"X-Cache", "age", "seen"},
			Resources: []body.Resource{{Kind: body.Hit, Size: 3000, ID: 1}, {Kind: body.Hit, Size: 3000, ID: 2}},
		})
		server.Close()
		if err != nil {
			t.Fatal(err)
		}
		if w.Checked != 100 || w.Wrong != 25 || w.Errors[FailBody] != 25 || len(w.Errors) != 1 || w.Values["X-Cache"]["HIT"] != 75 || w.Values["X-Cache"]["MISS"] != 25 ||
			w.Values["age"][""] != 100 || len(w.Values["seen"]) != maxValues+1 || w.Values["seen"][OtherValues] != 75+1-maxValues || !strings.HasPrefix(w.Head, "HTTP/1.1 200 OK\r\n") {
			t.Errorf("TLS %v: %+v", secure, w)
		}
	}
}

// The watcher goes on after connections that are closed.
func TestWatchGoesOn(t *testing.T) {
	addr := faulty(t, func(w io.Writer, path string, n int64) bool {
		switch n % 3 {
		case 0:
			return false
		case 1:
			_, _ = io.WriteString(w, "junk")
			return false
		}
		right(w, path)
		return true
	})
	w, err := Watch(context.Background(), WatchSpec{Addr: addr, Rate: 1000, MaxRequests: 30, Resources: []body.Resource{{Kind: body.Hit, Size: 10}}})
	if err != nil {
		t.Fatal(err)
	}
	if w.Checked != 10 || w.Wrong != 0 || w.Errors[FailRead] != 20 {
		t.Errorf("%+v", w)
	}
}

// It ends with its context, whatever it waits for, and does not blame the server for it.
func TestWatchEnds(t *testing.T) {
	addr, _ := origin(t, time.Minute)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	w, err := Watch(ctx, WatchSpec{Addr: addr, Resources: []body.Resource{{Kind: body.Slow, Size: 10}}})
	if err != nil || w.Checked != 0 || len(w.Errors) != 0 {
		t.Errorf("%+v, %v", w, err)
	}
}

func BenchmarkZipf(b *testing.B) {
	z, random := newZipf(1_000_000, 0.99), rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		z.draw(random)
	}
}

func BenchmarkReceive(b *testing.B) {
	resource := body.Resource{Kind: body.Hit, Size: 1024, ID: 17}
	all := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nContent-Type: application/octet-stream\r\nCache-Control: public, max-age=86400\r\n"+
		"ETag: \"1024-17\"\r\nLast-Modified: %s\r\nDate: %s\r\nAge: 17\r\n\r\n%s", body.Modified, body.Modified, resource.AppendBody(nil))
	var r receiver
	b.ReportAllocs()
	for b.Loop() {
		r.begin(resource, true)
		if n, done, err := r.feed(all); n != len(all) || !done || err != nil || r.wrong {
			b.Fatal(n, done, err)
		}
	}
}
