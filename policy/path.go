package policy

import (
	"net/url"
	"strings"
)

// Two servers can read one path differently: one decodes %2f before it splits, another drops what follows ";", a third takes a
// backslash for a slash. A response stored under what we read and made for what the origin read is how caches are deceived and
// poisoned. So rules are matched against one canonical reading, keys are made from the bytes that are forwarded, and where a
// second reading is likely the path is called ambiguous: it is passed on, and its response is never stored.

// CleanPath returns the path of u for matching: percent-decoded, "//" folded into "/", dot segments removed as RFC 3986
// section 5.2.4 says (after decoding, so "%2e%2e" is one too). It begins with "/", except for the "*" of OPTIONS.
//
// The path is ambiguous when it holds, plain or encoded, a backslash, ";", or a control character; an encoded "/" or an encoded
// dot segment; one of these or "." encoded twice; an overlong UTF-8 form; or when it is not a path at all.
//
// A plain path is returned as it is, without allocation.
func CleanPath(u *url.URL) (path string, ambiguous bool) {
	path = u.Path
	switch {
	case u.Opaque != "" || path == "*":
		return "*", true
	case path == "":
		path = "/" // RFC 9110 section 4.2.3
	case path[0] != '/':
		path, ambiguous = "/"+path, true
	}
	ambiguous = ambiguous || hasDoubtfulByte(path)
	folded := needsFolding(path)
	if u.RawPath != "" {
		ambiguous = ambiguous || containsEncoded(u.RawPath, '2', 'f') || folded && containsEncoded(u.RawPath, '2', 'e')
	}
	if folded {
		path = foldPath(path)
	}
	return path, ambiguous
}

// hasDoubtfulByte looks at a decoded path for what some server takes for a delimiter, or decodes once more.
func hasDoubtfulByte(path string) bool {
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c < 0x20 || c == 0x7f || c == '\\' || c == ';':
			return true
		case c == '%' && i+2 < len(path) && isDoublyEncoded(path[i+1], path[i+2]):
			return true
		case (c == 0xc0 || c == 0xc1) && i+1 < len(path) && path[i+1]&0xc0 == 0x80: // overlong, "%c0%af" is a slash to some
			return true
		}
	}
	return false
}

// isDoublyEncoded says whether "%" hi lo, left over after decoding, would decode to a delimiter or to another "%".
func isDoublyEncoded(hi, lo byte) bool {
	switch hi {
	case '0', '1':
		return isHex(lo)
	case '2':
		return lo == '5' || lo|0x20 == 'e' || lo|0x20 == 'f'
	case '3':
		return lo|0x20 == 'b'
	case '5':
		return lo|0x20 == 'c'
	}
	return false
}

// containsEncoded reports whether s contains "%" hi lo, where lo is a lower-case hexadecimal letter in either case.
func containsEncoded(s string, hi, lo byte) bool {
	for i := 0; i+2 < len(s); i++ {
		if s[i] == '%' && s[i+1] == hi && s[i+2]|0x20 == lo {
			return true
		}
	}
	return false
}

// needsFolding reports whether path, which begins with "/", has "//" or a dot segment.
func needsFolding(path string) bool {
	for i := 0; i+1 < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		switch rest := path[i+1:]; {
		case rest[0] == '/', rest == ".", rest == "..", strings.HasPrefix(rest, "./"), strings.HasPrefix(rest, "../"):
			return true
		}
	}
	return false
}

// foldPath removes empty and dot segments. A final empty or dot segment leaves its slash.
func foldPath(path string) string {
	out := make([]byte, 0, len(path))
	for more := true; more; {
		var seg string
		seg, path, more = strings.Cut(path, "/")
		switch seg {
		case "", ".":
		case "..":
			for len(out) > 0 && out[len(out)-1] != '/' {
				out = out[:len(out)-1]
			}
			out = out[:max(len(out)-1, 0)]
		default:
			out = append(append(out, '/'), seg...)
			continue
		}
		if !more {
			out = append(out, '/')
		}
	}
	return string(out)
}
