// Package policy decides what HTTP permits a shared cache to do.
//
// It is pure: a decision is a function of messages and a time, it reads no clock, opens no connection and keeps no state. The
// questions, in the order in which a request meets them:
//
//	Sites.Find, RequestRule    which site and which rule govern this request (site.go, rule.go)
//	KeyRule.Key                under which cache URL its response is kept (key.go)
//	Nomination.AppendSelection which stored response of that URL it selects: Vary (vary.go, RFC 9111 section 4.1)
//	Evaluate                   may that one be used now, and how (evaluate.go, section 4)
//	Precondition, SelectRange  what of it the client wants: 304, 206, 200 (RFC 9110 sections 13 and 14)
//	Storable                   may a response be stored, and for how long is it fresh (storing.go, freshness.go, section 3)
//	Freshen                    what a 304 or a HEAD changes in a stored response (freshen.go, sections 3.2, 4.3.4, 4.3.5)
//	Combine                    how partial responses grow together (partial.go, sections 3.3, 3.4)
//	Invalidates                which URLs an unsafe request makes doubtful (invalidate.go, section 4.4)
//
// Each rule of a standard is one small function that names its section; the function above it lists the rules in order. A "no"
// is never a bare false: it is a Reason, and the same word stands in the Cache-Status field, in the metric and in the log.
//
// All functions may be called concurrently; compiled values (Sites, Site, Rule) are immutable.
package policy

import (
	"net/http"
	"time"
)

// Request is what caching looks at of a request. Header is the field section as it would be forwarded: after fields that the
// client may not claim were stripped and session fields were added, before our own conditional, Range and per-hop fields.
type Request struct {
	Method     string
	Header     http.Header
	Directives RequestDirectives // of Header, parsed once; see ParseRequestDirectives

	// Credentials says that the response may depend on who asks although no Authorization field shows it: a session resolved
	// by this proxy, for example. It is treated like Authorization (RFC 9111 section 3.5).
	Credentials bool
}

// NewRequest parses the directives of header and returns the Request. It does not copy header.
func NewRequest(method string, header http.Header) Request {
	return Request{Method: method, Header: header, Directives: ParseRequestDirectives(header)}
}

// Response is what caching looks at of a response received from upstream. Header holds the end-to-end fields: hop-by-hop
// fields and those named by Connection are already gone.
type Response struct {
	Status int
	Header http.Header

	// RequestTime is when the request was sent, ResponseTime when the response head arrived (RFC 9111 section 4.2.3).
	RequestTime, ResponseTime time.Time
}

// Freshness is all that must be known of a stored response to decide on its use; it is computed once, when the response is
// stored, and travels with it.
type Freshness struct {
	// Born is the instant at which the response's age was zero: ResponseTime less the corrected initial age of RFC 9111
	// section 4.2.3, so that the current age at any time t is t - Born.
	Born time.Time
	// Lifetime is the freshness lifetime (section 4.2.1), counted from Born.
	Lifetime time.Duration
	// StaleWhileRevalidate and StaleIfError are the windows of RFC 5861 after Lifetime; zero means none.
	StaleWhileRevalidate, StaleIfError time.Duration

	NoCache        bool // must be validated before each use (section 5.2.2.4, without field names)
	MustRevalidate bool // never served stale: must-revalidate, proxy-revalidate, s-maxage (sections 5.2.2.2, .8, .10)
	Immutable      bool // RFC 8246
	Heuristic      bool // Lifetime was guessed (section 4.2.2)
	Validator      bool // has an ETag or Last-Modified, so a stale one can be validated
	// Purged says that a soft purge has made it stale since it was stored or validated, whatever the clock says: the purge has its time from
	// another clock, and a second one may be later than the request that asks.
	Purged bool
}
