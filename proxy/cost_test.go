package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"cacheproxy/metrics"
	"cacheproxy/upstream"
)

// What a request costs the process that serves it, in CPU time (user and system), with clients and origin in other processes:
//
//	go test ./proxy -run '^$' -bench Cost -benchtime 100000x
//
// hit compares the Handler, every request a hit in near memory, with a net/http handler that writes the same bytes. miss compares
// the Handler, every request a miss that is stored in near memory, with a bare ReverseProxy that has pooled buffers and a
// tuned Transport. The two are loaded in turns, ratio is the median over the rounds: the figure to trust on a machine with
// other work. With CACHEPROXY_COST_PROFILE=DIR each server leaves a CPU profile there.

const roleVariable = "CACHEPROXY_COST_ROLE"

// playRole turns this test process into one of the servers of BenchmarkCost. It prints its address, answers each line on standard
// input with its CPU time so far in nanoseconds, and ends with its input.
func playRole(role string) {
	name, origin, _ := strings.Cut(role, " ")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() { _ = (&http.Server{Handler: roleHandler(name, origin)}).Serve(l) }()
	if dir := os.Getenv("CACHEPROXY_COST_PROFILE"); dir != "" {
		f, err := os.Create(filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".prof"))
		if err != nil {
			panic(err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			panic(err)
		}
		defer pprof.StopCPUProfile()
	}
	fmt.Println(l.Addr())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			panic(err)
		}
		fmt.Println(u.Utime.Nano() + u.Stime.Nano())
	}
}

func roleHandler(name, origin string) http.Handler {
	switch name {
	case "origin":
		return http.HandlerFunc(serveOrigin)
	case "hit/bare":
		return http.HandlerFunc(bare)
	case "miss/bare":
		u, _ := url.Parse("http://" + origin)
		return &httputil.ReverseProxy{
			Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(u); r.SetXForwarded() },
			Transport:  &http.Transport{DisableCompression: true, MaxIdleConns: 256, MaxIdleConnsPerHost: 256},
			BufferPool: copyBuffers,
		}
	}
	next := FromHandler(http.HandlerFunc(serveOrigin))
	if origin != "" {
		u, err := upstream.New(upstream.Options{URL: "http://" + origin})
		if err != nil {
			panic(err)
		}
		next = u
	}
	h, err := New(Options{Next: next, Metrics: metrics.New()})
	if err != nil {
		panic(err)
	}
	return h
}

// role is a server process.
type role struct {
	addr string
	in   io.Writer
	out  *bufio.Reader
}

func startRole(b *testing.B, name string) *role {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait(); cancel() })
	r := &role{in: in, out: bufio.NewReader(out)}
	r.addr = r.line(b)
	return r
}

func (r *role) line(b *testing.B) string {
	s, err := r.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(s)
}

// cpu is the process's CPU time so far in nanoseconds.
func (r *role) cpu(b *testing.B) int64 {
	_, _ = io.WriteString(r.in, "\n")
	n, err := strconv.ParseInt(r.line(b), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

const rounds = 10

func BenchmarkCost(b *testing.B) {
	origin := startRole(b, "origin")
	b.Run("hit", func(b *testing.B) { compare(b, "hit/bare", "hit/cache", same) })
	b.Run("miss", func(b *testing.B) {
		compare(b, "miss/bare "+origin.addr, "miss/cache "+origin.addr, different)
	})
}

// compare sends the same load to both servers in turns, and reports the medians of the rounds.
func compare(b *testing.B, bareRole, cacheRole string, target func(int64) string) {
	servers := [2]*role{startRole(b, bareRole), startRole(b, cacheRole)}
	for _, s := range servers {
		load(b, s.addr, 2000, target) // warm
	}
	var costs [2][]float64
	var ratios []float64
	n := max(1, b.N/rounds)
	b.ResetTimer()
	for range rounds {
		var cost [2]float64
		for i, s := range servers {
			before := s.cpu(b)
			load(b, s.addr, n, target)
			cost[i] = float64(s.cpu(b)-before) / float64(n)
			costs[i] = append(costs[i], cost[i])
		}
		ratios = append(ratios, cost[1]/cost[0])
	}
	b.ReportMetric(median(costs[0]), "bare-cpu-ns/op")
	b.ReportMetric(median(costs[1]), "cache-cpu-ns/op")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(0, "ns/op")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// load sends n requests over sixteen kept-alive connections.
func load(b *testing.B, addr string, n int, target func(int64) string) {
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			buf := make([]byte, 8<<10)
			for left.Add(-1) >= 0 {
				if err := exchangeOne(c, buf, target(serial.Add(1))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// exchangeOne sends a request and reads a response whose body is the payload.
func exchangeOne(c net.Conn, buf []byte, target string) error {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: example.com\r\n\r\n", target); err != nil {
		return err
	}
	for n := 0; ; {
		k, err := c.Read(buf[n:])
		if err != nil {
			return err
		}
		n += k
		if end := bytes.Index(buf[:n], []byte("\r\n\r\n")); end >= 0 && n == end+4+len(payload) {
			return nil
		}
	}
}
