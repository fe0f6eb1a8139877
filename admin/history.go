package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"cacheproxy/invalidation"
)

// Purged is a purge of the past.
type Purged struct {
	Sequence invalidation.Seq `json:"sequence"`
	Time     time.Time        `json:"time"` // when it was appended, by the clock of Redis
	Who      string           `json:"who,omitempty"`
	Purge
	StoredBefore *time.Time `json:"stored_before,omitempty"` // what older_than meant
}

func purged(r *invalidation.Record) Purged {
	p := Purged{Sequence: r.Seq, Time: time.UnixMicro(int64(r.Seq)).UTC(), Who: r.Who, Purge: shown(r)}
	if r.Filters.StoredBefore > 0 {
		p.StoredBefore = new(time.UnixMicro(r.Filters.StoredBefore).UTC())
	}
	return p
}

// History is what GET /v1/purges answers.
type History struct {
	Purges []Purged `json:"purges"` // the newest first
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

const defaultLimit, maxLimit = 50, 1000

func (p *purging) history(w http.ResponseWriter, r *http.Request) {
	if !onlyParameters(w, r, "limit") {
		return
	}
	limit := defaultLimit
	if text := r.URL.Query().Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxLimit {
			WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("limit is %q: write a number from 1 to %d", text, maxLimit), nil)
			return
		}
	}
	records, err := p.follower.History(r.Context(), limit)
	if err != nil {
		WriteProblem(w, http.StatusServiceUnavailable, err.Error(), nil)
		return
	}
	told := History{Purges: make([]Purged, len(records))}
	for i, record := range records {
		told.Purges[i] = purged(record)
	}
	WriteJSON(w, http.StatusOK, told)
}

func (p *purging) recorded(w http.ResponseWriter, r *http.Request) {
	wait, ok := waitOf(w, r, 0)
	if !ok {
		return
	}
	text := r.PathValue("sequence")
	seq, err := strconv.ParseUint(text, 10, 63) // as Redis bounds what fits into its scripts
	if err != nil {
		WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("%q is no sequence", text), nil)
		return
	}
	record, err := p.follower.Recorded(r.Context(), invalidation.Seq(seq))
	switch {
	case err != nil:
		WriteProblem(w, http.StatusServiceUnavailable, err.Error(), nil)
		return
	case record == nil || record.Kind == "":
		WriteProblem(w, http.StatusNotFound, "the log holds no purge "+text+", or does not any more", nil)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	WriteJSON(w, http.StatusOK, Recorded{purged(record), receiptOf(p.follower.Receipt(ctx, record.Position()))})
}

func (p *purging) replicas(w http.ResponseWriter, r *http.Request) {
	if !onlyParameters(w, r) {
		return
	}
	list, err := p.follower.Replicas(r.Context())
	if err != nil {
		WriteProblem(w, http.StatusServiceUnavailable, err.Error(), nil)
		return
	}
	if list == nil {
		list = []invalidation.Replica{}
	}
	WriteJSON(w, http.StatusOK, Fleet{list, p.follower.ID(), p.follower.Registered()})
}

func (p *purging) remove(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	there, err := p.follower.Remove(r.Context(), id)
	switch {
	case err != nil:
		WriteProblem(w, http.StatusServiceUnavailable, err.Error(), nil)
	case !there:
		WriteProblem(w, http.StatusNotFound, fmt.Sprintf("no replica %q is registered: GET /v1/replicas lists them", id), nil)
	default:
		p.log.Warn("a replica was struck off the list of those who follow the purges", "replica", id, "who", who(r))
		WriteJSON(w, http.StatusOK, map[string]string{"removed": id})
	}
}
