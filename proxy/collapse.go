package proxy

import (
	"net/http"

	"cacheproxy/policy"
)

// togetherness says whether a request may share its fetch with others, or why it is fetched for its client alone.
type togetherness uint8

const (
	together      togetherness = iota
	ofNoUse                    // nothing of the exchange may be stored, so it is for nobody else
	onlyGet                    // what other methods do, each of them does
	ruleSaysAlone              // collapse: false
	wantsItsOwn                // it wants an answer of this moment, or one that only the origin can give
	wantsPart                  // it asks for a range, and fetching the whole is not what it asked for
	asksEachTime               // the stored response is validated before each use, so one's 304 does not answer another
	notShared                  // a response under this key was of use to one client only, a short while ago
)

// aloneSentences say in plain words why a request goes alone.
var aloneSentences = [...]string{
	ofNoUse:       "nothing of this exchange may be stored, so its response is for nobody else",
	onlyGet:       "only GET is fetched for several clients at once",
	ruleSaysAlone: "the rule says collapse: false",
	wantsItsOwn:   "the request wants an answer of its own",
	wantsPart:     "the request asks for a part",
	asksEachTime:  "the stored response is validated before each use, so each client asks",
	notShared:     "a response under this key was of use to one client only, a short while ago",
}

// sharing decides whether the request may share its fetch with others.
func (j *journey) sharing() togetherness {
	switch {
	case j.unstored != policy.None:
		return ofNoUse
	case j.r.Method != http.MethodGet:
		return onlyGet
	case !j.matched.Collapse:
		return ruleSaysAlone
	case j.rq.Directives.NoStore, j.outcome.Fwd == policy.FwdRequest, j.asksOrigin(), j.wantsNews():
		return wantsItsOwn
	case len(j.rq.Header["Range"]) > 0 && !j.wantsFromStart() && !j.validates():
		return wantsPart
	case j.validates() && !lasts(j.stored.Freshness()):
		return asksEachTime // the answer to another one's question is no use
	case !j.validates() && j.h.alone.holds(j.shareKey()):
		return notShared
	}
	return together
}

// lasts reports whether a stored response, once validated, may be used without asking again. Where it may not, the origin may want to
// look at each request (RFC 9111 section 5.2.2.4), and those who ask at once each ask.
func lasts(f policy.Freshness) bool { return !f.NoCache && f.Lifetime > 0 }

// wantsNews reports whether the request would refuse a response of this very moment: one that asks for validation (no-cache, max-age=0)
// may not be answered by a fetch that began before it (RFC 9111 section 4).
func (j *journey) wantsNews() bool {
	now := j.start
	ideal := policy.Freshness{Born: now, Lifetime: policy.MaxDelta}
	return policy.Evaluate(j.rq, ideal, now, j.matched).Action != policy.Fresh
}

// wantsFromStart: a range from the first byte to the end is the whole, and worth fetching as such.
func (j *journey) wantsFromStart() bool {
	v := j.rq.Header["Range"]
	return len(v) == 1 && v[0] == "bytes=0-"
}
