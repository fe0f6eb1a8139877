package policy

import "net/http"

// TagTemplate is one compiled tag template.
type TagTemplate struct{}

// AppendTags appends the rule's tags.
func (r *Rule) AppendTags(dst []string, in *MatchInput, host string, response http.Header) []string {
	return dst
}

// ResponseTags appends the tags that the response names itself.
func ResponseTags(dst []string, h http.Header) []string { return dst }
