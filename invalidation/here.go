package invalidation

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"
)

// Without Redis a purge is swept out of this process's memory, in the background and once: the purge is obeyed before that, and what it
// forbids would be dropped anyway when somebody asks for it. But so it can be counted, and its memory is free sooner.

// maxPast is how many purges are remembered in this process for the history.
const maxPast = 1000

// past is the history in this process. What nobody asked for is not in it.
type past struct {
	mu   sync.Mutex
	list []*Event // the oldest first
	news chan struct{}
}

func newPast() *past { return &past{news: make(chan struct{}, 1)} }

// add takes a record, to be swept if that is to be.
func (p *past) add(r *Record, swept bool) {
	if r.Passing {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	o := Outcome{State: SweepTwice, Tally: Tally{Sample: []string{}}}
	if swept {
		o.State = SweepQueued
	}
	if len(p.list) >= maxPast {
		p.list = slices.Delete(p.list, 0, 1)
	}
	p.list = append(p.list, &Event{Record: r, Outcome: o})
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// find returns the event of a sequence, nil where there is none. Called with the lock held.
func (p *past) find(seq Seq) *Event {
	i, found := slices.BinarySearchFunc(p.list, seq, func(e *Event, seq Seq) int { return cmp.Compare(e.Seq, seq) })
	if !found {
		return nil
	}
	return p.list[i]
}

// outcome says how far a sweep is. One that is not known is of a purge that nobody asked for: what that forbids is dropped as it is met.
func (p *past) outcome(seq Seq) (Outcome, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.find(seq); e != nil {
		return e.Outcome, true
	}
	return Outcome{State: SweepTwice, Tally: Tally{Sample: []string{}}}, false
}

// note changes the outcome of a sequence, unless the sweep was cancelled: that is reported.
func (p *past) note(seq Seq, change func(*Outcome)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.find(seq)
	switch {
	case e == nil:
		return errGone
	case e.Outcome.Cancelled != "":
		return errCancelled
	}
	change(&e.Outcome)
	return nil
}

func (p *past) cancel(seq Seq, who string) Cancelled {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.find(seq)
	switch {
	case e == nil:
		return CancelGone
	case e.Outcome.Cancelled != "":
		return CancelOK
	case e.Outcome.Over():
		return CancelLate
	}
	e.Outcome.State, e.Outcome.Cancelled = SweepCancelled, who
	return CancelOK
}

// next is the oldest record that waits to be swept; nil = there is none.
func (p *past) next() *Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.list {
		if e.Outcome.State == SweepQueued {
			return e.Record
		}
	}
	return nil
}

// events are copies, the newest first, of what is before a sequence; 0 = of all.
func (p *past) events(below Seq) (list []*Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range slices.Backward(p.list) {
		if below == 0 || e.Seq < below {
			list = append(list, new(*e))
		}
	}
	return list
}

// sweepingHere works through what was purged.
func (f *Follower) sweepingHere(s Sweeper) {
	for {
		r := f.past.next()
		if r == nil {
			select {
			case <-f.past.news:
				continue
			case <-f.ctx.Done():
				return
			}
		}
		state := func(state SweepState, t Tally) error {
			return f.past.note(r.Seq, func(o *Outcome) {
				*o = Outcome{State: state, By: f.id, At: time.Now().UTC(), Tally: t.after(Tally{Sample: []string{}})}
			})
		}
		err := state(SweepRunning, Tally{})
		var found Tally
		if err == nil {
			found, err = s.Sweep(f.ctx, r, func(t Tally) error { return state(SweepRunning, t) })
		}
		if f.ctx.Err() != nil {
			return
		}
		if err == nil || !errors.Is(err, errCancelled) && !errors.Is(err, errGone) {
			_ = state(SweepTwice, found) // what was cancelled meanwhile stays so
		}
	}
}

// historyHere is History without Redis: what is remembered, and of what nobody asked for what still forbids something.
func (f *Follower) historyHere(limit int, below Seq) []*Event {
	list := f.past.events(below)
	for _, r := range f.table.records() {
		if r.Passing && (below == 0 || r.Seq < below) {
			o, _ := f.past.outcome(r.Seq)
			list = append(list, &Event{Record: r, Outcome: o})
		}
	}
	slices.SortFunc(list, func(a, b *Event) int { return cmp.Compare(b.Seq, a.Seq) })
	return append([]*Event{}, list[:min(len(list), limit)]...)
}

func (f *Follower) recordedHere(seq Seq) *Event {
	for _, e := range f.historyHere(1, seq+1) {
		if e.Seq == seq {
			return e
		}
	}
	return nil
}
