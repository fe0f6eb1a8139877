package policy

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// knownMethods are the methods a rule may name: RFC 9110 section 9.3, RFC 5789, RFC 10008, WebDAV (RFC 4918, 3253, 5323), and
// PURGE, which this cache gives a meaning. Anything else is more likely a slip than a method.
var knownMethods = []string{
	"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "PURGE",
	"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH",
}

// ruleCompiler checks one rule; at is the rule's path with a dot, "rules[2].".
type ruleCompiler struct {
	at   string
	errs *specErrors
}

func (c ruleCompiler) addf(place, format string, args ...any) {
	c.errs.addf(c.at+place, format, args...)
}

// compileRule compiles a rule and appends what is wrong with it to errs, in the order of RuleSpec's fields. The rule returned is
// to be used only when nothing was.
func compileRule(index int, spec *RuleSpec, at string, errs *specErrors) *Rule {
	c := ruleCompiler{at: at, errs: errs}
	r := &Rule{
		Index:           index,
		Bypass:          spec.Bypass,
		Condition:       spec.Match.String(),
		match:           c.match(&spec.Match),
		HasResponsePart: len(spec.Match.Status) > 0 || len(spec.Match.ContentType) > 0,
		StripCookies:    spec.StripCookies,
		MaxObject:       spec.MaxObject,
		Collapse:        spec.Collapse == nil || *spec.Collapse,
		Limits:          slices.Clone(spec.Limit),
		RequireSession:  spec.RequireSession,
	}
	r.TTL = c.duration("ttl", spec.TTL, spec.Bypass)
	r.DefaultTTL = c.duration("default_ttl", spec.DefaultTTL, spec.Bypass)
	r.NegativeTTL = c.duration("negative_ttl", spec.NegativeTTL, spec.Bypass)
	r.StaleWhileRevalidate = c.duration("stale_while_revalidate", spec.StaleWhileRevalidate, spec.Bypass)
	r.StaleIfError = c.duration("stale_if_error", spec.StaleIfError, spec.Bypass)
	for i, name := range spec.Ignore {
		bit, err := ParseIgnore([]string{name})
		if err != nil {
			c.addf(fmt.Sprintf("ignore[%d]", i), "%w", err)
		}
		r.Ignore |= bit
	}
	r.Key = c.key(&spec.Key)
	for i, text := range spec.Tags {
		template, err := ParseTagTemplate(text)
		if err != nil {
			c.addf(fmt.Sprintf("tags[%d]", i), "%w", err)
		}
		r.Tags = append(r.Tags, template)
	}
	if spec.MaxObject < 0 {
		c.addf("max_object", "must not be negative; 0 stands for cache.max_object")
	}
	var err error
	if r.Compress, err = parseCompression(spec.Compress); err != nil {
		c.addf("compress", "%w", err)
	}
	c.notEmpty("limit", spec.Limit)
	if len(spec.Limit) > 0 && r.HasResponsePart {
		c.addf("limit", "cannot depend on match.status or match.content_type: limits are asked before there is a response")
	}
	if spec.RequireSession && r.HasResponsePart {
		c.addf("require_session", "cannot depend on match.status or match.content_type: sessions are asked for before there is a response")
	}
	return r
}

// duration checks and copies a duration, which saturates as delta-seconds do. With bypass none makes sense: nothing would ever be stored for it.
func (c ruleCompiler) duration(name string, d *time.Duration, bypass bool) *time.Duration {
	if d == nil {
		return nil
	}
	if *d < 0 {
		c.addf(name, "must not be negative, is %s", *d)
	}
	if bypass {
		c.addf(name, "contradicts bypass, which stores nothing")
	}
	v := min(*d, MaxDelta)
	return &v
}

func (c ruleCompiler) match(spec *MatchSpec) matcher {
	var m matcher
	if spec.Path != "" {
		g, err := compilePathGlob(spec.Path)
		if err != nil {
			c.addf("match.path", "%w", err)
		}
		m.path = &g
	}
	for i, method := range spec.Method {
		if !slices.Contains(knownMethods, method) {
			c.addf(fmt.Sprintf("match.method[%d]", i), "unknown method %q (known, in capitals: %s)", method, strings.Join(knownMethods, ", "))
		}
		m.methods = append(m.methods, method)
	}
	if slices.Contains(m.methods, "GET") {
		m.methods = append(m.methods, "HEAD")
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Query)) {
		m.query = append(m.query, queryCondition{
			name:  c.glob("match.query."+name, "name", name),
			value: c.glob("match.query."+name, "value", spec.Query[name]),
		})
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Header)) {
		place := "match.header." + name
		m.header = append(m.header, headerCondition{
			name:  c.fieldName(place, name, "sites are chosen by it: name it in sites[].hosts"),
			value: c.glob(place, "value", spec.Header[name]),
		})
	}
	c.responseMatch(&m, spec)
	return m
}

func (c ruleCompiler) responseMatch(m *matcher, spec *MatchSpec) {
	for i, status := range spec.Status {
		if status < 100 || status > 599 {
			c.addf(fmt.Sprintf("match.status[%d]", i), "%d is out of range: 100 to 599", status)
		}
		m.status = append(m.status, status)
	}
	for i, pattern := range spec.ContentType {
		place := fmt.Sprintf("match.content_type[%d]", i)
		main, sub, ok := strings.Cut(pattern, "/")
		if !ok || !isFieldName(main) || !isFieldName(sub) {
			c.addf(place, `%q is no media type: write "text/html" or "image/*", without parameters`, pattern)
			continue
		}
		m.contentType = append(m.contentType, c.glob(place, "media type", strings.ToLower(pattern)))
	}
}

// glob compiles a value glob. The empty one is allowed for values only: it matches what is present and empty.
func (c ruleCompiler) glob(place, what, pattern string) glob {
	if pattern == "" && what == "value" {
		return glob{}
	}
	g, err := compileGlob(pattern)
	if err != nil {
		c.addf(place, "%s %w", what, err)
	}
	return g
}

func (c ruleCompiler) key(spec *KeySpec) *KeyRule {
	k := &KeyRule{sort: spec.Query.Sort}
	for i, pattern := range spec.Query.Ignore {
		k.ignore = append(k.ignore, c.glob(fmt.Sprintf("key.query.ignore[%d]", i), "name", pattern))
	}
	for i, pattern := range spec.Query.Allow {
		k.allow = append(k.allow, c.glob(fmt.Sprintf("key.query.allow[%d]", i), "name", pattern))
	}
	for i, name := range spec.Headers {
		place := fmt.Sprintf("key.headers[%d]", i)
		canonical := c.fieldName(place, name, "the host is always part of the key")
		if canonical == "X-Forwarded-For" || canonical == "Forwarded" {
			c.addf(place, "%s is completed as the request is forwarded, so it cannot tell stored responses apart", canonical)
		}
		k.Headers = append(k.Headers, canonical)
	}
	for i, name := range spec.Cookies {
		if !isFieldName(name) {
			c.addf(fmt.Sprintf("key.cookies[%d]", i), "%q is not a cookie's name", name)
		}
		k.Cookies = append(k.Cookies, name)
	}
	c.notEmpty("key.session", spec.Session)
	k.Session = slices.Clone(spec.Session)
	for _, names := range []*[]string{&k.Headers, &k.Cookies, &k.Session} {
		slices.Sort(*names) // so that another order in the configuration is not another key
		*names = slices.Compact(*names)
	}
	return k
}

// fieldName checks a field's name and returns its canonical form. Go moves Host out of the fields, so a rule that names it would
// silently look at nothing; host says what to do instead.
func (c ruleCompiler) fieldName(place, name, host string) string {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case !isFieldName(name):
		c.addf(place, "%q is not a field name", name)
	case canonical == "Host":
		c.addf(place, "Host cannot be named here; %s", host)
	}
	return canonical
}

func (c ruleCompiler) notEmpty(list string, names []string) {
	for i, name := range names {
		if name == "" {
			c.addf(fmt.Sprintf("%s[%d]", list, i), "is empty")
		}
	}
}

// isFieldName reports whether s is a token (RFC 9110 section 5.6.2).
func isFieldName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isLetterOrDigit(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
