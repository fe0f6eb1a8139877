package policy

import (
	"net/http"
	"net/url"
	"strings"
)

// This file says what a request that changes something makes doubtful (RFC 9111 section 4.4).

// SafeMethod reports whether a method is known not to change anything (RFC 9110 section 9.2.1, and the safe methods of the IANA
// registry). Methods are case-sensitive.
func SafeMethod(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "QUERY", "PROPFIND", "REPORT", "SEARCH":
		return true
	}
	return false
}

// Invalidates reports whether a response of that status to a request with that method makes what is stored for its URL doubtful:
// the method is unsafe or not known, and it did not fail (2xx, 3xx).
func Invalidates(method string, status int) bool {
	return status >= 200 && status <= 399 && !SafeMethod(method)
}

// InvalidatedTargets returns the other URLs that such a response makes doubtful: its Location and Content-Location, resolved
// against target, the URL of the request. Only those of the same origin count, for one site must not be able to empty
// another's cache. target itself is not among them, and none is there twice.
func InvalidatedTargets(target *url.URL, h http.Header) []*url.URL {
	var found []*url.URL
	for _, name := range [...]string{"Location", "Content-Location"} {
		for _, value := range h[name] {
			u, err := target.Parse(value)
			if err != nil || !sameOrigin(target, u) || sameURL(target, u) || containsURL(found, u) {
				continue
			}
			u.Fragment, u.RawFragment = "", ""
			found = append(found, u)
		}
	}
	return found
}

func containsURL(list []*url.URL, u *url.URL) bool {
	for _, other := range list {
		if sameURL(other, u) {
			return true
		}
	}
	return false
}

// sameOrigin compares scheme, host and port (RFC 9110 section 4.3.1).
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

// portOf returns the port, the scheme's where none is named.
func portOf(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case strings.EqualFold(u.Scheme, "https"):
		return "443"
	case strings.EqualFold(u.Scheme, "http"):
		return "80"
	}
	return ""
}

// sameURL compares two URLs of http or https as cache keys are compared: an empty path is "/", the fragment does not count.
func sameURL(a, b *url.URL) bool {
	return sameOrigin(a, b) && pathOf(a) == pathOf(b) && a.RawQuery == b.RawQuery
}

func pathOf(u *url.URL) string {
	if path := u.EscapedPath(); path != "" {
		return path
	}
	return "/"
}
