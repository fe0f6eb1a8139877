package limiter

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// The key of a client is text: its parts, as the limit names them, with commas between. In a part everything but letters, digits, . _ and - is
// percent-encoded, so that no two clients share a key, whatever bytes they send, and a key means nothing to Redis's globs and hash tags. A
// value that is secret, or longer than 64 bytes encoded, is ~ and the first half of its SHA-256. A part that the request does not have, or that is empty, is -
// and the client's address; a value that begins with - has it encoded.
//
//	client              192.0.2.7   2001%3Adb8%3A%3A
//	client, header.Tier 192.0.2.7,gold
//	api_key             ~0f1e2d3c4b5a69788796a5b4c3d2e1f0
//	api_key, without    -192.0.2.7

// Asker is who asks, for one request.
type Asker struct {
	Request *http.Request // only read
	Client  netip.Addr    // IPv6 cut to what makes one client; the zero Addr where there is none
	Address netip.Addr    // the whole of it, for exemptions; the zero Addr means that Client is
	Host    string        // as it is compared: in lower case, without default port; "" means Request.Host
	Rule    string        // names the rule
}

// partKind is what of a request tells clients apart.
type partKind uint8

const (
	byClient partKind = iota
	byHost
	byMethod
	byRule
	byAPIKey
	byHeader
	byCookie
)

type part struct {
	kind   partKind
	name   string // of the field, canonical, or of the cookie
	secret bool
}

var partNames = map[string]partKind{"client": byClient, "host": byHost, "method": byMethod, "rule": byRule, "api_key": byAPIKey}

const (
	maxPart  = 64 // bytes of a value that is readable in the key
	overflow = "~overflow"
)

// parsePart reads a part of Spec.Key.
func parsePart(text string) (part, error) {
	if kind, known := partNames[text]; known {
		return part{kind: kind, secret: kind == byAPIKey}, nil
	}
	of, name, _ := strings.Cut(text, ".")
	switch {
	case of == "header" && !isToken(name):
		return part{}, fmt.Errorf("%q names no field: write header.NAME", text)
	case of == "cookie" && !isToken(name):
		return part{}, fmt.Errorf("%q names no cookie: write cookie.NAME", text)
	case of == "header" && http.CanonicalHeaderKey(name) == "Host":
		return part{}, fmt.Errorf("%q: write host", text)
	case of == "header":
		name = http.CanonicalHeaderKey(name)
		return part{kind: byHeader, name: name, secret: name == "Authorization" || name == "Proxy-Authorization" || name == "X-Api-Key" || name == "Cookie"}, nil
	case of == "cookie":
		return part{kind: byCookie, name: name, secret: true}, nil
	case of == "session":
		return part{}, fmt.Errorf("%q: sessions are not available yet in this version", text)
	}
	return part{}, fmt.Errorf("unknown %q (known: client, host, method, rule, api_key, header.NAME, cookie.NAME)", text)
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// appendKey appends the key of who asks.
func (m *limit) appendKey(dst []byte, a *Asker) []byte {
	for i := range m.parts {
		if i > 0 {
			dst = append(dst, ',')
		}
		p := &m.parts[i]
		value, has := p.of(a)
		switch {
		case p.kind == byClient:
			dst = appendAddress(dst, a.Client)
		case !has || value == "": // what is empty names nobody
			dst = appendAddress(append(dst, '-'), a.Client)
		default:
			dst = p.append(dst, value)
		}
	}
	return dst
}

// of is the value of a part other than the client, and whether the request has it.
func (p *part) of(a *Asker) (value string, has bool) {
	switch p.kind {
	case byHost:
		if a.Host != "" {
			return a.Host, true
		}
		return strings.ToLower(a.Request.Host), true
	case byMethod:
		return a.Request.Method, true
	case byRule:
		return a.Rule, true
	case byAPIKey:
		return apiKey(a.Request.Header)
	case byHeader:
		return joined(a.Request.Header[p.name])
	case byCookie:
		return cookie(a.Request.Header["Cookie"], p.name)
	}
	return "", false
}

// joined is the value of a field in all its lines (RFC 9110 section 5.3).
func joined(lines []string) (string, bool) {
	switch len(lines) {
	case 0:
		return "", false
	case 1:
		return lines[0], true
	}
	return strings.Join(lines, ", "), true
}

// apiKey is the one key that a request has. Where it has several, it has none: what stands behind may look at another one of them than we do,
// and a client could have a count for each that it makes up.
func apiKey(h http.Header) (string, bool) {
	keys, authorizations := h["X-Api-Key"], h["Authorization"]
	bearer := ""
	for _, line := range authorizations {
		if i := strings.IndexAny(line, " \t"); i >= 0 && strings.EqualFold(line[:i], "Bearer") {
			bearer = strings.TrimSpace(line[i:])
		}
	}
	switch {
	case len(keys) > 1, bearer != "" && len(authorizations) > 1:
		return "", false
	case len(keys) == 0 || keys[0] == "":
		return bearer, bearer != ""
	case bearer == "" || bearer == keys[0]:
		return keys[0], true
	}
	return "", false
}

// cookie is the value of the first cookie of that name.
func cookie(lines []string, name string) (string, bool) {
	for _, line := range lines {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			key, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if key == name {
				return value, true
			}
		}
	}
	return "", false
}

func appendAddress(dst []byte, a netip.Addr) []byte {
	if !a.Is6() {
		return a.AppendTo(dst) // a digit, or nothing
	}
	var text [64]byte
	return appendEncoded(dst, a.WithZone("").AppendTo(text[:0]))
}

// append appends an encoded value.
func (p *part) append(dst []byte, value string) []byte {
	if !p.secret && len(value) <= maxPart {
		before := len(dst)
		if dst = appendEncoded(dst, []byte(value)); len(dst)-before <= maxPart {
			if len(dst) > before && dst[before] == '-' {
				dst = append(dst[:before], "%2D"...)
				return appendEncoded(dst, []byte(value[1:]))
			}
			return dst
		}
		dst = dst[:before]
	}
	var room [256]byte // for most: the conversion to bytes would allocate
	sum := sha256.Sum256(append(room[:0], value...))
	return hex.AppendEncode(append(dst, '~'), sum[:16])
}

func appendEncoded(dst, value []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range value {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}

// keyOf is the key that an operator means by text: one as it is shown, or an address as people write it, where clients are told apart by
// address alone.
func (m *limit) keyOf(text string) string {
	if len(m.parts) == 1 && m.parts[0].kind == byClient {
		if a, err := netip.ParseAddr(text); err == nil {
			return string(appendAddress(nil, m.limiter.network(a.Unmap())))
		}
	}
	return text
}

// exempts reports whether the limit is not for who asks.
func (m *limit) exempts(a *Asker, key []byte) bool {
	if len(m.exempt) > 0 && m.exempt[string(key)] {
		return true
	}
	address := a.Address
	if !address.IsValid() {
		address = a.Client
	}
	for _, network := range m.spec.ExemptClients {
		if network.Contains(address) {
			return true
		}
	}
	return false
}
