package invalidation

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Kind is what a record's selector selects by.
type Kind string

// The kinds.
const (
	KindURL     Kind = "url"     // a cache URL, or several, with all their variants
	KindPattern Kind = "pattern" // a glob over cache URLs, with the semantics of Redis (Glob)
	KindTag     Kind = "tag"     // any of some tags, or all of them
	KindGroup   Kind = "group"   // a cache group of an origin (RFC 9875)
	KindAll     Kind = "all"     // everything
)

// Purge is what somebody wants forgotten.
type Purge struct {
	Kind     Kind
	Selector string   // the URL or the pattern; a URL or pattern without a scheme selects any scheme
	URLs     []string // of KindURL, instead of a selector: several URLs, each with its scheme
	Tags     []string // of KindTag
	MatchAll bool     // of KindTag: a response must have all of them
	Origin   string   // of KindGroup: scheme://host[:port]
	Group    string   // of KindGroup

	Soft    bool    // makes stale instead of forgetting
	Filters Filters // what a response must be besides
	Who     string  // asked for it, for the history
	Passing bool    // nobody has asked for it, as where a POST made a URL doubtful: the history does not keep it longer than the log does
}

// Filters narrow a purge down. The zero value narrows nothing.
type Filters struct {
	Status      []int         `json:"status,omitempty"`       // of the stored response; 4 stands for 400 to 499
	ContentType []string      `json:"content_type,omitempty"` // media types, `*` for any text
	OlderThan   time.Duration `json:"older_than,omitempty"`   // as asked for: StoredBefore is made of it when the record is appended
	// StoredBefore selects what was stored, or last validated, before this time, in microseconds since 1970; 0 = whenever.
	StoredBefore int64 `json:"stored_before,omitempty"`
	MinSize      int64 `json:"min_size,omitempty"` // bytes of body
	MaxSize      int64 `json:"max_size,omitempty"` // 0 = any
}

func (f *Filters) empty() bool {
	return len(f.Status) == 0 && len(f.ContentType) == 0 && f.OlderThan == 0 && f.StoredBefore == 0 && f.MinSize == 0 && f.MaxSize == 0
}

// Bounds of a purge.
const (
	maxSelector = 8 << 10 // bytes
	maxTags     = 100
	maxTag      = 256 // bytes, as policy bounds the tags of responses
	// MaxURLs and MaxURLsSize bound a list of URLs in number and in bytes of all of them: so a record is read at once, and one that holds up
	// nobody. None has a bound of its own: heads of requests have 32 KiB.
	MaxURLs, MaxURLsSize = 256, 64 << 10
	maxFilters           = 32  // values of one filter
	maxType              = 256 // bytes of a media type
)

// Check reports everything that is wrong with a purge; the messages name the fields of the API.
func (p *Purge) Check() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch p.Kind {
	case KindURL, KindPattern:
		if p.Kind == KindURL && p.URLs != nil {
			errs = append(errs, p.checkURLs())
			break
		}
		switch {
		case p.Selector == "":
			add("%s is empty", p.Kind)
		case len(p.Selector) > maxSelector:
			add("%s is longer than %d bytes", p.Kind, maxSelector)
		}
		if p.Kind == KindPattern {
			if _, err := CompileGlob(p.Selector); err != nil {
				add("pattern: %w", err)
			}
		}
	case KindTag:
		if len(p.Tags) == 0 || len(p.Tags) > maxTags {
			add("tags are %d: want 1 to %d", len(p.Tags), maxTags)
		}
		for _, tag := range p.Tags {
			if tag == "" || len(tag) > maxTag {
				add("a tag has %d bytes: want 1 to %d", len(tag), maxTag)
			}
		}
	case KindGroup:
		if p.Group == "" || len(p.Group) > maxTag {
			add("group has %d bytes: want 1 to %d", len(p.Group), maxTag)
		}
		if !HasScheme(p.Origin) || len(p.Origin) > maxSelector {
			add("origin is %.100q: want scheme://host", p.Origin)
		}
	case KindAll:
	default:
		add("want exactly one of url, urls, pattern, tags, group, all")
	}
	if p.URLs != nil && p.Kind != KindURL {
		add("urls go with no %s", p.Kind)
	}
	if !p.readable() {
		add("%s, or a filter of it, is not UTF-8", p.Kind)
	}
	return errors.Join(append(errs, p.Filters.check())...)
}

// checkURLs is Check for a list of URLs.
func (p *Purge) checkURLs() error {
	var errs []error
	size := 0
	for _, url := range p.URLs {
		if size += len(url); !HasScheme(url) {
			errs = append(errs, fmt.Errorf("urls: %.100q has no scheme, which a URL by itself may do without, and one of several not", url))
		}
	}
	switch n := len(p.URLs); {
	case n == 0 || n > MaxURLs:
		errs = append(errs, fmt.Errorf("urls are %d: want 1 to %d", n, MaxURLs))
	case size > MaxURLsSize:
		errs = append(errs, fmt.Errorf("urls have %d bytes together: want %d at most", size, MaxURLsSize))
	case p.Selector != "":
		errs = append(errs, errors.New("want either url or urls"))
	}
	return errors.Join(errs...)
}

// CanName reports whether a record can name a cache URL. One that none can must have nothing stored under it: it could not be purged.
func CanName(url string) bool { return len(url) <= MaxURLsSize && utf8.ValidString(url) }

// CacheURLs are the URLs that a purge of KindURL names.
func (p *Purge) CacheURLs() []string {
	if p.URLs != nil {
		return p.URLs
	}
	return []string{p.Selector}
}

// readable reports whether the log, which is JSON, brings back every byte. A record that came back longer could be refused by Check there, and
// a record that cannot be read stops everybody who follows.
func (p *Purge) readable() bool {
	texts := slices.Concat([]string{p.Selector, p.Origin, p.Group, p.Who}, p.URLs, p.Tags, p.Filters.ContentType)
	return !slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) })
}

func (f *Filters) check() error {
	var errs []error
	if len(f.Status) > maxFilters || len(f.ContentType) > maxFilters {
		errs = append(errs, fmt.Errorf("a filter has more than %d values", maxFilters))
	}
	for _, s := range f.Status {
		if !(s >= 100 && s <= 599 || s >= 1 && s <= 5) {
			errs = append(errs, fmt.Errorf("status %d is neither a status nor the first digit of one", s))
		}
	}
	if slices.ContainsFunc(f.ContentType, func(s string) bool { return s == "" || len(s) > maxType }) {
		errs = append(errs, fmt.Errorf("a content_type is empty or has more than %d bytes", maxType))
	}
	if f.OlderThan > 0 && f.OlderThan < time.Microsecond {
		errs = append(errs, fmt.Errorf("older_than is %v: less than the clock of Redis tells apart", f.OlderThan))
	}
	if f.OlderThan < 0 || f.MinSize < 0 || f.MaxSize < 0 || f.MaxSize > 0 && f.MaxSize < f.MinSize {
		errs = append(errs, errors.New("older_than, min_size and max_size must not be negative, nor cross"))
	}
	return errors.Join(errs...)
}

// Record is a purge in the log.
type Record struct {
	Purge
	Epoch Epoch
	Seq   Seq
	Nonce uint64 // of this very record: a Redis that went back may give its sequence to another
	Prev  Seq    // of the record before it, 0 for the first of an epoch
	PrevN uint64 // that one's nonce
}

// Position is the record's place.
func (r *Record) Position() Position { return Position{r.Epoch, r.Seq} }

// simple reports whether the record selects by URLs, tags, groups or everything alone, so that maps hold it; all others are looked at one
// by one.
func (r *Record) simple() bool {
	return r.Filters.empty() && r.Kind != KindPattern && !(r.MatchAll && len(r.Tags) > 1) &&
		(r.Kind != KindURL || r.URLs != nil || HasScheme(r.Selector))
}
