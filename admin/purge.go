package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode"

	"cacheproxy/invalidation"
	"cacheproxy/store"
)

// PurgingOptions are what purging needs. Follower, Store and Log are required.
type PurgingOptions struct {
	Follower *invalidation.Follower
	Store    *store.Store
	Log      *slog.Logger
	// Redacted names, in lower case, request fields and parameters whose values must not be shown, besides those that are always secret. Nil names
	// none.
	Redacted func(name string) bool
	// ShownURL is a URL of what is stored as it may be shown. Nil shows it as it is.
	ShownURL func(url string) string
}

// purging answers for one replica's part in the log of purges.
type purging struct{ PurgingOptions }

// Purging registers the routes by which stored responses are forgotten, on all replicas, and looked at. They must be guarded.
//
//	POST /v1/purge                appends what the body, a Purge, says to the log, and waits for ?wait=1s, or less, until all replicas have applied
//	                              it, with &until=swept also until it is swept. 200 says that all have applied it; 202 that it is appended and
//	                              who has not; both with a Receipt. With dry_run it appends nothing, and answers with a Preview; with max it
//	                              counts before, and answers 409 where that is more
//	GET /v1/purges?limit=50       the newest purges, the newest first, with who asked for them and what came of it; &before=SEQUENCE those before
//	GET /v1/purges/{sequence}     one of them, and its receipt by now; ?wait=20s waits, with &until=swept also for the sweep
//	DELETE /v1/purges/{sequence}  cancels its sweep, not the purge: what that forbids is served by nobody, and is swept when the purge need not be
//	                              remembered any more. 409 says that it is swept
//	GET /v1/entries?url=URL       what is stored of a URL, in both tiers: Stored
//	GET /v1/replicas              who follows the log
//	DELETE /v1/replicas/{id}      strikes one off that will not come back, so that receipts do not name it any more
//
// What is wrong with a body is told all at once, by fields, and nothing was purged then. 503 says that the log did not confirm a purge; its
// member "appended" is "no" where that is certain, and else "unknown".
func Purging(mux *http.ServeMux, o PurgingOptions) {
	if o.Redacted == nil {
		o.Redacted = func(string) bool { return false }
	}
	if o.ShownURL == nil {
		o.ShownURL = func(url string) string { return url }
	}
	p := &purging{o}
	mux.HandleFunc("POST /v1/purge", p.purge)
	mux.HandleFunc("GET /v1/purges", p.history)
	mux.HandleFunc("GET /v1/purges/{sequence}", p.recorded)
	mux.HandleFunc("DELETE /v1/purges/{sequence}", p.cancel)
	mux.HandleFunc("GET /v1/entries", p.entries)
	mux.HandleFunc("GET /v1/replicas", p.replicas)
	mux.HandleFunc("DELETE /v1/replicas", p.remove) // else it would be redirected
	mux.HandleFunc("DELETE /v1/replicas/{id...}", p.remove)
}

// Receipt says who has applied a purge, and what has come of it.
type Receipt struct {
	*invalidation.Receipt
	Complete bool `json:"complete"` // every registered replica has applied it, or is fenced
	// Outcome is nil where it is not known.
	*Outcome
	// Held is there where the purge has matched nothing that was stored.
	Held *Held `json:"held,omitempty"`
	// Detail says why something is not known.
	Detail string `json:"detail,omitempty"`
}

func receiptOf(r *invalidation.Receipt, err error) Receipt {
	if err != nil {
		return Receipt{Receipt: r, Detail: err.Error()}
	}
	told := Receipt{Receipt: r, Complete: r.Complete()}
	if r.Young {
		told.Detail = youngDetail
	}
	return told
}

const youngDetail = "the Redis of the log has only just begun, or lost what it knew of who follows: replicas that it served before and that have not registered " +
	"again are not known. That takes them some seconds: /v1/purges/{sequence} says then"

const (
	defaultWait = time.Second
	maxWait     = 20 * time.Second // clients give up after 30 s
	maxAnswer   = 25 * time.Second // with the counting before
	maxBy       = 128              // bytes of X-Purged-By that are kept
)

// waitAfter is how long the receipt may take when counting has taken a while; wait below 0 is the default.
func waitAfter(wait, counting time.Duration) time.Duration {
	if wait < 0 {
		wait = defaultWait
	}
	return max(min(wait, maxAnswer-counting), 0)
}

func (p *purging) purge(w http.ResponseWriter, r *http.Request) {
	wait, until, ok := waiting(w, r, -1)
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
	careful, _ := asked.caution() // has been checked
	begun := time.Now()
	if !p.cautious(w, r, careful, &record, wait) {
		return
	}
	wait = waitAfter(wait, time.Since(begun))
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	receipt, err := p.Follower.Purge(r.Context(), record, wait)
	if receipt == nil {
		p.failed(w, &record, err)
		return
	}
	told := receiptOf(receipt, err)
	p.found(ctx, &told, until)
	p.Log.Info("purge", "sequence", receipt.Sequence.String(), "kind", string(record.Kind), "soft", record.Soft, "who", record.Who,
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
	if p.Follower.NothingAppended(err) {
		appended, told = "no", "nothing was purged: "
	}
	p.Log.Warn("a purge failed", "kind", string(record.Kind), "who", record.Who, "appended", appended, "error", err.Error())
	WriteProblem(w, http.StatusServiceUnavailable, told+err.Error(), map[string]any{"appended": appended})
}

// What is waited for.
const (
	untilApplied = "applied" // by all replicas
	untilSwept   = "swept"   // that too
)

// waiting reads the query, which has no other parameters than wait and until: one that is not known may have been meant to keep something from
// happening. ok is false when it has answered.
func waiting(w http.ResponseWriter, r *http.Request, otherwise time.Duration) (wait time.Duration, until string, ok bool) {
	query, ok := parameters(w, r, "wait", "until")
	if !ok {
		return 0, "", false
	}
	wait, until = otherwise, untilApplied
	if text := query.Get("until"); text != "" {
		if until = text; until != untilApplied && until != untilSwept {
			WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("until is %.40q: %s or %s", text, untilApplied, untilSwept), nil)
			return 0, "", false
		}
	}
	if text := query.Get("wait"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > maxWait {
			WriteProblem(w, http.StatusBadRequest, fmt.Sprintf("wait is %.40q: write a length of time from 0 to %v", text, maxWait), nil)
			return 0, "", false
		}
	}
	return wait, until, true
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
