package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Feed shows requests as they end to whoever asks GET /v1/log, one JSON object a line (application/x-ndjson): the line that the
// access log has for such a request, whether log.access samples it or not.
//
// By default what ends from now on is sent until the client leaves, or limit lines were sent; with follow=false it is what was kept
// of before. filter.go has the parameters that choose. Three objects are no requests: {"dropped": N} stands in the place of N lines that
// came faster than they were read, {"ended": WHY} is the last line where the Feed ends before the client had enough.
//
// What it costs a request depends on what came of it. A hit that nobody listens to costs one atomic load (Wants). What is no hit
// costs an encoded line, small beside the fetch, and is kept for those who ask later (recent); hits are not kept, because that
// would cost each of them what a hit costs altogether. A request never waits for a listener: listener.offer drops instead.
//
// A Feed belongs to the process, not to a configuration, so that who listens goes on listening over a reload. A nil *Feed wants
// nothing. All methods may be called concurrently.
type Feed struct {
	listeners atomic.Pointer[[]*listener] // nil when there are none; the slice is never changed, but replaced
	recent    recent

	mu       sync.Mutex // held while listeners is replaced, and while ended is set
	ended    bool
	handlers sync.WaitGroup // those that follow
}

const (
	// maxListeners bounds what a line is offered to while a request waits.
	maxListeners = 16
	// patience is how long a listener may take to read what it is being sent before it is let go, so that those that are gone, or
	// stopped, do not keep others out.
	patience = 30 * time.Second
	// farewell is how long Close waits for the last lines to be read.
	farewell = time.Second
)

// Passed is a request that has ended, by what a filter looks at. The words are those of the access log.
type Passed struct {
	Hit      bool // answered from a stored response: Outcome is hit or hit-stale
	Outcome  string
	Detail   string // the reason, or "" for none
	Method   string
	URL      string // host and target, without a scheme; redacted as in the log, or else a filter would tell what is hidden
	Status   int
	Client   netip.Addr // invalid where there is none
	Tier     string
	Duration time.Duration
}

// NewFeed returns a Feed without listeners.
func NewFeed() *Feed { return &Feed{} }

// Wants reports whether Publish has a use for a request that was a hit, or was none.
func (f *Feed) Wants(hit bool) bool {
	return f != nil && (!hit || f.listeners.Load() != nil)
}

// Publish shows one request that has ended, a hit or none. What and encode are called at most once each, if somebody wants them: what is for those
// who choose, encode returns the line, without its end, that nobody changes afterwards.
func (f *Feed) Publish(hit bool, what func() *Passed, encode func() []byte) {
	var line []byte
	if !hit {
		line = encode()
		f.recent.add(line)
	}
	listeners := f.listeners.Load()
	if listeners == nil {
		return
	}
	p := what()
	for _, l := range *listeners {
		if !l.filter.match(p) {
			continue
		}
		if line == nil {
			line = encode()
		}
		l.offer(line)
	}
}

// Close ends what is being sent, after what has been published until now, and waits a moment for it to be read.
func (f *Feed) Close() {
	if f == nil {
		return
	}
	f.mu.Lock()
	f.ended = true
	if listeners := f.listeners.Load(); listeners != nil {
		for _, l := range *listeners {
			l.finish()
		}
	}
	f.mu.Unlock()
	done := make(chan struct{})
	go func() { f.handlers.Wait(); close(done) }() // ends with the last handler, at the latest after patience
	select {
	case <-done:
	case <-time.After(farewell):
	}
}

// ServeHTTP answers GET /v1/log.
func (f *Feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query, err := parseQuery(r)
	var q *question
	if err == nil {
		q, err = parseQuestion(query)
	}
	if err != nil {
		problem(http.StatusBadRequest, err.Error()).write(w)
		return
	}
	switch {
	case r.Method == http.MethodHead:
		w.Header().Set("Content-Type", ndjson)
	case q.follow:
		f.follow(w, r, q)
	default:
		f.showRecent(w, q)
	}
}

const ndjson = "application/x-ndjson"

// showRecent answers with the last lines kept that pass the filter, oldest first.
func (f *Feed) showRecent(w http.ResponseWriter, q *question) {
	var chosen [][]byte
	size := 0
	for _, line := range slices.Backward(f.recent.lines()) {
		if q.limit > 0 && len(chosen) == q.limit {
			break
		}
		if p, err := decodePassed(line); err == nil && q.filter.match(p) {
			chosen, size = append(chosen, line), size+len(line)+1
		}
	}
	slices.Reverse(chosen)
	w.Header().Set("Content-Type", ndjson)
	w.Write(appendLines(make([]byte, 0, size), chosen)) // a client that left is nobody to tell
}

// follow sends what is published from now on.
func (f *Feed) follow(w http.ResponseWriter, r *http.Request, q *question) {
	l := newListener(q.filter)
	if p := f.enter(l); p != nil {
		p.write(w)
		return
	}
	defer f.leave(l)
	w.Header().Set("Content-Type", ndjson)
	to := http.NewResponseController(w)
	_ = to.SetReadDeadline(time.Time{}) // the server's bound on reading a request would end it: net/http reads on, to see the client leave
	if to.Flush() != nil {
		return
	}
	for left := q.limit; ; {
		select {
		case <-r.Context().Done():
			return
		case <-l.news:
		}
		lines, dropped, ended := l.take()
		enough := q.limit > 0 && len(lines) >= left
		if enough {
			lines, dropped = lines[:left], 0
		}
		left -= len(lines)
		if sendLines(w, to, lines, dropped, ended && !enough) != nil || ended || enough {
			return
		}
	}
}

// sendLines writes a batch so that the client has it.
func sendLines(w http.ResponseWriter, to *http.ResponseController, lines [][]byte, dropped int, ended bool) error {
	batch := appendLines(nil, lines)
	if dropped > 0 {
		batch = fmt.Appendf(batch, "{\"dropped\":%d}\n", dropped)
	}
	if ended {
		batch = append(batch, `{"ended":"the process is ending"}`+"\n"...)
	}
	_ = to.SetWriteDeadline(time.Now().Add(patience)) // this and the next fail where there is no connection, whose fault would be told by Write
	defer func() { _ = to.SetWriteDeadline(time.Time{}) }()
	if _, err := w.Write(batch); err != nil {
		return err
	}
	return to.Flush()
}

func appendLines(to []byte, lines [][]byte) []byte {
	for _, line := range lines {
		to = append(append(to, line...), '\n')
	}
	return to
}

// enter makes l a listener, or says why not.
func (f *Feed) enter(l *listener) *problemDetails {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return problem(http.StatusServiceUnavailable, "the process is ending")
	}
	var all []*listener
	if before := f.listeners.Load(); before != nil {
		all = *before
	}
	if len(all) == maxListeners {
		return problem(http.StatusServiceUnavailable, fmt.Sprintf("%d are following the log already", maxListeners))
	}
	all = append(slices.Clone(all), l)
	f.listeners.Store(&all)
	f.handlers.Add(1)
	return nil
}

func (f *Feed) leave(l *listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.handlers.Done() // when it is no listener any more
	others := slices.DeleteFunc(slices.Clone(*f.listeners.Load()), func(other *listener) bool { return other == l })
	if len(others) == 0 {
		f.listeners.Store(nil)
		return
	}
	f.listeners.Store(&others)
}

// decodePassed reads back what a filter looks at from a line.
func decodePassed(line []byte) (*Passed, error) {
	var l struct {
		Outcome, Detail, Method, Host, Target, Tier string
		Status                                      int
		Client                                      netip.Addr
		MS                                          float64
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return nil, err
	}
	return &Passed{
		Outcome: l.Outcome, Detail: l.Detail, Method: l.Method, URL: l.Host + l.Target, Status: l.Status, Client: l.Client, Tier: l.Tier,
		Duration: time.Duration(l.MS * float64(time.Millisecond)),
	}, nil
}
