package invalidation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Receipt says who has applied a record.
type Receipt struct {
	Sequence Seq      `json:"sequence"`
	Epoch    string   `json:"epoch"`
	Applied  []string `json:"applied"` // ids of replicas that serve nothing any more that the record forbids
	Lagging  []string `json:"lagging"` // that have not applied it yet; the one that was asked is among them while it is not registered
	Silent   []string `json:"silent"`  // nor said anything for a while
	Fenced   []string `json:"fenced"`  // nor serve anything until they have: they are strict, and their lease is over
	// Young says that there may be others, which are not known: Redis has begun, or has lost what it knew of them, so short a while ago that they
	// may not have registered again.
	Young bool `json:"young,omitempty"`
}

// Complete reports whether every registered replica has applied the record, or is fenced. It is false where nothing is known, as with an error.
func (r *Receipt) Complete() bool {
	return len(r.Applied)+len(r.Fenced) > 0 && len(r.Lagging)+len(r.Silent) == 0 && !r.Young
}

// Purge appends a record and waits, for so long, until all replicas have applied it. The receipt says which have; it is nil where the
// record was not appended, and with a receipt the error is why no more is known. A purge that timed out may have been appended all the
// same.
func (f *Follower) Purge(ctx context.Context, p Purge, wait time.Duration) (*Receipt, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if f.log == nil {
		return f.purgeHere(p), nil
	}
	r, err := f.log.append(ctx, p)
	if err != nil {
		return nil, err
	}
	receipt, err := f.confirm(ctx, r, wait)
	f.opt.Purged(r, err == nil && receipt.Complete())
	return receipt, err
}

// confirm waits until all replicas have applied the record that this one has appended, or says at once that the log has gone back.
func (f *Follower) confirm(ctx context.Context, r *Record, wait time.Duration) (*Receipt, error) {
	if f.beyond(r) {
		return f.nobody(r), nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return f.receipt(ctx, r.Position())
}

// beyond reports whether this replica has applied more than the log held when the record was appended: the log has gone back.
func (f *Follower) beyond(r *Record) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last != nil && f.last.Epoch == r.Epoch && f.last.Seq > r.Prev && f.last.Seq != r.Seq && !f.follows(r)
}

// follows reports whether the record was applied already. Called with the lock held.
func (f *Follower) follows(r *Record) bool {
	_, applied := f.times[r.Seq]
	return applied
}

// nobody is the receipt where nobody is known to have applied the record.
func (f *Follower) nobody(r *Record) *Receipt {
	f.mu.Lock()
	defer f.mu.Unlock()
	receipt := &Receipt{Sequence: r.Seq, Epoch: hex64(uint64(r.Epoch)), Applied: []string{}, Lagging: []string{f.id}, Silent: []string{}, Fenced: []string{}}
	for id := range f.known {
		if id != f.id {
			receipt.Lagging = append(receipt.Lagging, id)
		}
	}
	return receipt
}

// purgeHere is Purge where this process is the only replica.
func (f *Follower) purgeHere(p Purge) *Receipt {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.last
	now := f.opt.Now().UnixMicro()
	r := &Record{Purge: p, Epoch: last.Epoch, Seq: max(last.Seq+1, Seq(now)), Nonce: rand.Uint64(), Prev: last.Seq, PrevN: last.Nonce}
	if p.Filters.OlderThan > 0 {
		r.Filters.StoredBefore = max(now-p.Filters.OlderThan.Microseconds(), 1)
	}
	f.take(r)
	f.past.add(r, f.sweeper != nil)
	return f.receiptHere(r.Position())
}

func (f *Follower) receiptHere(at Position) *Receipt {
	return &Receipt{Sequence: at.Seq, Epoch: hex64(uint64(at.Epoch)), Applied: []string{f.id}, Lagging: []string{}, Silent: []string{}, Fenced: []string{}}
}

// receipt asks who has applied the record until all have, or ctx ends; it asks at least once. Early questions come quickly, since mostly
// all have in a millisecond or two.
func (f *Follower) receipt(ctx context.Context, at Position) (*Receipt, error) {
	pause := 500 * time.Microsecond
	for {
		fleet, err := f.log.fleet(context.WithoutCancel(ctx))
		r := &Receipt{Sequence: at.Seq, Epoch: hex64(uint64(at.Epoch)), Applied: []string{}, Lagging: []string{}, Silent: []string{}, Fenced: []string{}}
		if err != nil {
			return r, fmt.Errorf("the purge is appended, but who has applied it is not known: %w", err)
		}
		r.Lagging = append(r.Lagging, f.missing(fleet)...)
		for _, replica := range fleet.replicas {
			switch {
			case replica.Applied.Epoch == at.Epoch && replica.Applied.Seq >= at.Seq:
				r.Applied = append(r.Applied, replica.ID)
			case replica.Fenced && fleet.vouches(replica.lease):
				r.Fenced = append(r.Fenced, replica.ID)
			case replica.Silent && replica.lease == 0 && replica.ID != f.id: // a strict one will be fenced; who asks is not silent: Redis has been
				r.Silent = append(r.Silent, replica.ID)
			default:
				r.Lagging = append(r.Lagging, replica.ID)
			}
		}
		if !fleet.has(f.id) && !slices.Contains(r.Lagging, f.id) {
			r.Lagging = append(r.Lagging, f.id) // it serves, and is not registered, or not any more
		}
		for _, ids := range [][]string{r.Applied, r.Lagging, r.Silent, r.Fenced} {
			slices.Sort(ids)
		}
		young := f.young(&fleet)
		r.Young = young > 0
		end, bounded := ctx.Deadline()
		vain := bounded && time.Until(end) < young && !fleet.since.IsZero() // it will not be complete by then
		if ctx.Err() != nil || len(r.Lagging) == 0 && (!r.Young || vain) {  // those that are silent are not waited for
			return r, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		if pause = min(2*pause, 20*time.Millisecond); len(r.Lagging) == 0 {
			pause = min(max(young/8, pause), young)
		}
	}
}

// vouches reports whether no replica with such a lease can have one that is not known here. A Redis that was started again, or took another's
// place, may have lost heartbeats, whose leases are not over; they are when the same run of it has taken heartbeats for longer than that.
func (f *fleet) vouches(lease time.Duration) bool {
	return f.tells && !f.since.IsZero() && f.now.Sub(f.since) > lease+fenceMargin(lease)
}

// young is for how long replicas may be unknown yet; 0 = that time is over.
//
// A Redis that has lost who follows (it was emptied, started again from what it had saved, or another one took its place) hears of those that
// live at their next heartbeat, which comes within beatInterval, or they notice sooner, by a record of the new epoch. One that is not heard
// of for silence would be called silent if it were known. So whoever is unknown after that is cut off, or stopped, since before the loss; it
// serves what it holds, and no receipt can know of it, unless it is strict: then its lease is over, if it is no longer than the asker's own.
func (f *Follower) young(now *fleet) time.Duration {
	youth := silence
	if f.opt.Lease > 0 {
		youth = max(youth, f.opt.Lease+fenceMargin(f.opt.Lease))
	}
	if now.since.IsZero() {
		return youth
	}
	return max(youth-now.now.Sub(now.since), 0)
}

// saw remembers who follows the log, until they have left, by themselves, by an operator's word, or since a new incarnation of the same
// instance is there.
func (f *Follower) saw(now fleet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range now.replicas {
		f.known[r.ID] = true
	}
	for _, id := range now.left {
		delete(f.known, id)
	}
	for id := range f.known {
		if slices.ContainsFunc(now.replicas, func(r Replica) bool { return r.ID != id && instanceOf(r.ID) == instanceOf(id) }) && !now.has(id) {
			delete(f.known, id)
		}
	}
}

func (f *fleet) has(id string) bool {
	return slices.ContainsFunc(f.replicas, func(r Replica) bool { return r.ID == id })
}

// instanceOf is an id without its incarnation.
func instanceOf(id string) string { return id[:max(0, strings.LastIndexByte(id, '#'))] }

// missing are the replicas that were there once, and are not now, and have not left: a Redis that has gone back has lost them, and they will
// register again as soon as they notice.
func (f *Follower) missing(now fleet) (ids []string) {
	f.saw(now)
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.known {
		if !now.has(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Replicas lists who follows the log.
func (f *Follower) Replicas(ctx context.Context) ([]Replica, error) {
	if f.log == nil {
		at := f.position()
		return []Replica{{ID: f.id, Applied: at, Seq: at.Seq, Beat: f.opt.Now(), Version: f.opt.Version}}, nil
	}
	fleet, err := f.log.fleet(ctx)
	list := fleet.replicas
	slices.SortFunc(list, func(a, b Replica) int { return strings.Compare(a.ID, b.ID) })
	return list, err
}

// Remove strikes a replica that will not come back off the list; it reports false where there is none of that id. One that lives on registers
// again when its next heartbeat shows it.
func (f *Follower) Remove(ctx context.Context, id string) (bool, error) {
	if f.log == nil || !strings.Contains(id, "#") { // what else is noted beside the replicas (heartbeat.lua) is none
		return false, nil
	}
	f.mu.Lock()
	known := f.known[id]
	delete(f.known, id)
	f.mu.Unlock()
	how := strikeOff
	if known {
		how = strikeOffGone
	}
	return f.log.leave(ctx, id, how)
}
