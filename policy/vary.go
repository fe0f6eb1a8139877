package policy

import (
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
)

// This file is about Vary (RFC 9111 section 4.1). A response nominates the request fields that it depends on; a stored response
// may answer a request only if their values match. Both sides are turned into bytes, so that the store compares bytes:
//
//	nomination = names, lower case, sorted, each once, joined with ","      "accept-encoding,foo"
//	selection  = for each name: its length and bytes, the length and bytes of its value
//
// Lengths are four bytes, big-endian; an absent field has the length 0xffffffff and no bytes, so that it differs from an empty
// one. Values are compared after normalisation that does not change what they mean (how: selection.go).

// Nomination is the canonical form of a Vary field. "" nominates nothing.
type Nomination string

// NominationStar is the nomination that no request matches.
const NominationStar Nomination = "*"

// ParseVary returns what a response nominates, of all its Vary lines. A member "*" anywhere, or one that is not a field name
// (so that we cannot know what it varies on), makes it NominationStar.
func ParseVary(h http.Header) Nomination {
	lines := h["Vary"]
	if len(lines) == 0 {
		return ""
	}
	var few [8]string // what a usual Vary nominates costs nothing but the text
	names := few[:0]
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			name = trimSpace(name)
			if name == "" {
				continue
			}
			if name == "*" || !isToken(name) {
				return NominationStar
			}
			names = append(names, lowerName(name))
		}
	}
	slices.Sort(names)
	return Nomination(strings.Join(slices.Compact(names), ","))
}

// absentLength stands where a length would, for a field that the request does not have.
const absentLength = 1<<32 - 1

// AppendSelection appends the values that request fields have for what n nominates. Two requests select the same stored response
// if and only if the bytes are equal. It allocates nothing but what dst needs to grow, and the names of unusual fields. Of
// NominationStar, which selects nothing, nothing is appended.
func (n Nomination) AppendSelection(dst []byte, h http.Header) []byte {
	if n == "" || n == NominationStar {
		return dst
	}
	for rest, more := string(n), true; more; {
		var name string
		name, rest, more = strings.Cut(rest, ",")
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(name)))
		dst = append(dst, name...)
		values, found := h[canonicalName(name)]
		if !found {
			dst = binary.BigEndian.AppendUint32(dst, absentLength)
			continue
		}
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		dst = appendNormalised(dst, name, values)
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst
}

// hides reports whether a response that nominates n may depend on what AppendSelection of h does not show: on who asks, which each
// proxy adds to X-Forwarded-For and Forwarded as it forwards, after all selecting; or on another field that the origin cannot tell
// from a nominated one (see fieldAliases), so that a client could choose what those without either get.
func (n Nomination) hides(h http.Header) bool {
	for name := range strings.SplitSeq(string(n), ",") {
		if name == "x-forwarded-for" || name == "forwarded" || len(fieldAliases(h, canonicalName(name))) > 0 {
			return true
		}
	}
	return false
}

// lowerName returns a field name in lower case, without allocating for those that are nominated most.
func lowerName(name string) string {
	switch name {
	case "Accept-Encoding":
		return "accept-encoding"
	case "Accept-Language":
		return "accept-language"
	case "Accept":
		return "accept"
	case "Origin":
		return "origin"
	case "Cookie":
		return "cookie"
	case "User-Agent":
		return "user-agent"
	}
	return strings.ToLower(name)
}

// canonicalName is its inverse: the canonical form of a lower-case name.
func canonicalName(name string) string {
	switch name {
	case "accept-encoding":
		return "Accept-Encoding"
	case "accept-language":
		return "Accept-Language"
	case "accept":
		return "Accept"
	case "origin":
		return "Origin"
	case "cookie":
		return "Cookie"
	case "user-agent":
		return "User-Agent"
	}
	return http.CanonicalHeaderKey(name)
}
