package proxy

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"cacheproxy/limiter"
	"cacheproxy/policy"
)

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

// ruleLimits are the limits that a rule names.
type ruleLimits struct {
	set  *limiter.Set
	rule string // its name in keys: site/index
}

// limitsOf finds the limits of all rules that name some.
func limitsOf(sites *policy.Sites, limits *limiter.Limits) (map[*policy.Rule]*ruleLimits, error) {
	if limits == nil {
		return nil, nil
	}
	found := map[*policy.Rule]*ruleLimits{}
	for _, site := range sites.All() {
		for _, rule := range site.Rules {
			if len(rule.Limits) == 0 {
				continue
			}
			set, err := limits.Select(rule.Limits...)
			if err != nil {
				return nil, fmt.Errorf("proxy: rule %d of site %s: %w", rule.Index, site.Name, err)
			}
			found[rule] = &ruleLimits{set: set, rule: site.Name + "/" + strconv.Itoa(rule.Index)}
		}
	}
	return found, nil
}

// reservations lends what limits say of a request.
var reservations = sync.Pool{New: func() any { return new(limiter.Reservation) }}

// limit asks the limits that the rule names. It reports whether the journey goes on.
func (j *journey) limit() bool {
	held := j.h.limits[j.matched]
	if held == nil {
		return true
	}
	j.held, _ = reservations.Get().(*limiter.Reservation)
	asker := limiter.Asker{Request: j.r, Client: j.h.clientNetwork(j.addr), Address: j.addr, Rule: held.rule}
	if held.set.ByHost() {
		asker.Host = strings.ToLower(policy.ForwardHost(j.scheme, j.r.Host))
	}
	held.set.Reserve(j.r.Context(), &asker, j.held)
	if !j.held.Refused() {
		return true
	}
	p := problem{
		status: j.held.Status(), reason: policy.LimitExceeded, detail: j.held.Detail(), limit: j.held.Limit(), retryAfter: j.held.RetryAfter(),
	}
	if j.held.Unavailable() {
		p.reason = policy.LimitUnavailable
	}
	j.problem(p)
	return false
}

// settleLimits says what the request came to, and gives the reservation back.
func (j *journey) settleLimits() {
	switch {
	case j.outcome.Hit:
		j.held.Settle(limiter.Hit)
	case j.status >= 500:
		j.held.Settle(limiter.Error)
	default:
		j.held.Settle(limiter.Miss)
	}
	reservations.Put(j.held)
	j.held = nil
}

// tellLimits tells the client where it stands, in fields of the response.
func (j *journey) tellLimits(h http.Header) {
	if j.held != nil {
		j.held.SetFields(h)
	}
}
