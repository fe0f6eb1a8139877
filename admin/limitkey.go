package admin

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"cacheproxy/limiter"
)

// How the client of a limit is named in a URL. Its key is percent-encoded itself (limiter/key.go), so that its % is %25 in a URL:
// 2001%3Adb8%3A%3A is 2001%253Adb8%253A%253A. Who forgets that has one encoding taken off, which leaves bytes that no key has, and those can be
// put back. What cannot be a client of the limit is refused, since the answer would be that it has used nothing.

// common is the client in whose name is counted what there was no room for.
const common = "~overflow"

// keyOf is what the limit tells clients apart by.
func keyOf(s *limiter.Summary) []string {
	if s.Key == nil {
		return []string{"client"}
	}
	return s.Key
}

// clientKey is the key of the client that is meant by text, or an address, where the limit tells clients apart by address alone.
func clientKey(s *limiter.Summary, text string) (string, error) {
	parts := keyOf(s)
	if text == common {
		return text, nil
	}
	if len(parts) == 1 && parts[0] == "client" {
		return addressKey(s.Name, text)
	}
	key := encodedAgain(text, len(parts) > 1)
	values := strings.Split(key, ",")
	if len(values) != len(parts) {
		return "", fmt.Errorf("%.100q is no client of %s, which tells clients apart by %s: write all of them with commas between, as GET /v1/limits/%s shows clients, with %% as %%25",
			text, s.Name, strings.Join(parts, ","), s.Name)
	}
	for i, part := range parts {
		if alwaysSecret(part) && !unreadable(values[i]) {
			return "", fmt.Errorf("clients of %s are not named by the value of %s, which is a secret, but as GET /v1/limits/%s shows them: ~ and a hash", s.Name, part, s.Name)
		}
	}
	return key, nil
}

// addressKey takes an address as people write it, or as the key of it, whose letters may be of either case in %XX. The key of those who have no
// address, as on a unix socket, is empty.
func addressKey(name, text string) (string, error) {
	if _, err := netip.ParseAddr(text); err == nil || text == "" {
		return text, nil
	}
	plain, err := url.PathUnescape(text)
	if err == nil {
		_, err = netip.ParseAddr(plain)
	}
	if err != nil {
		return "", fmt.Errorf("%.100q is no client of %s, which tells clients apart by their addresses: write one", text, name)
	}
	return encodedAgain(plain, false), nil
}

// encodedAgain encodes what no key has. several says that commas part values.
func encodedAgain(text string, several bool) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("._-~", c) >= 0,
			c == ',' && several, c == '%' && i+2 < len(text) && isHex(text[i+1]) && isHex(text[i+2]):
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// isHex is for hexadecimal digits as keys have them.
func isHex(c byte) bool { return '0' <= c && c <= '9' || 'A' <= c && c <= 'F' }

// alwaysSecret reports whether the values of a part of a key are never readable.
func alwaysSecret(part string) bool {
	of, name, _ := strings.Cut(part, ".")
	name = strings.ToLower(name)
	return of == "api_key" || of == "cookie" || of == "header" && (name == "x-api-key" || slices.Contains(secretFields, name))
}

// unreadable reports whether a value of a key tells no secret: it is a hash, or - and the address of a client who has sent none.
func unreadable(value string) bool {
	if hash, is := strings.CutPrefix(value, "~"); is {
		return len(hash) == 32 && strings.Trim(hash, "0123456789abcdef") == ""
	}
	address, is := strings.CutPrefix(value, "-")
	plain, err := url.PathUnescape(address)
	if err == nil && plain != "" {
		_, err = netip.ParseAddr(plain)
	}
	return is && err == nil
}

// logged is a key without the values that must not be logged. A limit that was made before log.redact named a field has them readable.
func (l *limits) logged(s *limiter.Summary, key string) string {
	parts, values := keyOf(s), strings.Split(key, ",")
	for i := range min(len(parts), len(values)) {
		if name, is := strings.CutPrefix(parts[i], "header."); is && l.Redacted(strings.ToLower(name)) && !unreadable(values[i]) {
			values[i] = redacted
		}
	}
	return strings.Join(values, ",")
}
