package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"cacheproxy/invalidation"
)

// purging answers for one replica's part in the log of purges.
type purging struct {
	follower *invalidation.Follower
	log      *slog.Logger
}

// Purging registers the routes by which stored responses are forgotten, on all replicas. They must be guarded.
//
//	POST /v1/purge               appends what the body, a Purge, says to the log, and waits for ?wait=1s, or less, until all replicas have applied
//	                             it. 200 says that all have; 202 that it is appended and who has not; both with a Receipt
//	GET /v1/purges?limit=50      the newest purges of the log, the newest first, with who asked for them
//	GET /v1/purges/{sequence}    one of them, and its receipt by now
//	GET /v1/replicas             who follows the log
//	DELETE /v1/replicas/{id}     strikes one off that will not come back, so that receipts do not name it any more
//
// What is wrong with a body is told all at once, by fields, and nothing was purged then. 503 says that the log did not confirm a purge; its
// member "appended" is "no" where that is certain, and else "unknown".
func Purging(mux *http.ServeMux, f *invalidation.Follower, log *slog.Logger) {
	p := &purging{f, log}
	mux.HandleFunc("POST /v1/purge", p.purge)
	mux.HandleFunc("GET /v1/purges", p.history)
	mux.HandleFunc("GET /v1/purges/{sequence}", p.recorded)
	mux.HandleFunc("GET /v1/replicas", p.replicas)
	mux.HandleFunc("DELETE /v1/replicas/{id...}", p.remove)
}

// Receipt says who has applied a purge.
type Receipt struct {
	*invalidation.Receipt
	Complete bool `json:"complete"` // every registered replica has applied it, or is fenced
	// Detail says why nothing is known of the replicas.
	Detail string `json:"detail,omitempty"`
}

func receiptOf(r *invalidation.Receipt, err error) Receipt {
	if err != nil {
		return Receipt{Receipt: r, Detail: err.Error()}
	}
	return Receipt{Receipt: r, Complete: r.Complete()}
}

const (
	defaultWait = time.Second
	maxWait     = 20 * time.Second // clients give up after 30 s
	maxBy       = 128              // bytes of X-Purged-By that are kept
)

func (p *purging) purge(w http.ResponseWriter, r *http.Request) {
	wait, ok := waitOf(w, r, defaultWait)
	var asked Purge
	if !ok || !readJSON(w, r, &asked) {
		return
	}
	record, err := asked.record()
	if err != nil {
		writeMistakes(w, err)
		return
	}
	record.Who = who(r)
	receipt, err := p.follower.Purge(r.Context(), record, wait)
	if receipt == nil {
		p.failed(w, &record, err)
		return
	}
	told := receiptOf(receipt, err)
	p.log.Info("purge", "sequence", receipt.Sequence.String(), "kind", string(record.Kind), "soft", record.Soft, "who", record.Who,
		"complete", told.Complete, "lagging", receipt.Lagging, "silent", receipt.Silent, "fenced", receipt.Fenced)
	status := http.StatusAccepted
	if told.Complete {
		status = http.StatusOK
	}
	w.Header().Set("Location", "/v1/purges/"+receipt.Sequence.String())
	WriteJSON(w, status, told)
}

// failed answers where the log did not confirm the purge.
func (p *purging) failed(w http.ResponseWriter, record *invalidation.Purge, err error) {
	appended, told := "unknown", "the log of purges did not confirm this purge, which may have been appended and may happen: "+
		"ask again, or look at /v1/purges when it answers: "
	if p.follower.NothingAppended(err) {
		appended, told = "no", "nothing was purged: "
	}
	p.log.Warn("a purge failed", "kind", string(record.Kind), "who", record.Who, "appended", appended, "error", err.Error())
	WriteProblem(w, http.StatusServiceUnavailable, told+err.Error(), map[string]any{"appended": appended})
}

// waitOf reads the query, which has no other parameter than wait: one that is not known may have been meant to keep something from
// happening. It reports false when it has answered.
func waitOf(w http.ResponseWriter, r *http.Request, otherwise time.Duration) (time.Duration, bool) {
	if !onlyParameters(w, r, "wait") {
		return 0, false
	}
	text := r.URL.Query().Get("wait")
	if text == "" {
		return otherwise, true
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 || wait > maxWait {
		WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("wait is %q: write a length of time from 0 to %v", text, maxWait), nil)
		return 0, false
	}
	return wait, true
}

// onlyParameters refuses what is not known of a query. It reports false when it has answered.
func onlyParameters(w http.ResponseWriter, r *http.Request, known ...string) bool {
	for name := range r.URL.Query() {
		if !slices.Contains(known, name) {
			WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("%q is no parameter here: %s is", name, strings.Join(known, ", ")), nil)
			return false
		}
	}
	return true
}

// writeMistakes tells all that is wrong with a purge: in one sentence for people, and one by one.
func writeMistakes(w http.ResponseWriter, err error) {
	all := mistakes(err)
	WriteProblem(w, http.StatusBadRequest, strings.Join(all, "; "), map[string]any{"mistakes": all})
}

// mistakes are the messages of errors that were joined, and joined again.
func mistakes(err error) (all []string) {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []string{err.Error()}
	}
	for _, one := range joined.Unwrap() {
		all = append(all, mistakes(one)...)
	}
	return all
}

// who is what the history says of the asker: its address, and what it says of itself.
func who(r *http.Request) string {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = "unix socket"
	}
	by := strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == unicode.ReplacementChar {
			return -1
		}
		return c
	}, r.Header.Get("X-Purged-By"))
	if by = strings.TrimSpace(strings.ToValidUTF8(by[:min(len(by), maxBy)], "")); by == "" { // which may have been cut in a character
		return address
	}
	return address + " " + by
}
