package policy

import (
	"net/http"
	"net/url"
	"time"
)

// StoreOptions is the part of the configuration that decides on storing.
type StoreOptions struct {
	Targets   []string // targeted fields, canonical names, most specific first (RFC 9213)
	Heuristic bool     // cache.heuristic
}

// Storable lists the rules of RFC 9111 section 3 in order.
func Storable(rq Request, rs Response, rule *Rule, url string, opt StoreOptions) (Freshness, Reason) {
	return Freshness{}, NoFreshness
}

// StoredHeader returns the fields to be stored.
func StoredHeader(rs Response, rule *Rule, opt StoreOptions) http.Header { return rs.Header.Clone() }

// RemoveHopByHop removes Connection-named and hop-by-hop fields in place.
func RemoveHopByHop(h http.Header) {}

// Age returns the current age.
func (f Freshness) Age(now time.Time) time.Duration { return max(0, now.Sub(f.Born)) }

// TTL returns the remaining freshness lifetime.
func (f Freshness) TTL(now time.Time) time.Duration { return f.Lifetime - f.Age(now) }

// Retention returns how long to keep the response stored.
func (f Freshness) Retention(now time.Time, keep time.Duration) time.Duration { return f.TTL(now) }

// Action is what is to be done with a stored response.
type Action uint8

// The actions.
const (
	Forward Action = iota
	Fresh
	ServeStale
	ServeStaleAndRevalidate
	Revalidate
)

// Decision is the result of Evaluate.
type Decision struct {
	Action Action
	Fwd    Fwd
	Reason Reason
}

// Evaluate decides on the use of a stored response.
func Evaluate(rq Request, f Freshness, now time.Time, rule *Rule) Decision {
	return Decision{Action: Revalidate, Fwd: FwdStale, Reason: Stale}
}

// MayServeIfError is RFC 5861 section 4.
func MayServeIfError(d RequestDirectives, f Freshness, now time.Time) bool { return false }

// Nomination is the canonical form of Vary.
type Nomination string

// NominationStar never matches.
const NominationStar Nomination = "*"

// ParseVary returns the nomination of a response.
func ParseVary(h http.Header) Nomination { return "" }

// AppendSelection appends the nominated fields of a request.
func (n Nomination) AppendSelection(dst []byte, h http.Header) []byte { return dst }

// SetConditionals makes a request conditional on what is stored.
func SetConditionals(h http.Header, etag, lastModified string) {}

// ClearConditionals removes conditionals and Range.
func ClearConditionals(h http.Header) (had bool) { return false }

// Freshens reports whether this 304 may update that stored response.
func Freshens(stored, notModified http.Header) bool { return false }

// Freshen returns the stored fields updated.
func Freshen(stored, update http.Header, rule *Rule, opt StoreOptions, responseTime time.Time) http.Header {
	return stored.Clone()
}

// Refreshed is Freshen, then Storable and StoredHeader on the result.
func Refreshed(rq Request, status int, stored http.Header, update Response, rule *Rule, url string, opt StoreOptions) (http.Header, Freshness, Reason) {
	return nil, Freshness{}, NoFreshness
}

// HeadEffect is what a HEAD response does to a stored one.
type HeadEffect uint8

// The effects.
const (
	HeadNothing HeadEffect = iota
	HeadFreshens
	HeadInvalidates
)

// HeadUpdates is RFC 9111 section 4.3.5.
func HeadUpdates(storedStatus int, stored http.Header, headStatus int, head http.Header) HeadEffect {
	return HeadNothing
}

// PreconditionResult is what a request's conditions make of a stored response.
type PreconditionResult uint8

// The results.
const (
	PreconditionNone PreconditionResult = iota
	NotModified
	PreconditionOrigin
)

// Precondition evaluates a request's conditions.
func Precondition(rq Request, status int, etag, lastModified, date string) PreconditionResult {
	return PreconditionNone
}

// ByteRange is inclusive.
type ByteRange struct{ First, Last int64 }

// RangeResult says what a Range asks for.
type RangeResult uint8

// The results.
const (
	RangeWhole RangeResult = iota
	RangePartial
	RangeUnsatisfiable
)

// SelectRange evaluates Range and If-Range.
func SelectRange(rq Request, etag, lastModified, date string, size int64, maxRanges int) ([]ByteRange, RangeResult) {
	return nil, RangeWhole
}

// ParseContentRange parses Content-Range.
func ParseContentRange(v string) (first, last, total int64, ok bool) { return 0, 0, 0, false }

// Part is what a stored partial response holds.
type Part struct {
	ByteRange
	Total int64
}

// PartOf returns the part that a 206 holds.
func PartOf(h http.Header, bodyLen int64) (Part, bool) { return Part{}, false }

// Covers reports whether the part holds all of r.
func (p Part) Covers(r ByteRange) bool { return p.First <= r.First && r.Last <= p.Last }

// Combine joins two parts.
func Combine(a Part, aTag string, b Part, bTag string) (Part, bool) { return Part{}, false }

// MissingRange returns the Range that completes a part.
func MissingRange(p Part) (header string, ok bool) { return "", false }

// Invalidates reports whether such a response invalidates.
func Invalidates(method string, status int) bool { return !SafeMethod(method) && status < 400 }

// InvalidatedTargets returns the other URLs made doubtful.
func InvalidatedTargets(target *url.URL, h http.Header) []*url.URL { return nil }

// SafeMethod reports whether a method is safe.
func SafeMethod(method string) bool { return method == "GET" || method == "HEAD" }
