package admin

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// What a profile may be of: those that are taken over a time, and those that are of the moment or of all since the start.
var (
	timedProfiles  = []string{"profile", "trace", "block", "mutex"}
	momentProfiles = []string{"allocs", "goroutine", "heap", "threadcreate"}
)

const (
	profileSeconds    = 10     // unless said otherwise
	maxProfileSeconds = 60     // nobody leaves a profiler on
	blockRate         = 10_000 // nanoseconds of waiting for each sample of the block profile: what is shorter is sampled in proportion
	mutexFraction     = 100    // one in so many waits for a mutex is sampled
)

// profiles answers with profiles of this process.
type profiles struct {
	taking sync.Mutex // one at a time: they change what the whole process does
}

// Profiles registers the routes by which this process is profiled, in the form that go tool pprof reads. They must be guarded: a profile says what
// the process is doing, and taking one costs it a few per cent.
//
//	GET /debug/pprof/           the names of the profiles, one a line
//	GET /debug/pprof/{name}     one of them
//
// profile (of processor time), trace, block and mutex are taken over ?seconds=10, 1 to 60, one at a time: 409 while another is. With seconds the
// others tell what has changed meanwhile. What the
// process waits for is recorded only while somebody asks.
func Profiles(mux *http.ServeMux) {
	p := new(profiles)
	mux.HandleFunc("GET /debug/pprof/{$}", p.list)
	mux.HandleFunc("GET /debug/pprof/{name}", p.one)
}

func (p *profiles) list(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, strings.Join(slices.Sorted(slices.Values(slices.Concat(timedProfiles, momentProfiles))), "\n"))
}

func (p *profiles) one(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	switch {
	case slices.Contains(momentProfiles, name) && r.URL.Query().Get("seconds") == "":
		pprof.Handler(name).ServeHTTP(w, r)
	case slices.Contains(timedProfiles, name) || slices.Contains(momentProfiles, name):
		p.timed(w, r, name)
	default:
		WriteProblem(w, http.StatusNotFound, fmt.Sprintf("there is no profile %.40q, only %s", name, strings.Join(slices.Concat(timedProfiles, momentProfiles), ", ")), nil)
	}
}

// timed takes a profile over a time.
func (p *profiles) timed(w http.ResponseWriter, r *http.Request, name string) {
	q := r.URL.Query()
	seconds := profileSeconds
	if text := q.Get("seconds"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxProfileSeconds {
			WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("seconds is %.40q: write a number from 1 to %d", text, maxProfileSeconds), nil)
			return
		}
		seconds = n
	}
	if !p.taking.TryLock() {
		WriteProblem(w, http.StatusConflict, "a profile is being taken: one at a time", nil)
		return
	}
	defer p.taking.Unlock()
	q.Set("seconds", strconv.Itoa(seconds))
	r = r.Clone(r.Context())
	r.URL.RawQuery = q.Encode()
	switch name {
	case "profile":
		pprof.Profile(w, r)
	case "trace":
		pprof.Trace(w, r)
	case "block":
		runtime.SetBlockProfileRate(blockRate)
		defer runtime.SetBlockProfileRate(0)
		pprof.Handler(name).ServeHTTP(w, r)
	case "mutex":
		runtime.SetMutexProfileFraction(mutexFraction)
		defer runtime.SetMutexProfileFraction(0)
		pprof.Handler(name).ServeHTTP(w, r)
	default: // what was allocated meanwhile, say
		pprof.Handler(name).ServeHTTP(w, r)
	}
}
