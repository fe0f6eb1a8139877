package policy

import (
	"net/http"
	"time"
)

// This file evaluates a client's conditions against a stored response that may be used (RFC 9110 section 13, RFC 9111
// section 4.3.2).

// PreconditionResult is what a request's conditions make of a stored response.
type PreconditionResult uint8

// The results.
const (
	PreconditionNone   PreconditionResult = iota // there is no condition that changes anything: send what is stored
	NotModified                                  // the client has it already: send 304
	PreconditionOrigin                           // only the origin can tell: forward
)

// Precondition evaluates the conditions of a request against a stored response with that status and those fields; an empty
// string stands for a field that it does not have. It does not allocate where there are no conditions.
//
// If-Match and If-Unmodified-Since guard the origin's state and are never evaluated by a cache (RFC 9110 sections 13.1.1,
// 13.1.4). If-None-Match makes If-Modified-Since moot (section 13.1.3). Only what would be a success has conditions
// (section 13.2.1), and only GET and HEAD have these.
func Precondition(rq Request, status int, etag, lastModified, date string) PreconditionResult {
	h := rq.Header
	if len(h["If-Match"]) > 0 || len(h["If-Unmodified-Since"]) > 0 {
		return PreconditionOrigin
	}
	if rq.Method != http.MethodGet && rq.Method != http.MethodHead || status < 200 || status > 299 {
		return PreconditionNone
	}
	if lines := h["If-None-Match"]; len(lines) > 0 {
		if anyTagMatches(lines, etag) {
			return NotModified
		}
		return PreconditionNone
	}
	if lines := h["If-Modified-Since"]; len(lines) == 1 && !modifiedSince(lines[0], lastModified, date) {
		return NotModified
	}
	return PreconditionNone
}

// anyTagMatches is If-None-Match (RFC 9110 section 13.1.2): "*" matches whatever is stored.
func anyTagMatches(lines []string, etag string) bool {
	for _, rest := range lines {
		if trimSpace(rest) == "*" {
			return true
		}
		for etag != "" {
			var opaque string
			var ok bool
			if opaque, rest, ok = cutTag(rest); !ok {
				break
			}
			if stored, _, found := cutTag(etag); found && stored == opaque {
				return true
			}
		}
	}
	return false
}

// modifiedSince is If-Modified-Since (RFC 9110 section 13.1.3). A response without Last-Modified was last changed when it was
// generated, for all that we know (RFC 9111 section 4.3.2). A date that is none is no condition.
func modifiedSince(since, lastModified, date string) bool {
	if since == lastModified && since != "" {
		return false
	}
	generated, haveDate := parseDate(date, time.Time{})
	condition, ok := parseDate(since, generated)
	if !ok {
		return true
	}
	if lastModified == "" {
		return !haveDate || generated.After(condition)
	}
	modified, ok := parseDate(lastModified, generated)
	return !ok || modified.After(condition)
}
