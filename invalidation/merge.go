package invalidation

import "slices"

// Sweeps of purges that select the same are merged: an application that purges one pattern with every change would else have all that is stored
// gone through for each of them, and where that takes longer than it is until the next the log would grow as long as it goes on.
//
// A newer record covers an older one if it selects all that the older one does and forbids as much. What the older one's sweep had to find
// the newer one's finds, whenever it goes on: it began, or will begin, later, and before it has been done twice the older record is
// trimmed at the latest. So who has an older one in hand sweeps the newest that covers it in its place, unless somebody is at that, or
// was; all between them then find it done. The second sweep of one is merged into another whose horizon is over as well.

// maxCovering bounds how many newer records are looked at.
const maxCovering = 64

// covers reports whether the record selects all that an older one does, and forbids as much. Lists of URLs do not: each is swept at once.
func (r *Record) covers(older *Record) bool {
	f, g := r.Filters, older.Filters
	since := f.StoredBefore != 0 && (g.StoredBefore == 0 || g.StoredBefore > f.StoredBefore) // it leaves some that the older one forbids
	return !since && r.Epoch == older.Epoch && (older.Soft || !r.Soft) &&
		r.Kind == older.Kind && r.URLs == nil && older.URLs == nil && r.Selector == older.Selector && r.Origin == older.Origin && r.Group == older.Group &&
		r.MatchAll == older.MatchAll && slices.Equal(r.Tags, older.Tags) &&
		slices.Equal(f.Status, g.Status) && slices.Equal(f.ContentType, g.ContentType) && f.MinSize == g.MinSize && f.MaxSize == g.MaxSize
}

// covering are records that cover this one, the newest first.
func (t *Table) covering(older *Record) []*Record {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var list []*Record
	for _, r := range slices.Backward(t.order) {
		if r.Seq <= older.Seq || len(list) == maxCovering {
			break
		}
		if r.covers(older) {
			list = append(list, r.Record)
		}
	}
	return list
}

// sweepCovering sweeps a newer record in place of the one of this sequence that is in hand, for the first or the second time; or finds that somebody
// is at that. It returns the sequence of the newer one, 0 = there is none.
func (f *Follower) sweepCovering(s Sweeper, r *Record, known *noted, mine string) (Seq, error) {
	list := f.table.covering(r)
	if len(list) == 0 {
		return 0, nil
	}
	seqs := make([]string, len(list))
	for i, newer := range list {
		seqs[i] = newer.Seq.String()
	}
	notes, err := f.log.notes(f.ctx, seqs...)
	if err != nil {
		return 0, err
	}
	pass := known.pass()
	for i, newer := range list {
		if n := &notes[i]; n.pass() < pass || pass == 1 && n.stop != "" {
			continue // its horizon is not over, or somebody wants it later
		}
		there, its, err := f.log.toSweep(f.ctx, seqs[i])
		switch {
		case err != nil:
			return 0, err
		case there == nil || there.Nonce != newer.Nonce:
			continue // the log has lost it
		case its.Passes >= pass || its.Running:
			return newer.Seq, nil
		}
		now := known.note
		now.By, now.Running, now.Merged = f.id, false, newer.Seq
		if _, _, err := f.log.note(f.ctx, mine, r.Seq.String(), &now, false); err != nil {
			return 0, err
		}
		return newer.Seq, f.sweepRecord(s, there, &its, mine)
	}
	return 0, nil
}

// pass is which sweep of the record is the next, or goes on: the first until the second is queued.
func (n *noted) pass() int {
	if n.again {
		return 2
	}
	return 1
}
