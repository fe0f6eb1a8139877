package policy

import (
	"net/http"
	"strings"
	"time"
)

// This file reads the Cache-Control field (RFC 9111 section 5.2) and its predecessor Pragma (section 5.4).
//
//	Cache-Control = #( token [ "=" ( token / quoted-string ) ] )
//
// All lines of the field count and make one list; names are case-insensitive. What cannot be read is never read as a
// permission: a malformed lifetime is a lifetime of zero, of two lifetimes the shorter holds, and after the first byte that does
// not fit the grammar only the directives that forbid something are still believed on that line.

// MaxDelta is where delta-seconds saturate: 2^31 seconds, some 68 years (RFC 9111 section 1.2.2).
const MaxDelta = (1 << 31) * time.Second

// Delta is the argument of a directive that counts seconds. Set says that the directive is there.
type Delta struct {
	Set bool
	D   time.Duration // whole seconds, 0 to MaxDelta
}

// shorten sets the delta, or lowers it where it was set: of conflicting values the stricter holds.
func (d *Delta) shorten(v time.Duration) {
	if !d.Set || v < d.D {
		*d = Delta{Set: true, D: v}
	}
}

// lengthen sets the delta, or raises it where it was set.
func (d *Delta) lengthen(v time.Duration) {
	if !d.Set || v > d.D {
		*d = Delta{Set: true, D: v}
	}
}

// RequestDirectives are the Cache-Control directives of a request (RFC 9111 section 5.2.1; stale-if-error: RFC 5861 section 4).
// The zero value asks for nothing.
type RequestDirectives struct {
	NoCache      bool // also from "Pragma: no-cache" where there is no Cache-Control
	NoStore      bool
	OnlyIfCached bool
	NoTransform  bool

	MaxAge       Delta // malformed: zero, the stricter reading
	MinFresh     Delta
	MaxStale     Delta // without a value: MaxDelta
	StaleIfError Delta
}

// ResponseDirectives are the cache directives of a response: of the targeted field that applies to this cache, or else of
// Cache-Control (RFC 9111 section 5.2.2, RFC 5861, RFC 8246, RFC 9213). The zero value says nothing.
type ResponseDirectives struct {
	NoStore         bool
	NoCache         bool     // without field names
	NoCacheFields   []string // canonical names; no-cache="..."
	Private         bool     // without field names
	PrivateFields   []string // canonical names; private="..."
	Public          bool
	MustRevalidate  bool
	ProxyRevalidate bool
	MustUnderstand  bool
	NoTransform     bool
	Immutable       bool

	MaxAge, SMaxAge                    Delta // malformed: zero, the stricter reading
	StaleWhileRevalidate, StaleIfError Delta // malformed: zero

	// What forbids and permits at once only forbids where it is malformed: must-revalidate and s-maxage then do not let the
	// responses to requests with Authorization in, must-understand does not lift no-store.
	doubtfulRevalidate, doubtfulSMaxAge, doubtfulUnderstand bool

	Targeted bool // they come from a targeted field, so Cache-Control and Expires do not count
}

// ParseRequestDirectives reads Cache-Control, or Pragma where there is no Cache-Control (RFC 9111 section 5.4). It does not
// allocate for what clients usually send.
func ParseRequestDirectives(h http.Header) RequestDirectives {
	var d RequestDirectives
	lines, found := h["Cache-Control"]
	if !found {
		d.NoCache = pragmaNoCache(h)
		return d
	}
	for _, line := range lines {
		s := scanner{rest: line}
		for s.next() {
			d.set(&s)
		}
	}
	return d
}

// set takes one directive. A malformed one that would only relax the cache's rules is ignored.
func (d *RequestDirectives) set(s *scanner) {
	switch strings.ToLower(s.name) {
	case "no-cache":
		d.NoCache = true
	case "no-store":
		d.NoStore = true
	case "only-if-cached":
		d.OnlyIfCached = true
	case "no-transform":
		d.NoTransform = true
	case "max-age":
		d.MaxAge.shorten(s.secondsOrZero())
	case "min-fresh":
		if v, ok := s.seconds(); ok {
			d.MinFresh.lengthen(v)
		}
	case "max-stale":
		if s.form == argNone {
			d.MaxStale.shorten(MaxDelta)
		} else if v, ok := s.seconds(); ok {
			d.MaxStale.shorten(v)
		}
	case "stale-if-error":
		if v, ok := s.seconds(); ok {
			d.StaleIfError.shorten(v)
		}
	}
}

// pragmaNoCache reports whether a Pragma line contains no-cache.
func pragmaNoCache(h http.Header) bool {
	for _, line := range h["Pragma"] {
		s := scanner{rest: line}
		for s.next() {
			if strings.EqualFold(s.name, "no-cache") {
				return true
			}
		}
	}
	return false
}

// ParseResponseDirectives returns the directives of the first field of targets that is valid and not empty, and where there is
// none those of Cache-Control. The names in targets are canonical, the most specific first (RFC 9213 section 2.2). A response
// with "Pragma: no-cache" and no Cache-Control is read as HTTP/1.0 meant it, as no-cache.
func ParseResponseDirectives(h http.Header, targets []string) ResponseDirectives {
	for _, name := range targets {
		if lines := h[name]; len(lines) > 0 {
			if d, ok := parseTargeted(lines); ok {
				return d
			}
		}
	}
	var d ResponseDirectives
	lines, found := h["Cache-Control"]
	if !found {
		d.NoCache = pragmaNoCache(h)
		return d
	}
	for _, line := range lines {
		s := scanner{rest: line}
		for s.next() {
			d.set(&s)
		}
	}
	return d
}

// set takes one directive. One that forbids holds whatever its argument looks like; one that permits must be well-formed.
func (d *ResponseDirectives) set(s *scanner) {
	switch strings.ToLower(s.name) {
	case "no-store":
		d.NoStore = true
	case "no-cache":
		if names, ok := s.fieldNames(); ok {
			d.NoCacheFields = append(d.NoCacheFields, names...)
		} else {
			d.NoCache = true
		}
	case "private":
		if names, ok := s.fieldNames(); ok {
			d.PrivateFields = append(d.PrivateFields, names...)
		} else {
			d.Private = true
		}
	case "public":
		d.Public = d.Public || s.form == argNone
	case "immutable":
		d.Immutable = d.Immutable || s.form == argNone
	case "must-revalidate":
		d.MustRevalidate = true
		d.doubtfulRevalidate = d.doubtfulRevalidate || s.form != argNone
	case "proxy-revalidate":
		d.ProxyRevalidate = true
	case "must-understand":
		d.MustUnderstand = true
		d.doubtfulUnderstand = d.doubtfulUnderstand || s.form != argNone
	case "no-transform":
		d.NoTransform = true
	case "max-age":
		d.MaxAge.shorten(s.secondsOrZero())
	case "s-maxage":
		v, ok := s.seconds()
		d.SMaxAge.shorten(v)
		d.doubtfulSMaxAge = d.doubtfulSMaxAge || !ok
	case "stale-while-revalidate":
		d.StaleWhileRevalidate.shorten(s.secondsOrZero())
	case "stale-if-error":
		d.StaleIfError.shorten(s.secondsOrZero())
	}
}

// unshared reports whether a field of that canonical name is named by no-cache="..." or private="...": a shared cache does not
// store it (sections 3.1, 5.2.2.4, 5.2.2.7).
func (d *ResponseDirectives) unshared(name string) bool {
	for _, n := range d.NoCacheFields {
		if n == name {
			return true
		}
	}
	for _, n := range d.PrivateFields {
		if n == name {
			return true
		}
	}
	return false
}
