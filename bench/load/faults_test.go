package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cacheproxy/bench/body"
)

// faulty starts a server until the test ends that has a function answer each request, whose target it is told, and which number it has of all. The
// connection is closed when that returns false.
func faulty(t testing.TB, answer func(w io.Writer, path string, n int64) bool) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var n atomic.Int64
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					r, err := http.ReadRequest(in)
					if err != nil || !answer(conn, r.URL.Path, n.Add(1)) {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

// right answers as it should.
func right(w io.Writer, path string) {
	r, _ := body.Parse(path)
	fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", r.Size, r.AppendBody(nil))
}

// faults are servers that are wrong, and what is found of them in twenty requests for bodies of 100 bytes.
var faults = map[string]struct {
	answer func(w io.Writer, path string, n int64) bool
	want   map[Failure]int64
}{
	"another body": {func(w io.Writer, path string, n int64) bool {
		if n%5 == 0 {
			path = "/hit/100/1000"
		}
		right(w, path)
		return true
	}, map[Failure]int64{FailBody: 4}},
	"the last byte": {func(w io.Writer, path string, n int64) bool {
		var b strings.Builder
		right(&b, path)
		_, _ = io.WriteString(w, b.String()[:b.Len()-1])
		_, _ = io.WriteString(w, "?")
		return true
	}, map[Failure]int64{FailBody: 20}},
	"length": {func(w io.Writer, path string, n int64) bool {
		right(w, strings.Replace(path, "100", "99", 1))
		return true
	}, map[Failure]int64{FailLength: 20}},
	"status": {func(w io.Writer, path string, n int64) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad")
		return true
	}, map[Failure]int64{FailStatus: 20}},
	"not HTTP": {func(w io.Writer, path string, n int64) bool {
		_, _ = io.WriteString(w, "SSH-2.0-OpenSSH_9.9 and some more\r\n\r\n")
		return true
	}, map[Failure]int64{FailHead: 20}},
	"closed at once": {func(w io.Writer, path string, n int64) bool {
		if n%2 == 0 {
			return false
		}
		right(w, path)
		return true
	}, map[Failure]int64{FailRead: 10}},
	"cut off": {func(w io.Writer, path string, n int64) bool {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
		return false
	}, map[Failure]int64{FailRead: 20}},
	"never": {func(w io.Writer, path string, n int64) bool { return true }, map[Failure]int64{FailTimeout: 20}},
	"nothing, with close, chunked, and until the end": {func(w io.Writer, path string, n int64) bool {
		r, _ := body.Parse(path)
		b := r.AppendBody(nil)
		switch n % 3 {
		case 0:
			fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n%s", b)
		case 1:
			fmt.Fprintf(w, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n41;a=b\r\n%s\r\n23\r\n%s\r\n0\r\nX: y\r\n\r\n", b[:65], b[65:])
			return true
		default:
			fmt.Fprintf(w, "HTTP/1.0 200 OK\r\n\r\n%s", b)
		}
		return false
	}, map[Failure]int64{}},
}

func TestFailuresAreFound(t *testing.T) {
	for name, test := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := Spec{Addr: faulty(t, test.answer), Connections: 4, MaxRequests: 20, Check: 1, Patterns: []Pattern{{Kind: body.Hit, Size: 100, Keys: 10}}}
			if test.want[FailTimeout] > 0 {
				spec.Timeout = 20 * time.Millisecond
			}
			r := run(t, spec)
			if !reflect.DeepEqual(r.Errors, test.want) {
				t.Errorf("%v, not %v: %s", r.Errors, test.want, r)
			}
			for kind := range test.want {
				if r.FirstErrors[kind] == "" {
					t.Errorf("nothing is said of %s", kind)
				}
			}
			if _, cut := test.want[FailRead]; cut && r.Requests != 20-r.Errors[FailRead] {
				t.Errorf("%d requests had responses", r.Requests)
			}
		})
	}
}

// A server may close a connection that has nothing to do, without a word: that is no failure, unless a request was under way already.
func TestIdleConnectionsMayClose(t *testing.T) {
	addr := faulty(t, func(w io.Writer, path string, n int64) bool {
		right(w, path)
		return false
	})
	r := run(t, Spec{Addr: addr, Connections: 2, Rate: 200, MaxRequests: 20, Check: 1, Patterns: []Pattern{{Kind: body.Hit, Size: 100}}})
	if r.Reconnects < 10 || r.Requests+r.Errors[FailRead] != 20 || r.Failed() != r.Errors[FailRead] {
		t.Error(r)
	}
}

// A server that goes away is called again now and then until the end, and everything that was due meanwhile counts.
func TestServerGoesAway(t *testing.T) {
	for _, rate := range []float64{0, 1000} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			conn, err := l.Accept()
			l.Close()
			if err != nil {
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for range 10 {
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				right(conn, "/hit/100/0")
			}
		}()
		r := run(t, Spec{Addr: l.Addr().String(), Duration: 200 * time.Millisecond, Rate: rate, Patterns: []Pattern{{Kind: body.Hit, Size: 100}}})
		<-gone
		if n := r.Errors[FailConnect]; r.Requests != 10 || n < 1 || n > 20 {
			t.Error(r)
		}
		if o := r.Open; rate > 0 && (o.Scheduled != 200 || o.Backlog < 185 || r.Latency.Count < 198) {
			t.Errorf("%+v: %s", o, r)
		}
	}
}
