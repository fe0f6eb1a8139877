package policy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// MatchInput is what rules look at of a request: as received, before anything is normalised for upstream.
type MatchInput struct {
	Method   string
	Path     string // as CleanPath returns it
	RawQuery string
	Header   http.Header
}

// matcher is the compiled form of MatchSpec. What is nil matches everything.
type matcher struct {
	path        *glob
	methods     []string
	query       []queryCondition
	header      []headerCondition
	status      []int
	contentType []glob
}

type queryCondition struct{ name, value glob }

type headerCondition struct {
	name  string // canonical
	value glob
}

// request reports whether the request part matches. It does not allocate, unless names or values of the query are encoded.
func (m *matcher) request(in *MatchInput) bool {
	if m.path != nil && !m.path.match(in.Path) {
		return false
	}
	if m.methods != nil && !slices.Contains(m.methods, in.Method) {
		return false
	}
	for i := range m.query {
		if !m.query[i].match(in.RawQuery) {
			return false
		}
	}
	for i := range m.header {
		if !m.header[i].match(in.Header) {
			return false
		}
	}
	return true
}

// response reports whether the response part matches. A rule without one matches every response.
func (m *matcher) response(status int, contentType string) bool {
	if m.status != nil && !slices.Contains(m.status, status) {
		return false
	}
	if m.contentType == nil {
		return true
	}
	essence, _, _ := strings.Cut(contentType, ";")
	essence = strings.ToLower(strings.Trim(essence, " \t"))
	for i := range m.contentType {
		if m.contentType[i].match(essence) {
			return true
		}
	}
	return false
}

// match reports whether one of the parameters has the name and the value. Parameters are split at "&" only.
func (c *queryCondition) match(rawQuery string) bool {
	for more := rawQuery != ""; more; {
		var param string
		param, rawQuery, more = strings.Cut(rawQuery, "&")
		name, value, _ := strings.Cut(param, "=")
		if param != "" && c.name.match(decodeQuery(name)) && c.value.match(decodeQuery(value)) {
			return true
		}
	}
	return false
}

func (c *headerCondition) match(h http.Header) bool {
	for _, line := range h[c.name] {
		if c.value.match(line) {
			return true
		}
	}
	return false
}

// decodeQuery decodes a name or a value of a query: "+" is a space. What is not validly encoded is returned as it is.
func decodeQuery(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}
