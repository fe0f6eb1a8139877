package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Explanation says what a request would meet, and why. It is what Explain returns, for people and for programs: the JSON names are a
// contract. Where something does not apply it is left out.
type Explanation struct {
	At     time.Time `json:"at"` // when it was asked
	Method string    `json:"method"`
	URL    string    `json:"url"` // as asked for

	Client   ExplainedClient   `json:"client"`
	Site     string            `json:"site"`
	Rule     ExplainedRule     `json:"rule"`
	Key      ExplainedKey      `json:"key"`
	Lookup   ExplainedLookup   `json:"lookup"`
	Stored   *ExplainedStored  `json:"stored,omitempty"`
	Lately   *ExplainedVerdict `json:"lately,omitempty"` // why the last response under this key was not stored, as far as is remembered
	Decision ExplainedDecision `json:"decision"`
	Forward  *ExplainedForward `json:"forward,omitempty"` // where the request goes upstream

	// Outcome is the label that the metric and the log would have, Status the status of an answer that needs no upstream, CacheStatus the
	// field as it would be sent: the whole of it where no upstream is asked, else up to what depends on the upstream's response.
	Outcome     string `json:"outcome"`
	Status      int    `json:"status,omitempty"`
	CacheStatus string `json:"cache_status"`
	// Notes are what this explanation leaves out, or what else is to be known; sentences.
	Notes []string `json:"notes,omitempty"`
}

// ExplainedClient is who would be asking.
type ExplainedClient struct {
	Peer    string `json:"peer,omitempty"`    // who is connected
	Address string `json:"address,omitempty"` // who is asking
	Trusted bool   `json:"trusted"`           // the peer's forwarding fields are believed
	Scheme  string `json:"scheme"`
}

// ExplainedRule is the rule that governs the request; without one HTTP alone decides, and Index is -1.
type ExplainedRule struct {
	Index int    `json:"index"`
	Match string `json:"match,omitempty"` // as the configuration writes it; "" matches everything
}

// ExplainedKey is under what the response is kept, and how that came about.
type ExplainedKey struct {
	URL     string           `json:"url"`
	Dropped []string         `json:"dropped_parameters,omitempty"` // of the query; neither forwarded nor keyed
	Sorted  bool             `json:"sorted_parameters,omitempty"`
	Extras  []ExplainedExtra `json:"extras,omitempty"` // what of the request is part of the key beside the URL
}

// ExplainedExtra is a field, a cookie or a session field in the key.
type ExplainedExtra struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name,omitempty"`
	Values []string `json:"values"` // none: the request does not have it
}

// ExplainedLookup is what came of looking for a stored response.
type ExplainedLookup struct {
	Done     bool             `json:"done"`
	Why      *ExplainedReason `json:"why,omitempty"` // it was not done, or could not be
	Found    bool             `json:"found"`
	Tier     string           `json:"tier"`                // "near", "redis" or "none"
	VaryMiss bool             `json:"vary_miss,omitempty"` // responses are stored for the URL, and the request selects none
	Varies   string           `json:"varies,omitempty"`    // on what they vary, as far as is known
}

// ExplainedReason is a reason, in the three forms that it has.
type ExplainedReason struct {
	Reason   string `json:"reason,omitempty"` // the token
	Section  string `json:"section,omitempty"`
	Sentence string `json:"sentence"`
}

// ExplainedVerdict is why the response to an earlier request was not stored.
type ExplainedVerdict struct {
	ExplainedReason
	Ago Seconds `json:"ago"`
}

// ExplainedStored is the stored response that was selected.
type ExplainedStored struct {
	Status   int     `json:"status"`
	Age      Seconds `json:"age"`
	Lifetime Seconds `json:"lifetime"`
	TTL      Seconds `json:"ttl"` // what is left of the lifetime; negative: stale for so long
	// Heuristic says that the lifetime is a guess (RFC 9111 section 4.2.2).
	Heuristic            bool    `json:"heuristic,omitempty"`
	StaleWhileRevalidate Seconds `json:"stale_while_revalidate,omitempty"`
	StaleIfError         Seconds `json:"stale_if_error,omitempty"`
	NoCache              bool    `json:"no_cache,omitempty"`
	MustRevalidate       bool    `json:"must_revalidate,omitempty"`
	Immutable            bool    `json:"immutable,omitempty"`

	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	ContentType  string    `json:"content_type,omitempty"`
	Vary         string    `json:"vary,omitempty"` // canonical: lower case, sorted
	Tags         []string  `json:"tags,omitempty"`
	Groups       []string  `json:"groups,omitempty"`  // RFC 9875
	Bytes        int64     `json:"bytes"`             // of the body
	Partial      string    `json:"partial,omitempty"` // Content-Range of a part
	StoredAt     time.Time `json:"stored_at"`         // or validated
	KeepUntil    time.Time `json:"keep_until"`
	// Rule governs such a response now; what is stored keeps what the rule of its own time gave it.
	Rule ExplainedRule `json:"rule"`
}

// ExplainedDecision is what is done, and why.
type ExplainedDecision struct {
	Action string `json:"action"` // of policy.Action
	Fwd    string `json:"fwd,omitempty"`
	ExplainedReason
}

// ExplainedForward is the request that would go upstream.
type ExplainedForward struct {
	Method string      `json:"method"`
	Target string      `json:"target"` // path and query
	Host   string      `json:"host"`
	Header http.Header `json:"header"`
	// Dropped and Added are what is different from the request as it came; Validates says that it asks whether what is stored is still good.
	Dropped   []string `json:"dropped_fields,omitempty"`
	Added     []string `json:"added_fields,omitempty"`
	Validates bool     `json:"validates,omitempty"`
	// Shared says that others who ask meanwhile get the same response, UnderWay that such a fetch is going on already; else Alone says why not.
	Shared   bool             `json:"shared"`
	UnderWay bool             `json:"under_way,omitempty"`
	Alone    *ExplainedReason `json:"alone,omitempty"`
	// Fallback says that the stored response is served should the upstream fail (stale-if-error).
	Fallback bool `json:"fallback,omitempty"`
}

// Seconds is a length of time, in JSON a number of seconds.
type Seconds time.Duration

// MarshalJSON implements json.Marshaler, to a thousandth of a second.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Round(time.Millisecond).Seconds())
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	var number float64
	if err := json.Unmarshal(text, &number); err != nil {
		return fmt.Errorf("a number of seconds: %w", err)
	}
	*s = Seconds(number * float64(time.Second))
	return nil
}

// String formats whole seconds as time.Duration does, without the zero units: 1m, 53s, 1h.
func (s Seconds) String() string {
	text := time.Duration(s).Truncate(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
