package invalidation

import (
	"errors"
	"strings"
)

// A Glob is a pattern with the semantics of Redis (SCAN MATCH, KEYS), on bytes:
//
//   - any bytes, none included; "/" is a byte as any other
//     ?        one byte
//     [abc]    one of these; [^abc] one of the others; [a-z] a range, also written backwards
//     \x       x itself, inside of brackets too
//
// What Redis does with malformed patterns is done as well: a bracket that is not closed ends with the pattern, a backslash at the end
// stands for itself (FuzzGlob). But a range that ends above 0x7f means in Redis one thing on machines whose char is signed and another on
// the others; here bytes are 0 to 255. Matching takes time in proportion to the product of both lengths at worst, without recursion.
type Glob struct {
	pattern string
	prefix  string // what the pattern begins with before its first special byte
}

// errManyStars bounds how long a match may take.
var errManyStars = errors.New("more than 32 stars")

// CompileGlob checks a pattern.
func CompileGlob(pattern string) (Glob, error) {
	if strings.Count(pattern, "*") > 32 {
		return Glob{}, errManyStars
	}
	special := strings.IndexAny(pattern, `*?[\`)
	if special < 0 {
		special = len(pattern)
	}
	return Glob{pattern, pattern[:special]}, nil
}

// WellFormed says what is wrong with a pattern that matches, as in Redis, but hardly what its author meant.
func WellFormed(pattern string) error {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			if i++; i == len(pattern) {
				return errors.New(`ends with a \, which stands before a byte that is meant as it is: write \\ for itself`)
			}
		case '[':
			n, closed := setLen(pattern[i:])
			if !closed {
				return errors.New(`has a [ that is not closed: write \[ for itself`)
			}
			i += n - 1
		}
	}
	return nil
}

// setLen is the length of a set in brackets, and whether it has an end.
func setLen(p string) (n int, closed bool) {
	n, _ = matchSet(p, 0)
	if n < len(p) {
		return n, true
	}
	more, _ := matchSet(p+"]", 0) // which is taken into the set if that was not closed
	return n, more == n
}

// EscapeGlob makes a pattern that matches this text alone.
func EscapeGlob(text string) string {
	if !strings.ContainsAny(text, `*?[]\`) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if strings.IndexByte(`*?[]\`, text[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// Match reports whether the pattern matches all of s.
func (g Glob) Match(s string) bool {
	if !strings.HasPrefix(s, g.prefix) {
		return false
	}
	p := g.pattern
	i, j := len(g.prefix), len(g.prefix)
	star, from := -1, 0 // behind the last star, and where in s its bytes may end next
	for {
		if j < len(p) && p[j] == '*' {
			j++
			star, from = j, i
			continue
		}
		if i == len(s) && j == len(p) {
			return true
		}
		if i < len(s) && j < len(p) {
			if n, ok := matchOne(p[j:], s[i]); ok {
				i, j = i+1, j+n
				continue
			}
		}
		if star < 0 || from >= len(s) {
			return false
		}
		from++
		i, j = from, star
	}
}

// matchOne matches one byte with what p begins with, which is no star, and returns how long that is.
func matchOne(p string, c byte) (n int, ok bool) {
	switch p[0] {
	case '?':
		return 1, true
	case '[':
		return matchSet(p, c)
	case '\\':
		if len(p) > 1 {
			return 2, p[1] == c
		}
	}
	return 1, p[0] == c
}

// matchSet matches one byte with a set in brackets.
func matchSet(p string, c byte) (n int, ok bool) {
	i := 1
	negated := i < len(p) && p[i] == '^'
	if negated {
		i++
	}
	found := false
	for ; ; i++ {
		switch {
		case i >= len(p): // never closed: Redis takes the last byte for the end of the set
			return len(p), found != negated
		case p[i] == '\\' && i+1 < len(p):
			i++
			found = found || p[i] == c
		case p[i] == ']':
			return i + 1, found != negated
		case i+2 < len(p) && p[i+1] == '-':
			low, high := p[i], p[i+2]
			if low > high {
				low, high = high, low
			}
			i += 2
			found = found || low <= c && c <= high
		default:
			found = found || p[i] == c
		}
	}
}
