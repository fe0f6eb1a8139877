package policy

import "strings"

// This file normalises the values that Vary compares (RFC 9111 section 4.1), so that requests that mean the same share a stored
// response, and only those.

// appendNormalised appends the normalised value of a field, given by its lower-case name and its lines.
func appendNormalised(dst []byte, name string, lines []string) []byte {
	switch name {
	case "accept-encoding", "accept-language":
		if out, ok := appendPreferences(dst, lines, name == "accept-encoding"); ok {
			return out
		}
	case "cookie", "user-agent", "authorization", "referer", "origin", "from", "host", "range",
		"if-modified-since", "if-unmodified-since", "if-range", "date":
		return appendVerbatim(dst, lines)
	}
	return appendList(dst, lines)
}

// appendVerbatim is for fields that are known to be no list: a comma is only a byte there. Lines are kept apart by a line feed,
// which no value contains.
func appendVerbatim(dst []byte, lines []string) []byte {
	for i, line := range lines {
		if i > 0 {
			dst = append(dst, '\n')
		}
		dst = append(dst, trimSpace(line)...)
	}
	return dst
}

// appendList is for all other fields, and takes them as lists (RFC 9110 section 5.6.1): lines are joined with a comma, and
// whitespace around commas and at the ends is removed, but nothing inside a quoted string is touched.
func appendList(dst []byte, lines []string) []byte {
	start, quoted := len(dst), false
	for i, line := range lines {
		if i > 0 {
			dst = append(trimTail(dst, start, quoted), ',')
		}
		for j := 0; j < len(line); j++ {
			c := line[j]
			switch {
			case quoted && c == '\\' && j+1 < len(line):
				dst = append(dst, c)
				j++
				c = line[j]
			case c == '"':
				quoted = !quoted
			case quoted:
			case c == ',':
				dst = trimTail(dst, start, false)
			case isSpace(c) && (len(dst) == start || dst[len(dst)-1] == ','):
				continue
			}
			dst = append(dst, c)
		}
	}
	return trimTail(dst, start, quoted)
}

// trimTail removes whitespace from the end of dst[start:], unless it is inside a quoted string.
func trimTail(dst []byte, start int, quoted bool) []byte {
	for !quoted && len(dst) > start && isSpace(dst[len(dst)-1]) {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// preference is one member of a field like Accept-Encoding: a name, and its weight in thousandths.
type preference struct {
	name   string
	weight int
}

// before orders by name, in any case.
func (p preference) before(q preference) bool {
	a, b := p.name, q.name
	for i := range min(len(a), len(b)) {
		if x, y := lowerByte(a[i]), lowerByte(b[i]); x != y {
			return x < y
		}
	}
	return len(a) < len(b)
}

// maxPreferences is how many members are normalised; more are compared as they are.
const maxPreferences = 24

// appendPreferences is for a list of names with weights, where neither the order of the members nor case nor whitespace means
// anything (RFC 9110 sections 12.4.2, 12.5.3, 12.5.4): "GZIP;q=0.50, br" becomes "br,gzip;q=0.5". It is false, and nothing is
// appended, where the value is anything else, or names one thing twice; it then stays as the client sent it.
func appendPreferences(dst []byte, lines []string, codings bool) ([]byte, bool) {
	var list [maxPreferences]preference
	n := 0
	for _, line := range lines {
		for more := true; more; {
			var member string
			member, line, more = strings.Cut(line, ",")
			if member = trimSpace(member); member == "" {
				continue
			}
			p, ok := parsePreference(member, codings)
			if !ok || n == len(list) {
				return dst, false
			}
			at := n
			for at > 0 && p.before(list[at-1]) {
				list[at] = list[at-1]
				at--
			}
			if at > 0 && !list[at-1].before(p) {
				return dst, false
			}
			list[at] = p
			n++
		}
	}
	for i, p := range list[:n] {
		if i > 0 {
			dst = append(dst, ',')
		}
		for j := range len(p.name) {
			dst = append(dst, lowerByte(p.name[j]))
		}
		dst = appendWeight(dst, p.weight)
	}
	return dst, true
}

// parsePreference parses name [ OWS ";" OWS "q=" qvalue ]. Of codings x-gzip and x-compress are the older names of gzip and
// compress (RFC 9110 sections 8.4.1.1, 8.4.1.3).
func parsePreference(member string, codings bool) (preference, bool) {
	name, rest := cutToken(member)
	if name == "" {
		return preference{}, false
	}
	if codings && len(name) > 2 && (strings.EqualFold(name, "x-gzip") || strings.EqualFold(name, "x-compress")) {
		name = name[2:]
	}
	if rest == "" {
		return preference{name, 1000}, true
	}
	rest = trimSpace(rest)
	if !strings.HasPrefix(rest, ";") {
		return preference{}, false
	}
	rest = trimSpace(rest[1:])
	if len(rest) < 3 || lowerByte(rest[0]) != 'q' || rest[1] != '=' {
		return preference{}, false
	}
	weight, ok := parseWeight(rest[2:])
	return preference{name, weight}, ok
}

// parseWeight parses a qvalue (RFC 9110 section 12.4.2) into thousandths.
func parseWeight(v string) (int, bool) {
	if v[0] != '0' && v[0] != '1' || len(v) > 5 || len(v) > 1 && v[1] != '.' {
		return 0, false
	}
	weight, unit := int(v[0]-'0')*1000, 100
	for i := 2; i < len(v); i++ {
		if v[i] < '0' || v[i] > '9' {
			return 0, false
		}
		weight += int(v[i]-'0') * unit
		unit /= 10
	}
	return weight, weight <= 1000
}

// appendWeight appends ";q=" and the shortest form of a weight; nothing for a weight of one.
func appendWeight(dst []byte, weight int) []byte {
	if weight == 1000 {
		return dst
	}
	dst = append(dst, ";q=0"...)
	for unit, point := 100, "."; weight > 0; unit /= 10 {
		dst = append(append(dst, point...), byte('0'+weight/unit))
		weight, point = weight%unit, ""
	}
	return dst
}
