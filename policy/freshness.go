package policy

import (
	"net/http"
	"strings"
	"time"
)

// This file computes how old a response is and how long it is fresh (RFC 9111 section 4.2).
//
//	age      = now - Born, where Born is the response's arrival less the age it had on arrival (section 4.2.3)
//	lifetime = the rule's ttl, or s-maxage, max-age, Expires - Date (section 4.2.1), or the rule's default, or a guess (4.2.2)
//	fresh    = lifetime > age
//
// What the origin says in a way that cannot be read counts as expired, never as unsaid.

const (
	// heuristicFraction: a response is guessed fresh for a tenth of the time for which it had not changed (section 4.2.2).
	heuristicFraction = 10
	// heuristicMax bounds a guess; longer ones need a Warning in the older standards and surprise operators in any.
	heuristicMax = 24 * time.Hour
)

// Age returns the current age at now (section 4.2.3); never negative.
func (f Freshness) Age(now time.Time) time.Duration { return max(0, now.Sub(f.Born)) }

// TTL returns the remaining freshness lifetime at now; zero or less means stale.
func (f Freshness) TTL(now time.Time) time.Duration {
	ttl := f.Lifetime - f.Age(now)
	if f.Purged {
		return min(ttl, 0)
	}
	return ttl
}

// Retention returns for how long from now the response is to be kept: until it is stale and no window in which it may still be
// used (stale-while-revalidate, stale-if-error, and keep for validation where it has a validator) is open. Zero or less: it
// would never be used, do not store it. It is meant to be asked once, when the response is stored.
func (f Freshness) Retention(now time.Time, keep time.Duration) time.Duration {
	after := max(f.StaleWhileRevalidate, f.StaleIfError)
	if f.Validator {
		after = max(after, min(keep, MaxDelta))
	}
	return f.TTL(now) + after
}

// lifetimeSource says who named the lifetime.
type lifetimeSource uint8

const (
	lifetimeNone      lifetimeSource = iota // nobody; it is zero
	lifetimeHeuristic                       // we guessed it, from Last-Modified
	lifetimeDefault                         // the rule, because the origin was silent
	lifetimeExplicit                        // the origin, or the rule's ttl
)

// freshness computes the Freshness of a response that is about to be stored, and who named its lifetime.
func freshness(rq Request, rs Response, d *ResponseDirectives, rule *Rule, opt StoreOptions) (Freshness, lifetimeSource) {
	age, ageKnown := initialAge(rs)
	f := Freshness{
		Born:           rs.ResponseTime.Add(-age),
		NoCache:        d.NoCache && !rule.Ignore.Has(IgnoreNoCache),
		MustRevalidate: d.MustRevalidate || d.ProxyRevalidate || d.SMaxAge.Set,
		Immutable:      d.Immutable,
		Validator:      hasValidator(rs),
	}
	var source lifetimeSource
	f.Lifetime, source = lifetime(rq, rs, d, rule, opt)
	f.Heuristic = source == lifetimeHeuristic
	windows(&f, d, rule)
	if !ageKnown && rule.TTL == nil {
		// Nobody knows how old it is, so it is not known to be fresh, nor stale for how long.
		f.Lifetime, f.StaleWhileRevalidate = 0, 0
	}
	return f, source
}

// lifetime returns the freshness lifetime and who named it.
func lifetime(rq Request, rs Response, d *ResponseDirectives, rule *Rule, opt StoreOptions) (time.Duration, lifetimeSource) {
	if rule.TTL != nil {
		return max(0, *rule.TTL), lifetimeExplicit
	}
	if v, ok := explicitLifetime(rs, d); ok {
		return v, lifetimeExplicit
	}
	if !heuristicStatus(rs.Status) && !d.Public || personal(rq) {
		return 0, lifetimeNone
	}
	switch {
	case rule.NegativeTTL != nil && negativeStatus(rs.Status):
		return max(0, *rule.NegativeTTL), lifetimeDefault
	case rule.DefaultTTL != nil && rs.Status < 400, rule.DefaultTTL != nil && negativeStatus(rs.Status):
		return max(0, *rule.DefaultTTL), lifetimeDefault
	case opt.Heuristic:
		if v := heuristicLifetime(rs); v > 0 {
			return v, lifetimeHeuristic
		}
	}
	return 0, lifetimeNone
}

// explicitLifetime is section 4.2.1: the first of s-maxage, max-age and Expires less Date. Expires does not count beside a
// targeted field (RFC 9213 section 2.2); more than one, or none that is a date, is in the past (section 5.3).
func explicitLifetime(rs Response, d *ResponseDirectives) (time.Duration, bool) {
	switch {
	case d.SMaxAge.Set:
		return d.SMaxAge.D, true
	case d.MaxAge.Set:
		return d.MaxAge.D, true
	case d.Targeted:
		return 0, false
	}
	if _, found := rs.Header["Expires"]; !found {
		return 0, false
	}
	expires, ok := dateOf(rs.Header, "Expires", rs.ResponseTime)
	if !ok {
		return 0, true
	}
	return min(max(0, expires.Sub(generated(rs))), MaxDelta), true
}

// heuristicLifetime is section 4.2.2; zero where there is nothing to guess from.
func heuristicLifetime(rs Response) time.Duration {
	modified, ok := dateOf(rs.Header, "Last-Modified", rs.ResponseTime)
	if !ok {
		return 0
	}
	return min(max(0, generated(rs).Sub(modified)/heuristicFraction), heuristicMax)
}

// windows sets the stale windows of RFC 5861: the rule's, or else the origin's. What must be validated has none (RFC 9111
// section 4.2.4), whoever asks for one.
func windows(f *Freshness, d *ResponseDirectives, rule *Rule) {
	if f.MustRevalidate || f.NoCache {
		return
	}
	f.StaleWhileRevalidate, f.StaleIfError = d.StaleWhileRevalidate.D, d.StaleIfError.D
	if rule.StaleWhileRevalidate != nil {
		f.StaleWhileRevalidate = max(0, *rule.StaleWhileRevalidate)
	}
	if rule.StaleIfError != nil {
		f.StaleIfError = max(0, *rule.StaleIfError)
	}
}

// generated is when the origin made the response: its Date, or, where that says nothing, its arrival (RFC 9110 section 6.6.1).
func generated(rs Response) time.Time {
	if date, ok := dateOf(rs.Header, "Date", rs.ResponseTime); ok {
		return date
	}
	return rs.ResponseTime
}

// initialAge is the corrected initial age of section 4.2.3. It is false where the response has an Age that says nothing. Date
// counts whole seconds, so the age that it shows is counted in whole seconds too: else all would be half a second old on arrival.
func initialAge(rs Response) (time.Duration, bool) {
	age, known := parseAge(rs.Header["Age"])
	corrected := age
	if !rs.RequestTime.IsZero() {
		corrected += max(0, rs.ResponseTime.Sub(rs.RequestTime))
	}
	apparent := rs.ResponseTime.Truncate(time.Second).Sub(generated(rs).Truncate(time.Second))
	return min(max(apparent, corrected), 2*MaxDelta), known
}

// parseAge reads the Age field (section 5.1): no line is an age of zero. It is false where nobody can tell the age:
//
//   - The value is not delta-seconds. Section 5.1 would ignore it; whoever sends an Age has however kept the response for some
//     time, so that it is not as new as it would seem.
//   - Several ages: on several lines, or on one line as a hop joins lines (", " with whitespace, RFC 9110 section 5.3). Each is
//     the word of another cache, and only the one nearest to us would be right.
//
// A list without whitespace is one sender's malformed word, of which the first member is taken, as section 5.1 says.
func parseAge(lines []string) (time.Duration, bool) {
	switch len(lines) {
	case 0:
		return 0, true
	case 1:
		first, rest, _ := strings.Cut(lines[0], ",")
		if strings.ContainsAny(rest, " \t") {
			return 0, false
		}
		return parseDeltaSeconds(first)
	}
	return 0, false
}

// hasValidator reports whether a conditional request can be made from the response (section 4.3.1).
func hasValidator(rs Response) bool {
	if rs.Header.Get("ETag") != "" {
		return true
	}
	_, ok := dateOf(rs.Header, "Last-Modified", rs.ResponseTime)
	return ok
}

// personal reports whether the response may be meant for the one who asked although nothing in it says so. To such a request no
// lifetime is guessed, and no default applied. Where a rule strips cookies, there is no Cookie in what was forwarded.
func personal(rq Request) bool {
	_, cookie := rq.Header["Cookie"]
	return cookie || hasCredentials(rq)
}

// hasCredentials reports whether the request says who asks (section 3.5).
func hasCredentials(rq Request) bool {
	_, found := rq.Header["Authorization"]
	return found || rq.Credentials
}

// headerDate formats a time as an HTTP-date.
func headerDate(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
