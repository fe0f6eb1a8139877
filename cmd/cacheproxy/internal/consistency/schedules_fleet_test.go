//go:build consistency

package consistency

import (
	"syscall"
	"time"

	"cacheproxy/redistest"
)

// An attempt to join ends when Redis does not answer for a second, and all begins anew. What is to happen must happen within one attempt, so there
// are some processes that try.
func joiningFleet(x *stage) (violation string) {
	for range 3 {
		if violation = x.joinDuringPurge(); violation != "" {
			return violation
		}
	}
	return ""
}

func (x *stage) joinDuringPurge() string {
	heartbeat := sha(x.t, "invalidation/heartbeat.lua")
	j := x.add()
	beat := j.fault.Catch(heartbeat)
	j.start()
	attempts := beat.Count()
	x.until("a new attempt", func() bool { return beat.Count() > attempts })
	tail := j.fault.CatchAnswers("xread")
	x.get(j, page)
	version := x.raise(page)
	x.purge(x.replicas[1], 200, urlOf(page))
	beat.Release()
	joined := func() bool {
		id, _ := j.follows()
		return id != ""
	}
	for end := after(2 * time.Second); !end() && !joined(); {
		time.Sleep(5 * time.Millisecond)
	}
	if !joined() {
		tail.Release()
		j.followed()
	}
	s := x.get(j, page)
	tail.Release()
	j.leave()
	return x.older(j, &s, version)
}

func joiningLate(x *stage) string {
	x.stored(x.replicas[0], page)
	for _, r := range x.replicas {
		defer r.fault.CatchAnswers("blmove").Release()
	}
	first := x.admin.XRange(x.t.Context(), "cp:{inv}:log", "-", "+").Val()[0]
	time.Sleep(x.o.horizon)
	version := x.raise(page)
	purged := x.purge(x.replicas[1], 200, urlOf(page))
	x.until("the purge is the oldest record", func() bool { return len(x.admin.XRange(x.t.Context(), "cp:{inv}:log", first.ID, first.ID).Val()) == 0 })
	if !x.inLog(purged) {
		return ""
	}
	j := x.add()
	defer j.fault.CatchAnswers("blmove").Release()
	j.start()
	j.followed()
	return x.watch(j, page, version, after(500*time.Millisecond))
}

func joiningAgain(x *stage) string {
	heartbeat := sha(x.t, "invalidation/heartbeat.lua")
	r, a := x.replicas[0], x.replicas[1]
	x.stored(r, page)
	x.get(r, page)
	beat := r.fault.CatchAnswers(heartbeat)
	defer beat.Release()
	version := x.raise(page)
	x.admin.FlushAll(x.t.Context())
	got, err := post(x.t.Context(), a, 3*time.Second, urlOf(page))
	if err != nil {
		x.t.Fatal(err)
	}
	if !has(got.Applied, r) {
		return "" // nothing was promised of it
	}
	return x.watch(r, page, version, after(100*time.Millisecond))
}

// fenced purges a page while a strict replica cannot apply that.
func (x *stage) fenced(r *replica, path string) (version int64) {
	x.t.Helper()
	version = x.raise(path)
	if got := x.purge(x.replicas[1], 200, urlOf(path)); !has(got.Fenced, r) {
		x.t.Fatalf("%s is not fenced: %+v", r.name, got)
	}
	return version
}

func deaf(x *stage) string {
	r := x.replicas[0]
	x.stored(r, page)
	x.get(r, page)
	r.fault.Deafen()
	version := x.fenced(r, page)
	violation := x.watch(r, page, version, after(time.Second))
	r.fault.Heal()
	return violation
}

func stopped(x *stage) string {
	r := x.replicas[0]
	x.stored(r, page)
	x.get(r, page)
	r.stop()
	version := x.fenced(r, page)
	var asked []<-chan seen
	for range 20 {
		asked = append(asked, x.ask(r, page))
	}
	r.signal(syscall.SIGCONT)
	for _, one := range asked {
		s := <-one
		if violation := x.older(r, &s, version); violation != "" {
			return violation
		}
	}
	return ""
}

func deafSaving(x *stage) string {
	x.warm()
	r := x.replicas[0]
	save := r.fault.Catch(sha(x.t, "store/save.lua"), page)
	x.get(r, page)
	<-save.Caught()
	r.fault.Deafen()
	version := x.fenced(r, page)
	violation := x.watch(r, page, version, after(500*time.Millisecond))
	r.fault.Heal()
	save.Release()
	return violation
}

func deafFetching(x *stage) string {
	r := x.replicas[0]
	gate := x.origin.hold(page)
	first := x.ask(r, page)
	<-gate.arrived
	r.fault.Deafen()
	version := x.fenced(r, page)
	second := x.ask(r, page)
	var s seen
	for answered, end := false, after(10*time.Second); !answered && !end() && x.waiters(r) == 0; {
		select {
		case s = <-second:
			answered = true
			second = nil
		case <-time.After(5 * time.Millisecond):
		}
	}
	gate.letGo()
	<-first
	if second != nil {
		s = <-second
	}
	r.fault.Heal()
	return x.older(r, &s, version)
}

// beatsLost restarts Redis from a snapshot that is older than a lease, cuts off a replica whose lease is not over, and purges at once.
func beatsLost(x *stage) string {
	r, a := x.replicas[0], x.replicas[1]
	x.stored(r, page)
	x.get(r, page)
	if err := x.admin.Save(x.t.Context()).Err(); err != nil {
		x.t.Fatal(err)
	}
	time.Sleep(2 * lease)
	x.redis.Kill()
	r.fault.Hold()
	x.redis.Restart()
	version := x.raise(page)
	for end := after(lease); !end(); {
		got, err := post(x.t.Context(), a, 0, urlOf(page))
		if err == nil && got.status == 200 {
			return x.watch(r, page, version, after(200*time.Millisecond))
		}
	}
	r.fault.Heal()
	return ""
}

// unknown has Redis forget everything when a replica is cut off, which serves on, and starts another one, which does not know that it exists.
func unknown(x *stage) string {
	r := x.replicas[0]
	x.stored(r, page)
	x.get(r, page)
	r.fault.Hold()
	x.admin.FlushAll(x.t.Context())
	version := x.raise(page)
	end := after(silence - 500*time.Millisecond)
	newcomer := x.add()
	newcomer.start()
	newcomer.followed()
	for !end() {
		got, err := post(x.t.Context(), newcomer, shortWait, urlOf(page))
		if err == nil && got.status == 200 {
			return x.watch(r, page, version, after(200*time.Millisecond))
		}
	}
	r.fault.Heal()
	return ""
}

// silence is for how long a replica may be cut off before others call it silent.
const silence = 3 * time.Second

// cutOffValidating: a page without tags, since nothing that has some is saved by who cannot reach the index, which lies beside the log.
func cutOffValidating(x *stage) string {
	return x.validateUnheard("/bare/1", (*redistest.Fault).Hold, (*redistest.Fault).Heal)
}

// lateTailValidating: one with tags, and it is the reading of the log alone that gets no answers.
func lateTailValidating(x *stage) string {
	var tail *redistest.Catch
	hold := func(f *redistest.Fault) {
		tail = f.CatchAnswers("xread")
		<-tail.Caught()
	}
	return x.validateUnheard("/constant/1", hold, func(*redistest.Fault) { tail.Release() })
}

// validateUnheard has a replica that holds a page be kept from hearing of its purge until that is forgotten, and then validate what it holds.
func (x *stage) validateUnheard(page string, keep, let func(*redistest.Fault)) string {
	r, a := x.replicas[0], x.replicas[1]
	x.stored(r, page)
	x.get(r, page)
	x.purge(a, 200, map[string]any{"url": pageURL(page), "soft": true})
	keep(r.state)
	defer let(r.state)
	version := x.raise(page)
	purged := x.purgeTwice(a, 202, page)
	if !has(purged.Applied, a) {
		x.t.Fatalf("%+v", purged)
	}
	x.over(purged)
	x.get(r, page) // validates what it still holds
	return x.watch(a, page, version, after(2*time.Second))
}
