package proxy

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"cacheproxy/policy"
)

// Asker is what the hooks learn of a request.
type Asker struct {
	Request *http.Request // as received; only to be read
	Client  netip.Addr    // cut to client.ipv6_prefix; the zero Addr where the peer has none
	Site    *policy.Site
	Rule    *policy.Rule
	Session map[string]string // fields of the session; nil where the rule asks for none
}

// Limiter decides who may ask how often.
type Limiter interface {
	// Reserve takes the request's cost from every limit that its rule names. It must be quick and bounded in time: the
	// request waits for it.
	Reserve(ctx context.Context, a Asker) Reservation
}

// Reservation is a Limiter's answer.
type Reservation struct {
	Refused    bool
	Status     int           // of the refusal; 0 means 429
	RetryAfter time.Duration // sent rounded up to seconds where positive
	Header     http.Header   // fields for the response, refused or not; nil = none
	// Settle is called once when the outcome of an admitted request is known; nil where nothing is left to settle.
	Settle func(policy.Outcome)
}

// Sessions resolves who is asking.
type Sessions interface {
	// Resolve returns the fields of the request's session, and false where there is none.
	Resolve(ctx context.Context, r *http.Request) (fields map[string]string, ok bool)
}

// Ranking counts what is asked.
type Ranking interface {
	// Asked is told the cache URL of every request that has one and is no PURGE. It must not block.
	Asked(url string)
}

// session resolves the session where the rule asks for one. It reports whether the journey goes on.
func (j *journey) session() bool {
	s := j.h.opt.Sessions
	if s == nil || !(j.matched.RequireSession || len(j.matched.Key.Session) > 0) {
		return true
	}
	fields, ok := s.Resolve(j.r.Context(), j.r)
	if !ok && j.matched.RequireSession {
		j.problem(problem{status: http.StatusUnauthorized, reason: policy.SessionMissing, detail: "this resource needs a session"})
		return false
	}
	j.sessionFields = fields
	return true
}

// limit asks the limiter. It reports whether the journey goes on.
func (j *journey) limit() bool {
	l := j.h.opt.Limiter
	if l == nil || len(j.matched.Limits) == 0 {
		return true
	}
	res := l.Reserve(j.r.Context(), Asker{
		Request: j.r, Client: j.h.clientNetwork(j.addr), Site: j.site, Rule: j.matched, Session: j.sessionFields,
	})
	if !res.Refused {
		j.settle = res.Settle
		j.limitHeader = res.Header
		return true
	}
	p := problem{status: res.Status, reason: policy.LimitExceeded, detail: "too many requests", header: res.Header, retryAfter: res.RetryAfter}
	setDefault(&p.status, http.StatusTooManyRequests)
	j.problem(p)
	return false
}
