//go:build consistency

package consistency

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cacheproxy/redistest"
)

// A schedule is one order of events, mostly in the hands of the fault proxies and of the origin's gates. It returns what was served that a
// receipt forbids; "" = nothing. Times are waited for only where the protocol itself waits; should a machine be too slow for one, nothing is
// seen that is not there.
type schedule struct {
	name    string
	what    string // in a line
	options stageOptions
	run     func(x *stage) (violation string)
}

var schedules = []schedule{
	{"late save", "a save reaches Redis after the purge and both sweeps", stageOptions{horizon: 8 * time.Second, patient: true}, lateSave},
	{"late save, slow tail", "the same, and the saver hears of the purge late", stageOptions{horizon: 8 * time.Second, patient: true}, lateSaveSlowTail},
	{"late save, crash", "the same, and the saver dies before it has checked", stageOptions{horizon: 8 * time.Second, patient: true}, lateSaveCrash},
	{"very late save", "a save reaches Redis when the purge is forgotten", stageOptions{}, veryLateSave},
	{"very slow fetch", "a fetch ends when the purge is forgotten", stageOptions{}, verySlowFetch},
	{"joined fetch", "a request after a purge by tag finds the fetch of one before it", stageOptions{}, joinedFetch},
	{"late 304", "a purge comes while a 304 to a constant ETag is on its way", stageOptions{}, late304},
	{"validated again", "what was validated after a soft purge is fresh again", stageOptions{}, validatedAgain},
	{"joining the fleet", "a purge comes while a replica joins, whose tail is slow", stageOptions{patient: true}, joiningFleet},
	{"joining late", "a replica joins when the purge is the log's oldest record and is not swept yet", stageOptions{}, joiningLate},
	{"joining again", "the answer to a registration is lost, in a new epoch that the purge began", stageOptions{}, joiningAgain},
	{"deaf", "a strict replica hears nothing of Redis any more", stageOptions{strict: true}, deaf},
	{"stopped", "a strict replica is stopped; requests wait in its socket when it goes on", stageOptions{strict: true}, stopped},
	{"deaf, saving", "a strict replica hears nothing while its save is under way", stageOptions{strict: true, patient: true}, deafSaving},
	{"deaf, fetching", "a strict replica hears nothing while a fetch is under way, which another request would join", stageOptions{strict: true}, deafFetching},
	{"beats lost", "Redis goes back to before a strict replica's last heartbeats, which it does not know", stageOptions{strict: true, horizon: 8 * time.Second}, beatsLost},
	{"unknown", "a replica is cut off when Redis forgets everything, and another one is started that does not know of it", stageOptions{}, unknown},
	{"cut off, validating", "a replica that hears nothing of the log validates what it holds, and saves it", stageOptions{apart: true}, cutOffValidating},
	{"late tail, validating", "a replica whose reading of the log gets no answers validates what it holds, and saves it", stageOptions{}, lateTailValidating},
}

const page = "/plain/1"

// warm has every script be known to Redis: a replica sends the source of one that is not.
func (x *stage) warm() {
	x.t.Helper()
	for _, r := range x.replicas {
		x.stored(r, "/plain/warm-"+r.name)
	}
	x.purge(x.replicas[0], 200, urlOf("/plain/other"))
}

// purgeTwice purges a page and then another one, so that the first record is not the last, and notes of the page's sweep that it was done twice when it
// was done once: the second, which would cover what these schedules are about, is skipped. Where it was another's who is cut off, it may be the
// second already by which it is swept.
func (x *stage) purgeTwice(r *replica, status int, path string) receipt {
	x.t.Helper()
	got := x.purge(r, status, urlOf(path))
	x.purge(r, status, urlOf("/plain/other"))
	seq := strconv.FormatUint(got.Sequence, 10)
	once := false
	x.until("swept", func() bool {
		note := x.logAdmin.HGet(x.t.Context(), "cp:{inv}:swept", seq).Val()
		once = strings.Contains(note, `"passes":1`) && !strings.Contains(note, `"running":true`)
		return once || strings.Contains(note, `"passes":2`) || !x.inLog(got)
	})
	if once {
		x.logAdmin.HSet(x.t.Context(), "cp:{inv}:swept", seq, fmt.Sprintf(`{"passes":2,"at":%d}`, time.Now().UnixMicro()))
	}
	return got
}

// lateSaveOf has r save a page, purges it meanwhile, and lets the save through when both sweeps are over.
func (x *stage) lateSaveOf(r *replica, status int, before func()) (purged receipt, version int64) {
	x.t.Helper()
	save := r.fault.Catch(sha(x.t, "store/save.lua"), page)
	x.get(r, page)
	<-save.Caught()
	version = x.raise(page)
	purged = x.purgeTwice(x.replicas[1], status, page)
	before()
	save.Release()
	return purged, version
}

// watchTo watches until the purge is forgotten.
func (x *stage) watchTo(r *replica, purged receipt, version int64) string {
	x.t.Helper()
	violation := x.watch(r, page, version, func() bool { return !x.inLog(purged) })
	if violation != "" {
		return violation
	}
	return x.watch(r, page, version, after(4*(time.Second+x.o.horizon/8)))
}

func lateSave(x *stage) string {
	x.warm()
	purged, version := x.lateSaveOf(x.replicas[0], 200, func() {})
	return x.watchTo(x.replicas[1], purged, version)
}

func lateSaveSlowTail(x *stage) string {
	x.warm()
	r := x.replicas[0]
	tail := r.fault.CatchAnswers("xread")
	<-tail.Caught()
	purged, version := x.lateSaveOf(r, 202, func() {})
	violation := x.watchTo(x.replicas[1], purged, version)
	tail.Release()
	return violation
}

func lateSaveCrash(x *stage) string {
	x.warm()
	r := x.replicas[0]
	var check *redistest.Catch
	purged, version := x.lateSaveOf(r, 200, func() { check = r.fault.Catch("xrevrange") })
	<-check.Caught()
	r.kill()
	return x.watchTo(x.replicas[1], purged, version)
}

func veryLateSave(x *stage) string {
	x.warm()
	r := x.replicas[0]
	save := r.fault.Catch(sha(x.t, "store/save.lua"), page)
	x.get(r, page)
	<-save.Caught()
	version := x.raise(page)
	purged := x.purgeTwice(x.replicas[1], 200, page)
	x.over(purged)
	save.Release()
	return x.watch(x.replicas[1], page, version, after(2*time.Second))
}

func verySlowFetch(x *stage) string {
	r := x.replicas[0]
	gate := x.origin.hold(page)
	first := x.ask(r, page)
	<-gate.arrived
	version := x.raise(page)
	purged := x.purgeTwice(x.replicas[1], 200, page)
	x.over(purged)
	gate.letGo()
	<-first
	for _, r := range x.replicas {
		if violation := x.watch(r, page, version, after(time.Second)); violation != "" {
			return violation
		}
	}
	return ""
}

func joinedFetch(x *stage) string {
	const page = "/tagged/1"
	r := x.replicas[0]
	gate := x.origin.hold(page)
	first := x.ask(r, page)
	<-gate.arrived
	version := x.raise(page)
	x.purge(x.replicas[1], 200, map[string]any{"tags": []string{"page-tagged-1"}})
	second := x.ask(r, page)
	x.until("the second waits for the first", func() bool { return x.waiters(r) > 0 })
	gate.letGo()
	<-first
	s := <-second
	return x.older(r, &s, version)
}

func late304(x *stage) string {
	const page = "/constant/1"
	r := x.replicas[0]
	x.stored(r, page)
	x.purge(x.replicas[1], 200, map[string]any{"url": pageURL(page), "soft": true})
	gate := x.origin.hold(page)
	first := x.ask(r, page)
	<-gate.arrived
	version := x.raise(page)
	x.purge(x.replicas[1], 200, urlOf(page))
	gate.letGo()
	<-first
	for _, r := range x.replicas {
		s := x.get(r, page)
		if violation := x.older(r, &s, version); violation != "" {
			return violation
		}
	}
	return ""
}

func validatedAgain(x *stage) string {
	const page = "/constant/1"
	r := x.replicas[0]
	x.stored(r, page)
	x.get(x.replicas[1], page)
	version := x.raise(page)
	x.purge(x.replicas[1], 200, map[string]any{"url": pageURL(page), "soft": true})
	for _, r := range x.replicas {
		if s := x.get(r, page); s.status == http.StatusOK && s.valid < version {
			return fmt.Sprintf("%s answers %s, although validity as of %d was promised", r.name, &s, version)
		}
	}
	asked := x.origin.asked.Load()
	s := x.get(r, page)
	if x.origin.asked.Load() != asked {
		return fmt.Sprintf("what was validated is validated again: %s", &s)
	}
	return ""
}
