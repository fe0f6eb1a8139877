package policy

import "net/http"

// This file is about validating a stored response with upstream (RFC 9111 section 4.3): the question (4.3.1), and whether an
// answer is about what we hold (4.3.4).

// conditionalFields make a request conditional or ask for a part (RFC 9110 sections 13.1 and 14.2), canonical.
var conditionalFields = [...]string{
	"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range", "Range",
}

// ClearConditionals removes, in place, everything that could make the answer other than the whole representation: the client's
// conditions and its Range. It reports whether there was any.
func ClearConditionals(h http.Header) (had bool) {
	for _, name := range conditionalFields {
		if _, found := h[name]; found {
			delete(h, name)
			had = true
		}
	}
	return had
}

// SetConditionals makes a request, in place, ask whether what is stored is still current (section 4.3.1): it replaces the
// client's conditions and Range by the stored validators, exactly as they were received. Both are sent where both are known; an
// empty string means none.
func SetConditionals(h http.Header, etag, lastModified string) {
	ClearConditionals(h)
	if etag != "" {
		h["If-None-Match"] = []string{etag}
	}
	if lastModified != "" {
		h["If-Modified-Since"] = []string{lastModified}
	}
}

// Freshens reports whether a 304 that answers our own conditional request may update the stored response whose validators that
// request carried (section 4.3.4). Only that one response was asked about, so the 304 speaks of it unless its validators
// contradict that:
//
//   - The tags are equal: it does.
//   - The tags differ: the origin has compared ours and found it current, and then named another (mod_deflate is known to do so,
//     with and without its "-gzip"). The answer holds unless Last-Modified differs too; Freshen keeps our tag.
//   - It has a tag and we have none: it does if Last-Modified is there and the same.
//   - It has no tag: it does unless it has another Last-Modified.
func Freshens(stored, notModified http.Header) bool {
	oldTag, newTag := stored.Get("ETag"), notModified.Get("ETag")
	oldModified, newModified := stored.Get("Last-Modified"), notModified.Get("Last-Modified")
	same := oldModified == newModified
	unsaid := oldModified == "" || newModified == ""
	switch {
	case newTag != "" && oldTag == "":
		return same && !unsaid
	case newTag != "" && weaklyEqual(oldTag, newTag):
		return true
	}
	return same || unsaid
}
