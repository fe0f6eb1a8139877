package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
	"cacheproxy/proxy"
)

// Purge is what is to be forgotten, as POST /v1/purge takes it and GET /v1/purges shows it. Exactly one of URL, URLs, Pattern, Tags, Group and All
// is there; it is a pointer so that one that is there and empty is a mistake, and not all that is left of a template whose variable was not set.
type Purge struct {
	// URL is a cache URL, as explain shows it ("key"), with all its variants. Without a scheme it is that of any.
	URL *string `json:"url,omitempty"`
	// URLs are several at once, each with its scheme: 256 of them, and 64 KiB together, at most.
	URLs []string `json:"urls,omitempty"`
	// Pattern is a glob over cache URLs as Redis has them: *, ?, [...], and "/" is a character as any other.
	Pattern *string `json:"pattern,omitempty"`
	// Tags are those of Surrogate-Key, Cache-Tag, xkey and the rules.
	Tags  []string `json:"tags,omitempty"`
	Match string   `json:"match,omitempty"` // of the tags: any (the default) or all
	// Group is a cache group (RFC 9875) of an origin: scheme://host[:port].
	Group  *string `json:"group,omitempty"`
	Origin string  `json:"origin,omitempty"`
	All    *bool   `json:"all,omitempty"`

	Soft        bool           `json:"soft,omitempty"`         // makes stale instead of forgetting
	Status      []StatusFilter `json:"status,omitempty"`       // 404, or "4xx" for all that begin so
	ContentType []string       `json:"content_type,omitempty"` // media types, * for any text
	OlderThan   string         `json:"older_than,omitempty"`   // stored, or last validated, longer ago: 30s, 5m, 1h30m
	MinSize     int64          `json:"min_size,omitempty"`     // of the body, in bytes
	MaxSize     int64          `json:"max_size,omitempty"`

	// DryRun, when true, counts what would be purged, and purges nothing. Max refuses to purge more stored responses than that. They are as
	// they were sent, so that null is seen.
	DryRun json.RawMessage `json:"dry_run,omitempty"`
	Max    json.RawMessage `json:"max,omitempty"`
}

// A StatusFilter is a status, or the first digit of some.
type StatusFilter int

// UnmarshalJSON takes 404, "404" and "4xx".
func (s *StatusFilter) UnmarshalJSON(text []byte) error {
	written := strings.Trim(string(text), `"`)
	n, err := strconv.Atoi(strings.TrimSuffix(strings.ToLower(written), "xx"))
	if class := strings.HasSuffix(strings.ToLower(written), "xx"); err != nil || class && (n < 1 || n > 5) || !class && (n < 100 || n > 599) {
		return fmt.Errorf("status %q is neither a status nor a class of them: write 404 or 4xx", written)
	}
	*s = StatusFilter(n)
	return nil
}

// MarshalJSON writes what UnmarshalJSON takes.
func (s StatusFilter) MarshalJSON() ([]byte, error) {
	if s < 10 {
		return fmt.Appendf(nil, `"%dxx"`, int(s)), nil
	}
	return fmt.Append(nil, int(s)), nil
}

// Check reports all that is wrong with a purge, as POST /v1/purge would.
func (p *Purge) Check() error {
	_, err := p.record()
	if err != nil {
		err = errors.New(strings.Join(mistakes(err), "; "))
	}
	return err
}

// record is what is to be appended to the log. The error joins all that is wrong, each naming its field.
func (p *Purge) record() (r invalidation.Purge, err error) {
	var mistakes []error
	add := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	if _, err := p.caution(); err != nil {
		mistakes = append(mistakes, err)
	}
	r = invalidation.Purge{Tags: p.Tags, MatchAll: p.Match == "all", Soft: p.Soft}
	selected, err := p.selectBy(&r)
	if err != nil {
		mistakes = append(mistakes, err)
	}
	if p.Match != "" && (p.Tags == nil || p.Match != "any" && p.Match != "all") {
		add("match is %q: any or all, with tags", p.Match)
	}
	if p.Origin != "" && p.Group == nil {
		add("origin goes with group")
	}
	filters, err := p.filters()
	if err != nil {
		mistakes = append(mistakes, err)
	}
	r.Filters = filters
	if selected {
		if err := r.Check(); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	return r, errors.Join(mistakes...)
}

// selectBy sets what the record selects by. It reports whether there is such a thing.
func (p *Purge) selectBy(r *invalidation.Purge) (ok bool, err error) {
	var given []string
	for _, s := range []struct {
		kind  invalidation.Kind
		field string
		there bool
	}{
		{invalidation.KindURL, "url", p.URL != nil}, {invalidation.KindURL, "urls", p.URLs != nil}, {invalidation.KindPattern, "pattern", p.Pattern != nil},
		{invalidation.KindTag, "tags", p.Tags != nil}, {invalidation.KindGroup, "group", p.Group != nil}, {invalidation.KindAll, "all", p.All != nil},
	} {
		if s.there {
			r.Kind = s.kind
			given = append(given, s.field)
		}
	}
	if len(given) != 1 {
		told := "none is given"
		if len(given) > 1 {
			told = "given are " + strings.Join(given, ", ")
		}
		return false, errors.New("want exactly one of url, urls, pattern, tags, group, all: " + told)
	}
	switch r.Kind {
	case invalidation.KindURL:
		if p.URLs != nil {
			r.URLs, err = cacheURLs(p.URLs)
		} else {
			r.Selector, err = cacheURL(*p.URL)
		}
	case invalidation.KindPattern:
		r.Selector = *p.Pattern
		if wrong := invalidation.WellFormed(*p.Pattern); wrong != nil {
			err = fmt.Errorf("pattern %w", wrong)
		}
	case invalidation.KindGroup:
		r.Group = *p.Group
		r.Origin, err = originOf(p.Origin)
	case invalidation.KindAll:
		if !*p.All {
			err = errors.New("all is false: leave it out, or write true")
		}
	}
	return err == nil, err
}

func (p *Purge) filters() (f invalidation.Filters, err error) {
	f = invalidation.Filters{ContentType: p.ContentType, MinSize: p.MinSize, MaxSize: p.MaxSize}
	for _, s := range p.Status {
		f.Status = append(f.Status, int(s))
	}
	if p.OlderThan != "" {
		if f.OlderThan, err = time.ParseDuration(p.OlderThan); err != nil || f.OlderThan <= 0 {
			return f, fmt.Errorf("older_than is %q: write a length of time such as 30s, 5m or 1h30m", p.OlderThan)
		}
	}
	return f, nil
}

// cacheURL is the URL under which responses to a GET of this one are kept where no rule changes its query: scheme and host in lower case,
// without the default port, the rest byte for byte. A URL without a scheme stays so.
func cacheURL(text string) (string, error) {
	scheme, bare := "", text
	if invalidation.HasScheme(text) {
		scheme, bare, _ = strings.Cut(text, "://")
		scheme = strings.ToLower(scheme)
	}
	asked := proxy.Question{URL: "http://" + bare}
	if scheme != "" {
		asked.URL = scheme + "://" + bare
	}
	r, err := asked.Request(context.Background())
	if err != nil {
		return "", err
	}
	if !policy.ValidHost(r.Host) {
		return "", fmt.Errorf("url: %.100q is no host", r.Host)
	}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	if r.URL.ForceQuery {
		path += "?"
	}
	keyed := scheme
	if keyed == "" {
		keyed = "any" // so that no port is the default
	}
	key := new(policy.KeyRule).Key(keyed, r.Host, path, query, nil, nil).URL
	if scheme == "" {
		key = strings.TrimPrefix(key, "any://")
	}
	return key, nil
}

// cacheURLs are those of a list, each once. What is wrong with any of them is told of all at once.
func cacheURLs(texts []string) ([]string, error) {
	if len(texts) > invalidation.MaxURLs { // else each would be told what is wrong with it
		return texts, nil
	}
	urls, mistakes := make([]string, 0, len(texts)), []error(nil)
	for _, text := range texts {
		url, err := cacheURL(text)
		if err != nil {
			mistakes = append(mistakes, err)
		} else if !slices.Contains(urls, url) {
			urls = append(urls, url)
		}
	}
	return urls, errors.Join(mistakes...)
}

// originOf is scheme://host[:port] as cache URLs begin.
func originOf(text string) (string, error) {
	url, err := cacheURL(text)
	origin, isRoot := strings.CutSuffix(url, "/")
	if err != nil || !isRoot || !invalidation.HasScheme(text) || strings.Count(origin, "/") != 2 {
		return "", fmt.Errorf("origin is %.100q: write scheme://host, with the port unless it is the scheme's own", text)
	}
	return origin, nil
}

// shown is a record as its asker would have written it.
func shown(r *invalidation.Record) Purge {
	p := Purge{URLs: r.URLs, Tags: r.Tags, Soft: r.Soft, ContentType: r.Filters.ContentType, MinSize: r.Filters.MinSize, MaxSize: r.Filters.MaxSize}
	switch r.Kind {
	case invalidation.KindURL:
		if r.URLs == nil {
			p.URL = &r.Selector
		}
	case invalidation.KindPattern:
		p.Pattern = &r.Selector
	case invalidation.KindGroup:
		p.Group, p.Origin = &r.Group, r.Origin
	case invalidation.KindAll:
		p.All = new(true)
	}
	if r.MatchAll {
		p.Match = "all"
	}
	for _, s := range r.Filters.Status {
		p.Status = append(p.Status, StatusFilter(s))
	}
	if r.Filters.OlderThan > 0 {
		p.OlderThan = r.Filters.OlderThan.String()
	}
	return p
}
