package policy

// Reason names why something was not stored, not served, not shared, or served although stale. The zero value None is "there
// is nothing to explain". Its String is the token that operators see in the detail parameter of Cache-Status (RFC 9211), in
// metric labels and in logs; these tokens are part of the contract and change only with a note in the changelog.
type Reason uint8

// The reasons. The comment says when it is given; its token and the section of the standard are in reasons.
const (
	None Reason = iota

	// Why a response was not stored.
	MethodNotStored     // only GET is stored (and POST by its Content-Location): RFC 9111 section 3
	NoStore             // response directive no-store
	RequestNoStore      // request directive no-store
	Private             // response directive private, without field names
	Authorization       // the request had credentials, the response does not allow sharing
	SetCookie           // carries Set-Cookie, and no rule says that it may be stored
	CookieHeuristic     // the request carried a Cookie and the lifetime would be a guess
	VaryStar            // Vary: * never matches again, nor does what we cannot compare
	StatusNotUnderstood // must-understand with a status that we do not implement
	StatusNotStored     // not final, 304, or 206 that cannot be used: section 3
	ErrorStatus         // 4xx or 5xx that is not stored by default; see `ignore: [error-status]`
	NoFreshness         // neither a lifetime nor a validator, so it could never be used: section 3
	BadContentRange     // 206 whose Content-Range is absent, unusable, or contradicts its body
	AmbiguousPath       // %2f, %5c, %00, backslash or ; in the path: two servers may read it differently
	AmbiguousHost       // a Host that is no host with one port
	UnnameableURL       // the cache URL is not UTF-8, or longer than a purge can name
	RequestBody         // the request carried content that the key does not cover (fat GET)
	Bypass              // a rule says bypass
	Upgrade             // the request asked for another protocol
	EventStream         // text/event-stream without an explicit lifetime never ends
	TooLarge            // body over the rule's or the cache's max_object
	TooSlow             // the fill took longer than cache.max_fill
	Truncated           // the body did not end well: short, aborted, or longer than declared
	VariantCap          // the URL has as many variants as it may

	// Why a stored response was not used as it is.
	NoCache         // response directive no-cache
	RequestNoCache  // request directive no-cache, or Pragma
	RequestMaxAge   // older than the request's max-age
	RequestMinFresh // not fresh for as long as the request's min-fresh
	Stale           // its lifetime is over
	MustRevalidate  // stale and must not be served so
	SoftPurged      // marked stale by a soft purge
	Conditional     // If-Match or If-Unmodified-Since: only the origin can tell
	OnlyIfCached    // only-if-cached and nothing that may be used
	NotShareable    // the response to another client's request could not be shared with this one
	PartialMiss     // what is stored does not cover the range asked for

	// Why a stale response was used.
	ServedWhileRevalidate // stale-while-revalidate: RFC 5861 section 3
	ServedIfError         // stale-if-error: RFC 5861 section 4
	ServedMaxStale        // request directive max-stale

	// What the store had to say.
	StoreUnavailable // Redis did not answer in time, or its breaker is open
	StoreFull        // too many saves are waiting, or the fills have no memory left
	RefreshLimit     // too many background refreshes are under way

	// Why we answered ourselves.
	MalformedContent // the request's content is not framed as it should be
	UpstreamFailed   // no usable response from upstream
	LimitExceeded    // the client's limit is used up
	LimitUnavailable // the client's limit cannot be asked, and is closed then
	SessionMissing   // the rule requires a session
	Purged           // a PURGE was done
	PurgeRefused     // a PURGE from a client that may not, or one that cannot be done as it was asked for
	PurgeFailed      // a PURGE could not be entered in the invalidation log

	reasonCount
)

// reasons is what is told of each reason: its token, the section of the standard that it rests on, and one sentence for a person who
// asks why. Where the reason is this cache's own, the section is the one that leaves it the choice.
var reasons = [reasonCount]struct{ token, section, sentence string }{
	MethodNotStored: {"method", "RFC 9111 section 3", "Only responses to GET are stored, and those to POST whose Content-Location is the URL itself."},
	NoStore:         {"no-store", "RFC 9111 section 5.2.2.5", "The response says no-store."},
	RequestNoStore:  {"request-no-store", "RFC 9111 section 5.2.1.5", "The request says no-store."},
	Private:         {"private", "RFC 9111 section 5.2.2.7", "The response says private: it is for one user."},
	Authorization: {"authorization", "RFC 9111 section 3.5",
		"The request carried credentials, and the response does not say that it may be shared: public, s-maxage or must-revalidate would."},
	SetCookie:           {"set-cookie", "RFC 9111 section 7.3", "The response sets a cookie, and no rule says that such responses may be stored."},
	CookieHeuristic:     {"cookie-heuristic", "RFC 9111 section 4.2.2", "The request carried a cookie, and the response does not say how long it is fresh: to a personal request no lifetime is guessed."},
	VaryStar:            {"vary-star", "RFC 9111 section 4.1", "The response varies on something that no later request can be compared with."},
	StatusNotUnderstood: {"status-not-understood", "RFC 9111 section 5.2.2.3", "The response says must-understand, and its status is not one that this cache understands."},
	StatusNotStored:     {"status", "RFC 9111 section 3", "The status is not one that is stored."},
	ErrorStatus: {"error-status", "RFC 9110 section 15.1",
		"The status is an error that is not stored by default, since a client may have provoked it; ignore: [error-status] stores it."},
	NoFreshness:     {"no-freshness", "RFC 9111 section 3", "The response has neither a freshness lifetime nor a validator, so it could never be used."},
	BadContentRange: {"bad-content-range", "RFC 9111 section 3.3", "The Content-Range of the partial response is absent, cannot be used, or contradicts its body."},
	AmbiguousPath:   {"ambiguous-path", "RFC 9110 section 4.2.3", "Two servers may read the target differently, so it is passed on and never stored."},
	AmbiguousHost:   {"ambiguous-host", "RFC 9110 section 7.2", "The Host is not a host with at most one port."},
	UnnameableURL:   {"unnameable-url", "RFC 9111 section 4.4", "The URL is not UTF-8, or longer than a purge may be: what is stored under it could not be purged, so nothing is."},
	RequestBody:     {"request-body", "RFC 9110 section 9.3.1", "The request carried content, which the key does not cover."},
	Bypass:          {"bypass", "RFC 9211 section 2.2", "A rule says bypass: the request is passed on and nothing is stored."},
	Upgrade:         {"upgrade", "RFC 9110 section 7.8", "The request asks for another protocol."},
	EventStream:     {"event-stream", "RFC 9111 section 3.3", "An event stream does not end, so it is never complete."},
	TooLarge:        {"too-large", "RFC 9111 section 3", "The body is larger than max_object of the rule or of the cache, or than the store takes."},
	TooSlow:         {"too-slow", "RFC 9111 section 3", "The body took longer than cache.max_fill."},
	Truncated:       {"truncated", "RFC 9111 section 3.3", "The body did not end well: it was shorter or longer than declared, or broke off."},
	VariantCap:      {"variant-cap", "RFC 9111 section 4.1", "The URL has as many stored variants as it may have."},

	NoCache:         {"no-cache", "RFC 9111 section 5.2.2.4", "The response says no-cache: it is validated before each use."},
	RequestNoCache:  {"request-no-cache", "RFC 9111 section 5.2.1.4", "The request says no-cache: it wants the stored response validated."},
	RequestMaxAge:   {"request-max-age", "RFC 9111 section 5.2.1.1", "The stored response is older than the request's max-age allows."},
	RequestMinFresh: {"request-min-fresh", "RFC 9111 section 5.2.1.3", "The stored response is not fresh for as long as the request's min-fresh asks."},
	Stale:           {"stale", "RFC 9111 section 4.2", "The freshness lifetime of the stored response is over, and nothing allows it to be used stale."},
	MustRevalidate:  {"must-revalidate", "RFC 9111 section 5.2.2.2", "The stored response is stale and says that it must not be used so."},
	SoftPurged:      {"soft-purged", "RFC 9111 section 4.2", "The stored response was marked stale by a soft purge."},
	Conditional:     {"conditional", "RFC 9110 section 13.2.1", "The request has a precondition that only the origin can evaluate."},
	OnlyIfCached:    {"only-if-cached", "RFC 9111 section 5.2.1.7", "The request says only-if-cached, and nothing stored may answer it."},
	NotShareable: {"not-shareable", "RFC 9111 section 4",
		"The response to another client's request for the same could not be shared, so this one was fetched for its client alone."},
	PartialMiss: {"partial-miss", "RFC 9111 section 3.4", "What is stored does not hold all of the range asked for."},

	ServedWhileRevalidate: {"stale-while-revalidate", "RFC 5861 section 3", "The stored response is stale, and may be used while it is revalidated."},
	ServedIfError:         {"stale-if-error", "RFC 5861 section 4", "The upstream failed, and the stored response may then be used although it is stale."},
	ServedMaxStale:        {"max-stale", "RFC 9111 section 5.2.1.2", "The stored response is stale, and the request's max-stale accepts that."},

	StoreUnavailable: {"store-unavailable", "RFC 9211 section 2.2", "Redis did not answer in time, or is not being asked because it did not: what is stored there is not known."},
	StoreFull:        {"store-full", "RFC 9111 section 3", "Too many saves are waiting, or the fetches under way have used their memory."},
	RefreshLimit:     {"refresh-limit", "RFC 5861 section 3", "As many background refreshes are under way as may be."},

	MalformedContent: {"malformed-content", "RFC 9112 section 7.1", "The request's content is not framed as it should be, so its end is not known."},

	UpstreamFailed: {"upstream-failed", "RFC 9110 section 15.6.3", "The upstream gave no usable response."},
	LimitExceeded:  {"limit-exceeded", "RFC 6585 section 4", "The client has used up its limit."},
	LimitUnavailable: {"limit-unavailable", "RFC 9110 section 15.6.4",
		"Redis, which counts for the client's limit, does not answer, and the limit is closed then: on_outage says so."},
	SessionMissing: {"session-missing", "RFC 9110 section 15.5.2", "The rule requires a session, and the request has none."},

	Purged:       {"purged", "RFC 9110 section 9.1", "What was stored for the URL has been purged."},
	PurgeRefused: {"purge-refused", "RFC 9110 section 15.5.6", "This client may not purge, or has asked for what cannot be done: client.purge names who may."},
	PurgeFailed:  {"purge-failed", "RFC 9110 section 15.6.4", "The purge could not be entered in the log that all replicas follow."},
}

// String returns the reason's token, lower case with hyphens; None is "".
func (r Reason) String() string {
	if r >= reasonCount {
		return "unknown"
	}
	return reasons[r].token
}

// Section returns the section of the standard that the reason rests on: "RFC 9111 section 5.2.2.7". None has none.
func (r Reason) Section() string {
	if r >= reasonCount {
		return ""
	}
	return reasons[r].section
}

// Sentence says in plain words what the reason is; "" for None.
func (r Reason) Sentence() string {
	if r >= reasonCount {
		return ""
	}
	return reasons[r].sentence
}

// Reasons returns every reason but None, in order: for metrics that want all their label values from the start.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := None + 1; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}
