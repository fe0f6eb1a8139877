package policy

// Reason names why something was not stored, not served, not shared, or served although stale. The zero value None is "there
// is nothing to explain". Its String is the token that operators see in the detail parameter of Cache-Status (RFC 9211), in
// metric labels and in logs; these tokens are part of the contract and change only with a note in the changelog.
type Reason uint8

// The reasons. The comment names the rule; the token is in reasonNames.
const (
	None Reason = iota

	// Why a response was not stored.
	MethodNotStored     // only GET is stored (and POST by its Content-Location): RFC 9111 section 3
	NoStore             // response directive no-store: section 5.2.2.5
	RequestNoStore      // request directive no-store: section 5.2.1.5
	Private             // response directive private, without field names: section 5.2.2.7
	Authorization       // the request had credentials, the response does not allow sharing: section 3.5
	SetCookie           // carries Set-Cookie, and no rule says that it may be stored
	CookieHeuristic     // the request carried a Cookie and the lifetime would be a guess
	VaryStar            // Vary: * never matches again: section 4.1
	StatusNotUnderstood // must-understand with a status that we do not implement: sections 3, 5.2.2.3
	StatusNotStored     // not final, 304, or 206 that cannot be used: section 3
	ErrorStatus         // 4xx or 5xx that is not stored by default; see `ignore: [error-status]`
	NoFreshness         // neither a lifetime nor a validator, so it could never be used: section 3
	BadContentRange     // 206 whose Content-Range is absent, unusable, or contradicts its body: section 3.3
	AmbiguousPath       // %2f, %5c, %00, backslash or ; in the path: two servers may read it differently
	AmbiguousHost       // a Host that is no host with one port (RFC 9110 section 7.2)
	RequestBody         // the request carried content that the key does not cover (fat GET)
	Bypass              // a rule says bypass
	Upgrade             // the request asked for another protocol
	EventStream         // text/event-stream without an explicit lifetime never ends
	TooLarge            // body over the rule's or the cache's max_object
	TooSlow             // the fill took longer than cache.max_fill
	Truncated           // the body did not end well: short, aborted, or longer than declared
	VariantCap          // the URL has as many variants as it may

	// Why a stored response was not used as it is.
	NoCache         // response directive no-cache: section 5.2.2.4
	RequestNoCache  // request directive no-cache, or Pragma: section 5.2.1.4
	RequestMaxAge   // older than the request's max-age: section 5.2.1.1
	RequestMinFresh // not fresh for as long as the request's min-fresh: section 5.2.1.3
	Stale           // its lifetime is over: section 4.2
	MustRevalidate  // stale and must not be served so: section 5.2.2.2
	SoftPurged      // marked stale by a soft purge
	Conditional     // If-Match or If-Unmodified-Since: only the origin can tell (RFC 9110 section 13.2.1)
	OnlyIfCached    // only-if-cached and nothing that may be used: section 5.2.1.7
	NotShareable    // the response to another client's request could not be shared with this one
	PartialMiss     // what is stored does not cover the range asked for

	// Why a stale response was used.
	ServedWhileRevalidate // stale-while-revalidate: RFC 5861 section 3
	ServedIfError         // stale-if-error: RFC 5861 section 4
	ServedMaxStale        // request directive max-stale: section 5.2.1.2

	// What the store had to say.
	StoreUnavailable // Redis did not answer in time, or its breaker is open
	StoreFull        // too many saves are waiting, or the fills have no memory left
	RefreshLimit     // too many background refreshes are under way

	// Why we answered ourselves.
	UpstreamFailed // no usable response from upstream
	LimitExceeded  // the client's limit is used up
	SessionMissing // the rule requires a session

	reasonCount
)

var reasonNames = [reasonCount]string{
	None:                  "",
	MethodNotStored:       "method",
	NoStore:               "no-store",
	RequestNoStore:        "request-no-store",
	Private:               "private",
	Authorization:         "authorization",
	SetCookie:             "set-cookie",
	CookieHeuristic:       "cookie-heuristic",
	VaryStar:              "vary-star",
	StatusNotUnderstood:   "status-not-understood",
	StatusNotStored:       "status",
	ErrorStatus:           "error-status",
	NoFreshness:           "no-freshness",
	BadContentRange:       "bad-content-range",
	AmbiguousPath:         "ambiguous-path",
	AmbiguousHost:         "ambiguous-host",
	RequestBody:           "request-body",
	Bypass:                "bypass",
	Upgrade:               "upgrade",
	EventStream:           "event-stream",
	TooLarge:              "too-large",
	TooSlow:               "too-slow",
	Truncated:             "truncated",
	VariantCap:            "variant-cap",
	NoCache:               "no-cache",
	RequestNoCache:        "request-no-cache",
	RequestMaxAge:         "request-max-age",
	RequestMinFresh:       "request-min-fresh",
	Stale:                 "stale",
	MustRevalidate:        "must-revalidate",
	SoftPurged:            "soft-purged",
	Conditional:           "conditional",
	OnlyIfCached:          "only-if-cached",
	NotShareable:          "not-shareable",
	PartialMiss:           "partial-miss",
	ServedWhileRevalidate: "stale-while-revalidate",
	ServedIfError:         "stale-if-error",
	ServedMaxStale:        "max-stale",
	StoreUnavailable:      "store-unavailable",
	StoreFull:             "store-full",
	RefreshLimit:          "refresh-limit",
	UpstreamFailed:        "upstream-failed",
	LimitExceeded:         "limit-exceeded",
	SessionMissing:        "session-missing",
}

// String returns the reason's token, lower case with hyphens; None is "".
func (r Reason) String() string {
	if r >= reasonCount {
		return "unknown"
	}
	return reasonNames[r]
}

// Reasons returns every reason but None, in order: for metrics that want all their label values from the start.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := None + 1; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}
