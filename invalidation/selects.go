package invalidation

import (
	"slices"
	"strings"
)

// What a record is about, asked of one stored response. Most records are found by name (table.go) and never asked.

// Unfiltered reports whether the record asks nothing of a response but what its selector does.
func (r *Record) Unfiltered() bool { return r.Filters.empty() }

// Selects reports whether the record is about the response, whenever it was stored.
func (r *Record) Selects(s *Subject) bool {
	glob, _ := CompileGlob(r.Selector)
	return (&listed{numbered{Record: r}, glob}).selects(s)
}

// selects is Selects with the glob compiled.
func (r *listed) selects(s *Subject) bool { return r.Filters.pass(s) && r.isAbout(s) }

// isAbout is selects without the filters.
func (r *listed) isAbout(s *Subject) bool {
	switch r.Kind {
	case KindURL:
		return slices.ContainsFunc(r.CacheURLs(), func(url string) bool { return sameURL(url, s.URL) })
	case KindPattern:
		if HasScheme(r.Selector) {
			return r.glob.Match(s.URL)
		}
		return r.glob.Match(withoutScheme(s.URL))
	case KindTag:
		for _, tag := range r.Tags {
			if slices.Contains(s.Tags, tag) != r.MatchAll {
				return !r.MatchAll
			}
		}
		return r.MatchAll
	case KindGroup:
		return r.Origin == OriginOf(s.URL) && slices.Contains(s.Groups, r.Group)
	}
	return true
}

// HasScheme reports whether a URL, or a pattern over URLs, begins with a scheme: else it is of any. "://" may also stand further behind, in a path or
// a query.
func HasScheme(selector string) bool {
	scheme, _, found := strings.Cut(selector, "://")
	return found && !strings.ContainsFunc(scheme, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune(`+-*?[]^\`, c))
	})
}

// sameURL compares a selector, which may lack the scheme, with a cache URL.
func sameURL(selector, url string) bool {
	if HasScheme(selector) {
		return selector == url
	}
	return selector == withoutScheme(url)
}

func withoutScheme(url string) string {
	if _, rest, found := strings.Cut(url, "://"); found {
		return rest
	}
	return url
}

// OriginOf is scheme://host[:port] of a cache URL, whose default port is left out already.
func OriginOf(url string) string {
	scheme, rest, found := strings.Cut(url, "://")
	if !found {
		return ""
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	return scheme + "://" + rest
}

// pass reports whether the filters let the response be selected.
func (f *Filters) pass(s *Subject) bool {
	switch {
	case len(f.Status) > 0 && !slices.ContainsFunc(f.Status, func(n int) bool { return n == s.Status || n == s.Status/100 }):
		return false
	case len(f.ContentType) > 0 && !slices.ContainsFunc(f.ContentType, func(p string) bool { return mediaTypeMatches(p, s.ContentType) }):
		return false
	case f.StoredBefore > 0 && s.StoredAt >= f.StoredBefore:
		return false
	}
	return s.Size < 0 || s.Size >= f.MinSize && (f.MaxSize == 0 || s.Size <= f.MaxSize)
}

// mediaTypeMatches compares without parameters and case; the pattern's `*` stands for any text.
func mediaTypeMatches(pattern, contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	pattern = strings.ToLower(pattern)
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return kind == pattern
	}
	return len(kind) >= len(before)+len(after) && strings.HasPrefix(kind, before) && strings.HasSuffix(kind, after)
}
