package policy

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
)

// This file answers whether a response may be stored (RFC 9111 section 3). Which of its fields are, fields.go says.

// StoreOptions is the part of the configuration that storing asks for. The zero value knows no targeted field and guesses no
// lifetime.
type StoreOptions struct {
	Targets   []string // targeted fields (RFC 9213), canonical names, the most specific first
	Heuristic bool     // cache.heuristic: lifetimes may be guessed
}

// Storable reports whether a response may be stored: None, and then how fresh it is, or the reason why not. The rules of
// RFC 9111 section 3 follow in order, and what we ask beyond them. The rule is the one that governs the response, DefaultRule
// if none does; it is never nil. url is the cache URL of the request (Key.URL).
//
// Of a partial response only the head is known here: whether its body agrees with it, PartOf tells.
func Storable(rq Request, rs Response, rule *Rule, url string, opt StoreOptions) (Freshness, Reason) {
	d := ParseResponseDirectives(rs.Header, opt.Targets)
	if reason := checkStoring(rq, rs, &d, rule); reason != None {
		return Freshness{}, reason
	}
	f, source := freshness(rq, rs, &d, rule, opt)
	if rq.Method == http.MethodPost && !(source == lifetimeExplicit && isLocatedAt(rs, url)) {
		return Freshness{}, MethodNotStored
	}
	if reason := checkUsable(rq, rs, &d, f, source); reason != None {
		return Freshness{}, reason
	}
	return f, None
}

// checkStoring applies the rules that need no lifetime, in order; the first reason counts. They are called by name, and not out of a
// table, so that d stays on the stack.
func checkStoring(rq Request, rs Response, d *ResponseDirectives, rule *Rule) Reason {
	return cmp.Or(
		checkMethod(rq, rs), checkStatus(rs, d), checkBypass(rule), checkPart(rs), checkNoStore(rq, d, rule), checkPrivate(d, rule),
		checkErrorStatus(rs, rule), checkAuthorization(rq, d, rule), checkSetCookie(rs, d, rule), checkVary(rq, rs, d), checkEventStream(rs, d),
	)
}

// checkMethod is section 3: the method is understood. HEAD may only update, and POST is looked at again when the lifetime is
// known: only of a success does Content-Location say that a GET would be answered the same (RFC 9110 section 8.7).
func checkMethod(rq Request, rs Response) Reason {
	switch {
	case rq.Method == http.MethodGet:
		return None
	case rq.Method == http.MethodPost && rs.Status >= 200 && rs.Status <= 299 && rs.Status != http.StatusPartialContent:
		return None
	}
	return MethodNotStored
}

// checkStatus is section 3: the status is final, and understood where must-understand asks for it. 304 is never stored as
// itself, and what is not a status of HTTP is nothing that we could understand.
func checkStatus(rs Response, d *ResponseDirectives) Reason {
	switch {
	case rs.Status < 200 || rs.Status > 599 || rs.Status == http.StatusNotModified:
		return StatusNotStored
	case d.MustUnderstand && !understoodStatus(rs.Status):
		return StatusNotUnderstood
	}
	return None
}

// checkBypass is for a rule that looks at the response: one that does not has kept the request away from the cache altogether.
func checkBypass(rule *Rule) Reason {
	if rule.Bypass {
		return Bypass
	}
	return None
}

// checkPart is section 3.3: a 206 says which one range it holds, and of how much, and its Content-Length agrees.
func checkPart(rs Response) Reason {
	if rs.Status != http.StatusPartialContent {
		return None
	}
	part, ok := partOf(rs.Header)
	if !ok {
		return BadContentRange
	}
	if length, said := contentLength(rs.Header); said && length != part.Len() {
		return BadContentRange
	}
	return None
}

// checkNoStore is sections 5.2.1.5 and 5.2.2.5. must-understand lifts the response's no-store for a status that we understand
// (section 5.2.2.3), which checkStatus has made sure of.
func checkNoStore(rq Request, d *ResponseDirectives, rule *Rule) Reason {
	switch {
	case rq.Directives.NoStore:
		return RequestNoStore
	case d.NoStore && (!d.MustUnderstand || d.doubtfulUnderstand) && !rule.Ignore.Has(IgnoreNoStore):
		return NoStore
	}
	return None
}

// checkPrivate is section 5.2.2.7.
func checkPrivate(d *ResponseDirectives, rule *Rule) Reason {
	if d.Private && !rule.Ignore.Has(IgnorePrivate) {
		return Private
	}
	return None
}

// checkErrorStatus keeps errors out that a client can provoke and others would then see (cache poisoning), unless a rule wants
// them, and those that no rule can let in.
func checkErrorStatus(rs Response, rule *Rule) Reason {
	switch {
	case rs.Status < 400 || negativeStatus(rs.Status):
		return None
	case !personalStatus(rs.Status) && (rule.Ignore.Has(IgnoreErrorStatus) || rule.StoresStatus(rs.Status)):
		return None
	}
	return ErrorStatus
}

// checkAuthorization is section 3.5.
func checkAuthorization(rq Request, d *ResponseDirectives, rule *Rule) Reason {
	switch {
	case !hasCredentials(rq), d.Public, rule.Ignore.Has(IgnoreAuthorization):
		return None
	case d.SMaxAge.Set && !d.doubtfulSMaxAge, d.MustRevalidate && !d.doubtfulRevalidate:
		return None
	}
	return Authorization
}

// checkSetCookie keeps one client's cookies from the next, unless the fields that set them will not be stored.
func checkSetCookie(rs Response, d *ResponseDirectives, rule *Rule) Reason {
	if rule.Ignore.Has(IgnoreSetCookie) || rule.StripCookies {
		return None
	}
	for _, name := range setCookieFields {
		if _, found := rs.Header[name]; found && !d.unshared(name) {
			return SetCookie
		}
	}
	return None
}

// checkVary is section 4.1: nothing ever selects a response with "Vary: *", nor one whose Vary we cannot read, or may not store,
// or which nominates what the selection does not show.
func checkVary(rq Request, rs Response, d *ResponseDirectives) Reason {
	if n := ParseVary(rs.Header); n == NominationStar || d.unshared("Vary") || n.hides(rq.Header) {
		return VaryStar
	}
	return None
}

// IsEventStream reports whether a response is one of server-sent events. Parameters of its type that cannot be read make no difference.
func IsEventStream(h http.Header) bool {
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(trimSpace(media), "text/event-stream")
}

// checkEventStream keeps out streams that have no end, unless the origin itself says how long they are fresh.
func checkEventStream(rs Response, d *ResponseDirectives) Reason {
	if !IsEventStream(rs.Header) {
		return None
	}
	if _, ok := explicitLifetime(rs, d); ok {
		return None
	}
	return EventStream
}

// checkUsable is the end of section 3: what allows storing (an explicit lifetime, public, or a status that is cacheable by
// itself), and, because a cache need not store what it could never use, that it is fresh, or can be validated, or may be used
// stale.
func checkUsable(rq Request, rs Response, d *ResponseDirectives, f Freshness, source lifetimeSource) Reason {
	allowed := source == lifetimeExplicit || d.Public || heuristicStatus(rs.Status)
	ttl := f.TTL(rs.ResponseTime)
	stale := ttl <= 0 && ttl+max(f.StaleWhileRevalidate, f.StaleIfError) <= 0
	switch {
	case !allowed:
		return NoFreshness
	case f.NoCache && !f.Validator:
		return NoCache
	case source == lifetimeNone && !f.NoCache && personal(rq):
		return silentReason(rq, rs, f)
	case stale && !f.Validator:
		return NoFreshness
	}
	return None
}

// silentReason says why a response that does not say how long it is fresh is not stored for a request that says who asks:
// neither guessed fresh nor validated, for another one's 304 may be about another one's page.
func silentReason(rq Request, rs Response, f Freshness) Reason {
	switch {
	case !f.Validator:
		return NoFreshness
	case hasCredentials(rq):
		return Authorization
	}
	return CookieHeuristic
}

// isLocatedAt reports whether the Content-Location of a response is that URL, so that the response to a POST may answer a later
// GET (RFC 9110 section 9.3.3).
func isLocatedAt(rs Response, cacheURL string) bool {
	values := rs.Header["Content-Location"]
	if len(values) != 1 {
		return false
	}
	base, err := url.Parse(cacheURL)
	if err != nil {
		return false
	}
	location, err := base.Parse(values[0])
	return err == nil && sameURL(base, location)
}
