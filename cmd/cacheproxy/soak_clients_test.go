//go:build soak

package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// descriptors is how many files the process has open.
func (p *process) descriptors() int {
	entries, _ := os.ReadDir("/proc/" + strconv.Itoa(p.command.Process.Pid) + "/fd")
	return len(entries)
}

// Five thousand idle connections and five hundred slow ones beside normal traffic.
func TestSoakManyClients(t *testing.T) {
	const idle, slow = 5_000, 500
	origin := newPageOrigin(t)
	p := start(t, []string{"CACHEPROXY_LOG_ACCESS_SAMPLE=0", "CACHEPROXY_SERVER_IDLE_TIMEOUT=10m", "CACHEPROXY_SERVER_HEADER_TIMEOUT=5m"}, "--upstream", "http://"+origin.address)
	address := strings.TrimPrefix(p.public, "http://")
	load := func(what string) *seen {
		s := traffic{address: address, connections: 32, rate: 2_000, duration: 20 * time.Second, target: func(n uint64) string { return fmt.Sprintf("/600/known/%d", n%1000) }}.run(t)
		if t.Logf("%s: %v", what, s); s.failed > 0 {
			t.Errorf("%d failed: %v", s.failed, s.failures)
		}
		return s
	}
	load("warming")
	before := load("alone")
	was, _ := p.resident()

	connect := func() net.Conn {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range idle {
		c, buf := connect(), make([]byte, 4096)
		fmt.Fprint(c, "GET /600/known/1 HTTP/1.1\r\nHost: a\r\n\r\n") // as one that has been in use
		for n := 0; n < 1024; {
			k, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}
	now, _ := p.resident()
	t.Logf("an idle connection takes %.1f KiB, with the kernel's buffers apart", float64(now-was)/idle/1024)

	done := make(chan struct{})
	var trickling sync.WaitGroup
	for i := range slow {
		c := connect()
		trickling.Go(func() {
			head := "GET /600/known/2 HTTP/1.1\r\nHost: a\r\nX-Slow: " + strings.Repeat("a", 4000)
			for n := 0; !over(done); n++ {
				if _, err := io.WriteString(c, head[n%len(head):n%len(head)+1]); err != nil {
					t.Errorf("slow client %d was ended: %v", i, err)
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	beside := load("beside idle and slow clients")
	close(done)
	trickling.Wait()
	t.Logf("p99 is %.2f times what it was", float64(beside.quantile(.99))/float64(before.quantile(.99)))
}

// Clients that trickle, stop in the middle, reset, pipeline and send rubbish, for ten minutes: nothing is left of them.
func TestSoakBadClients(t *testing.T) {
	origin := newPageOrigin(t)
	p := start(t, []string{
		"CACHEPROXY_LOG_ACCESS_SAMPLE=0", "CACHEPROXY_SERVER_HEADER_TIMEOUT=2s", "CACHEPROXY_SERVER_BODY_TIMEOUT=2s",
		"CACHEPROXY_SERVER_WRITE_TIMEOUT=2s", "CACHEPROXY_SERVER_IDLE_TIMEOUT=2s",
	}, "--upstream", "http://"+origin.address)
	address := strings.TrimPrefix(p.public, "http://")
	settled := func() (goroutines float64, descriptors int, resident int64) {
		for range 40 { // the timeouts, and the closing of what they end
			time.Sleep(250 * time.Millisecond)
		}
		resident, _ = p.resident()
		return p.metric("go_goroutines", ""), p.descriptors(), resident
	}
	round := func(duration time.Duration) {
		done := make(chan struct{})
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				for !over(done) {
					badClient(address)
				}
			})
		}
		good := traffic{address: address, connections: 4, rate: 200, duration: duration, target: func(n uint64) string { return fmt.Sprintf("/600/known/%d", n%100) }}.run(t)
		close(done)
		all.Wait()
		if t.Logf("beside: %v", good); good.failed > 0 {
			t.Errorf("%d good requests failed: %v", good.failed, good.failures)
		}
	}
	round(20 * time.Second)
	goroutines, descriptors, resident := settled()
	round(10 * time.Minute)
	goroutines2, descriptors2, resident2 := settled()
	t.Logf("goroutines %v, then %v; descriptors %d, then %d; resident %d MiB, then %d MiB; faults %v", goroutines, goroutines2,
		descriptors, descriptors2, resident>>20, resident2>>20, p.metric("cacheproxy_faults_total", ""))
	if goroutines2 > goroutines+20 || descriptors2 > descriptors+20 || resident2 > resident+resident/4+32<<20 {
		t.Error("something is left of the clients")
	}
}

// badClient is one connection of a client that behaves in one of many bad ways.
func badClient(address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	get := fmt.Sprintf("GET /600/bad/%d HTTP/1.1\r\nHost: a\r\n\r\n", rand.IntN(1000))
	post := fmt.Sprintf("POST /0/bad HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", 1<<20)
	chunked := "POST /0/bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	send := func(text string) { _, _ = io.WriteString(c, text) }
	switch rand.IntN(10) {
	case 0: // says nothing
	case 1: // trickles
		for i := range get {
			send(get[i : i+1])
			time.Sleep(50 * time.Millisecond)
		}
	case 2: // stops in the middle of the head
		send(get[:rand.IntN(len(get))])
	case 3: // stops in the middle of the content
		send(post + "abc")
	case 4: // resets in the middle
		send(post + strings.Repeat("a", 1000))
		_ = c.(*net.TCPConn).SetLinger(0)
		return
	case 5: // pipelines and takes nothing
		for range 200 {
			send(get)
		}
		time.Sleep(time.Second)
		return
	case 6: // pipelines rubbish behind a good request
		send(get + "RUBBISH\r\n\r\n")
	case 7: // sends bytes of chance
		b := make([]byte, 1+rand.IntN(8000))
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		send(string(b))
	case 8: // bad chunks
		send(chunked + "5\r\nhello\r\nzz\r\n")
	case 9: // asks for a large body and leaves
		send("GET /600/large?size=3000000 HTTP/1.1\r\nHost: a\r\n\r\n")
		_, _ = io.CopyN(io.Discard, c, 1000)
		_ = c.(*net.TCPConn).SetLinger(0)
		return
	}
	_, _ = io.CopyN(io.Discard, c, 64<<10)
}
