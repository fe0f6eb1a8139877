package policy

import "net/http"

// Sites is the compiled, immutable set of sites.
type Sites struct {
	fallback *Site
}

// Site is one compiled site: a name and its rules.
type Site struct {
	Name  string
	Index int // place in the specs given to CompileSites; -1 for the site without rules that answers when there is no default
	Rules []*Rule
}

// MatchInput is what rules look at of a request. Path is as CleanPath returns it.
type MatchInput struct {
	Method, Path string
	RawQuery     string
	Header       http.Header
}

type matcher struct{ status []int }

// CompileSites checks and compiles the specs. It reports all mistakes at once.
func CompileSites(specs []SiteSpec) (*Sites, []SpecError) {
	return &Sites{}, nil
}

var emptySite = &Site{Name: "default", Index: -1}

// Find returns the site that answers to host.
func (s *Sites) Find(host string) *Site { return emptySite }

// RequestRule returns the first rule whose request part matches.
func (s *Site) RequestRule(in *MatchInput) *Rule { return DefaultRule }

// ResponseRule returns the first rule whose request and response parts match.
func (s *Site) ResponseRule(in *MatchInput, status int, contentType string) *Rule { return DefaultRule }
