package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// SiteSpec is one site as the configuration writes it, before CompileSites has checked it.
type SiteSpec struct {
	Name string // for logs; "" = its first host, or "default"

	// Hosts are the names the site answers to: "shop.example", "*.shop.example" (any depth below, not shop.example itself), or
	// either with a port, which then has to be the request's. Empty makes it the default site, of which there is at most one.
	Hosts []string
	Rules []RuleSpec // tried in order, the first that matches governs
}

// RuleSpec is one rule as the configuration writes it. What it leaves out keeps the default.
type RuleSpec struct {
	Match  MatchSpec
	Bypass bool // pass on, store nothing

	TTL        *time.Duration // replaces the freshness lifetime
	DefaultTTL *time.Duration // the lifetime where the origin names none
	// NegativeTTL is the lifetime of errors where the origin names none.
	NegativeTTL          *time.Duration
	StaleWhileRevalidate *time.Duration
	StaleIfError         *time.Duration

	Ignore         []string // names as ParseIgnore knows them
	Key            KeySpec
	Tags           []string // templates, see TagTemplate
	StripCookies   bool
	MaxObject      int64  // bytes; 0 = the cache's
	Compress       string // of bodies in Redis: "" or "none", "s2", "zstd"
	Collapse       *bool  // nil = true
	Limit          []string
	RequireSession bool
}

// MatchSpec says which messages a rule is for. What is empty matches everything; what is named must all match.
type MatchSpec struct {
	Path        string            // glob over the decoded path: `*` within a segment, `**` across
	Method      []string          // GET includes HEAD, because the two share what is stored
	Query       map[string]string // name glob -> value glob, both decoded; "*" = present
	Header      map[string]string // field name -> value glob; one matching line is enough; "*" = present
	Status      []int             // of the response
	ContentType []string          // of the response: "text/html", "image/*"; parameters are not compared
}

// String writes the condition in one line, in the form that the configuration has between braces; "" for one that matches everything.
func (m *MatchSpec) String() string {
	var parts []string
	add := func(key, value string) { parts = append(parts, key+": "+value) }
	if m.Path != "" {
		add("path", m.Path)
	}
	if len(m.Method) > 0 {
		add("method", "["+strings.Join(m.Method, ", ")+"]")
	}
	if len(m.Query) > 0 {
		add("query", globsOf(m.Query))
	}
	if len(m.Header) > 0 {
		add("header", globsOf(m.Header))
	}
	if len(m.Status) > 0 {
		add("status", strings.ReplaceAll(fmt.Sprint(m.Status), " ", ", "))
	}
	if len(m.ContentType) > 0 {
		add("content_type", "["+strings.Join(m.ContentType, ", ")+"]")
	}
	return strings.Join(parts, ", ")
}

func globsOf(byName map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		pairs = append(pairs, fmt.Sprintf("%s: %q", name, byName[name]))
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// KeySpec says what beside scheme, host, path and query tells stored responses apart.
type KeySpec struct {
	Query   QuerySpec
	Headers []string // request fields whose values become part of the key
	Cookies []string // cookies whose values do
	Session []string // session fields whose values do
}

// QuerySpec says which query parameters are forwarded and keyed. Names are globs: `*` stands for anything.
type QuerySpec struct {
	Ignore []string // dropped
	Allow  []string // when not empty: only these are kept (less those ignored)
	Sort   bool     // stably by decoded name
}

// SpecError is one mistake in a configuration. Path names the place as the configuration writes it: "rules[2].match.path".
type SpecError struct {
	Path string
	Err  error
}

// Error returns the path and what is wrong there.
func (e SpecError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e SpecError) Unwrap() error { return e.Err }

// specErrors collects mistakes, so that all are reported at once.
type specErrors []SpecError

func (es *specErrors) addf(path, format string, args ...any) {
	*es = append(*es, SpecError{Path: path, Err: fmt.Errorf(format, args...)})
}
