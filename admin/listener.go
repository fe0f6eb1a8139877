package admin

import "sync"

// Lines are held in two places, both bounded in number and in bytes: a line may be as long as a request's head.
const (
	maxQueued      = 1024
	maxQueuedBytes = 1 << 20
	maxRecent      = 1000
	maxRecentBytes = 1 << 20
)

// listener is one client that follows, between the requests that offer lines and the handler that takes them.
//
// Offer drops only while the queue is full, and take empties it. So all that was dropped came after all that take returns and
// before all that it will return next: the number can be told in its place.
type listener struct {
	filter *filter
	news   chan struct{} // there is something to take

	mu      sync.Mutex // never held while something is written
	queue   [][]byte
	bytes   int
	full    bool // since the last take: what is shorter may fit, but would come before what was dropped
	dropped int
	ended   bool
}

func newListener(f *filter) *listener { return &listener{filter: f, news: make(chan struct{}, 1)} }

// offer queues a line, or drops it.
func (l *listener) offer(line []byte) {
	l.mu.Lock()
	if l.full = l.full || len(l.queue) == maxQueued || l.bytes+len(line) > maxQueuedBytes; l.full {
		l.dropped++
	} else {
		l.queue, l.bytes = append(l.queue, line), l.bytes+len(line)
	}
	l.mu.Unlock()
	l.wake()
}

// finish says that nothing more will be offered.
func (l *listener) finish() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.wake()
}

func (l *listener) wake() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// take returns what was queued, and how many lines were dropped after that.
func (l *listener) take() (lines [][]byte, dropped int, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, dropped, ended = l.queue, l.dropped, l.ended
	l.queue, l.bytes, l.full, l.dropped = nil, 0, false, 0
	return lines, dropped, ended
}

// recent keeps the newest lines, as many as maxRecent and maxRecentBytes allow. It keeps them encoded, since the strings of a request
// would keep all of its head alive.
type recent struct {
	mu    sync.Mutex
	ring  [maxRecent][]byte
	next  int // where the next line goes
	count int
	bytes int
}

func (r *recent) add(line []byte) {
	if len(line) > maxRecentBytes {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.count == maxRecent || r.bytes+len(line) > maxRecentBytes {
		oldest := (r.next - r.count + maxRecent) % maxRecent
		r.bytes -= len(r.ring[oldest])
		r.ring[oldest] = nil
		r.count--
	}
	r.ring[r.next] = line
	r.next = (r.next + 1) % maxRecent
	r.count++
	r.bytes += len(line)
}

// lines returns what is kept, oldest first.
func (r *recent) lines() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([][]byte, 0, r.count)
	for i := range r.count {
		all = append(all, r.ring[(r.next-r.count+i+maxRecent)%maxRecent])
	}
	return all
}
