package serve

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cacheproxy/bench/body"
)

const get = "GET /hit/1/1 HTTP/1.1\r\nHost: x\r\n\r\n"

// However requests are cut into packets, each has its response.
func TestFloorFindsTheEnds(t *testing.T) {
	addr := start(t, &Floor{Size: 100})
	for name, parts := range map[string][]string{
		"one by one":       {get, get, get},
		"pipelined":        {strings.Repeat(get, 1000)},
		"byte by byte":     strings.Split(get+get, ""),
		"split in the end": {get[:len(get)-1], get[len(get)-1:] + get[:len(get)-3], get[len(get)-3:]},
	} {
		conn := dial(t, addr)
		go func() {
			for _, part := range parts {
				_, _ = io.WriteString(conn, part)
				if len(part) < 100 {
					time.Sleep(100 * time.Microsecond) // so that they are packets of their own, most of the time
				}
			}
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		in := bufio.NewReader(conn)
		want := strings.Count(strings.Join(parts, ""), headEnd)
		for n := range want {
			if response, b := read(t, in, http.MethodGet); response.StatusCode != 200 || len(b) != 100 {
				t.Fatalf("%s: response %d: %s, %d bytes", name, n, response.Status, len(b))
			}
		}
		if n, _ := io.Copy(io.Discard, in); n != 0 {
			t.Errorf("%s: %d bytes more than %d responses", name, n, want)
		}
	}
}

// A client that does not read has no more sent than there is room for, and everything once it does; the others are served meanwhile.
func TestFloorWaitsForSlowReaders(t *testing.T) {
	const size, times = 1 << 20, 16 // more than sockets have room for
	addr := start(t, &Floor{Size: size})
	slow := dial(t, addr)
	if _, err := io.WriteString(slow, strings.Repeat(get, times)); err != nil {
		t.Fatal(err)
	}
	fast := dial(t, addr)
	in := bufio.NewReader(fast)
	for range 3 {
		if _, err := io.WriteString(fast, get); err != nil {
			t.Fatal(err)
		}
		if _, b := read(t, in, http.MethodGet); len(b) != size {
			t.Fatalf("%d bytes", len(b))
		}
	}
	want := body.Resource{Kind: body.Hit, Size: size}.AppendBody(nil)
	in = bufio.NewReader(slow)
	for range times {
		if _, b := read(t, in, http.MethodGet); !bytes.Equal(b, want) {
			t.Fatalf("%d bytes, and not the right ones", len(b))
		}
	}
	if _, err := io.WriteString(slow, get); err != nil {
		t.Fatal(err)
	}
	if _, b := read(t, in, http.MethodGet); !bytes.Equal(b, want) {
		t.Error("it does not read again")
	}
}

// Those who leave make room for others.
func TestFloorTakesConnectionsAgain(t *testing.T) {
	addr := start(t, &Floor{Size: 1 << 20})
	for n := range 300 {
		conn := dial(t, addr)
		if n%2 == 0 {
			if _, err := io.WriteString(conn, get); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close()
	}
	conn := dial(t, addr)
	if _, err := io.WriteString(conn, get); err != nil {
		t.Fatal(err)
	}
	read(t, bufio.NewReader(conn), http.MethodGet)
}

func TestFloorNeedsASocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Floor{}).Serve(context.Background(), struct{ net.Listener }{l}); err == nil {
		t.Error("it serves without")
	}
}

func FuzzEnds(f *testing.F) {
	f.Add([]byte(get+get), uint8(3))
	f.Add([]byte("\r\r\n\r\n\r\n\r\n\r\r\n\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, all []byte, cut uint8) {
		got, have := 0, 0
		for rest := all; len(rest) > 0; {
			part := rest[:min(len(rest), 1+int(cut))]
			rest = rest[len(part):]
			var n int
			n, have = ends(part, have)
			got += n
		}
		if want := bytes.Count(all, []byte(headEnd)); got != want {
			t.Errorf("%q in pieces of %d: %d ends, not %d", all, 1+int(cut), got, want)
		}
	})
}

func BenchmarkEnds(b *testing.B) {
	all := []byte("GET /hit/1024/17 HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nUser-Agent: x\r\n\r\n")
	for b.Loop() {
		if n, _ := ends(all, 0); n != 1 {
			b.Fatal(n)
		}
	}
}
