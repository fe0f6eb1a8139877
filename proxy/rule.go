package proxy

import (
	"cacheproxy/policy"
)

// rule finds the site and the first of its rules whose request part matches. Rules that also look at the response are left
// for later: which of them governs ttl, tags and the like is known when the response is there (exchange.rule).
func (j *journey) rule() {
	j.site = j.h.opt.Sites.Find(j.r.Host)
	path, ambiguous := policy.CleanPath(j.r.URL)
	if ambiguous {
		j.refuse(policy.AmbiguousPath)
	}
	j.in = policy.MatchInput{Method: j.r.Method, Path: path, RawQuery: j.r.URL.RawQuery, Header: j.r.Header}
	j.matched = j.site.RequestRule(&j.in)
	if j.matched.Bypass {
		j.unstored = policy.Bypass
	}
}

// refuse remembers the first reason for which nothing of this exchange may be looked up or stored.
func (j *journey) refuse(why policy.Reason) {
	if j.unstored == policy.None {
		j.unstored = why
	}
}
