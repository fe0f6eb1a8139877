package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// fill is one fetch for many askers. It has two halves. Until the head is there, its waiters know nothing but interim responses,
// which each of them gets. With the head the exchange has decided: a stored response or an error answers everybody; a
// response that may not be shared is handed to the journey that led, and the others go alone; one that may be shared is read
// into one buffer, from which everybody reads at their own pace.
//
// The body is pulled: whoever has read all there is reads on from upstream, one at a time, and what comes is for all. So a miss
// that nobody else waits for is fetched and stored in the goroutine of its own request, and the fastest reader sets the
// pace. When all have left, a goroutine of its own pulls what is worth keeping to its end.
//
// The upstream request belongs to no client. It goes on while somebody waits for it or while it is worth keeping.
type fill struct {
	t      *fills
	key    string
	id     string // names this very fill for singleflight
	x      exchange
	out    *http.Request
	trace  httptrace.ClientTrace // of out
	cancel context.CancelFunc
	leader *journey
	ready  chan struct{} // closed when the leader has made the request

	mu       sync.Mutex
	wake     chan struct{} // closed at the next change; nil when nobody waits for one
	interims []interim
	hinted   chan struct{} // closed when the leader's client has been sent all interims; nil when there were none
	waiters  int           // journeys attached
	dead     bool          // cannot be joined any more
	begun    bool          // the request is being sent
	decided  bool          // answer is valid
	answer   answer
	taken    bool // the leader has the answer's body
	left     bool // the leader has left

	buf      []byte // of the body, from offset base on
	base     int64
	pooled   *[smallBuffer]byte // buf's first memory, lent by smallBuffers
	size     int64              // bytes of the body so far
	held     int64              // reserved of the fills' memory
	windowed bool               // the body is too large to hold: only a window of it is
	upload   *store.Upload      // takes a windowed body; nil = nothing does. Whoever pulls has it
	unkept   bool               // an upload has been given up
	pulling  bool               // somebody is reading from upstream
	done     bool
	err      error         // how the body ended; nil = well
	head     http.Response // of a shared answer, as it came: net/http adds trailers to the other one when the body ends
	trailer  http.Header
	readers  []*reader
	late     *time.Timer   // ends a body that nobody waits for when it has taken too long; nil = not set yet
	moved    chan struct{} // closed when a reader of a windowed body has come, moved or left
	heldBack time.Duration // how long the slowest reader of a window has let the others wait since it was at heldFrom
	heldFrom int64
}

// errLeft ends a fill that nobody waits for.
var errLeft = errors.New("proxy: every client that waited for the response has left")

func newFill(t *fills, j *journey, key string) *fill {
	return &fill{
		t: t, key: key, id: strconv.FormatUint(t.ids.Add(1), 36), x: j.exchange(), leader: j, waiters: 1,
		cancel: func() {}, ready: make(chan struct{}),
	}
}

// attach counts the journey in, unless the fill cannot be joined: it has ended, its body is no longer whole in memory, its
// URL was forgotten since its lookup, or it is known by now that the response is not for this request.
func (f *fill) attach(j *journey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead || f.windowed || f.err != nil || !j.h.opt.Store.Current(f.x.key.URL, f.x.stamp) {
		return false
	}
	if f.decided && !(f.answer.shared && f.answer.plan.answers(j)) {
		return false
	}
	f.waiters++
	j.h.opt.Metrics.FillWaiters(1)
	return true
}

// leave counts a journey out; a leader may be counted out twice. When nobody is left, the fetch ends, unless it is worth keeping.
func (f *fill) leave(j *journey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.countOut(j)
}

// countOut is leave with the lock held.
func (f *fill) countOut(j *journey) {
	if j == f.leader {
		if f.left {
			return
		}
		f.left = true
		f.closeOrphan()
	} else {
		j.h.opt.Metrics.FillWaiters(-1)
	}
	f.waiters--
	f.progress()
	f.abandon()
}

// handOver is called by a reader whose client has left while it pulled: others may have left since, and relied on it.
func (f *fill) handOver() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.abandon()
}

// abandon decides what becomes of a fill that nobody waits for. Called with the lock held.
func (f *fill) abandon() {
	if f.waiters > 0 {
		return
	}
	switch {
	case f.done:
		if f.dead { // else finish frees it, once the store holds the response
			f.free()
		}
	case !f.decided:
		f.dead = true
		f.cancel()
	case f.windowed:
		f.dead = true
		f.cancel()
		if !f.pulling {
			f.goOnWithoutReaders() // to the end, which is near
		}
	case f.answer.shared:
		f.endInTime()
		if !f.pulling {
			f.goOnWithoutReaders()
		}
	}
}

// goOnWithoutReaders reads the rest of a body that is worth keeping. Called with the lock held.
func (f *fill) goOnWithoutReaders() {
	f.t.under.Add(1)
	go func() {
		defer f.t.under.Done()
		for f.claim() {
			f.pull()
		}
	}()
}

// endInTime sees to it that a body which nobody waits for is not read for longer than it may take to be stored. Called with the lock
// held.
func (f *fill) endInTime() {
	left := f.answer.plan.timeLeft()
	if f.late == nil {
		f.late = time.AfterFunc(left, f.endOrphan)
	} else {
		f.late.Reset(left)
	}
}

// endOrphan ends a fetch that nobody waits for and that cannot be stored any more.
func (f *fill) endOrphan() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiters == 0 && !f.done {
		f.dead = true
		f.cancel()
	}
}

// claim takes the right to pull for the goroutine that no reader has, and reports false when there is nothing left to pull or
// readers have come who will.
func (f *fill) claim() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done || f.pulling || f.waiters > 0 {
		return false
	}
	f.pulling = true
	return true
}

// closeOrphan ends a response that is for the leader alone when the leader has left. Called with the lock held.
func (f *fill) closeOrphan() {
	if f.left && f.decided && !f.taken && !f.answer.shared && f.answer.res != nil {
		f.taken = true
		_ = f.answer.res.Body.Close()
		f.cancel()
	}
}

// end cancels the fetch.
func (f *fill) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancel()
}

// lead sends the request in this very goroutine and returns with the head. The client may leave meanwhile; then the journey is
// counted out at once, which ends the request if nobody else waits.
func (f *fill) lead(j *journey, out *http.Request) (answer, error) {
	ctx := out.Context()
	f.prepare(out)
	stop := context.AfterFunc(ctx, func() { f.leave(j) })
	_, _, _ = f.t.flight.Do(f.id, f.fetch)
	if !stop() {
		return answer{}, context.Cause(ctx)
	}
	f.mu.Lock()
	a, hinted := f.answer, f.hinted
	f.mu.Unlock()
	if hinted != nil {
		<-hinted // interim responses go before the head
	}
	return a, nil
}

// await waits for the head, and passes on interim responses. Should it come before the leader has begun, singleflight lets it
// send the leader's request itself.
func (f *fill) await(ctx context.Context) (answer, error) {
	_ = f.t.flight.DoChan(f.id, f.fetch) // its result is not needed: the head is announced by a change
	return f.follow(ctx)
}

// follow passes on the interim responses, and returns with the head.
func (f *fill) follow(ctx context.Context) (answer, error) {
	seen := 0
	for {
		f.mu.Lock()
		news, decided, a := f.interims[seen:], f.decided, f.answer
		wake := f.changes()
		f.mu.Unlock()
		for _, n := range news {
			n.passOn(ctx)
		}
		seen += len(news)
		if decided {
			return a, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return answer{}, context.Cause(ctx)
		}
	}
}

// changes returns the channel that is closed at the next change. Called with the lock held.
func (f *fill) changes() chan struct{} {
	if f.wake == nil {
		f.wake = make(chan struct{})
	}
	return f.wake
}

// changed wakes everybody who waits for a change. Called with the lock held.
func (f *fill) changed() {
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}

// prepare makes the shared request out of the leader's: detached from its client, with our question instead of its own.
func (f *fill) prepare(out *http.Request) {
	ctx, cancel := context.WithCancel(f.t.h.stop)
	f.trace.Got1xxResponse = func(status int, header textproto.MIMEHeader) error {
		f.hint(interim{status, http.Header(header).Clone()}, out.Context())
		return nil
	}
	f.mu.Lock()
	f.cancel = cancel
	f.mu.Unlock()
	f.out = out.WithContext(httptrace.WithClientTrace(ctx, &f.trace)) // the leader has no further use for its fields
	f.x.askForAll(f.out.Header)
	close(f.ready)
}

// fetch sends the request and publishes what was decided at the head. It never panics: under DoChan that would end the process.
func (f *fill) fetch() (any, error) {
	<-f.ready
	f.mu.Lock()
	late := f.begun // whose flight begins after the first one's end
	f.begun = true
	f.mu.Unlock()
	if late {
		return nil, nil
	}
	defer f.t.under.Done()
	f.decide(f.exchange())
	return nil, nil
}

func (f *fill) exchange() (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = answer{err: f.t.h.panicked("a round trip", p)}
		}
	}()
	return f.x.do(f.out)
}

// panicked logs a panic and makes an error of it.
func (h *Handler) panicked(what string, p any) error { return panicked(h.opt.Log, what, p) }

func panicked(log *slog.Logger, what string, p any) error {
	log.Error(what+" panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	return fmt.Errorf("proxy: %s panicked: %v", what, p)
}

// decide publishes the answer.
func (f *fill) decide(a answer) {
	h := f.t.h
	if a.shared && !f.allot(a) {
		f.x.refused(policy.StoreFull)
		a.shared, a.plan, a.reason = false, nil, policy.StoreFull
	}
	if a.res != nil && !a.shared && a.reason != policy.StoreFull && a.res.StatusCode < 500 {
		h.alone.add(f.leader.shareKey(), h.opt.Collapse.NotShareable)
	}
	f.mu.Lock()
	f.answer, f.decided = a, true
	f.windowed = f.upload != nil
	if a.shared {
		f.head = *a.res
		f.head.Trailer = trailerKeys(a.res.Trailer)
	}
	if !a.shared {
		f.dead = true
		f.closeOrphan()
	} else {
		f.abandon()
	}
	f.changed()
	gone := !a.shared || f.windowed
	f.mu.Unlock()
	if gone {
		f.t.remove(f)
	}
	if a.res == nil {
		f.cancel()
	}
}

// take gives the leader the body of a response that is not shared, and makes the request end with the leader's client. It reports
// false when the body is not to be had.
func (f *fill) take(client context.Context) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.taken || f.answer.res == nil {
		return false
	}
	f.taken = true
	stop := context.AfterFunc(client, f.cancel)
	f.answer.res.Body = &owned{f.answer.res.Body, func() { stop(); f.cancel() }}
	return true
}
