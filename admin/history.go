package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"cacheproxy/invalidation"
)

// Logged is a purge as the log has it.
type Logged struct {
	Sequence invalidation.Seq `json:"sequence"`
	Time     time.Time        `json:"time"` // when it was appended, by the clock of Redis
	Who      string           `json:"who,omitempty"`
	Purge
	StoredBefore *time.Time `json:"stored_before,omitempty"` // what older_than meant
}

// Purged is a purge of the past, and what has come of it.
type Purged struct {
	Logged
	// Shortened says that some of what it selects by is not remembered, or where several are listed, that it is too long to be listed.
	Shortened bool `json:"shortened,omitempty"`
	Outcome
}

func (p *purging) purged(e *invalidation.Event) Purged {
	told := Purged{LoggedOf(e.Record), e.Shortened, *p.outcomeOf(&e.Outcome)}
	if told.URL != nil { // also of requests: a PURGE, and unsafe ones
		told.URL = new(p.ShownURL(*told.URL))
	}
	if told.Pattern != nil {
		told.Pattern = new(p.ShownURL(*told.Pattern))
	}
	if told.URLs != nil {
		told.URLs = p.shown(told.URLs) // a copy: the list is the table's
	}
	return told
}

// History is what GET /v1/purges answers.
type History struct {
	Purges []Purged `json:"purges"` // the newest first
	// Before is what to ask for the next with; nil where there are none.
	Before *invalidation.Seq `json:"before,omitempty"`
}

// Recorded is what GET /v1/purges/{sequence} answers.
type Recorded struct {
	Purged
	Receipt Receipt `json:"receipt"`
}

// Fleet is what GET /v1/replicas answers.
type Fleet struct {
	Replicas []invalidation.Replica `json:"replicas"`
	Asked    string                 `json:"asked"`      // the id of the one that answers
	Covered  bool                   `json:"registered"` // and whether receipts cover it
}

const (
	defaultLimit, maxLimit = 50, 1000
	listedURLs             = 10  // of the URLs of one purge, in a list of purges
	readAtOnce             = 100 // purges
)

func (p *purging) history(w http.ResponseWriter, r *http.Request) {
	query, ok := parameters(w, r, "limit", "before")
	if !ok {
		return
	}
	limit, before := defaultLimit, invalidation.Seq(0)
	if text := query.Get("before"); text != "" {
		if before, ok = sequence(w, text); !ok {
			return
		}
	}
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxLimit {
			WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("limit is %q: write a number from 1 to %d", text, maxLimit), nil)
			return
		}
	}
	told, err := p.page(r.Context(), limit, before)
	if err != nil {
		WriteProblem(w, http.StatusServiceUnavailable, err.Error(), nil)
		return
	}
	WriteJSON(w, http.StatusOK, told)
}

// page is so much of the history. It is read in parts: each purge may have 64 KiB of URLs, of which a list shows few.
func (p *purging) page(ctx context.Context, limit int, before invalidation.Seq) (told History, err error) {
	told.Purges = []Purged{}
	for {
		n := min(limit+1-len(told.Purges), readAtOnce)
		list, err := p.Follower.History(ctx, n, before)
		if err != nil {
			return told, err
		}
		for _, event := range list {
			if len(told.Purges) == limit {
				told.Before = new(told.Purges[limit-1].Sequence)
				return told, nil
			}
			told.Purges = append(told.Purges, p.listed(event))
		}
		if len(list) < n {
			return told, nil
		}
		before = list[n-1].Seq
	}
}

// listed is a purge as a list shows it.
func (p *purging) listed(e *invalidation.Event) Purged {
	if len(e.URLs) <= listedURLs {
		return p.purged(e)
	}
	record, short := *e.Record, *e // copies: they are the table's
	record.URLs, short.Record, short.Shortened = e.URLs[:listedURLs], &record, true
	return p.purged(&short)
}

// sequence reads a sequence. ok is false when it has answered.
func sequence(w http.ResponseWriter, text string) (seq invalidation.Seq, ok bool) {
	n, err := strconv.ParseUint(text, 10, 63) // as Redis bounds what fits into its scripts
	if err != nil || n == 0 {
		WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("%.40q is no sequence", text), nil)
		return 0, false
	}
	return invalidation.Seq(n), true
}

// event finds the purge that a request names. It is nil when that is answered.
func (p *purging) event(w http.ResponseWriter, r *http.Request) *invalidation.Event {
	seq, ok := sequence(w, r.PathValue("sequence"))
	if !ok {
		return nil
	}
	event, err := p.Follower.Recorded(r.Context(), seq)
	switch {
	case err != nil:
		WriteProblem(w, http.StatusServiceUnavailable, err.Error(), nil)
	case event == nil:
		WriteProblem(w, http.StatusNotFound, "there is no purge "+seq.String()+", or none is remembered any more", nil)
	default:
		return event
	}
	return nil
}

func (p *purging) recorded(w http.ResponseWriter, r *http.Request) {
	wait, until, ok := waiting(w, r, 0)
	if !ok {
		return
	}
	event := p.event(w, r)
	if event == nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	told := Recorded{p.purged(event), p.receipt(ctx, event)}
	if !event.Past {
		if p.found(ctx, &told.Receipt, until); told.Receipt.Outcome != nil {
			told.Outcome = *told.Receipt.Outcome
		}
	}
	WriteJSON(w, http.StatusOK, told)
}

// receipt says who has applied a purge by now. One of a log that has ended was applied by whoever has taken up the next: what was stored before
// is served by nobody there.
func (p *purging) receipt(ctx context.Context, e *invalidation.Event) Receipt {
	position := e.Position()
	if now := p.Follower.Status().Applied; e.Past && now.Epoch != position.Epoch && now.Epoch != 0 {
		position.Epoch = now.Epoch
		position.Seq = min(position.Seq, now.Seq)
	}
	told := receiptOf(p.Follower.Receipt(ctx, position))
	told.Sequence = e.Seq
	if e.Past {
		told.Outcome = p.outcomeOf(&e.Outcome)
	}
	return told
}

// Cancelled is what DELETE /v1/purges/{sequence} answers.
type Cancelled struct {
	Sequence invalidation.Seq `json:"sequence"`
	Outcome
	Detail string `json:"detail"` // what that means
}

func (p *purging) cancel(w http.ResponseWriter, r *http.Request) {
	if _, ok := parameters(w, r); !ok {
		return
	}
	event := p.event(w, r)
	if event == nil {
		return
	}
	result, err := p.Follower.Cancel(r.Context(), event.Seq, who(r))
	var now invalidation.Outcome
	if err == nil {
		now, err = p.Follower.Outcome(r.Context(), event.Seq)
	}
	switch {
	case err != nil:
		WriteProblem(w, http.StatusServiceUnavailable, "whether the sweep is cancelled is not known: "+err.Error(), nil)
	case result != invalidation.CancelOK && now.Merged > 0 && !now.Over():
		WriteProblem(w, http.StatusConflict, "purge "+event.Seq.String()+" is swept together with purge "+now.Merged.String()+", which is of the same: cancel that", nil)
	case result != invalidation.CancelOK:
		WriteProblem(w, http.StatusConflict, "purge "+event.Seq.String()+" is swept already: there is nothing to cancel", nil)
	default:
		p.Log.Info("a sweep was cancelled", "sequence", event.Seq.String(), "who", who(r))
		WriteJSON(w, http.StatusOK, Cancelled{event.Seq, *p.outcomeOf(&now), cancelledDetail})
	}
}

const cancelledDetail = "the sweep is cancelled, the purge is not: what it forbids is served by nobody who has applied it. It is swept when the purge need not be remembered any more, " +
	"and that cannot be cancelled: it could be served again"

func (p *purging) replicas(w http.ResponseWriter, r *http.Request) {
	if _, ok := parameters(w, r); !ok {
		return
	}
	list, err := p.Follower.Replicas(r.Context())
	if err != nil {
		WriteProblem(w, http.StatusServiceUnavailable, err.Error(), nil)
		return
	}
	if list == nil {
		list = []invalidation.Replica{}
	}
	WriteJSON(w, http.StatusOK, Fleet{list, p.Follower.ID(), p.Follower.Registered()})
}

func (p *purging) remove(w http.ResponseWriter, r *http.Request) {
	if _, ok := parameters(w, r); !ok {
		return
	}
	id := r.PathValue("id")
	if id == "" {
		WriteProblem(w, http.StatusBadRequest, "which replica? DELETE /v1/replicas/{id}, with # as %23: GET /v1/replicas lists them", nil)
		return
	}
	there, err := p.Follower.Remove(r.Context(), id)
	switch {
	case err != nil:
		WriteProblem(w, http.StatusServiceUnavailable, err.Error(), nil)
	case !there:
		WriteProblem(w, http.StatusNotFound, fmt.Sprintf("no replica %q is registered: GET /v1/replicas lists them", id), nil)
	default:
		p.Log.Warn("a replica was struck off the list of those who follow the purges", "replica", id, "who", who(r))
		WriteJSON(w, http.StatusOK, map[string]string{"removed": id})
	}
}
