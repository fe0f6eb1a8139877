package proxy

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
)

// Requests that make others' stored responses doubtful: a PURGE, and unsafe methods, whose responses may also name cache groups. What they
// say is entered in the invalidation log by the hook Options.Purge, so that every replica learns of it.
//
// An unsafe request is not there to purge, and never fails for it. What is stored here is forgotten at once; the record is entered beside
// the request, when the upstream's head has come, and the head goes on to the client as soon as all replicas have applied the record,
// Options.PurgeWait later at the latest; together with those of other requests (Doubts). It is the head that is held back and not the end of the body, because it is what a client acts upon:
// a redirect is followed, and a script goes on, before the body has been read, and the next request may meet another replica. What
// has not been entered by then is entered all the same.

const (
	methodPurge = "PURGE"

	// purgeMethodWait is how long a PURGE waits for the replicas; those that have not confirmed by then are named in a 202.
	purgeMethodWait = time.Second
)

// What purges come from, and how they end: labels of cacheproxy_purges_total.
const (
	fromUnsafe = "unsafe"
	fromGroup  = "group"
	fromMethod = "method"

	purgeOK          = "ok"
	purgeUnconfirmed = "unconfirmed"
	purgeError       = "error"
	purgeCoarse      = "coarse"
	purgeLost        = "lost"
)

// enter enters one purge in the log, and says how that ended.
func enter(ctx context.Context, log *slog.Logger, purge func(context.Context, invalidation.Purge) (*invalidation.Receipt, error), p invalidation.Purge) (
	r *invalidation.Receipt, result string, err error,
) {
	defer func() {
		if v := recover(); v != nil { // else the process would end where nobody waits
			r, err = nil, panicked(log, "a purge", v)
		}
		result = purgeOK
		switch {
		case err != nil && r == nil:
			result = purgeError
		case err != nil, ctx.Err() != nil, r != nil && !r.Complete():
			result = purgeUnconfirmed
		}
	}()
	r, err = purge(ctx, p)
	return r, result, err
}

// spread enters what an unsafe request has made doubtful, and waits for it no longer than Options.PurgeWait. It returns what has been entered
// by then.
func (h *Handler) spread(who string, list []doubt) []invalidation.Seq {
	if h.opt.Doubts == nil || len(list) == 0 {
		return nil
	}
	turns := h.opt.Doubts.enter(who, list)
	over := time.NewTimer(h.opt.PurgeWait)
	defer over.Stop()
	var entered []invalidation.Seq
	for _, t := range turns {
		select {
		case <-t.done:
			entered = append(entered, t.seq)
		case <-over.C:
			return entered
		}
	}
	return entered
}

// doubtful are what an unsafe request makes doubtful: these URLs, and the groups of its origin that the response names
// (RFC 9875 section 3). That a URL is forgotten says nothing of the groups which its stored response is in.
//
// A URL that no record can name is left out, as is all of an origin that none can name: nothing is stored there (journey.key, policy.ValidHost).
// To name something coarser in its place would let anybody who can send a POST empty an origin.
func doubtful(urls []string, h http.Header) []doubt {
	origin := policy.Key{URL: urls[0]}.Origin()
	if whole := (doubt{origin: origin}); nameable(whole) != whole {
		return nil
	}
	var list []doubt
	for i, url := range urls {
		if invalidation.CanName(url) && !slices.Contains(urls[:i], url) { // several targets may have one cache URL
			list = append(list, doubt{origin: invalidation.OriginOf(url), url: url})
		}
	}
	for _, group := range policy.InvalidatedGroups(h) {
		list = append(list, doubt{origin: origin, group: group})
	}
	return list
}

// purge answers a PURGE, which is neither forwarded nor stored.
func (j *journey) purge() {
	p, refusal, ok := j.purgeOf()
	if !ok {
		j.problem(refusal)
		return
	}
	var receipt *invalidation.Receipt
	if j.h.opt.Purge != nil {
		ctx, cancel := context.WithTimeout(j.r.Context(), purgeMethodWait)
		defer cancel()
		var result string
		var err error
		receipt, result, err = enter(ctx, j.h.opt.Log, j.h.opt.Purge, p)
		if j.h.opt.Metrics.Purges(fromMethod, result, 1); result == purgeError {
			j.failure = err
			j.problem(problem{status: http.StatusServiceUnavailable, reason: policy.PurgeFailed, detail: "the purge could not be entered in the log that all replicas follow"})
			return
		}
	}
	j.outcome.Detail = policy.SoftPurged
	if !p.Soft {
		j.h.opt.Store.Forget(j.cacheKey.URL)
		j.outcome.Detail = policy.Purged
	}
	j.purged(receipt)
}

// purgeOf is what a PURGE asks for: the cache URL of a GET for the same target, in all its variants. Where it may not ask, or not so, the
// refusal says why.
func (j *journey) purgeOf() (p invalidation.Purge, refusal problem, ok bool) {
	j.target()
	j.cacheKey.URL, j.matched = j.h.getURL(j.scheme, j.r.Host, j.keyPath(), j.r.URL.RawQuery, j.in)
	soft, readable := asksSoftly(j.r.Header)
	refusal.reason = policy.PurgeRefused
	switch {
	case !contains(j.h.opt.Client.Purge, j.addr):
		refusal.status, refusal.detail = http.StatusMethodNotAllowed, "this client may not use PURGE here"
		refusal.header = http.Header{"Allow": {"GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"}} // the upstream may know others
		return p, refusal, false
	case !readable:
		refusal.status, refusal.detail = http.StatusBadRequest, "Soft-Purge and Fastly-Soft-Purge are 1 or 0"
		return p, refusal, false
	case soft && j.h.opt.Purge == nil:
		refusal.status, refusal.detail = http.StatusNotImplemented, "a soft purge needs the invalidation log, and there is none"
		return p, refusal, false
	}
	p = purgeOfURLs([]string{j.cacheKey.URL})
	p.Soft, p.Who = soft, methodPurge+" from "+j.addr.String()
	if err := p.Check(); err != nil {
		refusal.status, refusal.detail = http.StatusBadRequest, "no purge can name this URL, so nothing is stored under it: "+err.Error()
		return p, refusal, false
	}
	return p, problem{}, true
}

// purgeOfURLs is the purge of these cache URLs: of one as the selector, unless it is too long for that, and else as a list.
func purgeOfURLs(urls []string) invalidation.Purge {
	if p := (invalidation.Purge{Kind: invalidation.KindURL, Selector: urls[0]}); len(urls) == 1 && p.Check() == nil {
		return p
	}
	return invalidation.Purge{Kind: invalidation.KindURL, URLs: urls}
}

// asksSoftly reads the fields with which a PURGE asks that what is stored be made stale instead of being forgotten. Another value than 1
// and 0 is not readable: to take it for a hard purge would do more than was meant.
func asksSoftly(h http.Header) (soft, readable bool) {
	for _, name := range [...]string{"Soft-Purge", "Fastly-Soft-Purge"} {
		for _, value := range h[name] {
			switch strings.TrimSpace(value) {
			case "1":
				soft = true
			case "0":
			default:
				return false, false
			}
		}
	}
	return soft, true
}

// purged answers with the receipt: 200, or 202 where a replica has yet to confirm, or may have and could not be asked. Without a log there
// is no receipt.
func (j *journey) purged(receipt *invalidation.Receipt) {
	h := j.w.Header()
	status, body := http.StatusOK, []byte(nil)
	if receipt != nil {
		if !receipt.Complete() {
			status = http.StatusAccepted
		}
		body, _ = json.Marshal(receipt) // numbers and strings: cannot fail
		body = append(body, '\n')
		h["Content-Type"] = []string{"application/json"}
	} else {
		h["Content-Type"] = nil
	}
	if j.tells() {
		h["Cache-Status"] = []string{string(j.outcome.AppendCacheStatus(nil, j.h.opt.Cache.Name))}
	}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	j.write(status, body)
}

// explainPurge says what a PURGE would meet.
func (j *journey) explainPurge(e Explanation) Explanation {
	p, refusal, ok := j.purgeOf()
	e.Rule, e.Key = explainRule(j.matched), j.explainKey()
	e.Lookup = ExplainedLookup{Tier: j.tier.String(), Why: &ExplainedReason{Sentence: "A PURGE is for all that is stored for the URL, and looks for none of it."}}
	switch {
	case !ok:
		j.problem(refusal)
		e.Status = j.status
	case p.Soft:
		j.outcome.Detail, e.Status = policy.SoftPurged, http.StatusOK
	default:
		j.outcome.Detail, e.Status = policy.Purged, http.StatusOK
	}
	e.Decision = ExplainedDecision{Action: "purge", ExplainedReason: explainReason(j.outcome.Detail)}
	if !ok {
		e.Decision.Action = "refuse"
	}
	e.Outcome = j.outcome.Label()
	e.CacheStatus = string(j.outcome.AppendCacheStatus(nil, j.h.opt.Cache.Name))
	return e
}
