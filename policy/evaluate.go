package policy

import "time"

// This file answers whether a stored response that a request has selected may be used now (RFC 9111 section 4, RFC 5861,
// RFC 8246). It is on the path of every hit and does not allocate.

// Action is what is to be done with a stored response.
type Action uint8

// The actions. The zero value does nothing with it.
const (
	Forward                 Action = iota // there is nothing that could be used: fetch
	Fresh                                 // use it
	ServeStale                            // use it although it is stale
	ServeStaleAndRevalidate               // the same, and validate it meanwhile (RFC 5861 section 3)
	Revalidate                            // validate it before use; fetch where it has no validator
)

var actionNames = [...]string{"forward", "fresh", "serve-stale", "serve-stale-and-revalidate", "revalidate"}

// String returns the action's name, for logs and tests.
func (a Action) String() string {
	if int(a) >= len(actionNames) {
		return "unknown"
	}
	return actionNames[a]
}

// Decision is what Evaluate decides, and why.
type Decision struct {
	Action Action
	Fwd    Fwd    // FwdStale or FwdRequest where the request has to wait for upstream, else FwdNone
	Reason Reason // why it is not fresh for this request, or why it is served stale
}

// Evaluate decides on the use of a stored response at now. The rule is never nil; of it only ignore: [client-reload] matters
// here, everything else has gone into the Freshness when the response was stored.
//
// only-if-cached is not looked at: it changes what follows from Revalidate (a 504), not the decision. Nor is the request's
// no-store, which does not speak about what is stored already (section 5.2.1.5).
func Evaluate(rq Request, f Freshness, now time.Time, rule *Rule) Decision {
	d := &rq.Directives
	obey := !rule.Ignore.Has(IgnoreClientReload)
	ttl := f.TTL(now)
	fresh := ttl > 0
	if obey && d.NoCache {
		return Decision{Revalidate, FwdRequest, RequestNoCache}
	}
	if f.NoCache {
		return Decision{Revalidate, FwdStale, NoCache}
	}
	if obey && tooOld(d, f, now, fresh) {
		return Decision{Revalidate, FwdRequest, RequestMaxAge}
	}
	if obey && d.MinFresh.Set && ttl < d.MinFresh.D {
		return Decision{Revalidate, FwdRequest, RequestMinFresh}
	}
	if fresh {
		return Decision{Action: Fresh}
	}
	return evaluateStale(d, f, -ttl, obey)
}

// tooOld is the request's max-age (section 5.2.1.1). max-age=0 asks for validation even in the first second; it is what a
// browser's reload sends, and what an immutable response asks it not to (RFC 8246 section 2).
func tooOld(d *RequestDirectives, f Freshness, now time.Time, fresh bool) bool {
	if !d.MaxAge.Set {
		return false
	}
	if d.MaxAge.D == 0 {
		return !(fresh && f.Immutable)
	}
	return f.Age(now) > d.MaxAge.D
}

// evaluateStale is section 4.2.4: a stale response is used only where the origin or the client has said so, and the origin has
// not forbidden it. over is for how long it has been stale. A client that names a max-age and no max-stale does not want it.
func evaluateStale(d *RequestDirectives, f Freshness, over time.Duration, obey bool) Decision {
	tolerant := !obey || !d.MaxAge.Set || d.MaxStale.Set
	switch {
	case f.MustRevalidate:
		return Decision{Revalidate, FwdStale, MustRevalidate}
	case tolerant && f.StaleWhileRevalidate > 0 && over <= f.StaleWhileRevalidate:
		return Decision{Action: ServeStaleAndRevalidate, Reason: ServedWhileRevalidate}
	case d.MaxStale.Set && over <= d.MaxStale.D:
		return Decision{Action: ServeStale, Reason: ServedMaxStale}
	}
	return Decision{Revalidate, FwdStale, Stale}
}

// MayServeIfError reports whether a stored response may be used at now although it should have been validated, because upstream
// answers with an error or not at all (RFC 5861 section 4): within the longer of the origin's or rule's stale-if-error and the
// request's, and never where validation is a must. The rule is never nil and is asked as Evaluate asks it.
func MayServeIfError(d RequestDirectives, f Freshness, now time.Time, rule *Rule) bool {
	if f.NoCache || f.MustRevalidate || d.NoCache && !rule.Ignore.Has(IgnoreClientReload) {
		return false
	}
	window := max(f.StaleIfError, d.StaleIfError.D)
	return window > 0 && -f.TTL(now) <= window
}
