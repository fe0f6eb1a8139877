//go:build consistency

package consistency

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/redistest"
)

// fault is one kind of trouble. It reports how often it happened: a fault that could not be brought about happened 0 times.
type fault struct {
	name string
	make func(w *world, random *rand.Rand) int
}

var faults = []fault{
	{"connections cut", func(w *world, random *rand.Rand) int { return w.link(random, (*redistest.Fault).Cut) }},
	{"connections held", func(w *world, random *rand.Rand) int { return w.link(random, (*redistest.Fault).Hold) }},
	{"connections deaf", func(w *world, random *rand.Rand) int { return w.link(random, (*redistest.Fault).Deafen) }},
	{"connections mute", func(w *world, random *rand.Rand) int { return w.link(random, (*redistest.Fault).Mute) }},
	{"answers halved", func(w *world, random *rand.Rand) int { return w.link(random, (*redistest.Fault).Halve) }},
	{"answers delayed", func(w *world, random *rand.Rand) int {
		return w.link(random, func(f *redistest.Fault) { f.Delay(time.Duration(random.IntN(300)) * time.Millisecond) })
	}},
	{"saves that came late", lateSaves},
	{"stopped beyond every timer", stopBeyond},
	{"killed", func(w *world, random *rand.Rand) int { return w.kill(random, w.any(random)) }},
	{"killed between save and check", killedUnchecked},
	{"killed in a sweep", killedSweeping},
	{"joined and left", joinAndLeave},
	{"promotion that lost the last record", promotion},
	{"failover in a SCAN", scanFailover},
	{"FLUSHALL", flushAll},
	{"restart from an old snapshot", oldSnapshot},
}

// pause is for a fault to have consequences.
func pause(random *rand.Rand, atMost time.Duration) {
	time.Sleep(time.Duration(random.Int64N(int64(atMost))))
}

// any is one of the replicas that are always there.
func (w *world) any(random *rand.Rand) *replica { return w.replicas[random.IntN(base)] }

// link does something to what lies between a replica and Redis.
func (w *world) link(random *rand.Rand, do func(*redistest.Fault)) int {
	r := w.any(random)
	which := random.IntN(3)
	if which != 1 {
		do(r.fault)
	}
	if which != 0 {
		do(r.state)
	}
	pause(random, 1500*time.Millisecond)
	r.fault.Heal()
	r.state.Heal()
	return 1
}

// within waits a while for something that need not happen.
func within(d time.Duration, happened <-chan struct{}) bool {
	select {
	case <-happened:
		return true
	case <-time.After(d):
		return false
	}
}

func lateSaves(w *world, random *rand.Rand) int {
	c := w.any(random).fault.Catch(sha(w.t, "store/save.lua"))
	within(5*time.Second, c.Caught())
	pause(random, 2*time.Second)
	c.Release()
	return c.Count()
}

// stopBeyond stops a replica for longer than any timer; requests that were sent meanwhile wait in its socket.
func stopBeyond(w *world, random *rand.Rand) int {
	slot := random.IntN(base)
	r := w.replicas[slot]
	r.stop()
	type waiting struct {
		c          *conn
		p          *known
		hard, soft int64
	}
	var queue []waiting
	send := func() {
		for range 30 {
			q := waiting{c: &conn{address: r.address()}, p: w.hot[random.IntN(len(w.hot))]}
			q.hard, q.soft = q.p.hard[slot].Load(), q.p.soft[slot].Load()
			if q.c.send(q.p.path) == nil {
				queue = append(queue, q)
			}
		}
	}
	send()
	time.Sleep(w.o.horizon + 2*time.Second)
	send()
	r.signal(syscall.SIGCONT)
	for _, q := range queue {
		s, err := q.c.receive()
		w.judge(slot, q.p, q.hard, q.soft, &s, err)
		q.c.close()
	}
	return 1
}

// kill kills a replica, loses what was on its way, and starts it again.
func (w *world) kill(random *rand.Rand, r *replica) int {
	r.kill()
	r.forgotten()
	for _, f := range []*redistest.Fault{r.state, r.fault} {
		f.Cut()
		f.Heal()
	}
	pause(random, 300*time.Millisecond)
	r.start()
	r.followed()
	return 1
}

func killedUnchecked(w *world, random *rand.Rand) int { return w.killAt(random, "xrevrange") }

// killedSweeping kills a replica when it says that it begins a sweep, or that it has made one.
func killedSweeping(w *world, random *rand.Rand) int {
	return w.killAt(random, sha(w.t, "invalidation/note.lua"), []string{`"running":true`, `"passes":1`}[random.IntN(2)])
}

// killAt kills a replica when it has said this to the Redis of the log, which does not hear it.
func (w *world) killAt(random *rand.Rand, texts ...string) int {
	r := w.any(random)
	c := r.state.Catch(texts...)
	defer c.Release()
	if !within(5*time.Second, c.Caught()) {
		return 0
	}
	r.kill()
	r.state.Cut()
	c.Release()
	return w.kill(random, r)
}

func joinAndLeave(w *world, random *rand.Rand) int {
	r := w.replicas[base]
	r.start()
	r.followed()
	pause(random, 2*time.Second)
	r.leave()
	r.forgotten()
	return 1
}

// forgotten notes that the process follows the log no more.
func (r *replica) forgotten() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.id = ""
}

// settle waits until every replica is registered and knows of every other. It is done before and after Redis goes back: who was started when the
// others were forgotten there does not know of one that is cut off for so long that it would be called silent, and its receipts do not speak for
// that. It is a limit of the promise, which is not tested here.
func (w *world) settle() {
	for _, r := range w.replicas[:base] {
		w.until(r.name+" knows all", func() bool {
			got, err := post(context.Background(), r, longWait, urlOf("/plain/nobody"))
			return err == nil && got.status == 200 && len(got.Applied) == base
		})
	}
}

// spare is a Redis that follows the one of the log, to be promoted. Each is behind a proxy for the other.
type spare struct {
	server *redistest.Server
	admin  *redis.Client
	links  map[*redistest.Server]*redistest.Fault
}

func evicting(strict bool) redistest.Options {
	if strict {
		return redistest.Options{MaxMemory: "24mb", Policy: "volatile-lru", Args: []string{"--repl-diskless-sync-delay", "0"}}
	}
	return redistest.Options{MaxMemory: "24mb", Policy: "allkeys-lru"}
}

func newSpare(w *world) *spare {
	o := evicting(true)
	if w.o.apart {
		o = redistest.Options{Args: []string{"--repl-diskless-sync-delay", "0"}}
	}
	s := &spare{server: redistest.StartWith(w.t, o), links: map[*redistest.Server]*redistest.Fault{}}
	s.admin = s.server.Admin()
	for _, server := range []*redistest.Server{w.log, s.server} {
		s.links[server] = server.Fault()
	}
	w.follow(s)
	return s
}

// follow has the spare follow the Redis of the log.
func (w *world) follow(s *spare) {
	ctx := context.Background()
	hostname, port, _ := strings.Cut(s.links[w.log].Addr(), ":")
	w.until("the spare follows", func() bool {
		return s.admin.ReplicaOf(ctx, hostname, port).Err() == nil
	})
	w.until("the spare is in step", func() bool {
		return strings.Contains(s.admin.Info(ctx, "replication").Val(), "master_link_status:up")
	})
}

// promote makes the spare the Redis of the log, and the other one its spare.
func (w *world) promote(before func()) {
	ctx, s := context.Background(), w.other
	old, oldAdmin := w.log, w.logAdmin
	before()
	w.until("the spare is promoted", func() bool { return s.admin.ReplicaOf(ctx, "NO", "ONE").Err() == nil })
	for _, r := range w.replicas {
		r.state.Aim(s.server)
	}
	w.log, w.logAdmin = s.server, s.admin
	w.queue.Store(s.admin)
	if !w.o.apart {
		w.redis, w.admin = s.server, s.admin
	}
	s.server, s.admin = old, oldAdmin
}

func promotion(w *world, random *rand.Rand) int {
	w.settle()
	defer w.settle()
	held := w.other.links[w.log]
	w.promote(func() {
		held.Hold()
		w.purge(random, w.hot[random.IntN(len(w.hot))], longWait)
	})
	w.purge(random, w.hot[random.IntN(len(w.hot))], shortWait)
	pause(random, time.Second)
	held.Heal()
	w.follow(w.other)
	return 1
}

// scanFailover promotes the spare while a sweep has got halfway. Where the log has a Redis of its own, that one fails over beside the sweep.
func scanFailover(w *world, random *rand.Rand) int {
	w.settle()
	defer w.settle()
	defer w.fillers()()
	caught := make(chan struct{}, 64)
	over := make(chan struct{})
	defer close(over)
	for _, r := range w.replicas[:base] {
		for _, digits := range []string{"$2", "$3", "$4", "$5"} { // of a cursor that is not 0
			c := r.fault.Catch("scan\r\n"+digits, "cp:e:")
			defer c.Release()
			go func() {
				select {
				case <-c.Caught():
					caught <- struct{}{}
				case <-over:
				}
			}()
		}
	}
	if !within(5*time.Second, caught) {
		return 0
	}
	w.promote(func() {})
	w.follow(w.other)
	return 1
}

// fillers make a scan take more than one step, until they are taken away.
func (w *world) fillers() (away func()) {
	each := func(do func(pipe redis.Pipeliner, key string)) {
		pipe := w.admin.Pipeline()
		for i := range 3000 {
			do(pipe, fmt.Sprint("filler:", i))
		}
		_, _ = pipe.Exec(context.Background()) // some may be evicted at once
	}
	each(func(pipe redis.Pipeliner, key string) { pipe.Set(context.Background(), key, "", 0) })
	return func() { each(func(pipe redis.Pipeliner, key string) { pipe.Unlink(context.Background(), key) }) }
}

func flushAll(w *world, random *rand.Rand) int {
	w.settle()
	defer w.settle()
	which := random.IntN(3)
	if which != 0 || !w.o.apart {
		w.logAdmin.FlushAll(context.Background())
	}
	if which != 1 && w.o.apart {
		w.admin.FlushAll(context.Background())
	}
	pause(random, time.Second)
	return 1
}

// oldSnapshot restarts the Redis of the log from a snapshot that is younger than what is remembered. An older one brings back what nobody
// remembers to have been purged: that is a limit of the promise.
func oldSnapshot(w *world, random *rand.Rand) int {
	w.settle()
	defer w.settle()
	ctx := context.Background()
	dir := w.logAdmin.ConfigGet(ctx, "dir").Val()["dir"]
	file, kept := filepath.Join(dir, "dump.rdb"), filepath.Join(dir, "kept.rdb")
	began := time.Now()
	if w.logAdmin.Save(ctx).Err() != nil || copyFile(kept, file) != nil {
		return 0
	}
	pause(random, w.o.horizon/4)
	if time.Since(began) > w.o.horizon/2 {
		return 0
	}
	w.log.Kill()
	if err := copyFile(file, kept); err != nil {
		w.t.Error(err)
		return 0
	}
	w.log.Restart()
	w.follow(w.other)
	return 1
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}
