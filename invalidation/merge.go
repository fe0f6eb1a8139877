package invalidation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Sweeps of purges that select the same are merged: an application that purges one pattern with every change would else have all that is stored
// gone through for each of them, and where that takes longer than it is until the next the log would grow as long as it goes on.
//
// A newer record covers an older one if it selects all that the older one does and forbids as much. What the older one's sweep had to find
// the newer one's finds, whenever it goes on: it began, or will begin, later, and before it has been done twice the older record is
// trimmed at the latest. So who has an older one in hand takes the newest that covers it out of the queue and sweeps that in its place, unless
// one that covers it is done, or somebody is at it: all between them find it so. The second sweep of one is merged into another whose horizon
// is over as well. What an operator has asked for is not merged into what nobody did, which the history does not have.

// maxCovering bounds how many newer records are looked at.
const maxCovering = 64

// covers reports whether the record selects all that an older one does, and forbids as much. Lists of URLs do not: each is swept at once.
func (r *Record) covers(older *Record) bool {
	f, g := r.Filters, older.Filters
	since := f.StoredBefore != 0 && (g.StoredBefore == 0 || g.StoredBefore > f.StoredBefore) // it leaves some that the older one forbids
	return !since && r.Epoch == older.Epoch && (older.Soft || !r.Soft) && (older.Passing || !r.Passing) &&
		r.Kind == older.Kind && r.URLs == nil && older.URLs == nil && r.Selector == older.Selector && r.Origin == older.Origin && r.Group == older.Group &&
		r.MatchAll == older.MatchAll && slices.Equal(r.Tags, older.Tags) &&
		slices.Equal(f.Status, g.Status) && slices.Equal(f.ContentType, g.ContentType) && f.MinSize == g.MinSize && f.MaxSize == g.MaxSize
}

// covering are records up to a sequence that cover this one, the newest first.
func (t *Table) covering(older *Record, upTo Seq) []*Record {
	if older.URLs != nil {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	var list []*Record
	for _, r := range slices.Backward(t.order) {
		if r.Seq <= older.Seq || len(list) == maxCovering {
			break
		}
		if r.Seq <= upTo && r.covers(older) {
			list = append(list, r.Record)
		}
	}
	return list
}

// covering are the newer records that may be swept in place of one, the newest first, with what is noted of each.
func (f *Follower) covering(r *Record, pass int) ([]*Record, []noted, error) {
	upTo := Seq(math.MaxUint64)
	if pass == 2 { // the horizon of the newer one must be over too
		clock := f.clock.Load()
		if clock == nil {
			return nil, nil, nil
		}
		upTo = Seq(time.UnixMicro(clock.now()).Add(-f.opt.Horizon).UnixMicro())
	}
	list := f.table.covering(r, upTo)
	if len(list) == 0 {
		return nil, nil, nil
	}
	seqs := make([]string, len(list))
	for i, newer := range list {
		seqs[i] = newer.Seq.String()
	}
	notes, err := f.log.notes(f.ctx, seqs...)
	return list, notes, err
}

// sweepCovering finds a newer record that was swept, for the first or the second time, or that somebody is at: that does for the one that is in
// hand. Else it sweeps the newest that there is in its place. It returns the sequence of the newer one, 0 = there is none.
func (f *Follower) sweepCovering(s Sweeper, r *Record, known *noted, mine string) (Seq, error) {
	pass := known.pass()
	list, notes, err := f.covering(r, pass)
	if err != nil {
		return 0, err
	}
	wanted := func(n *noted) bool { return pass == 2 || n.stop == "" && n.Cancelled == "" }
	for _, done := range []bool{true, false} { // what is done first: to sweep the newest each time would leave those between in the queue
		for i, newer := range list {
			n := &notes[i]
			if !wanted(n) || n.does(pass) != done || !done && n.pass() < pass {
				continue
			}
			there, its, err := f.log.toSweep(f.ctx, newer.Seq.String())
			switch {
			case err != nil:
				return 0, err
			case there == nil || there.Nonce != newer.Nonce || !wanted(&its):
				continue // the log has lost it
			case its.does(pass):
				return newer.Seq, nil
			case done:
				continue
			}
			return f.sweepInstead(s, there, r, &its, known, mine)
		}
	}
	return 0, nil
}

// does reports whether a sweep of this pass was made, or somebody is at it.
func (n *noted) does(pass int) bool { return n.Passes >= pass || n.Running && n.pass() >= pass }

// sweepInstead sweeps a newer record in place of the one that is in hand, unless somebody else has it in hand. It returns 0 where that came to
// nothing.
func (f *Follower) sweepInstead(s Sweeper, newer, r *Record, its, known *noted, mine string) (Seq, error) {
	ctx, cancel := context.WithTimeout(f.ctx, f.log.timeout)
	defer cancel()
	claimed, err := claimScript.Run(ctx, f.log.client, []string{f.log.sweeps, mine}, newer.Seq.String()).Int()
	if err != nil {
		return 0, fmt.Errorf("invalidation: taking a sweep in place of an older one: %w", err)
	}
	if claimed == 0 {
		return newer.Seq, nil
	}
	now := known.note
	now.By, now.Running = f.id, false
	now.mergeInto(newer.Seq)
	if _, _, err = f.log.note(f.ctx, mine, r.Seq.String(), &now, false); err == nil {
		err = f.sweepRecord(s, newer, its, mine)
	}
	switch {
	case err == nil:
		return newer.Seq, nil
	case errors.Is(err, errGone), errors.Is(err, errCancelled): // the older one is still to be swept
		return 0, nil
	}
	_, _, moved := f.log.move(f.ctx, mine, f.log.sweeps, "RIGHT", "RIGHT") // the newer one; the older one follows
	return 0, errors.Join(err, moved)
}

// mergeInto notes in which newer record's sweep this one's is contained, unless it had one of its own.
func (n *note) mergeInto(newer Seq) {
	if n.Passes == 0 || n.Merged > 0 {
		n.Merged = newer
	}
}

// pass is which sweep of the record is the next, or goes on: the first until the second is queued.
func (n *noted) pass() int {
	if n.again {
		return 2
	}
	return 1
}
