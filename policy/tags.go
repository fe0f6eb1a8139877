package policy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"cacheproxy/internal/placeholder"
)

// Bounds of the tags of one stored response. What is over them is left out: an origin's slip must not bloat every index.
const (
	maxTags   = 128 // from the response's own fields; as many groups again
	maxTagLen = 256 // bytes
)

// TagTemplate is a compiled tag of the configuration: text with placeholders. {path.N} is the N-th segment of the decoded path,
// from 1; {host} is the request's host in lower case, without port and final dot; {header.Name} is a field of the response.
type TagTemplate struct {
	source string
	parts  []tagPart
}

type tagPartKind uint8

const (
	tagText tagPartKind = iota
	tagPath
	tagHost
	tagHeader
)

type tagPart struct {
	kind tagPartKind
	text string // the text; the canonical field name
	n    int    // of the segment
}

// String returns the template as it was written.
func (t TagTemplate) String() string { return t.source }

// ParseTagTemplate compiles a template. The error of an unknown placeholder lists the known ones.
func ParseTagTemplate(s string) (TagTemplate, error) {
	parts, err := placeholder.Parse(s, maxTagLen, func(text string) tagPart { return tagPart{text: text} }, parsePlaceholder)
	return TagTemplate{source: s, parts: parts}, err
}

func parsePlaceholder(name string) (tagPart, error) {
	if name == "host" {
		return tagPart{kind: tagHost}, nil
	}
	if n, ok, err := placeholder.Numbered(name, "path", "a segment"); ok {
		return tagPart{kind: tagPath, n: n}, err
	}
	if field, ok := strings.CutPrefix(name, "header."); ok && isFieldName(field) {
		return tagPart{kind: tagHeader, text: http.CanonicalHeaderKey(field)}, nil
	}
	return tagPart{}, fmt.Errorf("unknown placeholder {%s} (known: {path.N}, {host}, {header.Name})", name)
}

// AppendTags appends the tags that the rule gives a response: one for each template all of whose values are there and not empty.
// in is the request, host its host as received, response the response's fields. Tags that dst has already, and those over 256
// bytes, are left out.
func (r *Rule) AppendTags(dst []string, in *MatchInput, host string, response http.Header) []string {
	for i := range r.Tags {
		if tag, ok := r.Tags[i].expand(in, host, response); ok {
			dst = appendTag(dst, tag)
		}
	}
	return dst
}

func (t *TagTemplate) expand(in *MatchInput, host string, response http.Header) (string, bool) {
	if len(t.parts) == 1 && t.parts[0].kind == tagText {
		return t.parts[0].text, true
	}
	var text [maxTagLen]byte
	tag := text[:0]
	for _, p := range t.parts {
		value := p.text
		switch p.kind {
		case tagPath:
			value = pathSegment(in.Path, p.n)
		case tagHost:
			value, _, _ = splitHost(host)
			value = strings.TrimSuffix(strings.ToLower(value), ".")
		case tagHeader:
			value = response.Get(p.text)
		}
		if value == "" {
			return "", false
		}
		tag = append(tag, value...)
	}
	return string(tag), true
}

// pathSegment returns the n-th segment of a clean path, "" when there are fewer.
func pathSegment(path string, n int) string {
	for range n {
		_, rest, ok := strings.Cut(path, "/")
		if !ok {
			return ""
		}
		path = rest
	}
	segment, _, _ := strings.Cut(path, "/")
	return segment
}

// appendTag appends a tag that is within bounds and not yet there. One with a NUL is none: it might pass for a group (GroupTag).
func appendTag(dst []string, tag string) []string {
	if tag == "" || len(tag) > maxTagLen || strings.IndexByte(tag, 0) >= 0 || slices.Contains(dst, tag) {
		return dst
	}
	return append(dst, tag)
}
