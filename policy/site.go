package policy

import (
	"bytes"
	"fmt"
)

// Sites is a compiled set of sites: immutable, safe for concurrent use. Its zero value and nil have no rules at all.
type Sites struct {
	exact    map[string]*Site // by name, and by name:port where the pattern names one
	wildcard map[string]*Site // by ".example.com", ".example.com:8443"
	fallback *Site            // the default site; nil = unruled
	all      []*Site          // in their order
}

// Site is a compiled site: the first of its rules that matches governs.
type Site struct {
	Name  string
	Index int // place in the specs given to CompileSites; -1 for the site without rules that stands in for a missing default
	Rules []*Rule

	forRequest []*Rule // those without a response part
}

// unruled is what answers where no default site is configured.
var unruled = &Site{Name: "default", Index: -1}

// CompileSites checks and compiles the specs. All mistakes are reported at once, in the order of the configuration, each with
// its path: "rules[2].match.path" in the default site (the first without hosts), "sites[0].rules[1].ttl" in the first of the
// others. When there are mistakes the Sites are nil.
func CompileSites(specs []SiteSpec) (*Sites, []SpecError) {
	c := siteCompiler{
		sites: &Sites{exact: map[string]*Site{}, wildcard: map[string]*Site{}},
		named: map[hostPattern]string{},
	}
	others := 0
	for i := range specs {
		prefix := ""
		if len(specs[i].Hosts) > 0 || c.sites.fallback != nil {
			prefix = fmt.Sprintf("sites[%d].", others)
			others++
		}
		c.compile(i, &specs[i], prefix)
	}
	if len(c.errs) > 0 {
		return nil, c.errs
	}
	return c.sites, nil
}

type siteCompiler struct {
	sites *Sites
	named map[hostPattern]string // pattern -> path of its first mention
	errs  specErrors
}

func (c *siteCompiler) compile(index int, spec *SiteSpec, prefix string) {
	site := &Site{Name: spec.Name, Index: index}
	if site.Name == "" {
		site.Name = "default"
		if len(spec.Hosts) > 0 {
			site.Name = spec.Hosts[0]
		}
	}
	c.sites.all = append(c.sites.all, site)
	if len(spec.Hosts) == 0 {
		if c.sites.fallback != nil {
			c.errs.addf(prefix+"hosts", "is empty, but there is a default site already: the top-level rules")
		}
		c.sites.fallback = site
	}
	for i, host := range spec.Hosts {
		c.addHost(site, host, fmt.Sprintf("%shosts[%d]", prefix, i))
	}
	for i := range spec.Rules {
		rule := compileRule(i, &spec.Rules[i], fmt.Sprintf("%srules[%d].", prefix, i), &c.errs)
		site.Rules = append(site.Rules, rule)
		if !rule.HasResponsePart {
			site.forRequest = append(site.forRequest, rule)
		}
	}
}

func (c *siteCompiler) addHost(site *Site, host, path string) {
	pattern, err := parseHostPattern(host)
	if err != nil {
		c.errs.addf(path, "%w", err)
		return
	}
	if first, taken := c.named[pattern]; taken {
		c.errs.addf(path, "%q is named already by %s", host, first)
		return
	}
	c.named[pattern] = path
	key := pattern.name
	if pattern.port != "" {
		key += ":" + pattern.port
	}
	if pattern.wildcard {
		c.sites.wildcard[key] = site
	} else {
		c.sites.exact[key] = site
	}
}

// Len returns how many specs were compiled: every Site.Index is below it.
func (s *Sites) Len() int {
	if s == nil {
		return 0
	}
	return len(s.all)
}

// All returns the sites in the order of their Index. The list is not to be changed.
func (s *Sites) All() []*Site {
	if s == nil {
		return nil
	}
	return s.all
}

// Find returns the site that answers to host, as a Host field holds it: case, a final dot, and a port that no pattern names
// are ignored. An exact name beats a wildcard, the longer wildcard beats the shorter, at equal names one with the port beats one
// without, and what nothing names belongs to the default site. It never returns nil and does not allocate.
func (s *Sites) Find(host string) *Site {
	if s == nil {
		return unruled
	}
	name, port, ok := splitHost(host)
	if ok && len(host) <= maxHost && len(s.exact)+len(s.wildcard) > 0 {
		var buf [2 * maxHost]byte // name:port, without a dot between
		full := appendLower(buf[:0], name)
		full = bytes.TrimSuffix(full, []byte("."))
		bare := len(full)
		full = append(append(full, ':'), port...)
		if site := s.exact[string(full)]; site != nil {
			return site
		}
		if site := s.exact[string(full[:bare])]; site != nil {
			return site
		}
		if site := s.findWildcard(full, bare); site != nil {
			return site
		}
	}
	if s.fallback != nil {
		return s.fallback
	}
	return unruled
}

// findWildcard looks for the longest wildcard that full, a name of bare bytes and ":port", ends with.
func (s *Sites) findWildcard(full []byte, bare int) *Site {
	if len(s.wildcard) == 0 {
		return nil
	}
	for i := 1; i < bare; i++ {
		if full[i] != '.' {
			continue
		}
		if site := s.wildcard[string(full[i:])]; site != nil {
			return site
		}
		if site := s.wildcard[string(full[i:bare])]; site != nil {
			return site
		}
	}
	return nil
}

// RequestRule returns the rule that governs a request before there is a response: the first whose request part matches, rules
// with a response part left out. It is DefaultRule when none matches, and does not allocate for a plain query.
func (s *Site) RequestRule(in *MatchInput) *Rule {
	for _, rule := range s.forRequest {
		if rule.match.request(in) {
			return rule
		}
	}
	return DefaultRule
}

// ResponseRule returns the rule that governs a response: the first whose request and response parts both match, DefaultRule
// when none does. contentType is the field's value.
func (s *Site) ResponseRule(in *MatchInput, status int, contentType string) *Rule {
	for _, rule := range s.Rules {
		if rule.match.request(in) && rule.match.response(status, contentType) {
			return rule
		}
	}
	return DefaultRule
}
