//go:build consistency

package consistency

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// The run: two fleets of four replicas, a strict one and one that is not, are read, purged and troubled in any order.

const (
	base       = 4 // replicas that are always there, but for faults; one more comes and goes
	coldPages  = 300
	readsApart = 2500 * time.Microsecond // of one reader, when the machine keeps up
	readers    = 2                       // of each replica
	writers    = 5                       // of each fleet, beside one who waits longer
	restLonger = 400 * time.Millisecond  // than which no writer rests
	largeRead  = 2                       // of a hundred times that a reader would, it reads a large page
	largePurge = 25                      // the same of purges: a tenth of all bytes are enough
	farBehind  = 100                     // sweeps that wait: nobody purges then, or purges come faster than this machine sweeps, and the log only grows
	afterwards = 3 * time.Second         // beyond its horizon every page that was purged is read again
	shortWait  = 100 * time.Millisecond
	longWait   = 5 * time.Second
)

// known is what is known of a page: its promises.
type known struct {
	path, kind string
	hard, soft [base + 1]atomic.Int64     // what each replica may serve at the least: a version, a validity
	last       atomic.Pointer[lastPurges] // what was promised lately, for whoever looks for the cause
}

type lastPurges struct {
	text   string
	before *lastPurges
}

// world is one fleet in its run.
type world struct {
	*stage
	hot, cold []*known
	other     *spare
	again     chan rereading
	queue     atomic.Pointer[redis.Client] // where the sweeps are that are to be made
	behind    atomic.Bool                  // there are too many of them
	total     *totals

	purges, complete, partly, refused atomic.Int64
	reads, hits, failed, rereads      atomic.Int64
	violations                        atomic.Int64

	faults map[string]int // that were made

	mu       sync.Mutex
	failures map[string]int // of reads, by cause
}

type rereading struct {
	page *known
	due  time.Time
}

func newWorld(t *testing.T, strict bool, total *totals) *world {
	w := &world{total: total, faults: map[string]int{}, failures: map[string]int{}, again: make(chan rereading, 1<<16)}
	w.stage = newStage(t, stageOptions{strict: strict, apart: !strict, replicas: base}, evicting(strict))
	w.queue.Store(w.logAdmin)
	w.add() // who comes and goes
	for kind, n := range map[string]int{plain: 6, constant: 5, slow: 3, tagged: 5, behind: 3, large: 2, bare: 4} {
		for i := range n {
			w.hot = append(w.hot, &known{path: fmt.Sprintf("/%s/%d", kind, i), kind: kind})
		}
	}
	for i := range coldPages {
		kind := []string{plain, constant, slow, tagged, bare}[i%5]
		w.cold = append(w.cold, &known{path: fmt.Sprintf("/%s/cold-%d-", kind, i), kind: kind})
	}
	w.other = newSpare(w)
	return w
}

func (w *world) mode() string {
	if w.o.strict {
		return "strict"
	}
	return "not strict"
}

// read asks a replica for a page, and judges. It counts for nothing while the replica does not follow the log.
func (w *world) read(c *conn, slot int, p *known, fields ...string) {
	r := w.replicas[slot]
	if id, _ := r.follows(); id == "" {
		time.Sleep(10 * time.Millisecond)
		return
	}
	if address := r.address(); c.address != address {
		c.close()
		c.address = address
	}
	hard, soft := p.hard[slot].Load(), p.soft[slot].Load()
	s, err := c.get(p.path, fields...)
	w.judge(slot, p, hard, soft, &s, err)
}

// judge compares what was seen with what had been promised when the request was sent.
func (w *world) judge(slot int, p *known, hard, soft int64, s *seen, err error) {
	switch {
	case errors.Is(err, errBroken):
		w.violation("%s: %s of %s: %v", w.mode(), p.path, w.replicas[slot].name, err)
	case err != nil || s.status != 200:
		w.fail(s, err)
		return
	case s.version < hard:
		w.violation("%s: %s answers for %s %s, although %d was promised%s", w.mode(), w.replicas[slot].name, p.path, s, hard, p.told())
	case s.valid < soft && (!s.stale() || p.kind != behind):
		w.violation("%s: %s answers for %s %s, although validity as of %d was promised%s", w.mode(), w.replicas[slot].name, p.path, s, soft, p.told())
	}
	w.reads.Add(1)
	w.total.reads.Add(1)
	if s.hit() {
		w.hits.Add(1)
	}
}

// fail counts a read that was not answered.
func (w *world) fail(s *seen, err error) {
	why := fmt.Sprint(s.status, " ", s.said)
	if err != nil {
		why = "connection"
		if op := new(net.OpError); errors.As(err, &op) && op.Op == "dial" {
			why = "refused"
		}
	}
	w.failed.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures[why]++
}

func (w *world) violation(format string, args ...any) {
	if w.violations.Add(1) < 10 {
		w.t.Errorf(format, args...)
	}
}

func (p *known) told() (text string) {
	at := p.last.Load()
	for range 4 {
		if at != nil {
			text, at = text+"\n\t"+at.text, at.before
		}
	}
	return text
}

// purge makes a new version of a page, purges it in one of many ways, and takes the receipt for a promise.
func (w *world) purge(random *rand.Rand, p *known, wait time.Duration) {
	version := w.raise(p.path)
	selection := selectionOf(random, p)
	soft := random.IntN(10) < 3
	selection["soft"] = soft
	for times := 1 + random.IntN(5)/4; times > 0; times-- { // the same selector twice in a row, now and then
		w.ask1(random, p, version, selection, wait)
		if random.IntN(2) == 0 {
			selection["soft"] = false
		}
	}
}

// selectionOf selects a page.
func selectionOf(random *rand.Rand, p *known) map[string]any {
	name := p.path[1:]
	for i := range name {
		if name[i] == '/' {
			name = name[:i] + "-" + name[i+1:]
		}
	}
	ways := 7
	if p.kind == bare {
		ways = 4
	}
	switch random.IntN(ways) {
	case 0, 1:
		return urlOf(p.path)
	case 2:
		return map[string]any{"url": host + p.path}
	case 3:
		return map[string]any{"pattern": host + p.path + "*"}
	case 4:
		return map[string]any{"tags": []string{"page-" + name}}
	case 5:
		return map[string]any{"tags": []string{"page-" + name, "all-" + p.kind}, "match": "all"}
	default:
		return map[string]any{"group": "group-" + name, "origin": "http://" + host}
	}
}

func (w *world) ask1(random *rand.Rand, p *known, version int64, selection map[string]any, wait time.Duration) {
	asked := w.replicas[random.IntN(base)]
	if _, since := asked.follows(); time.Since(since) < time.Second {
		return // it may not know yet who else follows
	}
	soft := selection["soft"] == true
	w.purges.Add(1)
	w.total.purges.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), wait+5*time.Second)
	defer cancel()
	got, err := post(ctx, asked, wait, selection)
	if err != nil {
		w.refused.Add(1)
		return
	}
	complete := got.status == 200
	if complete {
		w.complete.Add(1)
	} else {
		w.partly.Add(1)
	}
	p.last.Store(&lastPurges{fmt.Sprintf("version %d, %v, asked of %s at %s: %+v", version, selection, asked.name, time.Now().Format("05.000"), got), p.last.Load()})
	for slot, r := range w.replicas {
		switch {
		case !complete && !has(got.Applied, r):
		case soft:
			promise(&p.soft[slot], version)
		default:
			promise(&p.hard[slot], version)
			promise(&p.soft[slot], version)
		}
	}
	select {
	case w.again <- rereading{p, time.Now().Add(w.o.horizon + afterwards)}:
	default:
	}
}

func promise(v *atomic.Int64, to int64) {
	for old := v.Load(); old < to && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

// run reads and purges until ctx ends.
func (w *world) run(ctx context.Context, fleet uint64) *sync.WaitGroup {
	all := new(sync.WaitGroup)
	stream := uint64(0)
	random := func() *rand.Rand {
		stream++
		return rand.New(rand.NewPCG(*seed, fleet<<32|stream))
	}
	for slot := range w.replicas {
		for range readers {
			all.Go(w.reader(ctx, slot, random()))
		}
	}
	for i := range writers + 1 {
		wait := shortWait
		if i == writers {
			wait = longWait
		}
		all.Go(w.writer(ctx, wait, random()))
	}
	all.Go(func() { w.reread(ctx) })
	all.Go(func() { w.watchSweeps(ctx) })
	return all
}

func (w *world) reader(ctx context.Context, slot int, random *rand.Rand) func() {
	return func() {
		c := new(conn)
		defer c.close()
		next := time.Now()
		for ctx.Err() == nil {
			p := w.hot[random.IntN(len(w.hot))]
			switch n := random.IntN(100); {
			case p.kind == large && n >= largeRead:
				continue
			case n < 10:
				p = w.cold[random.IntN(len(w.cold))]
			}
			w.read(c, slot, p)
			if next = next.Add(readsApart); time.Until(next) > 0 {
				time.Sleep(time.Until(next))
			} else if time.Until(next) < -time.Second {
				next = time.Now()
			}
		}
	}
}

func (w *world) writer(ctx context.Context, wait time.Duration, random *rand.Rand) func() {
	return func() {
		for ctx.Err() == nil {
			if w.behind.Load() {
				pause(random, restLonger)
				continue
			}
			p := w.hot[random.IntN(len(w.hot))]
			if p.kind == large && random.IntN(100) >= largePurge {
				continue
			}
			if random.IntN(10) < 4 {
				p = w.cold[random.IntN(len(w.cold))]
				go w.read(new(conn), random.IntN(base), p, "Connection: close") // a fetch that the purge comes upon
			}
			w.purge(random, p, wait)
			time.Sleep(time.Duration(random.Int64N(int64(restLonger))))
		}
	}
}

// watchSweeps looks at how many sweeps wait.
func (w *world) watchSweeps(ctx context.Context) {
	for ctx.Err() == nil {
		n, err := w.queue.Load().LLen(ctx, "cp:{inv}:sweeps").Result()
		w.behind.Store(err == nil && n > farBehind)
		time.Sleep(100 * time.Millisecond)
	}
}

// reread reads every page that was purged once more, from every replica, when that purge is forgotten.
func (w *world) reread(ctx context.Context) {
	conns := make([]conn, len(w.replicas))
	defer func() {
		for i := range conns {
			conns[i].close()
		}
	}()
	for {
		var next rereading
		select {
		case next = <-w.again:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(time.Until(next.due)):
		case <-ctx.Done():
			return
		}
		for slot := range w.replicas {
			w.read(&conns[slot], slot, next.page)
		}
		w.rereads.Add(1)
	}
}

// last reads all pages from all replicas.
func (w *world) last() {
	for slot := range base {
		c := new(conn)
		for _, p := range append(w.hot, w.cold...) {
			w.read(c, slot, p)
		}
		c.close()
	}
}
