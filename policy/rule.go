package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Ignore is a set of the rules of HTTP that a rule of the configuration tells this cache to disregard.
type Ignore uint16

// What may be ignored; ignoreNames has the configuration's words.
const (
	IgnoreNoStore        Ignore = 1 << iota // the response's no-store
	IgnorePrivate                           // the response's private
	IgnoreNoCache                           // the response's no-cache
	IgnoreSetCookie                         // store responses with Set-Cookie, cookies included
	IgnoreSetCookieOn304                    // let a 304 replace the stored Set-Cookie
	IgnoreAuthorization                     // store responses to requests with Authorization
	IgnoreErrorStatus                       // store any 4xx and 5xx that says how long it is fresh
	IgnoreClientReload                      // requests' no-cache, max-age=0 and the like
)

// ignoreNames holds the word of bit i at index i.
var ignoreNames = [...]string{
	"no-store", "private", "no-cache", "set-cookie", "set-cookie-on-304", "authorization", "error-status", "client-reload",
}

// Has reports whether all of bits are in the set.
func (i Ignore) Has(bits Ignore) bool { return i&bits == bits }

// ParseIgnore turns the configuration's words into a set. The error names every unknown word and lists the known ones.
func ParseIgnore(names []string) (Ignore, error) {
	var set Ignore
	var errs []error
	for _, name := range names {
		bit := slices.Index(ignoreNames[:], name)
		if bit < 0 {
			errs = append(errs, fmt.Errorf("unknown %q (known: %s)", name, strings.Join(ignoreNames[:], ", ")))
			continue
		}
		set |= 1 << bit
	}
	return set, errors.Join(errs...)
}

// Rule is what the configuration says about the messages it matches: compiled, immutable, safe for concurrent use.
// Durations that the configuration does not name are nil.
type Rule struct {
	Index  int  // place in its site's list; -1 for DefaultRule
	Bypass bool // pass on, store nothing
	// Condition is what the rule matches as the configuration writes it, in one line, for people: "path: /api/**, method: [GET]".
	// "" matches everything.
	Condition string

	TTL                  *time.Duration // replaces the freshness lifetime
	DefaultTTL           *time.Duration // the lifetime where the origin names none
	NegativeTTL          *time.Duration // the lifetime of errors where the origin names none
	StaleWhileRevalidate *time.Duration
	StaleIfError         *time.Duration

	Ignore       Ignore
	Key          *KeyRule // never nil
	Tags         []TagTemplate
	StripCookies bool        // Cookie is removed from the request sent upstream, Set-Cookie from the response
	MaxObject    int64       // bytes; 0 = the cache's
	Compress     Compression // of bodies in Redis
	Collapse     bool        // askers may share one fetch; true unless the configuration says no

	Limits         []string // names of the limits to be asked
	RequireSession bool

	// HasResponsePart says that the rule looks at status or content type too, so that it cannot be chosen before the response.
	HasResponsePart bool

	match matcher
}

// DefaultRule governs what no rule matches: HTTP alone decides.
var DefaultRule = &Rule{Index: -1, Key: &KeyRule{}, Collapse: true}

// StoresStatus reports whether the rule names this status in match.status together with a ttl: the explicit wish that allows
// an error status to be stored.
func (r *Rule) StoresStatus(status int) bool {
	return r.TTL != nil && slices.Contains(r.match.status, status)
}
