package store

import "sync"

// A lane is a queue of tasks for one worker. It remembers which URLs have forgets in it, so that lookups do not return what
// is about to be forgotten, and so that a forget that would do nothing is not queued.
type lane struct {
	mu      sync.Mutex
	changed sync.Cond
	tasks   []task
	pending map[string]*pendingForgets
	forgets int // tasks that are forgets, the one under way included
	closed  bool
}

type pendingForgets struct {
	count int // waiting or under way
	// last says that the last task queued for the URL forgets all of it and has not begun: another one would do nothing.
	last bool
}

func newLane() *lane {
	l := &lane{pending: make(map[string]*pendingForgets)}
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
	if p := l.pending[t.url]; p != nil && t.kind == taskSave {
		p.last = false
	}
	l.append(t)
	return true
}

// pushForget queues a forget. It does not where that would do nothing, where the lane is closed, or where it is full.
func (l *lane) pushForget(t task) (added, full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
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
