package store

import (
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
)

// A Stamp is the moment before a lookup, in all orders that matter to what is fetched for it: that of this process's own forgets
// (forgets.go), and that of the purges that all replicas follow (package invalidation). The zero Stamp is the beginning.
type Stamp struct {
	moment
	mark     invalidation.Mark
	notAfter int64 // until when what is fetched may be written to Redis, by its clock in microseconds; 0 = whenever, -1 = not at all
}

// Mark returns the present moment: take it before the lookup that leads to a fetch, and hand it to SaveSince with what was fetched.
func (s *Store) Mark() Stamp {
	stamp := Stamp{moment: s.forgets.mark()}
	if s.follower == nil {
		return stamp
	}
	stamp.mark = s.follower.Table().Mark()
	var ok bool
	if stamp.notAfter, ok = s.follower.NotAfter(); !ok {
		stamp.notAfter = -1
	}
	return stamp
}

// FetchedSince places the draft of a response that was fetched for a lookup of this moment: body and validity are as of then.
func (d *Draft) FetchedSince(s Stamp) {
	d.Epoch, d.BodyAsOf, d.ValidAsOf, d.StaleSince = uint64(s.mark.Epoch), uint64(s.mark.Seq), uint64(s.mark.Seq), 0
}

// ValidatedSince places the draft of a stored response that was validated for a lookup of this moment: its body is as old as before.
func (d *Draft) ValidatedSince(s Stamp) {
	d.ValidAsOf, d.StaleSince = max(d.ValidAsOf, uint64(s.mark.Seq)), 0
}

// DerivedFrom says that some of the body's bytes are those of a stored response, and as old.
func (d *Draft) DerivedFrom(e *Entry) { d.BodyAsOf = min(d.BodyAsOf, e.BodyAsOf()) }

// judge compares an entry with the purges that have come since it was last compared, and reports whether it may be served. One that a
// soft purge selects is stale from then on.
//
// Below the floor of the table a purge that selects it may have been forgotten: it may not be served. Entries of near memory are
// looked at before that (Store.Advance).
func judge(t *invalidation.Table, e *Entry) bool { return judgeFrom(t, e, 0) }

// judgeFrom is judge for an entry that somebody came by who had begun then: what was forgotten since may have forbidden it, unless it was looked
// at later.
//
// Where the floor is, and which epoch it is, the judgement says: the table may be emptied in this moment, and then it has nothing against
// the entry.
func judgeFrom(t *invalidation.Table, e *Entry, begun invalidation.Number) bool {
	since := e.checked()
	if t == nil || since == t.Head() {
		return true
	}
	j := t.Judge(e.subject(), since)
	switch begun = max(begun, since); {
	case j.Verdict == invalidation.Forgotten, begun != 0 && begun < j.Floor, e.Epoch() != uint64(j.Epoch):
		return false
	case j.Verdict == invalidation.Stale:
		e.markStale(j.Soft)
	}
	e.setChecked(j.UpTo)
	return true
}

// table is that of the follower; nil without one.
func (o *Options) table() *invalidation.Table {
	if o.Follower == nil {
		return nil
	}
	return o.Follower.Table()
}

// current reports whether what was begun at the stamp may still be trusted: no record that it had not looked at is forgotten since. It is to be
// asked when the records were looked at, not before: in between one may be forgotten.
func current(t *invalidation.Table, s Stamp) bool { return t == nil || s.mark.Number >= t.Floor() }

// provisional is how long an entry is written for before it is checked, where purges are followed in Redis.
func (s *saver) provisional(ttl time.Duration) time.Duration {
	if s.follower == nil {
		return ttl
	}
	return min(ttl, s.follower.Provisional())
}

// Later reports whether purges were applied between the two.
func (s Stamp) Later(than Stamp) bool { return s.mark.Number > than.mark.Number }

// Purged reports whether a response, fetched for a lookup at the stamp since, was purged, hard or soft, by what had been applied at the later
// stamp now: who looked it up then may not be answered by that fetch. d says what the purges look at; its body need not be there. size is
// the body's, -1 where it is not known yet.
func (s *Store) Purged(d *Draft, size int64, since, now Stamp) bool {
	if s.near.table == nil || !now.Later(since) {
		return false
	}
	return s.purgedSince(d.subject(size), since)
}

// PurgedSince reports whether a stored response was purged, hard or soft, since a lookup at the stamp.
func (s *Store) PurgedSince(e *Entry, since Stamp) bool {
	if s.near.table == nil || s.near.table.Head() == since.mark.Number {
		return false
	}
	return s.purgedSince(e.subject(), since)
}

// PurgedByOthers is Purged up to now, but for the purges named own: those that follow from the response itself.
func (s *Store) PurgedByOthers(d *Draft, size int64, since Stamp, own []invalidation.Seq) bool {
	if s.near.table == nil {
		return false
	}
	return s.near.table.SelectedSince(d.subject(size), since.mark, own)
}

func (s *Store) purgedSince(subject *invalidation.Subject, since Stamp) bool {
	subject.BodyAsOf, subject.ValidAsOf = since.mark.Seq, since.mark.Seq
	j := s.near.table.Judge(subject, 0)
	return j.Verdict != invalidation.Keeps || since.mark.Number < j.Floor || since.mark.Epoch != j.Epoch
}

// subject is what purges look at.
func (d *Draft) subject(size int64) *invalidation.Subject {
	tags, groups := policy.SplitTags(d.Tags)
	return &invalidation.Subject{
		URL: d.Key.URL, BodyAsOf: invalidation.Seq(d.BodyAsOf), ValidAsOf: invalidation.Seq(d.ValidAsOf), Status: d.Status,
		ContentType: d.Header.Get("Content-Type"), Size: size, StoredAt: d.ResponseTime.UnixMicro(), Tags: tags, Groups: groups,
	}
}

// Permits reports whether no purge forbids the entry now.
func (s *Store) Permits(e *Entry) bool { return judge(s.near.table, e) }
