package store

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"cacheproxy/policy"
)

// The root of a URL is a Redis hash that names the variants stored for it, and so the nominations that its responses have
// made.
//
//	field  VARIANT, 32 hexadecimal digits
//	value  "FILL EXPIRY RESPONSETIME NOMINATION"
//
// FILL is 16 hexadecimal digits, EXPIRY milliseconds since 1970 by the clock of Redis, RESPONSETIME microseconds since
// 1970, NOMINATION the canonical Vary, possibly empty. An entry counts only while its root names it with its FILL: deleting
// the root forgets all. The nominations, newest first, are those of the values in the order of their response times. The
// hash is written by save.lua alone, which also bounds the number of variants and lets the root expire with the last of
// them.

// A rootVariant is what a root says of one entry.
type rootVariant struct {
	fill         uint64
	responseTime int64 // microseconds since 1970
	nomination   policy.Nomination
}

// parseRootVariant reads a value of the root; ok is false for one that another version wrote.
func parseRootVariant(value string) (v rootVariant, ok bool) {
	fill, rest, _ := strings.Cut(value, " ")
	_, rest, _ = strings.Cut(rest, " ")
	responseTime, nomination, found := strings.Cut(rest, " ")
	if !found {
		return v, false
	}
	var err error
	if v.fill, err = strconv.ParseUint(fill, 16, 64); err != nil {
		return v, false
	}
	if v.responseTime, err = strconv.ParseInt(responseTime, 10, 64); err != nil {
		return v, false
	}
	v.nomination = policy.Nomination(nomination)
	return v, true
}

// selectVariant returns the variant that the request selects among those that the root names: of several, the latest response
// (RFC 9111 section 4.1). ok is false when it selects none. guess is the variant that it would select under the nomination
// guessed.
func selectVariant(
	root map[string]string, extras string, h http.Header, guessed policy.Nomination, guess string,
) (variant string, chosen rootVariant, ok bool) {
	var seen []policy.Nomination
	chosen.responseTime = math.MinInt64
	for _, value := range root {
		v, readable := parseRootVariant(value)
		if !readable || slices.Contains(seen, v.nomination) {
			continue
		}
		seen = append(seen, v.nomination)
		name := guess
		if v.nomination != guessed {
			name = variantOf(extras, v.nomination, v.nomination.AppendSelection(nil, h))
		}
		candidate, readable := parseRootVariant(root[name])
		if readable && candidate.nomination == v.nomination && candidate.responseTime >= chosen.responseTime {
			variant, chosen, ok = name, candidate, true
		}
	}
	return variant, chosen, ok
}
