package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"cacheproxy/bench/body"
	"cacheproxy/bench/serve"
)

// origin starts the benchmark's origin until the test ends.
func origin(t testing.TB, slow time.Duration) (addr string, o *serve.Origin) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	o = &serve.Origin{Slow: slow}
	go func() { done <- o.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), o
}

func run(t testing.TB, spec Spec) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	result, err := Run(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestClosedLoop(t *testing.T) {
	addr, o := origin(t, 0)
	for _, size := range []int{0, 1, 1024, 300_000} {
		before := o.Counts().Requests
		r := run(t, Spec{Addr: addr, Connections: 8, MaxRequests: 200, Check: 1, Patterns: []Pattern{{Kind: body.Hit, Size: size, Keys: 10}}})
		if r.Requests != 200 || r.Failed() != 0 || r.Checked != 200 || r.Bytes != int64(200*size) || r.Statuses[200] != 200 || r.Latency.Count != 200 {
			t.Errorf("%d bytes: %s", size, r)
		}
		if n := o.Counts().Requests - before; n != 200 {
			t.Errorf("%d requests came", n)
		}
	}
	r := run(t, Spec{Addr: addr, Connections: 4, Warmup: 50 * time.Millisecond, Duration: 100 * time.Millisecond, Header: []string{`If-None-Match: "9-7"`},
		Patterns: []Pattern{{Kind: body.Hit, Size: 9, FirstID: 7}}})
	if r.Requests == 0 || r.Failed() != 0 || r.Statuses[304] != r.Requests || r.Elapsed != 100*time.Millisecond || r.CPU == 0 {
		t.Error(r)
	}
}

// A loop that finishes counts all that has come to the server, and takes as long as the last answer.
func TestFinish(t *testing.T) {
	const slow = 80 * time.Millisecond
	addr, o := origin(t, slow)
	r := run(t, Spec{Addr: addr, Connections: 4, Duration: slow * 3 / 2, Finish: true, Patterns: []Pattern{{Kind: body.Slow, Size: 10}}})
	if n := o.Counts().Slow; n != r.Requests || n < 8 || r.Unanswered != 0 || r.Latency.Count != n || r.Elapsed < 2*slow {
		t.Errorf("%d requests came: %s", n, r)
	}
	r = run(t, Spec{Addr: addr, Connections: 4, Duration: slow * 3 / 2, Patterns: []Pattern{{Kind: body.Slow, Size: 10}}})
	if r.Requests != 4 || r.Unanswered != 4 || r.Elapsed != slow*3/2 {
		t.Errorf("without it: %s", r)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r = run(t, Spec{Addr: silent.Addr().String(), Connections: 4, Duration: slow, Finish: true, Timeout: 2 * slow, Patterns: []Pattern{{Kind: body.Slow, Size: 10}}})
	if r.Requests != 0 || r.Errors[FailTimeout] != 4 {
		t.Errorf("nothing comes: %s", r)
	}
}

// A server that stops for 200 ms once keeps all those waiting who come meanwhile: in an open loop they are seen, in a closed loop one per connection is.
func TestOpenLoopCountsWaiting(t *testing.T) {
	const rate, stall = 1000, 200 * time.Millisecond
	var mutex sync.Mutex
	server := func() string {
		return faulty(t, func(w io.Writer, path string, n int64) bool {
			mutex.Lock() // one after the other
			defer mutex.Unlock()
			if n == 100 {
				time.Sleep(stall)
			}
			right(w, path)
			return true
		})
	}
	slow := func(r *Result) (n int64) {
		h, err := r.Latency.Histogram()
		if err != nil {
			t.Fatal(err)
		}
		for _, bar := range h.Distribution() {
			if bar.From > int64(stall/2) {
				n += bar.Count
			}
		}
		return n
	}
	spec := Spec{Addr: server(), Connections: 2, Duration: time.Second, Rate: rate, Patterns: []Pattern{{Kind: body.Hit, Size: 10}}}
	r := run(t, spec)
	if n := slow(r); n < 80 || r.Failed() > 0 || r.Open.Scheduled != rate || r.Requests+r.Unanswered+r.Open.Backlog != rate {
		t.Errorf("%d are slow: %s", n, r)
	}
	spec.Addr, spec.Rate, spec.Duration, spec.MaxRequests = server(), 0, 0, 500
	if n := slow(run(t, spec)); n < 1 || n > 10 {
		t.Errorf("%d are slow in a closed loop", n)
	}
}

// What is not answered at the end, or not even sent, counts as old as it is.
func TestOpenLoopCountsTheBacklog(t *testing.T) {
	for _, poisson := range []bool{false, true} {
		addr, _ := origin(t, time.Minute)
		r := run(t, Spec{Addr: addr, Connections: 3, Duration: 200 * time.Millisecond, Rate: 1000, Poisson: poisson, Seed: 1, Patterns: []Pattern{{Kind: body.Slow, Size: 10}}})
		o := r.Open
		if r.Requests != 0 || r.Unanswered != 3 || o.Sent != 3 || o.Scheduled != 3+o.Backlog || r.Latency.Count != o.Scheduled {
			t.Errorf("%+v: %s", o, r)
		}
		if o.Scheduled < 150 || o.Scheduled > 250 || !poisson && o.Scheduled != 200 {
			t.Errorf("%d are scheduled, poisson %v", o.Scheduled, poisson)
		}
		if got := r.Latency.P50; got < 80*time.Millisecond || got > 120*time.Millisecond {
			t.Errorf("half are older than %s", got)
		}
	}
}

func TestUniqueKeysNeverRepeat(t *testing.T) {
	var mutex sync.Mutex
	seen := map[string]int{}
	addr := faulty(t, func(w io.Writer, path string, _ int64) bool {
		mutex.Lock()
		seen[path]++
		mutex.Unlock()
		right(w, path)
		return true
	})
	r := run(t, Spec{Addr: addr, Connections: 16, MaxRequests: 2000, Check: 0.5, Patterns: []Pattern{
		{Kind: body.Hit, Size: 20, Unique: true, FirstID: 1000}, {Kind: body.Pass, Size: 20, Keys: 5, Weight: 3, Zipf: 1},
	}})
	unique := int64(0)
	mutex.Lock() // the answers came after, which the race detector does not see in the load generator's sockets
	defer mutex.Unlock()
	for path, n := range seen {
		if strings.HasPrefix(path, "/hit/") {
			unique++
			if n != 1 {
				t.Errorf("%s came %d times", path, n)
			}
		}
	}
	if unique != r.Patterns[0].Requests || unique < 400 || unique > 600 || r.Checked < 900 || r.Checked > 1100 || r.Failed() != 0 {
		t.Errorf("%d keys of %v: %s", unique, r.Patterns, r)
	}
	if seen["/hit/20/1000"] != 1 || seen[fmt.Sprint("/hit/20/", 999+unique)] != 1 {
		t.Error("they are others than those that were asked for")
	}
}

// A server that answers nobody before all have asked: so they ask at the same moment, each on a connection of its own.
func TestStampede(t *testing.T) {
	const n = 100
	all := make(chan struct{})
	addr := faulty(t, func(w io.Writer, path string, i int64) bool {
		if i == n {
			close(all)
		}
		<-all
		right(w, path)
		return true
	})
	r, err := Stampede(context.Background(), Spec{Addr: addr, Connections: n}, body.Resource{Kind: body.Slow, Size: 1000, ID: 3})
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != n || r.Checked != n || r.Failed() != 0 || r.Statuses[200] != n || r.Latency.Count != n {
		t.Error(r)
	}
}

func TestWarm(t *testing.T) {
	addr, o := origin(t, 0)
	r, err := Warm(context.Background(), Spec{Addr: addr, Connections: 7, Rate: 1, Patterns: []Pattern{{Kind: body.Hit, Size: 1000, Keys: 500, Zipf: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 500 || r.Checked != 500 || r.Failed() != 0 || o.Counts().Requests != 500 {
		t.Error(r)
	}
}

func TestOnlyLoopbackIsSentLoad(t *testing.T) {
	names := map[string][]netip.Addr{
		"here":  {netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")},
		"there": {netip.MustParseAddr("192.0.2.1")},
		"both":  {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")},
		"none":  {},
	}
	find := func(_ context.Context, host string) ([]netip.Addr, error) {
		if all, found := names[host]; found {
			return all, nil
		}
		return nil, errors.New("no such host")
	}
	for addr, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1:80", "127.1.2.3:80": "127.1.2.3:80", "[::1]:80": "[::1]:80", "[::ffff:127.0.0.1]:80": "127.0.0.1:80", "here:80": "127.0.0.1:80",
		"0.0.0.0:80": "", "[::]:80": "", ":80": "", "192.0.2.1:80": "", "[::ffff:192.0.2.1]:80": "", "10.0.0.1:80": "", "169.254.1.1:80": "", "there:80": "", "both:80": "",
		"none:80": "", "other:80": "", "127.0.0.1": "", "127.0.0.1:0": "", "127.0.0.1:http": "", "127.0.0.1:65536": "",
	} {
		got, err := resolve(context.Background(), find, addr, false)
		if want == "" && err == nil || want != "" && got.String() != want {
			t.Errorf("%s is %s, %v", addr, got, err)
		}
	}
	if got, err := resolve(context.Background(), find, "there:80", true); err != nil || got.String() != "192.0.2.1:80" {
		t.Errorf("%s, %v", got, err)
	}
	spec := Spec{Addr: "192.0.2.1:80", MaxRequests: 1, Patterns: []Pattern{{Kind: body.Hit}}}
	if _, err := Run(context.Background(), spec); err == nil {
		t.Error("Run goes elsewhere")
	}
	if _, err := Watch(context.Background(), WatchSpec{Addr: "192.0.2.1:80", Resources: make([]body.Resource, 1)}); err == nil {
		t.Error("Watch goes elsewhere")
	}
}

func TestSpecsAreChecked(t *testing.T) {
	good := Spec{Addr: "127.0.0.1:1", MaxRequests: 1, Patterns: []Pattern{{Kind: body.Hit}}}
	if _, err := good.prepare(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Spec){
		"no end":      func(s *Spec) { s.MaxRequests = 0 },
		"connections": func(s *Spec) { s.Connections = -1 },
		"rate":        func(s *Spec) { s.Rate = -1 },
		"check":       func(s *Spec) { s.Check = 1.5 },
		"finish":      func(s *Spec) { s.Finish, s.Rate = true, 1 },
		"no pattern":  func(s *Spec) { s.Patterns = nil },
		"kind":        func(s *Spec) { s.Patterns = []Pattern{{Kind: "other"}} },
		"size":        func(s *Spec) { s.Patterns = []Pattern{{Kind: body.Hit, Size: body.MaxSize + 1}} },
		"zipf":        func(s *Spec) { s.Patterns = []Pattern{{Kind: body.Hit, Zipf: -1}} },
		"weight":      func(s *Spec) { s.Patterns = []Pattern{{Kind: body.Hit, Weight: -1}} },
		"host":        func(s *Spec) { s.Host = "a\r\nb" },
		"field":       func(s *Spec) { s.Header = []string{"A: b\r\nC: d"} },
		"no colon":    func(s *Spec) { s.Header = []string{"A"} },
	} {
		bad := good
		change(&bad)
		if _, err := bad.prepare(); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// A closed loop that is told to spin waits for answers awake: here there is next to nothing else to do.
func TestClosedLoopStaysAwake(t *testing.T) {
	addr, _ := origin(t, 20*time.Millisecond)
	spec := Spec{Addr: addr, Connections: 2, Duration: 300 * time.Millisecond, Patterns: []Pattern{{Kind: body.Slow, Size: 10}}}
	asleep := run(t, spec)
	spec.Spin = time.Microsecond
	awake := run(t, spec)
	if awake.Requests == 0 || awake.CPU < 5*asleep.CPU {
		t.Errorf("awake it takes %v for %d requests, asleep %v for %d", awake.CPU, awake.Requests, asleep.CPU, asleep.Requests)
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if r, err := Run(context.Background(), Spec{Addr: l.Addr().String(), Connections: 3, MaxRequests: 1, Patterns: []Pattern{{Kind: body.Hit}}}); err == nil {
		t.Error(r)
	}
}

func TestResultsAreReadAgain(t *testing.T) {
	addr, _ := origin(t, 0)
	r := run(t, Spec{Addr: addr, Connections: 2, Duration: 50 * time.Millisecond, Rate: 2000, Spin: time.Millisecond, Patterns: []Pattern{{Kind: body.Hit, Size: 10}, {Kind: body.Pass, Size: 20}}})
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again Result
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&again, r) {
		t.Errorf("%s\n%+v\n%+v", text, again, *r)
	}
	h, err := again.Latency.Histogram()
	if err != nil || h.TotalCount() != r.Latency.Count || len(r.Latency.Quantiles) != quantiles {
		t.Errorf("%v, %d of %d, %d quantiles", err, h.TotalCount(), r.Latency.Count, len(r.Latency.Quantiles))
	}
	last := Quantile{}
	for _, q := range r.Latency.Quantiles {
		if q.Q < last.Q || q.Value < last.Value {
			t.Errorf("%v after %v", q, last)
		}
		last = q
	}
}

func TestDescribe(t *testing.T) {
	for want, spec := range map[string]Spec{
		"to a:1 over 1 connections, closed loop, /hit/10/ (1 keys from 0, weight 1), for 1m0s after 5s, as many requests as are answered": {
			Addr: "a:1", Duration: time.Minute, Warmup: 5 * time.Second, Patterns: []Pattern{{Kind: body.Hit, Size: 10, Weight: 1}},
		},
		"to a:1 over 9 connections, open loop of 2.5 requests/s (Poisson), /hit/10/ (5 keys by Zipf 0.8 from 3, weight 1), at most 7 requests": {
			Addr: "a:1", Connections: 9, Rate: 2.5, Poisson: true, MaxRequests: 7, Patterns: []Pattern{{Kind: body.Hit, Size: 10, Keys: 5, FirstID: 3, Zipf: 0.8, Weight: 1}},
		},
	} {
		if got := spec.Describe(); got != want {
			t.Errorf("%s\n%s", got, want)
		}
	}
}
