package config

import (
	"slices"
	"time"

	"cacheproxy/policy"
)

// Rule says which requests it is about and what is different for them; what it does not name keeps the default.
type Rule struct {
	Match                Match     `yaml:"match"`
	Bypass               bool      `yaml:"bypass"`
	TTL                  *Duration `yaml:"ttl"`
	DefaultTTL           *Duration `yaml:"default_ttl"`
	NegativeTTL          *Duration `yaml:"negative_ttl"`
	StaleWhileRevalidate *Duration `yaml:"stale_while_revalidate"`
	StaleIfError         *Duration `yaml:"stale_if_error"`
	Ignore               []string  `yaml:"ignore"`
	Key                  Key       `yaml:"key"`
	Tags                 []string  `yaml:"tags"`
	StripCookies         bool      `yaml:"strip_cookies"`
	MaxObject            Size      `yaml:"max_object"`
	Compress             string    `yaml:"compress"`
	Collapse             *bool     `yaml:"collapse"`
	Limit                []string  `yaml:"limit"`
	RequireSession       bool      `yaml:"require_session"`
}

// Match is the condition of a Rule: all that is named must hold.
type Match struct {
	Path        string            `yaml:"path"`
	Method      []string          `yaml:"method"`
	Query       map[string]string `yaml:"query"`
	Header      map[string]string `yaml:"header"`
	Status      []int             `yaml:"status"`
	ContentType []string          `yaml:"content_type"`
}

// Key is what tells stored responses of a Rule apart beyond scheme, host, path and query.
type Key struct {
	Query   KeyQuery `yaml:"query"`
	Headers []string `yaml:"headers"`
	Cookies []string `yaml:"cookies"`
	Session []string `yaml:"session"`
}

// KeyQuery normalises the query, both for the key and as it is forwarded.
type KeyQuery struct {
	Ignore []string `yaml:"ignore"`
	Allow  []string `yaml:"allow"`
	Sort   bool     `yaml:"sort"`
}

// SiteSpecs returns what policy.CompileSites compiles: the default site first, then Sites in their order.
func (c *Config) SiteSpecs() []policy.SiteSpec {
	specs := []policy.SiteSpec{{Name: "default", Rules: ruleSpecs(c.Rules)}}
	for i := range c.Sites {
		site := &c.Sites[i]
		name := ""
		if len(site.Hosts) > 0 {
			name = site.Hosts[0]
		}
		specs = append(specs, policy.SiteSpec{Name: name, Hosts: slices.Clone(site.Hosts), Rules: ruleSpecs(site.Rules)})
	}
	return specs
}

func ruleSpecs(rules []Rule) []policy.RuleSpec {
	specs := make([]policy.RuleSpec, len(rules))
	for i := range rules {
		r := &rules[i]
		specs[i] = policy.RuleSpec{
			Match: policy.MatchSpec{
				Path: r.Match.Path, Method: r.Match.Method, Query: r.Match.Query,
				Header: r.Match.Header, Status: r.Match.Status, ContentType: r.Match.ContentType,
			},
			Bypass:               r.Bypass,
			TTL:                  r.TTL.pointer(),
			DefaultTTL:           r.DefaultTTL.pointer(),
			NegativeTTL:          r.NegativeTTL.pointer(),
			StaleWhileRevalidate: r.StaleWhileRevalidate.pointer(),
			StaleIfError:         r.StaleIfError.pointer(),
			Ignore:               r.Ignore,
			Key: policy.KeySpec{
				Query:   policy.QuerySpec{Ignore: r.Key.Query.Ignore, Allow: r.Key.Query.Allow, Sort: r.Key.Query.Sort},
				Headers: r.Key.Headers, Cookies: r.Key.Cookies, Session: r.Key.Session,
			},
			Tags:           r.Tags,
			StripCookies:   r.StripCookies,
			MaxObject:      int64(r.MaxObject),
			Compress:       r.Compress,
			Collapse:       r.Collapse,
			Limit:          r.Limit,
			RequireSession: r.RequireSession,
		}
	}
	return specs
}

// pointer converts an optional Duration; nil stays nil.
func (d *Duration) pointer() *time.Duration {
	if d == nil {
		return nil
	}
	v := time.Duration(*d)
	return &v
}
