package proxy

import (
	"net/http"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// throughFill joins or leads the fill of this request and returns its part of the response.
func (j *journey) throughFill(out *http.Request) (*http.Response, error) {
	f, leads, e := j.h.fills.join(j, j.fillKey())
	if e != nil {
		j.stored, j.tier, j.decision = e, store.TierNear, policy.Decision{}
		j.hit(policy.None)
		return nil, errStored
	}
	var a answer
	var err error
	if leads {
		a, err = f.lead(j, out)
	} else if a, err = f.await(out.Context()); err != nil {
		f.leave(j)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case a.entry != nil && (leads || j.mayShare(a)), a.err != nil && a.entry == nil:
		f.leave(j)
		j.outcome.Collapsed = !leads
		return j.take(a)
	case a.shared && (leads || a.plan.answers(j)):
		j.outcome.Collapsed = !leads
		return j.readFrom(f, a, leads, out), nil
	case leads && f.take(out.Context()):
		f.leave(j)
		return j.take(a)
	}
	f.leave(j)
	return j.notShared(out, a)
}

// mayShare reports whether the stored response that has answered another one's fetch answers this request too: fresh, as it would from
// the store, or instead of an error. A 304 that leaves it stale, or to be validated before each use, is only about the one who asked.
func (j *journey) mayShare(a answer) bool {
	switch {
	case a.personal, !a.entry.Selects(j.cacheKey.Extras, j.rq.Header), !j.h.covers(j.rq, a.entry), !j.h.opt.Store.Permits(a.entry):
		return false
	case a.reason == policy.ServedIfError:
		return policy.MayServeIfError(j.rq.Directives, a.entry.Freshness(), j.h.opt.Now(), j.matched)
	}
	return j.usable(a.entry)
}

// notShared: the response was for somebody else. Where Vary alone stands between, what it nominates is known now, and one more
// fill is tried for those who select the same; else the request goes alone.
func (j *journey) notShared(out *http.Request, a answer) (*http.Response, error) {
	if a.shared && !j.rejoined && a.plan.nomination != policy.NominationStar {
		j.rejoined = true
		j.nominate = a.plan.nomination
		return j.throughFill(out)
	}
	j.goesAlone()
	return j.goAlone(out)
}

// goesAlone notes that the request is fetched for its client alone because a response was for somebody else. What becomes of its own
// response says more, where there is something to say (told).
func (j *journey) goesAlone() {
	j.h.refused(policy.NotShareable)
	if j.outcome.Detail != policy.StoreUnavailable {
		j.outcome.Detail = policy.NotShareable
	}
}
