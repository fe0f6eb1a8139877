package policy

import (
	"strconv"
	"time"
)

// Fwd says why a request went to upstream: the values of the fwd parameter of RFC 9211 section 2.2.
type Fwd uint8

// FwdNone means that the request was answered here.
const (
	FwdNone     Fwd = iota
	FwdBypass       // the cache was configured not to handle this request
	FwdMethod       // the method requires it
	FwdURIMiss      // nothing is stored for this URI
	FwdVaryMiss     // something is stored, but nothing that this request selects
	FwdMiss         // nothing to be used, and which of the two is not known
	FwdRequest      // the request's own directives ask for it
	FwdStale        // what is stored is stale
	FwdPartial      // what is stored lacks a part of the range asked for
	fwdCount
)

// forwards holds the token of each, and one sentence for a person who asks why.
var forwards = [fwdCount]struct{ token, sentence string }{
	FwdBypass:   {"bypass", "The request is passed on, and nothing of it is looked up or stored."},
	FwdMethod:   {"method", "A request with this method is always forwarded."},
	FwdURIMiss:  {"uri-miss", "Nothing is stored under this key."},
	FwdVaryMiss: {"vary-miss", "Responses are stored for this URL, but the request's fields select none of them."},
	FwdMiss:     {"miss", "Nothing was found that could be used."},
	FwdRequest:  {"request", "The request itself asks that it be forwarded."},
	FwdStale:    {"stale", "What is stored is stale."},
	FwdPartial:  {"partial", "What is stored lacks a part of the range asked for."},
}

// String returns the RFC 9211 token; FwdNone is "".
func (f Fwd) String() string {
	if f >= fwdCount {
		return "miss"
	}
	return forwards[f].token
}

// Section returns the section of the standard that says when a request is forwarded for this; "" for FwdNone.
func (f Fwd) Section() string {
	switch f {
	case FwdNone:
		return ""
	case FwdVaryMiss:
		return "RFC 9111 section 4.1"
	default:
		return "RFC 9211 section 2.2"
	}
}

// Sentence says in plain words why; "" for FwdNone.
func (f Fwd) Sentence() string {
	if f >= fwdCount {
		f = FwdMiss
	}
	return forwards[f].sentence
}

// Outcome is what this cache did with one request, in the vocabulary of RFC 9211. It is the one source of the Cache-Status
// field, of the metric's outcome label and of the log's outcome value.
type Outcome struct {
	Hit       bool // answered from a stored response without going to upstream first
	Fwd       Fwd
	FwdStatus int  // status of the upstream's response where it differs from the one sent; 0 = not said
	Stored    bool // the response is being stored
	Collapsed bool // the request was answered by another one's fetch
	HasTTL    bool
	TTL       time.Duration // remaining freshness lifetime, negative when stale; said when HasTTL
	Detail    Reason
}

// Label returns the outcome as one word for metrics and logs: "hit", "hit-stale" (a hit on a stale stored response),
// "collapsed", one of the fwd tokens, "purge" where that was all the request was for, or "error" where we answered ourselves.
func (o Outcome) Label() string {
	switch {
	case o.Hit && o.HasTTL && o.TTL < 0:
		return "hit-stale"
	case o.Hit:
		return "hit"
	case o.Collapsed:
		return "collapsed"
	case o.Fwd != FwdNone:
		return o.Fwd.String()
	case o.Detail == Purged || o.Detail == SoftPurged:
		return "purge"
	default:
		return "error"
	}
}

// Labels returns every value that Label can return.
func Labels() []string {
	labels := []string{"hit", "hit-stale", "collapsed", "purge", "error"}
	for f := FwdNone + 1; f < fwdCount; f++ {
		labels = append(labels, f.String())
	}
	return labels
}

// AppendCacheStatus appends this cache's member of the Cache-Status list (RFC 9211 section 2) to dst. The name must be a valid
// structured-field token. TTL is in whole seconds, rounded up.
func (o Outcome) AppendCacheStatus(dst []byte, name string) []byte {
	dst = append(dst, name...)
	if o.Hit {
		dst = append(dst, "; hit"...)
	}
	if o.Fwd != FwdNone {
		dst = append(append(dst, "; fwd="...), o.Fwd.String()...)
	}
	if o.FwdStatus != 0 {
		dst = strconv.AppendInt(append(dst, "; fwd-status="...), int64(o.FwdStatus), 10)
	}
	if o.HasTTL {
		dst = strconv.AppendInt(append(dst, "; ttl="...), wholeSeconds(o.TTL), 10)
	}
	if o.Stored {
		dst = append(dst, "; stored"...)
	}
	if o.Collapsed {
		dst = append(dst, "; collapsed"...)
	}
	if o.Detail != None {
		dst = append(append(dst, "; detail="...), o.Detail.String()...)
	}
	return dst
}

// wholeSeconds rounds up, so that Age, which is rounded down, and ttl add up to the freshness lifetime.
func wholeSeconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d > 0 && d%time.Second != 0 {
		s++
	}
	return s
}
