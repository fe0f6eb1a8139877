package policy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// TagFields are the response fields in which an origin names the tags of a response. They, and Cache-Groups, are said to this cache
// and not to its clients, who could learn from them how a site is made. The zero value reads none.
type TagFields struct {
	fields []tagField
	names  []string // canonical, Cache-Groups among them
}

type tagField struct{ name, separators string }

// DefaultTagFields are the names that origins written for other caches use: Fastly's, Varnish's and Cloudflare's.
func DefaultTagFields() []string { return []string{"Surrogate-Key", "Xkey", "Cache-Tag"} }

// NewTagFields reads tags in the fields of these names, in that order. Surrogate-Key and xkey part them by white space, all others by
// commas. The error is that of CheckTagField.
func NewTagFields(names []string) (TagFields, error) {
	t := TagFields{names: []string{groupsField}}
	for _, name := range names {
		if err := CheckTagField(name); err != nil {
			return TagFields{}, err
		}
		f := tagField{http.CanonicalHeaderKey(name), ","}
		if f.name == "Surrogate-Key" || f.name == "Xkey" {
			f.separators = " \t"
		}
		t.fields, t.names = append(t.fields, f), append(t.names, f.name)
	}
	return t, nil
}

// meaningful are fields that have a meaning for clients or for HTTP itself, so that to read them as tags, and then to keep them from
// clients, cannot be what is wanted. So has all that begins with Content- or Access-Control-.
const meaningful = " Accept-Ranges Age Allow Alt-Svc Cache-Control Cache-Status Connection Date Etag Expires Last-Modified Link Location Pragma" +
	" Retry-After Server Set-Cookie Strict-Transport-Security Trailer Transfer-Encoding Upgrade Vary Via Www-Authenticate "

// CheckTagField reports why a field cannot be one of tags.
func CheckTagField(name string) error {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case !isFieldName(name):
		return fmt.Errorf("%q is not the name of a field", name)
	case canonical == groupsField:
		return errors.New("Cache-Groups is read as RFC 9875 says, not as tags")
	case strings.Contains(meaningful, " "+canonical+" "), strings.HasPrefix(canonical, "Content-"), strings.HasPrefix(canonical, "Access-Control-"):
		return fmt.Errorf("%s has a meaning of its own, and fields of tags are kept from clients", canonical)
	}
	return nil
}

// Append appends the tags that a response names itself. Tags that dst has already, those over 256 bytes, and what is no tag (with a NUL)
// are left out; past 128 no more are read.
func (t *TagFields) Append(dst []string, h http.Header) []string {
	bound := len(dst) + maxTags
	for _, f := range t.fields {
		for _, line := range h[f.name] {
			for line != "" && len(dst) < bound {
				end := strings.IndexAny(line, f.separators)
				if end < 0 {
					end = len(line)
				}
				dst = appendTag(dst, strings.Trim(line[:end], " \t"))
				line = line[min(end+1, len(line)):]
			}
		}
	}
	return dst
}

// Strip removes the fields of tags and Cache-Groups from h.
func (t *TagFields) Strip(h http.Header) {
	for _, name := range t.names {
		delete(h, name)
	}
}
