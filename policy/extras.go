package policy

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Extras are a sequence of
//
//	KIND LEN ":" NAME COUNT ";" { LEN ":" VALUE }
//
// with KIND h (field), H (alias of a field), c (cookie), s (session field) or C (all Cookie lines), LEN the decimal number of bytes that follow the
// colon, COUNT the number of values. Lengths, not delimiters, part the values, so that no value can pass for two. Names are
// written even where there is no value: what was stored without regard to a field is not what its absence selects.

func (k *KeyRule) extras(header http.Header, session map[string]string) string {
	var buf [256]byte
	out := buf[:0]
	for _, name := range k.Headers {
		out = appendExtra(out, 'h', name, header[name]...)
		for _, alias := range fieldAliases(header, name) {
			out = appendExtra(out, 'H', alias, header[alias]...)
		}
	}
	lines := header["Cookie"]
	for _, name := range k.Cookies {
		out = appendExtra(out, 'c', name, cookieValues(lines, name)...)
	}
	if cookiesInDoubt(lines, k.Cookies) {
		out = appendExtra(out, 'C', "", lines...)
	}
	for _, name := range k.Session {
		if value, ok := session[name]; ok {
			out = appendExtra(out, 's', name, value)
		} else {
			out = appendExtra(out, 's', name)
		}
	}
	return string(out)
}

func appendExtra(dst []byte, kind byte, name string, values ...string) []byte {
	dst = appendCounted(append(dst, kind), name)
	dst = append(strconv.AppendInt(dst, int64(len(values)), 10), ';')
	for _, v := range values {
		dst = appendCounted(dst, v)
	}
	return dst
}

// Extra is one part of a key's extras, for people.
type Extra struct {
	// Kind is "header", "cookie" or "session"; "header alias" for a field that some origins cannot tell from one of the key's, "cookie line"
	// where some origin may read the cookies otherwise.
	Kind   string
	Name   string   // "" for cookie lines
	Values []string // none: the request does not have it. They may be secrets
}

var extraKinds = map[byte]string{'h': "header", 'H': "header alias", 'c': "cookie", 'C': "cookie line", 's': "session"}

// Parts takes Extras apart. It returns what can be read of an encoding that is not one of appendExtra's.
func (k Key) Parts() []Extra {
	var parts []Extra
	for rest := k.Extras; rest != ""; {
		part := Extra{Kind: extraKinds[rest[0]]}
		var ok bool
		if part.Name, rest, ok = cutCounted(rest[1:]); !ok {
			return parts
		}
		count, after, found := strings.Cut(rest, ";")
		n, err := strconv.Atoi(count)
		if rest = after; !found || err != nil {
			return parts
		}
		for range n {
			var value string
			if value, rest, ok = cutCounted(rest); !ok {
				return parts
			}
			part.Values = append(part.Values, value)
		}
		parts = append(parts, part)
	}
	return parts
}

// cutCounted cuts what appendCounted has written from the front of s.
func cutCounted(s string) (value, rest string, ok bool) {
	length, rest, _ := strings.Cut(s, ":")
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || n > len(rest) {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}

func appendCounted(dst []byte, s string) []byte {
	dst = append(strconv.AppendInt(dst, int64(len(s)), 10), ':')
	return append(dst, s...)
}

// fieldAliases returns, sorted, the other fields that a CGI or WSGI origin cannot tell from the named one: X_Lang and X-Lang are
// both its HTTP_X_LANG (RFC 3875 section 4.1.18), and a client could choose the response of those that send neither.
func fieldAliases(header http.Header, name string) []string {
	var aliases []string
	for other := range header {
		if other != name && len(other) == len(name) &&
			strings.EqualFold(strings.ReplaceAll(other, "_", "-"), strings.ReplaceAll(name, "_", "-")) {
			aliases = append(aliases, other)
		}
	}
	slices.Sort(aliases)
	return aliases
}

// cookieValues returns the values of all cookies of the name in order: origins differ on whether the first or the last counts.
func cookieValues(lines []string, name string) []string {
	var values []string
	for _, line := range lines {
		for more := true; more; {
			var pairName, value string
			pairName, value, line, more = nextCookie(line)
			if pairName == name {
				values = append(values, value)
			}
		}
	}
	return values
}

// nextCookie splits off the first cookie pair of a line (RFC 6265 section 4.2.1), without the white space around its parts.
func nextCookie(line string) (name, value, rest string, more bool) {
	pair, rest, more := strings.Cut(line, ";")
	name, value, _ = strings.Cut(pair, "=")
	return strings.Trim(name, " \t"), strings.Trim(value, " \t"), rest, more
}

// cookiesInDoubt reports whether an origin may read other values of the named cookies than cookieValues does. Then the lines
// themselves are part of the key, and the response is shared only among clients that send the very same. In doubt are:
//   - several Cookie lines, of which some origins read one;
//   - a quoted value with a ";" in it, or an escaped quote, which hides cookies from those that know quoted strings;
//   - a name like a named one to an origin that ignores case, decodes names, or folds "." and " " into "_", or takes "[" for the end of it;
//   - the same with bytes beside it that some trim as white space: no-break space, other controls;
//   - ", name=" in a value, where some take the comma for a separator (RFC 2109 section 4.3.4).
func cookiesInDoubt(lines, names []string) bool {
	if len(names) == 0 || len(lines) == 0 {
		return false
	}
	if len(lines) > 1 {
		return true
	}
	line := lines[0]
	for more := true; more; {
		var name, value string
		name, value, line, more = nextCookie(line)
		if strings.HasPrefix(value, `"`) && (len(value) < 2 || !strings.HasSuffix(value, `"`) || strings.Contains(value, `\`)) {
			return true
		}
		folded := foldCookieName(name)
		for _, keyed := range names {
			if name != keyed && folded == foldCookieName(keyed) || hidesCookie(value, keyed) {
				return true
			}
		}
	}
	return false
}

func foldCookieName(name string) string {
	if strings.Contains(name, "%") {
		if decoded, err := url.PathUnescape(name); err == nil {
			name = decoded
		}
	}
	name = strings.Map(func(r rune) rune {
		if r != ' ' && isBlank(r) {
			return -1
		}
		return r
	}, name)
	name, _, _ = strings.Cut(strings.Trim(name, " "), "[") // "role[]" is an array called role
	return strings.ToLower(cookieNameFolder.Replace(name))
}

// isBlank reports whether some origin may trim r from a cookie's name: white space, and what is no letter of any name here.
func isBlank(r rune) bool { return r <= ' ' || r > '~' }

var cookieNameFolder = strings.NewReplacer(".", "_", " ", "_", "+", "_")

// hidesCookie reports whether value goes on, after a comma, with a cookie of the name.
func hidesCookie(value, name string) bool {
	for {
		_, after, ok := strings.Cut(value, ",")
		if !ok {
			return false
		}
		rest, found := strings.CutPrefix(strings.TrimLeftFunc(after, isBlank), name)
		if found && strings.HasPrefix(strings.TrimLeftFunc(rest, isBlank), "=") {
			return true
		}
		value = after
	}
}
