package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxHost bounds a host with its port, in bytes: 253 of a name (RFC 1035 section 2.3.4, without the root), a final dot, a port.
const maxHost = 253 + 1 + 6

// ValidHost reports whether host is a host with at most one port, as a Host field may hold it (RFC 9110 section 7.2): a name, an
// IPv4 address, or a bracketed IPv6 one. User information, several ports, bare IPv6 and the empty host are not valid: servers
// disagree on what they mean, so a proxy does well to answer 400. The key keeps even these apart.
func ValidHost(host string) bool {
	name, port, ok := splitHost(host)
	if !ok || name == "" || len(host) > maxHost {
		return false
	}
	if port != "" {
		if n, err := strconv.Atoi(port); err != nil || n > 65535 {
			return false
		}
	}
	bracketed := name[0] == '['
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case isLetterOrDigit(c), c == '.':
		case bracketed && (c == ':' || c == '%' || i == 0 || i == len(name)-1):
		case !bracketed && strings.IndexByte("-_~!$&'()*+,;=", c) >= 0:
		case bracketed && c == '-': // in a zone
		default:
			return false
		}
	}
	return name != "." && name != "[]"
}

// splitHost separates the port, which is digits only and may be empty. It is not ok where the separation is in doubt: several
// colons outside brackets, something after a bracket that is no port. Then name is all of host.
func splitHost(host string) (name, port string, ok bool) {
	colon := strings.IndexByte(host, ':')
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return host, "", false
		}
		if end == len(host)-1 {
			return host, "", true
		}
		colon = end + 1
		if host[colon] != ':' {
			return host, "", false
		}
	}
	if colon < 0 {
		return host, "", true
	}
	for i := colon + 1; i < len(host); i++ {
		if host[i] < '0' || host[i] > '9' {
			return host, "", false
		}
	}
	return host[:colon], host[colon+1:], true
}

// withoutDefaultPort removes the port where it says nothing: empty (RFC 3986 section 6.2.3), or the scheme's own. The scheme is
// in lower case.
func withoutDefaultPort(scheme, host string) string {
	name, port, ok := splitHost(host)
	if ok && (port == "" || port == "80" && scheme == "http" || port == "443" && scheme == "https") {
		return name
	}
	return host
}

// ForwardHost is a host as it is forwarded and keyed: in lower case, and without a port that says nothing. One that is not valid stays as
// it is.
func ForwardHost(scheme, host string) string {
	if !ValidHost(host) {
		return host
	}
	return strings.ToLower(withoutDefaultPort(scheme, host))
}

// SameHost reports whether two hosts are one for a scheme of http or https: letters in either case, a default port or none.
func SameHost(a, b string) bool {
	return strings.EqualFold(a, b) || strings.EqualFold(withoutDefaultPort("http", a), withoutDefaultPort("http", b)) ||
		strings.EqualFold(withoutDefaultPort("https", a), withoutDefaultPort("https", b))
}

// appendLower appends s with ASCII letters in lower case.
func appendLower(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		dst = append(dst, lowerByte(s[i]))
	}
	return dst
}

func isLetterOrDigit(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// hostPattern is one compiled element of SiteSpec.Hosts.
type hostPattern struct {
	name     string // lower case, without final dot; of a wildcard what follows the "*", dot included
	port     string // "" = any
	wildcard bool
}

func parseHostPattern(s string) (hostPattern, error) {
	switch {
	case s == "":
		return hostPattern{}, errors.New("is empty")
	case s == "*":
		return hostPattern{}, errors.New(`"*" is no host; what no site names belongs to the default site, the top-level rules`)
	case strings.Contains(s, "://"):
		return hostPattern{}, fmt.Errorf("%q must be a host without scheme", s)
	case strings.ContainsAny(s, "/@"):
		return hostPattern{}, fmt.Errorf("%q must be a host, with neither path nor user", s)
	case strings.ContainsFunc(s, func(r rune) bool { return r > 0x7e }):
		return hostPattern{}, fmt.Errorf("%q must be written in ASCII, its labels as xn--", s)
	}
	rest, wildcard := strings.CutPrefix(s, "*")
	if strings.Contains(rest, "*") || wildcard && !strings.HasPrefix(rest, ".") {
		return hostPattern{}, fmt.Errorf(`%q may have * only as its whole first label: "*.example.com"`, s)
	}
	name, port, ok := splitHost(rest)
	if !ok || !ValidHost(strings.TrimPrefix(rest, ".")) || strings.HasPrefix(name, ".") != wildcard {
		return hostPattern{}, fmt.Errorf("%q is not a valid host; IPv6 addresses are written in brackets", s)
	}
	if n, err := strconv.Atoi(port); port != "" && (err != nil || n == 0) || strings.HasSuffix(rest, ":") {
		return hostPattern{}, fmt.Errorf("%q must have a port of 1 to 65535, or none", s)
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	return hostPattern{name: name, port: strings.TrimLeft(port, "0"), wildcard: wildcard}, nil
}
