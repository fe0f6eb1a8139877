package policy

import "strings"

// Entity tags (RFC 9110 section 8.8.3):
//
//	entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE
//
// Comparing weakly, for a 304, is lenient about how the tag is written: origins and clients forget the quotes or write w/ and
// W\, and the opaque part says what is meant. Comparing strongly, for ranges, takes nothing that is not exactly a tag.

// cutTag cuts the first entity tag of a list from the front of v and returns its opaque part. It is false at the end.
func cutTag(v string) (opaque, rest string, ok bool) {
	for v != "" && (v[0] == ',' || isSpace(v[0])) {
		v = v[1:]
	}
	if v == "" {
		return "", "", false
	}
	if quoted, found := cutOpening(v); found {
		if opaque, rest, found = strings.Cut(quoted, `"`); found {
			return opaque, rest, true
		}
	}
	opaque, rest, _ = strings.Cut(v, ",")
	return trimSpace(opaque), rest, true
}

// cutOpening removes the opening quote, with the weakness flag before it if there is one.
func cutOpening(v string) (string, bool) {
	if lowerByte(v[0]) == 'w' {
		v = v[1:]
		if v != "" && (v[0] == '/' || v[0] == '\\') {
			v = v[1:]
		}
	}
	return strings.CutPrefix(v, `"`)
}

// weaklyEqual is the weak comparison of RFC 9110 section 8.8.3.2 of two single tags; an absent one equals nothing.
func weaklyEqual(a, b string) bool {
	x, _, okA := cutTag(a)
	y, _, okB := cutTag(b)
	return okA && okB && x == y
}

// isStrongTag reports whether v is one well-formed entity tag without the weakness flag.
func isStrongTag(v string) bool {
	return len(v) >= 2 && v[0] == '"' && strings.IndexByte(v[1:], '"') == len(v)-2
}

// stronglyEqual is the strong comparison of RFC 9110 section 8.8.3.2.
func stronglyEqual(a, b string) bool { return a == b && isStrongTag(a) }
