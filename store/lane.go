package store

import (
	"math"
	"net/http"
	"strings"
	"sync"

	"cacheproxy/policy"
)

// A lane is a queue of tasks for one worker. It remembers which URLs have forgets in it, so that lookups do not return what
// is about to be forgotten, and so that a forget that would do nothing is not queued. And it shows lookups the entries
// whose saves are in it: near memory may be too small for them, and Redis does not have them yet.
type lane struct {
	near    *near // selects and combines variants here as in near memory, and knows what was forgotten
	mu      sync.Mutex
	changed sync.Cond
	tasks   []task
	pending map[string]*pendingForgets
	saves   map[string]resource // entries whose saves wait or are under way, but for those forgotten or replaced since
	forgets int                 // tasks that are forgets, the one under way included
	closed  bool
}

type pendingForgets struct {
	count int // waiting or under way
	// last says that the last task queued for the URL forgets all of it and has not begun: another one would do nothing.
	last bool
}

func newLane(n *near) *lane {
	l := &lane{near: n, pending: make(map[string]*pendingForgets), saves: make(map[string]resource)}
	l.changed.L = &l.mu
	return l
}

// push queues a task that is no forget; false says that the lane is closed.
func (l *lane) push(t task) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if t.kind == taskSave || t.kind == taskChunk {
		if p := l.pending[t.url]; p != nil {
			p.last = false
		}
	}
	if t.kind == taskSave && !t.entry.Chunked() {
		l.show(&t)
	}
	l.append(t)
	return true
}

// show lets find return the task's entry, unless its URL was forgotten since the stamp or a later response waits. A forget takes its number before it
// comes to the lane (forgets.go), so either it is seen here, or it finds the entry and hides it.
func (l *lane) show(t *task) {
	if l.near.forgets.since(t.url, t.stamp.moment) || !l.near.permits(t.entry, t.stamp) {
		return
	}
	var before []*Entry
	if r, ok := l.saves[t.url]; ok {
		before = r.variants()
	}
	if l.near.outdated(t.entry, before) {
		return
	}
	// A copy of the URL, since the key may outlive the entry.
	l.saves[strings.Clone(t.url)] = l.near.with(before, t.entry, math.MaxInt64)
}

// hide undoes show for the entries that which names.
func (l *lane) hide(url string, which func(*Entry) bool) {
	r, ok := l.saves[url]
	if !ok {
		return
	}
	if left, dropped := r.without(which); len(left) == 0 {
		delete(l.saves, url)
	} else if dropped {
		l.saves[url] = newResource(left)
	}
}

// find is near.get among the entries whose saves are in the lane.
func (l *lane) find(key policy.Key, h http.Header) (e *Entry, known bool) {
	l.mu.Lock()
	r, ok := l.saves[key.URL]
	l.mu.Unlock()
	if !ok {
		return nil, false
	}
	if e = l.near.choose(r, key.Extras, h); e != nil && (!judge(l.near.table, e) || l.near.shut()) {
		return nil, true
	}
	return e, true
}

// pushForget queues a forget, and hides at once what it forgets. It does not queue where that would do nothing, where the
// lane is closed, or where it is full.
func (l *lane) pushForget(t task) (added, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.kind == taskForgetEntry {
		l.hide(t.url, func(v *Entry) bool { return v.Fill() == t.fill })
	} else {
		delete(l.saves, t.url)
	}
	p := l.pending[t.url]
	switch {
	case l.closed, p != nil && p.last:
		return false, false
	case l.forgets >= maxForgets:
		return false, true
	case p == nil:
		p = new(pendingForgets)
		l.pending[t.url] = p
	}
	p.count++
	p.last = t.kind == taskForget
	l.forgets++
	l.append(t)
	return true, false
}

func (l *lane) append(t task) {
	l.tasks = append(l.tasks, t)
	l.changed.Signal()
}

// next waits for the next task; ok is false when the lane is closed and empty.
func (l *lane) next() (t task, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.tasks) == 0 {
		if l.closed {
			return task{}, false
		}
		l.changed.Wait()
	}
	t = l.tasks[0]
	l.tasks[0] = task{} // so that its entry can be collected
	if l.tasks = l.tasks[1:]; len(l.tasks) == 0 {
		l.tasks = nil
	}
	if p := l.pending[t.url]; p != nil && t.kind == taskForget {
		p.last = false
	}
	return t, true
}

// saved notes that the save of e has ended, whichever way.
func (l *lane) saved(e *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hide(e.URL(), func(v *Entry) bool { return v == e })
}

// forgot notes that a forget of url has ended.
func (l *lane) forgot(url string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgets--
	if p := l.pending[url]; p.count > 1 {
		p.count--
	} else {
		delete(l.pending, url)
	}
}

// forgetting reports whether a forget of url waits or is under way.
func (l *lane) forgetting(url string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending[url] != nil
}

// close lets no more tasks in; next returns those that wait.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Signal()
}
