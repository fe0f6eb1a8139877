package policy

import (
	"net/http"
	"time"
)

// MaxDelta is where delta-seconds saturate: 2^31 seconds (RFC 9111 section 1.2.2).
const MaxDelta = (1 << 31) * time.Second

// Delta is the argument of a directive that counts seconds.
type Delta struct {
	Set bool
	D   time.Duration // 0 to MaxDelta
}

// RequestDirectives are the Cache-Control directives of a request (RFC 9111 section 5.2.1, RFC 5861).
type RequestDirectives struct {
	NoCache, NoStore, OnlyIfCached, NoTransform bool
	MaxAge, MinFresh, MaxStale, StaleIfError    Delta
}

// ResponseDirectives are the Cache-Control directives of a response (RFC 9111 section 5.2.2, RFC 5861, RFC 8246, RFC 9213).
type ResponseDirectives struct {
	NoStore, NoCache, Private, Public                            bool
	MustRevalidate, ProxyRevalidate, MustUnderstand, NoTransform bool
	Immutable                                                    bool
	MaxAge, SMaxAge, StaleWhileRevalidate, StaleIfError          Delta
	NoCacheFields, PrivateFields                                 []string
	Targeted                                                     bool
}

// ParseRequestDirectives reads Cache-Control, or Pragma where there is none.
func ParseRequestDirectives(h http.Header) RequestDirectives { return RequestDirectives{} }

// ParseResponseDirectives reads the first valid targeted field, or Cache-Control.
func ParseResponseDirectives(h http.Header, targets []string) ResponseDirectives {
	return ResponseDirectives{}
}
