package main

import (
	"net/url"
	"strings"
)

// redacted stands in the log for a value that log.redact names.
const redacted = "REDACTED"

// redaction holds the names, in lower case, of parameters and request fields whose values are not to be shown.
type redaction map[string]bool

func newRedaction(names []string) redaction {
	r := make(redaction, len(names))
	for _, name := range names {
		r[strings.ToLower(name)] = true
	}
	return r
}

// url is a URL, or a path and query, but for the values of redacted parameters.
func (r redaction) url(text string) string {
	path, query, found := strings.Cut(text, "?")
	if !found || len(r) == 0 {
		return text
	}
	parameters := strings.Split(query, "&")
	for i := range parameters {
		parameters[i] = r.parameter(parameters[i])
	}
	return path + "?" + strings.Join(parameters, "&")
}

// parameter is one parameter of a query, or several where the upstream takes ; for a separator too: from the first redacted name on
// nothing is shown, since the ; may as well be a part of the value.
func (r redaction) parameter(text string) string {
	for begin := 0; ; {
		piece, _, more := strings.Cut(text[begin:], ";")
		name, _, _ := strings.Cut(piece, "=")
		decoded, err := url.QueryUnescape(name)
		if err != nil {
			decoded = name
		}
		if r[strings.ToLower(decoded)] {
			return text[:begin] + name + "=" + redacted
		}
		if !more {
			return text
		}
		begin += len(piece) + 1
	}
}
