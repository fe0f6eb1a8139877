package store

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cacheproxy/internal/breaker"
	"cacheproxy/invalidation"
	"cacheproxy/policy"
)

// What is told to Redis - saves and forgets - goes through lanes: queues with one worker each. A URL always takes the same
// lane, so its saves and forgets happen in the order in which they were asked for. The queues are bounded by the bytes that
// wait in them.
//
// A save that cannot be made is given up: it costs a fetch, later. A forget is not: as long as Redis does not answer, or takes
// no writes, it is tried again, and meanwhile lookups treat the URL as absent. A save that was queued before a forget of its URL is not
// made: the worker looks at its stamp again (forgets.go).
//
// Until a save has ended, its entry is found here, whether near memory has taken it or not. So a fetch is never in a place
// where nobody finds it, and what Redis still has is not returned in place of what replaces it.

// How the Redis half of a save ended, as cacheproxy_saves_total has it.
const (
	savedOK          = "ok"
	savedNearOnly    = "near-only"    // no Redis, or too large for it
	savedDroppedFull = "dropped-full" // too much was waiting
	savedUnchecked   = "unchecked"    // written, and left to expire soon: whether a purge forbids it could not be found out
	savedDroppedSlow = "dropped-slow" // waited longer than Options.SaveWait
	savedRefused     = "refused"      // Redis holds something newer, or the URL was forgotten since the fetch
	savedUnindexed   = "unindexed"    // its tags were not entered into the index: not written, or left to expire soon
	savedError       = "error"        // Redis failed, or is not being asked because it does
)

// maxForgets bounds the forgets that wait in one lane.
const maxForgets = 1 << 16

// taskOverhead is what a task takes in its queue, and its entry's place among those to be found there, in bytes.
const taskOverhead = 256

type taskKind uint8

const (
	taskSave taskKind = iota
	taskChunk
	taskForget
	taskForgetEntry
	taskFlush
)

// A task is one thing to be told.
type task struct {
	kind    taskKind
	url     string
	entry   *Entry       // save; a forget may wait for too long to keep its entry in memory
	stamp   Stamp        // save
	upload  *Upload      // chunk, and save of an entry whose body was uploaded
	buffer  *chunkBuffer // chunk: holds it
	chunk   []byte       // chunk
	number  int          // chunk
	queued  time.Time
	variant string        // forgetEntry
	fill    uint64        // forgetEntry
	done    chan struct{} // flush: closed when its turn has come
}

// size is what a task weighs against Options.SaveBytes.
func (t *task) size() int64 {
	switch t.kind {
	case taskSave:
		return t.entry.Size() + taskOverhead
	case taskChunk:
		return chunkLen + taskOverhead
	default:
		return 0
	}
}

// saver owns the lanes and their workers.
type saver struct {
	far        *far
	forgets    *forgets
	follower   *invalidation.Follower // nil = nothing is ever purged
	lanes      []*lane
	variantCap int
	maxBytes   int64
	maxWait    time.Duration
	timeout    time.Duration

	bytes      atomic.Int64              // waiting or under way
	waiting    atomic.Int64              // uploads that wait for some of them to be free
	freed      chan struct{}             // holds something when some may be
	forgetsNow atomic.Int64              // forgets waiting or under way, in all lanes
	pause      atomic.Pointer[savePause] // nil until Redis has refused to write
	pauseTime  time.Duration

	kill    context.Context // ends what is under way
	killAll context.CancelFunc
	workers sync.WaitGroup
}

func newSaver(r *far, o *Options, n *near) *saver {
	s := &saver{
		far: r, forgets: n.forgets, follower: o.Follower, variantCap: o.VariantCap, maxBytes: o.SaveBytes, maxWait: o.SaveWait, pauseTime: savePauseTime,
		// Nobody waits for a save, so it may take longer than a lookup; but not so long that slowness goes unnoticed.
		timeout: max(4*o.Timeout, 200*time.Millisecond),
	}
	s.freed = make(chan struct{}, 1)
	s.kill, s.killAll = context.WithCancel(context.Background())
	for range o.SaveWorkers {
		l := newLane(n)
		s.lanes = append(s.lanes, l)
		s.workers.Go(func() { s.work(l) })
	}
	return s
}

func (s *saver) lane(url string) *lane {
	return s.lanes[s.forgets.hash(url)%uint64(len(s.lanes))]
}

// find selects, of the entries whose saves wait or are under way, the one that answers the request; known is as of near.get.
func (s *saver) find(key policy.Key, h http.Header) (e *Entry, known bool) {
	if s.bytes.Load() == 0 {
		return nil, false
	}
	return s.lane(key.URL).find(key, h)
}

// forgetting reports whether a forget of url waits or is under way.
func (s *saver) forgetting(url string) bool {
	return s.forgetsNow.Load() > 0 && s.lane(url).forgetting(url)
}

// A savePause is a time in which nothing is saved, since Redis takes no writes: it is out of memory, say, or has become a replica.
type savePause struct {
	until time.Time
	why   policy.Reason // what SaveSince says meanwhile
}

// savePauseTime is how long one lasts, so how often Redis is asked whether it takes writes again.
const savePauseTime = time.Second

// paused returns why nothing is saved now; None = it is.
func (s *saver) paused(now time.Time) policy.Reason {
	if p := s.pause.Load(); p != nil && now.Before(p.until) {
		return p.why
	}
	return policy.None
}

// pauseFor begins a pause where the error says that any write would be refused now.
func (s *saver) pauseFor(err error) {
	f := breaker.Classify(err)
	if !f.Writes {
		return
	}
	why := policy.StoreUnavailable
	if f.Cause == "oom" {
		why = policy.StoreFull
	}
	s.pause.Store(&savePause{time.Now().Add(s.pauseTime), why})
}

// save queues e; u is the upload of its body, nil where e holds it or where it is in Redis already.
func (r *far) save(e *Entry, stamp Stamp, u *Upload) policy.Reason {
	s := r.saver
	t := task{kind: taskSave, url: e.URL(), entry: e, stamp: stamp, upload: u, queued: time.Now()}
	switch {
	case r.closed.Load(), !r.breaker.Allow():
		r.metrics.Save(savedError)
		return policy.StoreUnavailable
	case s.paused(t.queued) != policy.None:
		r.metrics.Save(savedError)
		return s.paused(t.queued)
	case !s.admit(&t):
		r.metrics.Save(savedDroppedFull)
		return policy.StoreFull
	}
	if !s.lane(t.url).push(t) {
		s.release(t.size())
		r.metrics.Save(savedError)
		return policy.StoreUnavailable
	}
	if n := e.Nomination(); n != "" && n != r.hints.get(t.url) {
		r.hints.set(t.url, n)
	}
	return policy.None
}

func (r *far) forget(url string) {
	r.tellForget(task{kind: taskForget, url: strings.Clone(url)}) // it may lie in an entry
}

func (r *far) forgetEntry(e *Entry) {
	r.tellForget(task{kind: taskForgetEntry, url: strings.Clone(e.URL()), variant: e.variant(), fill: e.Fill()})
}

func (r *far) tellForget(t task) {
	r.saver.forgetsNow.Add(1)
	if added, full := r.saver.lane(t.url).pushForget(t); !added {
		r.saver.forgetsNow.Add(-1)
		if full {
			r.metrics.RedisError("forget-dropped")
			r.log.say("too many forgets wait for redis; it may return what was forgotten", "url", r.shown(t.url))
		}
	}
}

// flush waits for all tasks queued before it.
func (r *far) flush(ctx context.Context) error {
	for _, l := range r.saver.lanes {
		done := make(chan struct{})
		if !l.push(task{kind: taskFlush, done: done}) {
			continue // closed, and so empty or about to be
		}
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// close lets the workers finish what waits, until ctx ends, and ends them.
func (r *far) close(ctx context.Context) error {
	r.closed.Store(true)
	for _, l := range r.saver.lanes {
		l.close()
	}
	finished := make(chan struct{})
	go func() {
		r.saver.workers.Wait()
		close(finished)
	}()
	var err error
	select {
	case <-finished:
	case <-ctx.Done():
		err = ctx.Err()
		r.saver.killAll()
		<-finished
	}
	r.saver.killAll()
	r.index.close()
	r.breaker.Close()
	return err
}

// work is a lane's worker.
func (s *saver) work(l *lane) {
	for {
		t, ok := l.next()
		if !ok {
			return
		}
		switch t.kind {
		case taskSave:
			result := s.runSave(l, &t)
			s.far.metrics.Save(result)
			if result == savedOK && t.entry.Chunked() {
				l.near.putIfAbsent(t.entry, t.stamp)
			}
			l.saved(t.entry)
			s.release(t.size())
		case taskChunk:
			s.runChunk(&t)
			s.release(t.size())
		case taskForget, taskForgetEntry:
			s.runForget(&t)
			l.forgot(t.url)
			s.forgetsNow.Add(-1)
		case taskFlush:
			close(t.done)
		}
	}
}

// runSave makes one save and says how it ended. What near memory would not take, since a later response is there, Redis does not get
// either: of two large bodies the one that was answered first may be uploaded last.
func (s *saver) runSave(l *lane, t *task) (result string) {
	ttl := t.entry.KeepUntil().Sub(s.far.now())
	switch {
	case s.forgets.since(t.url, t.stamp.moment), !l.near.permits(t.entry, t.stamp), ttl < time.Millisecond, l.near.overtaken(t.entry):
		return savedRefused
	case time.Since(t.queued) > s.maxWait:
		return savedDroppedSlow
	case !s.far.breaker.Allow(), s.kill.Err() != nil, s.paused(time.Now()) != policy.None:
		return savedError
	case t.upload != nil && t.upload.failed.Load() != nil:
		return *t.upload.failed.Load()
	}
	if t.entry.Chunked() {
		if all, err := s.keepChunks(t.entry, ttl); err != nil || !all {
			return savedError
		}
	}
	keys, variant := s.far.keys.of(t.url), t.entry.variant()
	if !s.enter(t, keys.entryKey(variant), ttl) {
		return savedUnindexed
	}
	value := packed(t.entry)
	var reply []string
	err := s.tell("save", func(ctx context.Context) (err error) {
		reply, err = saveScript.Run(ctx, s.far.client, []string{keys.entryKey(variant), keys.root},
			mutableHead(value), variant, fillHex(t.entry.Fill()), strconv.FormatInt(max(1, s.provisional(ttl).Milliseconds()), 10),
			strconv.FormatInt(t.entry.ResponseTime().UnixMicro(), 10), string(t.entry.Nomination()), s.variantCap, value[mutableEnd:], t.stamp.notAfter,
		).StringSlice()
		return err
	})
	switch {
	case err != nil:
		s.pauseFor(err)
		return savedError
	case len(reply) == 0:
		return savedError
	case reply[0] != "ok" || len(reply) == 1:
		return savedRefused
	}
	s.endReplaced(t.url, variant, reply[1])
	s.unlinkDropped(keys, reply[2:])
	if !s.enter(t, keys.entryKey(variant), ttl) {
		return savedUnindexed
	}
	return s.check(t, keys, variant, ttl)
}

// unlinkDropped removes the entries of variants that had to make room. Their root does not name them any more, so this only
// frees memory.
func (s *saver) unlinkDropped(keys resourceKeys, variants []string) {
	if len(variants) == 0 {
		return
	}
	dropped := make([]string, len(variants))
	for i, v := range variants {
		dropped[i] = keys.entryKey(v)
	}
	_ = s.tell("save", func(ctx context.Context) error { return s.far.client.Unlink(ctx, dropped...).Err() })
}

// runForget makes one forget. It returns when Redis has done it, or will not do it in any case, or when the saver is killed.
func (s *saver) runForget(t *task) {
	keys := s.far.keys.of(t.url)
	forget := func(ctx context.Context) error { return s.far.client.Unlink(ctx, keys.root).Err() }
	if t.kind == taskForgetEntry {
		forget = func(ctx context.Context) error {
			return forgetScript.Run(ctx, s.far.client, []string{keys.entryKey(t.variant), keys.root}, t.variant, fillHex(t.fill)).Err()
		}
	}
	for {
		select {
		case <-s.far.breaker.WhenClosed():
		case <-s.kill.Done():
			return
		}
		if err := s.tell("forget", forget); err == nil || !breaker.Classify(err).Passing {
			return
		}
		select { // the breaker may take some failures to open
		case <-time.After(s.far.timeout):
		case <-s.kill.Done():
			return
		}
	}
}

var errKilled = errors.New("store: closed")

// tell runs one operation with its deadline, and counts it.
func (s *saver) tell(op string, do func(context.Context) error) error {
	if s.kill.Err() != nil {
		return errKilled
	}
	ctx, cancel := context.WithTimeout(s.kill, s.timeout)
	defer cancel()
	start := time.Now()
	err := do(ctx)
	s.far.metrics.RedisSeconds(op, time.Since(start))
	s.far.settle(s.kill, op, err)
	return err
}
