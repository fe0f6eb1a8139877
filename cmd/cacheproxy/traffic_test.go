package main

import (
	"bufio"
	"bytes"
	endian "encoding/binary" // package main has a binary of its own
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// traffic asks for pages of a pageOrigin at a steady rate, over kept-alive connections, and checks every body.
type traffic struct {
	address     string // host:port
	connections int
	rate        float64 // requests a second, all connections together; 0 = as fast as they are answered
	duration    time.Duration
	count       int64           // ends after so many; 0 = by duration alone
	done        <-chan struct{} // ends it when it is closed
	target      func(n uint64) string
}

// seen is what came of traffic.
type seen struct {
	requests  int64
	failures  []string         // what went wrong, the first few
	failed    int64            // how often
	outcomes  map[string]int64 // by Cache-Status, less its numbers
	latencies []time.Duration  // sorted; from when a request was due, so that one which had to wait for its turn counts that too
}

// quantile is a latency that a share of the requests does not exceed.
func (l *seen) quantile(q float64) time.Duration {
	if len(l.latencies) == 0 {
		return 0
	}
	return l.latencies[min(len(l.latencies)-1, int(q*float64(len(l.latencies))))]
}

func (l *seen) String() string {
	return fmt.Sprintf("%d requests, %d failed, p50 %v, p99 %v, p99.9 %v, max %v, %v", l.requests, l.failed,
		l.quantile(.5), l.quantile(.99), l.quantile(.999), l.quantile(1), l.outcomes)
}

// run sends the traffic.
func (l traffic) run(t *testing.T) *seen {
	t.Helper()
	var (
		mu    sync.Mutex
		total = &seen{outcomes: map[string]int64{}}
		next  atomic.Uint64
		wg    sync.WaitGroup
		begin = time.Now()
	)
	for i := range l.connections {
		wg.Go(func() {
			one := l.runOne(i, begin, &next)
			mu.Lock()
			defer mu.Unlock()
			total.requests += one.requests
			total.failed += one.failed
			total.failures = append(total.failures, one.failures...)
			total.latencies = append(total.latencies, one.latencies...)
			for k, v := range one.outcomes {
				total.outcomes[k] += v
			}
		})
	}
	wg.Wait()
	slices.Sort(total.latencies)
	return total
}

// runOne is the traffic of connection i, whose requests are due at even intervals.
func (l traffic) runOne(i int, begin time.Time, next *atomic.Uint64) *seen {
	r := &seen{outcomes: map[string]int64{}}
	var c *trafficConnection
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for k := 0; ; k++ {
		due := time.Now()
		if l.rate > 0 {
			due = begin.Add(time.Duration((float64(i) + float64(k)*float64(l.connections)) / l.rate * float64(time.Second)))
			time.Sleep(time.Until(due))
		}
		select {
		case <-l.done:
			return r
		default:
		}
		n := next.Add(1)
		if time.Since(begin) > l.duration || l.count > 0 && n > uint64(l.count) {
			return r
		}
		var err error
		if c == nil {
			if c, err = dialTraffic(l.address); err != nil {
				r.fail(err)
				continue
			}
		}
		outcome, err := c.ask(l.target(n))
		r.requests++
		r.latencies = append(r.latencies, time.Since(due))
		if err != nil {
			r.fail(err)
			c.Close()
			c = nil
			continue
		}
		r.outcomes[outcome]++
	}
}

func (l *seen) fail(err error) {
	if l.failed++; len(l.failures) < 3 {
		l.failures = append(l.failures, err.Error())
	}
}

// trafficConnection is one connection of traffic.
type trafficConnection struct {
	net.Conn
	r    *bufio.Reader
	body bytes.Buffer
}

func dialTraffic(address string) (*trafficConnection, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &trafficConnection{Conn: c, r: bufio.NewReaderSize(c, 32<<10)}, nil
}

// ask asks for a page and returns the outcome; the error says what is wrong with the answer.
func (c *trafficConnection) ask(target string) (outcome string, err error) {
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: page.example\r\n\r\n"); err != nil {
		return "", err
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return "", fmt.Errorf("%s: %w", target, err)
	}
	c.body.Reset()
	if _, err := c.body.ReadFrom(res.Body); err != nil {
		return "", fmt.Errorf("%s: %w", target, err)
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: status %d: %s", target, res.StatusCode, c.body.Bytes())
	}
	if err := checkPage(target, c.body.Bytes()); err != nil {
		return "", err
	}
	return outcomeOf(res.Header.Get("Cache-Status")), nil
}

// outcomeOf is a Cache-Status without its numbers and its "stored".
func outcomeOf(status string) string {
	var kept []string
	for member := range strings.SplitSeq(status, "; ") {
		if !strings.HasPrefix(member, "ttl=") && member != "stored" && member != "cacheproxy" {
			kept = append(kept, member)
		}
	}
	return strings.Join(kept, ";")
}

// A page is "TARGET VERSION SIZE\n" and bytes that follow from these three, so that whoever has a body can tell whether it is whole
// and of one version. Its size is the target's parameter size.
func page(target string, version uint64) []byte {
	size := 1024
	if _, query, ok := strings.Cut(target, "size="); ok {
		size, _ = strconv.Atoi(query)
	}
	b := make([]byte, 0, size+16)
	b = fmt.Appendf(b, "%s %d %d\n", target, version, size)
	filler := rand.NewPCG(version, uint64(len(target))<<32|uint64(size))
	var block [4096]byte // its number, and what is of this version alone
	for at := 8; at < min(size, len(block)); at += 8 {
		endian.LittleEndian.PutUint64(block[at:], filler.Uint64())
	}
	for n := uint64(0); len(b) < size; n++ {
		endian.LittleEndian.PutUint64(block[:], n)
		b = append(b, block[:min(len(block), size-len(b))]...)
	}
	return b[:size]
}

func checkPage(target string, body []byte) error {
	line, _, _ := bytes.Cut(body[:min(len(body), 200)], []byte("\n"))
	parts := strings.Split(string(line), " ")
	if len(parts) != 3 || parts[0] != target {
		return fmt.Errorf("%s: a body that begins %q", target, line)
	}
	version, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil || !bytes.Equal(body, page(target, version)) {
		return fmt.Errorf("%s: %d bytes that are not its page %s", target, len(body), line)
	}
	return nil
}

// pageOrigin serves pages, each request a version of its own, for a lifetime that the path's first part says in seconds: /60/x.
type pageOrigin struct {
	address string
	asked   atomic.Int64
}

func newPageOrigin(t *testing.T) *pageOrigin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &pageOrigin{address: l.Addr().String()}
	s := &http.Server{Handler: o}
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return o
}

func (o *pageOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	lifetime, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body := page(r.RequestURI, uint64(o.asked.Add(1)))
	h := w.Header()
	h["Cache-Control"] = []string{"max-age=" + lifetime}
	h["Content-Type"] = []string{"application/octet-stream"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, _ = w.Write(body)
}
