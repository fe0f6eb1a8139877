package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/metrics"
)

// Doubts are the URLs and cache groups that unsafe requests have made doubtful, and that are to be entered in the log: for all of a process.
//
// However many requests come, and however long their URLs are, the log grows slowly: what waits goes into the next records together, up to
// invalidation.MaxURLs in each, and these are begun pace after those before at the soonest, and no sooner than those were written at speed. So a
// URL that comes alone is entered at once, and of many each waits some milliseconds. Whatever is asked for while an equal one waits is entered
// with it. One that is under way does not serve it: that may have its place in the log already, and then a fetch that began behind it, but
// before the change that the request has made, would be stored.
//
// What the log does not take is tried again until it does, also when the request is long over: the others serve what they hold as long as they
// do not hear of it. When more wait than there is room for, the origin of which most wait is purged as a whole in their place, and everything
// where the origins are too many (doubtsfull.go). So nothing is lost, but for what waits when the process ends.
//
// Doubts are safe for concurrent use and must be closed.
type Doubts struct {
	opt DoubtsOptions

	mu      sync.Mutex
	idle    sync.Cond // something has ended
	waiting map[doubt]*turn
	urls    []*turn        // of them, in the order in which they came
	others  []*turn        // groups, and what is purged as a whole
	size    int            // bytes of all that wait
	origins map[string]int // how many URLs and groups of an origin wait

	underWay int           // records
	after    time.Time     // which the next round of records may begin
	pause    time.Duration // since the log has not taken a record; 0 = it has taken the last one
	retry    time.Time     // when the pause is over
	timer    *time.Timer   // of the next round, where it waits for its time
	due      time.Time     // which that is
	flip     bool          // others have their turn
	ending   bool
	work     sync.WaitGroup // records under way
}

// DoubtsOptions are what Doubts need. Purge is required.
type DoubtsOptions struct {
	// Purge is as Options.Purge.
	Purge func(ctx context.Context, p invalidation.Purge) (*invalidation.Receipt, error)
	// Wait bounds the waiting for replicas; default 50 ms.
	Wait    time.Duration
	Metrics *metrics.Metrics // nil: nothing is counted
	Log     *slog.Logger     // nil: slog.Default()
}

const (
	// pace is between the begins of two rounds of records at least. 200 of them a second can be remembered for minutes; a request that finds one
	// begun is held back by so much, unless there is much.
	pace = 5 * time.Millisecond
	// speed is how many bytes of URLs and groups a second are entered, in the long run. Every replica remembers all of them, and the log does, for
	// the horizon: so what anybody can make them remember by requests to one replica is about 45 MiB of text where the horizon is 90 s. It is some
	// thousands of URLs a second.
	speed = 512 << 10
	// maxUnderWay bounds the records that are being entered: where a replica is slow each takes DoubtsOptions.Wait, and the next ones must not
	// wait for that.
	maxUnderWay = 16
	// How long nothing is tried when the log has not taken a record: so soon it hears of what waits when it is back.
	firstPause, lastPause = 100 * time.Millisecond, time.Second
)

// doubt is what may be doubtful: a URL, a group of an origin, an origin, or everything (the zero value).
type doubt struct{ origin, url, group string }

func (d *doubt) isWhole() bool { return d.url == "" && d.group == "" }

func (d *doubt) source() string {
	if d.group != "" {
		return fromGroup
	}
	return fromUnsafe
}

func (d *doubt) size() int { return len(d.origin) + len(d.url) + len(d.group) }

// turn is one doubt that waits, or is under way.
type turn struct {
	doubt
	who      string
	done     chan struct{}    // closed when it was tried for the first time
	seq      invalidation.Seq // of its record; 0 = none is known. Valid when done
	absorbed []*turn          // which this one is in place of
}

// NewDoubts makes a Doubts in which nothing waits.
func NewDoubts(o DoubtsOptions) *Doubts {
	setDefault(&o.Wait, 50*time.Millisecond)
	setDefault(&o.Log, slog.Default())
	d := &Doubts{opt: o, waiting: make(map[doubt]*turn), origins: make(map[string]int)}
	d.idle.L = &d.mu
	return d
}

// enter has these entered in the log, and returns their turns.
func (d *Doubts) enter(who string, list []doubt) []*turn {
	d.mu.Lock()
	defer d.mu.Unlock()
	turns := make([]*turn, len(list))
	for i, x := range list {
		turns[i] = d.put(x, who)
	}
	d.next()
	return turns
}

// put has one wait, unless something waits already that does for it. Called with the lock held.
func (d *Doubts) put(x doubt, who string) *turn {
	x = nameable(x)
	if t := d.covering(x); t != nil {
		return t
	}
	if len(d.waiting) >= maxWaiting || d.size+x.size() > maxWaitingSize {
		d.makeRoom()
		if t := d.covering(x); t != nil {
			return t
		}
	}
	t := &turn{doubt: x, who: who, done: make(chan struct{})}
	d.waiting[x] = t
	d.size += x.size()
	if x.url != "" {
		d.urls = append(d.urls, t)
	} else {
		d.others = append(d.others, t)
	}
	if !x.isWhole() {
		d.origins[x.origin]++
	}
	return t
}

// covering is what waits and does for this one too; nil = nothing. Called with the lock held.
func (d *Doubts) covering(x doubt) *turn {
	return cmp.Or(d.waiting[x], d.waiting[doubt{origin: x.origin}], d.waiting[doubt{}])
}

// nameable is the doubt, or a coarser one where the log could not name it. That is for what the origin has said, a group: URLs, which clients
// choose, are left out before (doubtful).
func nameable(x doubt) doubt {
	for _, x := range [...]doubt{x, {origin: x.origin}} {
		if p := purgeOf([]*turn{{doubt: x}}); x.origin != "" && p.Check() == nil {
			return x
		}
	}
	return doubt{}
}

// taken takes one that waits off the counts. Called with the lock held.
func (d *Doubts) taken(t *turn) {
	delete(d.waiting, t.doubt)
	d.size -= t.size()
	if t.isWhole() {
		return
	}
	if d.origins[t.origin]--; d.origins[t.origin] == 0 {
		delete(d.origins, t.origin)
	}
}

// next begins a round of records, or has it begun when it is due. Called with the lock held.
func (d *Doubts) next() {
	if len(d.waiting) == 0 || d.underWay == maxUnderWay {
		return
	}
	now := time.Now()
	due := d.after
	if d.pause > 0 && d.retry.After(due) {
		due = d.retry
	}
	if due.After(now) && !d.ending {
		d.arm(due)
		return
	}
	size := 0
	for len(d.waiting) > 0 && d.underWay < maxUnderWay {
		turns := d.take()
		for _, t := range turns {
			size += t.size()
		}
		d.underWay++
		d.work.Go(func() { d.record(turns) })
		if d.pause > 0 {
			break // one is enough to see whether the log is back
		}
	}
	d.after = now.Add(max(pace, writing(size)))
}

// writing is how long so many bytes take at speed.
func writing(size int) time.Duration { return time.Duration(size) * time.Second / speed }

// arm has the next round begun at a time. Called with the lock held.
func (d *Doubts) arm(due time.Time) {
	if d.timer != nil && !due.Before(d.due) {
		return // it is looked at again then
	}
	if d.timer != nil {
		d.timer.Stop()
	}
	d.due = due
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(due), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer { // else another one has taken its place
			d.timer = nil
			d.next()
		}
	})
	d.timer = timer
}

// take takes what goes into the next record. Called with the lock held.
func (d *Doubts) take() []*turn {
	n, size := 0, 0
	for n < min(len(d.urls), invalidation.MaxURLs) {
		if size += len(d.urls[n].url); size > invalidation.MaxURLsSize {
			break
		}
		n++
	}
	from := &d.urls
	if d.flip = !d.flip; n == 0 || d.flip && len(d.others) > 0 {
		from, n = &d.others, 1
	}
	turns := (*from)[:n:n]
	if *from = (*from)[n:]; len(*from) == 0 {
		*from = nil // the array goes with its turns
	}
	for _, t := range turns {
		d.taken(t)
	}
	return turns
}

// purgeOf is the record of these: URLs, or one of anything else.
func purgeOf(turns []*turn) invalidation.Purge {
	first := turns[0]
	var p invalidation.Purge
	who, passing := first.who, true
	switch {
	case first.url != "":
		urls := make([]string, len(turns))
		for i, t := range turns {
			if urls[i] = t.url; t.who != who {
				who = "responses to unsafe requests"
			}
		}
		p = purgeOfURLs(urls)
	case first.group != "":
		p.Kind, p.Origin, p.Group = invalidation.KindGroup, first.origin, first.group
	case first.origin != "":
		p.Kind, p.Selector, passing = invalidation.KindPattern, invalidation.EscapeGlob(first.origin)+"/*", false
	default:
		p.Kind, passing = invalidation.KindAll, false
	}
	p.Who, p.Passing = who, passing
	return p
}

// record enters one record.
func (d *Doubts) record(turns []*turn) {
	ctx, cancel := context.WithTimeout(context.Background(), d.opt.Wait) // the clients may leave; the changes stay made
	defer cancel()
	receipt, result, err := enter(ctx, d.opt.Log, d.opt.Purge, purgeOf(turns))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opt.Metrics.Purges(turns[0].source(), result, len(turns))
	d.underWay--
	if result == purgeError {
		d.failed(turns, err)
	} else {
		if d.pause > 0 {
			d.opt.Log.Info("the log of purges takes again what unsafe requests have changed", "waiting", len(d.waiting))
		}
		d.pause, d.retry = 0, time.Time{}
	}
	for _, t := range turns {
		for _, t := range append(t.absorbed, t) {
			if receipt != nil {
				t.seq = receipt.Sequence
			}
			close(t.done)
		}
	}
	d.next()
	d.idle.Broadcast()
}

// failed has what the log did not take wait again. It may have taken it: then it has it twice. Called with the lock held.
func (d *Doubts) failed(turns []*turn, err error) {
	if d.ending {
		d.lose(turns, err)
		return
	}
	if d.pause == 0 {
		d.opt.Log.Warn("what unsafe requests have changed could not be entered in the log of purges: it is tried again, and other replicas "+
			"do not know of it meanwhile", "error", err.Error())
	}
	if now := time.Now(); !now.Before(d.retry) { // else it failed beside others
		d.pause = min(max(2*d.pause, firstPause), lastPause)
		d.retry = now.Add(d.pause)
	}
	for _, t := range turns {
		d.put(t.doubt, t.who)
	}
}

// lose ends the waiting of all. Called with the lock held.
func (d *Doubts) lose(turns []*turn, err error) {
	n := len(turns)
	d.opt.Metrics.Purges(turns[0].source(), purgeLost, len(turns))
	for _, t := range d.waiting {
		d.opt.Metrics.Purges(t.source(), purgeLost, 1)
		for _, t := range append(t.absorbed, t) {
			close(t.done)
		}
		n++
	}
	clear(d.waiting)
	clear(d.origins)
	d.urls, d.others, d.size = nil, nil, 0
	d.opt.Log.Error("this process ends, and the log of purges has not taken what unsafe requests have changed: other replicas, and Redis, may keep "+
		"what they hold of it until it expires", "lost", n, "error", err.Error(), "hint", "cacheproxy purge")
}

// settle waits until all is entered, or was tried in vain.
func (d *Doubts) settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.underWay > 0 || len(d.waiting) > 0 && d.pause == 0 {
		d.idle.Wait()
	}
}

// Close tries once more to enter what waits, and ends. Nothing may be made doubtful any more.
func (d *Doubts) Close() {
	d.mu.Lock()
	d.ending = true
	if d.timer != nil {
		d.timer.Stop()
	}
	d.next()
	for d.underWay > 0 || len(d.waiting) > 0 {
		d.idle.Wait()
	}
	d.mu.Unlock()
	d.work.Wait()
}
