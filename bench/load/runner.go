package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"cacheproxy/bench/poll"
)

// runner is a Run. Times are counted from when all connections are open.
type runner struct {
	Spec
	poller   *poll.Poller
	addr     unix.Sockaddr
	family   int
	accept   bool // status 304
	prefix   []byte
	suffix   []byte // what requests begin and end with
	in       []byte // what was read
	conns    []conn
	idle     []int // connections that are free, longest first
	down     int   // connections that are not to be had
	inFlight int
	keys     *keys
	schedule schedule
	issued   int64 // requests that were begun, from the warm-up on

	origin    time.Time
	now       time.Duration
	stop      time.Duration // when it ends
	answer    time.Duration // when the last response was whole
	beat      time.Duration // when to look for those who time out
	usage     time.Duration // of CPU when the warm-up ended; negative before
	began     bool          // all connections were open once
	result    *Result
	latencies []*hdrhistogram.Histogram // by pattern
	oversleep *hdrhistogram.Histogram
	sent      int64
}

// forever is long after everybody has gone.
const forever = 1 << 62

func newRunner(spec Spec, addr netip.AddrPort) (*runner, error) {
	r := &runner{Spec: spec, in: make([]byte, 256<<10), stop: forever, usage: -1, oversleep: newHistogram()}
	if addr.Addr().Is4() {
		r.addr, r.family = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}, unix.AF_INET
	} else {
		r.addr, r.family = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}, unix.AF_INET6
	}
	if spec.Duration > 0 {
		r.stop = spec.Warmup + spec.Duration
	}
	r.prefix, r.suffix, r.accept = requestParts(&spec)
	random := rand.New(rand.NewPCG(spec.Seed, 0x6c6f6164))
	r.keys = newKeys(spec.Patterns, random)
	r.schedule = schedule{rate: spec.Rate}
	if spec.Poisson {
		// Of its own, so that the times are the same whatever is drawn meanwhile.
		r.schedule.random = rand.New(rand.NewPCG(spec.Seed, 0x74696d65))
	}
	for range spec.Patterns {
		r.latencies = append(r.latencies, newHistogram())
	}
	r.conns = make([]conn, spec.Connections)
	r.result = &Result{
		Spec: spec, Statuses: map[int]int64{}, Errors: map[Failure]int64{}, FirstErrors: map[Failure]string{}, Patterns: make([]PatternResult, len(spec.Patterns)),
	}
	var err error
	if r.poller, err = poll.New(); err != nil {
		return nil, err
	}
	r.poller.Alone = spec.Alone
	return r, nil
}

// schedule is when the requests of an open loop are due.
type schedule struct {
	rate   float64
	random *rand.Rand // nil: evenly spaced
	n      float64    // how many have been, or how many would have been on average
}

// due is when the next request is due.
func (s *schedule) due() time.Duration { return time.Duration(s.n / s.rate * float64(time.Second)) }

// advance goes on to the one after it.
func (s *schedule) advance() {
	if s.random == nil {
		s.n++
	} else {
		s.n += s.random.ExpFloat64()
	}
}

func (r *runner) run(ctx context.Context) (*Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	poll.PreciseTimers()
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { r.poller.Wake(); close(stopped) })
	defer func() {
		if !stop() {
			<-stopped
		}
		r.poller.Close()
	}()
	defer r.closeAll()
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	for {
		r.tick()
		if r.over() || ctx.Err() != nil || r.abandoned() {
			break
		}
		r.issue()
		if err := r.wait(r.sleep()); err != nil {
			return nil, err
		}
	}
	return r.finish()
}

// connectWait is how long it may take until all connections are open.
const connectWait = 10 * time.Second

// connect opens all connections, and the clock begins.
func (r *runner) connect(ctx context.Context) error {
	r.origin = time.Now()
	for i := range r.conns {
		r.dial(i)
	}
	for len(r.idle) < len(r.conns) {
		if text := r.result.FirstErrors[FailConnect]; text != "" {
			return fmt.Errorf("%s", text)
		}
		if time.Since(r.origin) > connectWait || ctx.Err() != nil {
			return fmt.Errorf("load: connect: %d of %d connections are open", len(r.idle), len(r.conns))
		}
		if err := r.wait(100 * time.Millisecond); err != nil {
			return err
		}
	}
	r.origin, r.now, r.began = time.Now(), 0, true
	return nil
}

// over reports whether all has been done.
func (r *runner) over() bool {
	if r.now < r.stop && !r.exhausted() {
		return false
	}
	return r.inFlight == 0 || r.now >= r.stop && !r.Finish
}

// exhausted reports whether there is nothing more to send.
func (r *runner) exhausted() bool { return r.MaxRequests > 0 && r.issued >= r.MaxRequests }

// abandoned reports whether a run that only answers end has had none for so long that none will come.
func (r *runner) abandoned() bool {
	return r.stop == forever && r.now-r.answer > r.Timeout+connectWait
}

// issue has connections that are free send what is due.
func (r *runner) issue() {
	for len(r.idle) > 0 && !r.exhausted() && r.now < r.stop {
		due := r.now
		if r.Rate > 0 {
			if due = r.schedule.due(); due > r.now {
				return
			}
			r.schedule.advance()
		}
		i := r.idle[0]
		r.idle = slices.Delete(r.idle, 0, 1)
		r.send(i, due)
		if len(r.idle) > 0 {
			r.clock()
		}
	}
}

// sleep is how long there is nothing to do, unless something is received.
func (r *runner) sleep() time.Duration {
	if r.Rate == 0 && r.Spin > 0 {
		return 0
	}
	until := r.beat
	if r.now < r.stop {
		until = min(until, r.stop)
	}
	if r.Rate > 0 && len(r.idle) > 0 && !r.exhausted() {
		until = min(until, r.schedule.due()-r.Spin)
	}
	r.clock()
	return max(0, until-r.now)
}

func (r *runner) clock() { r.now = time.Since(r.origin) }

// wait waits for connections and has them go on.
func (r *runner) wait(atMost time.Duration) error {
	events, err := r.poller.Wait(atMost)
	if err != nil {
		return err
	}
	r.clock()
	for _, e := range events {
		r.handle(e)
	}
	r.clock()
	return nil
}

// tick does what is done now and then.
func (r *runner) tick() {
	if r.usage < 0 && r.now >= r.Warmup {
		r.usage = usage()
	}
	if r.now < r.beat {
		return
	}
	r.beat = r.now + 100*time.Millisecond
	if r.down > 0 {
		r.beat = r.now + retryAfter
	}
	for i := range r.conns {
		c := &r.conns[i]
		switch {
		case c.state == down && r.now >= c.at:
			r.down--
			r.dial(i)
		case c.state == connecting && r.now-c.at > r.Timeout:
			r.fail(i, FailConnect, errTimeout)
		case c.state == busy && r.now-c.at > r.Timeout:
			r.count(c)
			r.fail(i, FailTimeout, fmt.Errorf("%w: %s after %s", errTimeout, c.resource.Path(), r.Timeout))
		}
	}
}

// measured reports whether what is due then counts.
func (r *runner) measured(due time.Duration) bool { return due >= r.Warmup }

// count counts the latency of a request, up to now.
func (r *runner) count(c *conn) {
	if r.measured(c.due) {
		record(r.latencies[c.pattern], r.now-c.due)
	}
}

// finish makes the result.
func (r *runner) finish() (*Result, error) {
	end := min(r.now, r.stop)
	if r.Finish {
		end = max(end, r.answer)
	}
	r.now = end
	all := r.result
	all.Elapsed = max(0, end-r.Warmup)
	if r.usage >= 0 {
		all.CPU = usage() - r.usage
		all.CPURequest = all.CPU / time.Duration(max(1, all.Requests))
	}
	for i := range r.conns {
		if c := &r.conns[i]; c.state == busy && r.measured(c.due) {
			all.Unanswered++
			if r.Rate > 0 {
				r.count(c)
			}
		}
	}
	if r.Rate > 0 {
		if err := r.finishOpen(end); err != nil {
			return nil, err
		}
	}
	sum := newHistogram()
	for i, h := range r.latencies {
		sum.Merge(h)
		var err error
		if all.Patterns[i].Latency, err = summarize(h, len(r.latencies) > 1); err != nil {
			return nil, err
		}
	}
	if all.Elapsed > 0 {
		all.PerSecond = float64(all.Requests) / all.Elapsed.Seconds()
	}
	var err error
	all.Latency, err = summarize(sum, true)
	return all, err
}

// finishOpen counts what was due by the end and was not sent, as old as it is then.
func (r *runner) finishOpen(end time.Duration) (err error) {
	o := &OpenLoop{Sent: r.sent}
	for ; !r.exhausted() && r.schedule.due() < end; r.schedule.advance() {
		due := r.schedule.due()
		if !r.measured(due) {
			continue
		}
		if o.Backlog == 0 {
			o.LateAtEnd = end - due
		}
		o.Backlog++
		r.issued++
		_, pattern := r.keys.draw()
		record(r.latencies[pattern], end-due)
	}
	o.Scheduled = o.Sent + o.Backlog
	o.Oversleep, err = summarize(r.oversleep, false)
	r.result.Open = o
	return err
}

// usage is the CPU time of this process.
func usage() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0 // it is not known then
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
