package proxy

import (
	"context"
	"net/http"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// lookup selects a stored response. The stamp is taken before: whatever is forgotten after it was forgotten after this
// request had begun to look, so a fetch that follows may not be stored over it.
func (j *journey) lookup() {
	if !j.mayLookUp() {
		return
	}
	s := j.h.opt.Store
	j.stamp = s.Mark()
	ctx := j.r.Context()
	if j.held != nil && j.held.Waited() > 0 { // what it has waited for Redis before counts
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.Timeout()-j.held.Waited())
		defer cancel()
	}
	j.found(s.Lookup(ctx, j.cacheKey, j.rq.Header))
}

// mayLookUp reports whether a stored response may answer at all.
func (j *journey) mayLookUp() bool {
	if j.unstored != policy.None {
		j.outcome.Detail = j.unstored
		return false
	}
	return lookedUp(j.r.Method)
}

// found records what was found, and what follows where nothing was.
func (j *journey) found(res store.Result) {
	j.stored, j.tier = res.Entry, res.Tier
	if res.Entry != nil {
		j.nominate = res.Entry.Nomination()
		return
	}
	j.outcome.Fwd = policy.FwdURIMiss
	j.outcome.Detail = res.Reason
	switch {
	case res.Reason == policy.StoreUnavailable:
		j.outcome.Fwd = policy.FwdMiss
	case res.VaryMiss:
		j.outcome.Fwd = policy.FwdVaryMiss
		j.nominate = j.h.opt.Store.Nominated(j.cacheKey.URL)
	}
}

// lookedUp reports whether a stored response may answer the method: HEAD shares GET's.
func lookedUp(method string) bool {
	return method == http.MethodGet || method == http.MethodHead
}

// evaluate decides whether the stored response is served now, and reports it. If not, the outcome says why the request is
// forwarded.
func (j *journey) evaluate() bool {
	switch {
	case j.unstored != policy.None:
		j.outcome.Fwd = policy.FwdBypass
		return false
	case !lookedUp(j.r.Method):
		j.outcome.Fwd = policy.FwdMethod
		return false
	case j.stored == nil:
		return false
	}
	if j.asksOrigin() {
		j.forward(policy.FwdRequest, policy.Conditional)
		return false
	}
	if !j.h.covers(j.rq, j.stored) {
		j.forward(policy.FwdPartial, policy.PartialMiss)
		return false
	}
	fresh := j.stored.Freshness()
	j.decision = policy.Evaluate(j.rq, fresh, j.start, j.matched)
	switch j.decision.Action {
	case policy.Fresh, policy.ServeStale, policy.ServeStaleAndRevalidate:
		j.hit(j.decision.Reason)
		return true
	default:
		j.forward(j.decision.Fwd, j.decision.Reason)
		return false
	}
}

// forward records why the request goes upstream although something is stored.
func (j *journey) forward(fwd policy.Fwd, why policy.Reason) {
	j.outcome.Fwd, j.outcome.Detail = fwd, why
}

// hit records that the stored response answers, and how fresh it is.
func (j *journey) hit(why policy.Reason) {
	j.outcome = policy.Outcome{Hit: true, HasTTL: true, TTL: j.stored.Freshness().TTL(j.start), Detail: why}
}

// covers reports whether e holds all that the request asks for: a stored partial response answers only ranges inside of it.
func (h *Handler) covers(rq policy.Request, e *store.Entry) bool {
	part, partial := e.Part()
	if !partial {
		return true
	}
	ranges, result := policy.SelectRange(rq, e.ETag(), e.LastModified(), e.Date(), part.Total, h.opt.Cache.MaxRanges)
	if result != policy.RangePartial {
		return false
	}
	for _, r := range ranges {
		if !part.Covers(r) {
			return false
		}
	}
	return true
}
