package policy

import (
	"net/http"
	"strings"
	"time"
)

// argForm is how a directive's argument was written.
type argForm uint8

const (
	argNone      argForm = iota // no argument
	argToken                    // name=token
	argQuoted                   // name="quoted string"
	argMalformed                // something else, or after something else
)

// scanner cuts one line of a Cache-Control-like list into directives. It does not allocate, but for a quoted string with
// escapes in it. A comma inside a quoted string does not end a directive; a quoted string that does not end is none.
type scanner struct {
	rest  string
	doubt bool // a byte did not fit the grammar: every later directive of the line is malformed
	name  string
	arg   string // quotes removed, escapes resolved
	form  argForm
}

// next finds the next directive and reports whether there is one.
func (s *scanner) next() bool {
	for s.rest != "" && !isTokenByte(s.rest[0]) {
		if c := s.rest[0]; c != ',' && !isSpace(c) {
			s.doubt = true
		}
		s.rest = s.rest[1:]
	}
	if s.rest == "" {
		return false
	}
	s.name, s.rest = cutToken(s.rest)
	s.arg, s.form = "", argNone
	if strings.HasPrefix(s.rest, "=") {
		s.rest = s.rest[1:]
		s.argument()
	}
	s.skipSpace()
	if s.rest != "" && s.rest[0] != ',' {
		s.doubt = true
	}
	if s.doubt {
		s.form = argMalformed
	}
	return true
}

// argument reads what follows the equals sign.
func (s *scanner) argument() {
	if !strings.HasPrefix(s.rest, `"`) {
		s.arg, s.rest = cutToken(s.rest)
		s.form = argToken
		if s.arg == "" {
			s.form = argMalformed
		}
		return
	}
	escaped := false
	for i := 1; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			s.arg, s.rest = s.rest[1:i], s.rest[i+1:]
			if escaped {
				s.arg = unescape(s.arg)
			}
			s.form = argQuoted
			return
		}
	}
	s.doubt = true
	s.rest = s.rest[1:]
}

func (s *scanner) skipSpace() {
	for s.rest != "" && isSpace(s.rest[0]) {
		s.rest = s.rest[1:]
	}
}

// seconds returns the argument as delta-seconds; false when it is not a number of seconds.
func (s *scanner) seconds() (time.Duration, bool) {
	if s.form != argToken && s.form != argQuoted {
		return 0, false
	}
	return parseDeltaSeconds(s.arg)
}

// secondsOrZero is seconds where the stricter reading of a malformed argument is zero.
func (s *scanner) secondsOrZero() time.Duration {
	d, _ := s.seconds()
	return d
}

// fieldNames returns the argument as a list of field names, canonical; false when there is no argument or it is none, so that
// the directive counts as one without field names.
func (s *scanner) fieldNames() ([]string, bool) {
	if s.form != argToken && s.form != argQuoted {
		return nil, false
	}
	var names []string
	for name := range strings.SplitSeq(s.arg, ",") {
		name = trimSpace(name)
		if name == "" {
			continue
		}
		if !isToken(name) {
			return nil, false
		}
		names = append(names, http.CanonicalHeaderKey(name))
	}
	return names, len(names) > 0
}

// parseDeltaSeconds parses delta-seconds: digits only, saturating at MaxDelta (RFC 9111 section 1.2.2).
func parseDeltaSeconds(v string) (time.Duration, bool) {
	if v == "" {
		return 0, false
	}
	var n int64
	for i := range len(v) {
		c := v[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int64(c-'0'), int64(MaxDelta/time.Second))
	}
	return time.Duration(n) * time.Second, true
}

// cutToken cuts the longest token (RFC 9110 section 5.6.2) from the front of v.
func cutToken(v string) (token, rest string) {
	i := 0
	for i < len(v) && isTokenByte(v[i]) {
		i++
	}
	return v[:i], v[i:]
}

func isToken(v string) bool {
	token, rest := cutToken(v)
	return token != "" && rest == ""
}

// tokenBytes has a bit for each byte of 0 to 127 that a token may contain.
var tokenBytes = func() (set [2]uint64) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" {
		set[c/64] |= 1 << (c % 64)
	}
	return set
}()

func isTokenByte(c byte) bool { return c < 128 && tokenBytes[c/64]&(1<<(c%64)) != 0 }

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// trimSpace removes optional whitespace (RFC 9110 section 5.6.3) from both ends.
func trimSpace(v string) string {
	for v != "" && isSpace(v[0]) {
		v = v[1:]
	}
	for v != "" && isSpace(v[len(v)-1]) {
		v = v[:len(v)-1]
	}
	return v
}

// unescape resolves the quoted-pairs of a quoted string (RFC 9110 section 5.6.4).
func unescape(v string) string {
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}
