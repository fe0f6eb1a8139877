package policy

import "net/http"

// Key names a stored resource.
type Key struct {
	URL    string // normalised cache URL: scheme://host/path?query
	Extras string // values named by key.headers, key.cookies, key.session; "" when none
}

// KeyRule is the compiled key part of a rule.
type KeyRule struct {
	Headers, Cookies, Session []string
}

// ForwardQuery returns the query as it is to be forwarded and keyed.
func (k *KeyRule) ForwardQuery(rawQuery string) string { return rawQuery }

// Key makes the key of a request from the bytes that are forwarded.
func (k *KeyRule) Key(scheme, host, escapedPath, query string, header http.Header, session map[string]string) Key {
	u := scheme + "://" + host + escapedPath
	if query != "" {
		u += "?" + query
	}
	return Key{URL: u}
}
