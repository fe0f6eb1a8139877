package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
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
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/metrics"
	"cacheproxy/redistest"
	"cacheproxy/store"
	"cacheproxy/upstream"
	"cacheproxy/wire"
)

// What a request costs the process that serves it, in CPU time (user and system), with clients and origin in other processes:
//
//	go test ./proxy -run '^$' -bench Cost -benchtime 100000x
//
// hit compares the Handler, every request a hit in near memory, with a net/http handler that writes the same bytes. miss compares
// the Handler, every request a miss that is stored in near memory, with a bare ReverseProxy that has pooled buffers and a
// tuned Transport. redis compares the Handler, every request a hit in Redis since near memory takes nothing, with a handler that
// gets the same bytes with a bare GET. many compares hits spread over a million entries with hits spread over a thousand; it is
// a benchmark of its own, since filling takes a while. wire compares hits through package wire with hits through a Gate that reads
// nothing, and with hits without one, for the head that a browser sends. The two are loaded in turns, ratio is the median over the rounds: the figure to trust on a machine with
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
	server := &http.Server{Handler: roleHandler(name, origin)}
	if kind, on, _ := strings.Cut(name, "/"); kind == "wire" {
		server.ReadHeaderTimeout, server.IdleTimeout = 10*time.Second, 75*time.Second // as the command has them
		if on != "none" {
			l = wire.NewGate(wire.Options{Lenient: on == "off"}).Wrap(l, wire.Source{})
		}
	}
	go func() { _ = server.Serve(l) }()
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
	case "redis/bare":
		client, err := store.Dial("redis://"+origin, store.DialOptions{})
		if err != nil {
			panic(err)
		}
		return bareRedis(client)
	case "redismiss/bare":
		client, err := store.Dial("redis://"+origin, store.DialOptions{})
		if err != nil {
			panic(err)
		}
		return bareRedisMiss(client)
	case "redis/cache":
		client, err := store.Dial("redis://"+origin, store.DialOptions{})
		if err != nil {
			panic(err)
		}
		return cached(store.Options{NearMaxObject: 1, Redis: client, Prefix: "cp", Timeout: time.Second})
	case "keys/few", "keys/many":
		return cached(store.Options{NearSize: 3 << 30, NearMaxObject: 1 << 20})
	case "limits/off", "limits/on":
		h, _ := limited(name == "limits/on", origin, nil, serveOrigin) // it ends with the process, as all of these
		return h
	case "limits/off-more", "limits/on-more":
		h, _ := limited(name == "limits/on-more", origin, nil, serveMore)
		return h
	case "limits/silent":
		h, _ := limited(true, origin, []string{}, serveOrigin)
		return h
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

// cached is the Handler with a store of its own, in front of serveOrigin.
func cached(o store.Options) http.Handler {
	o.Metrics = metrics.New()
	s, err := store.New(o)
	if err != nil {
		panic(err)
	}
	h, err := New(Options{Next: FromHandler(http.HandlerFunc(serveOrigin)), Store: s, Metrics: o.Metrics})
	if err != nil {
		panic(err)
	}
	return h
}

// bareRedis answers with what one GET returns.
func bareRedis(client redis.UniversalClient) http.Handler {
	if err := client.Set(context.Background(), "bare", payload, 0).Err(); err != nil {
		panic(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := client.Get(r.Context(), "bare").Bytes()
		if err != nil {
			panic(err)
		}
		bareFields(w.Header())
		_, _ = w.Write(body)
	})
}

// bareRedisMiss asks for a key that is not there, makes the response and sets the key.
func bareRedisMiss(client redis.UniversalClient) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := "bare" + r.URL.Path
		if err := client.Get(r.Context(), key).Err(); err != redis.Nil {
			panic(err)
		}
		serveOrigin(w, r)
		if err := client.Set(r.Context(), key, payload, time.Minute).Err(); err != nil {
			panic(err)
		}
	})
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
	b.Run("redis", func(b *testing.B) {
		server := redistest.Start(b)
		compare(b, "redis/bare "+server.Addr(), "redis/cache "+server.Addr(), same)
	})
	b.Run("wire", func(b *testing.B) {
		sentFields = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0\r\n" +
			"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n" +
			"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n"
		defer func() { sentFields = "" }()
		b.Run("off", func(b *testing.B) { compare(b, "wire/off", "wire/on", same) })
		b.Run("none", func(b *testing.B) { compare(b, "wire/none", "wire/on", same) })
	})
	b.Run("redismiss", func(b *testing.B) {
		server := redistest.Start(b)
		compare(b, "redismiss/bare "+server.Addr(), "redis/cache "+server.Addr(), different)
	})
	b.Run("miss", func(b *testing.B) {
		compare(b, "miss/bare "+origin.addr, "miss/cache "+origin.addr, different)
	})
}

func BenchmarkCostOfManyKeys(b *testing.B) {
	const few, many = 1_000, 1_000_000
	spread := func(n int64) func(int64) string {
		return func(int64) string { return "/key/" + strconv.FormatInt(rand.Int64N(n), 10) }
	}
	servers := [2]*role{startRole(b, "keys/few"), startRole(b, "keys/many")}
	for i, n := range []int{few, many} {
		var next atomic.Int64
		load(b, servers[i].addr, n, func(int64) string { return "/key/" + strconv.FormatInt(next.Add(1)-1, 10) })
	}
	compareServers(b, servers, [2]func(int64) string{spread(few), spread(many)})
}

// compare sends the same load to both servers in turns, and reports the medians of the rounds.
func compare(b *testing.B, bareRole, cacheRole string, target func(int64) string) {
	compareServers(b, [2]*role{startRole(b, bareRole), startRole(b, cacheRole)}, [2]func(int64) string{target, target})
}

func compareServers(b *testing.B, servers [2]*role, targets [2]func(int64) string) {
	for i, s := range servers {
		load(b, s.addr, 2000, targets[i]) // warm
	}
	var costs [2][]float64
	var ratios []float64
	n := max(1, b.N/rounds)
	b.ResetTimer()
	for range rounds {
		var cost [2]float64
		for i, s := range servers {
			before := s.cpu(b)
			load(b, s.addr, n, targets[i])
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

// sentFields are further fields of each request.
var sentFields string

// exchangeOne sends a request and reads a response whose body is the payload.
func exchangeOne(c net.Conn, buf []byte, target string) error {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: example.com\r\n%s\r\n", target, sentFields); err != nil {
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
