package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Globs come in two kinds. In a value glob (query, header, content type, parameter names) `*` stands for any bytes, none
// included. In a path glob `*` stands for any bytes but "/" and `**` for any bytes at all; moreover "/**" before a "/" or at the
// end may stand for nothing, slash included, so that "/api/**" matches "/api" and "/a/**/b" matches "/a/b". Everything else is
// literal: there is no escape character and no `?`.
//
// What a client sends is matched in time linear in its length, whatever the pattern. The common shapes (literal, one star in
// any place, "/x/**") are comparisons of prefix and suffix; the rest runs as a nondeterministic automaton whose states are the
// bits of a few machine words, one per byte or star of the pattern.

// maxGlob bounds a pattern with stars, in bytes, so that its states fit into globWords words.
const (
	globWords = 4
	maxGlob   = 64*globWords - 1
)

type globShape uint8

const (
	globLiteral globShape = iota // prefix, all of it
	globAny                      // prefix, anything, suffix
	globTree                     // path glob "prefix/**": prefix alone, or with a slash and anything after it
	globStates                   // prefix and suffix are necessary, states decides on what follows the prefix
)

// glob is a compiled pattern. The zero value matches the empty string only.
type glob struct {
	shape          globShape
	prefix, suffix string
	states         *globAutomaton
}

// compileGlob compiles a value glob.
func compileGlob(pattern string) (glob, error) { return newGlob(pattern, false) }

// compilePathGlob compiles a path glob. It refuses patterns that no path, as CleanPath returns it, can match.
func compilePathGlob(pattern string) (glob, error) {
	if !strings.HasPrefix(pattern, "/") && !strings.HasPrefix(pattern, "**") {
		return glob{}, fmt.Errorf("%q must begin with / or **", pattern)
	}
	for i, seg := range strings.Split(pattern, "/") {
		switch {
		case seg == "." || seg == "..":
			return glob{}, fmt.Errorf("%q has a dot segment; paths are matched without them", pattern)
		case seg == "" && i > 0 && i < strings.Count(pattern, "/"):
			return glob{}, fmt.Errorf("%q has an empty segment; paths are matched with // folded into /", pattern)
		}
	}
	if strings.ContainsAny(pattern, "?") {
		return glob{}, fmt.Errorf("%q has a ?; it is no wildcard, and a query is matched by match.query", pattern)
	}
	if i := strings.IndexByte(pattern, '%'); i >= 0 && i+2 < len(pattern) && isHex(pattern[i+1]) && isHex(pattern[i+2]) {
		return glob{}, fmt.Errorf("%q is percent-encoded; paths are matched decoded", pattern)
	}
	return newGlob(pattern, true)
}

// Glob is a compiled value glob, for those who choose among what was written elsewhere: `*` stands for any bytes.
type Glob struct{ glob glob }

// CompileGlob compiles a value glob. Its errors say what of the pattern is wrong, without naming it.
func CompileGlob(pattern string) (*Glob, error) {
	g, err := compileGlob(pattern)
	if err != nil {
		return nil, err
	}
	return &Glob{g}, nil
}

// Match reports whether all of s is matched, in time linear in its length. It does not allocate.
func (g *Glob) Match(s string) bool { return g.glob.match(s) }

func newGlob(pattern string, path bool) (glob, error) {
	if pattern == "" {
		return glob{}, errors.New("is empty")
	}
	if !strings.Contains(pattern, "*") {
		return glob{prefix: pattern}, nil
	}
	if len(pattern) > maxGlob {
		return glob{}, fmt.Errorf("is longer than %d bytes", maxGlob)
	}
	tokens := globTokens(pattern, path)
	first, last := 0, len(tokens)
	for first < last && tokens[first].isPlain() {
		first++
	}
	for last > first && tokens[last-1].isPlain() {
		last--
	}
	g := glob{prefix: literalOf(tokens[:first]), suffix: literalOf(tokens[last:])}
	switch middle := tokens[first:last]; {
	case len(middle) == 1 && middle[0].kind == tokenAny:
		g.shape = globAny
	case len(middle) == 2 && middle[0].optional && g.suffix == "":
		g.shape = globTree
	default:
		g.shape = globStates
		g.states = newGlobAutomaton(tokens[first:])
	}
	return g, nil
}

// match reports whether all of s is matched. It does not allocate.
func (g *glob) match(s string) bool {
	switch g.shape {
	case globLiteral:
		return s == g.prefix
	case globTree:
		return strings.HasPrefix(s, g.prefix) && (len(s) == len(g.prefix) || s[len(g.prefix)] == '/')
	}
	if len(s) < len(g.prefix)+len(g.suffix) && g.shape == globAny {
		return false
	}
	if !strings.HasPrefix(s, g.prefix) || !strings.HasSuffix(s, g.suffix) {
		return false
	}
	return g.shape == globAny || g.states.match(s[len(g.prefix):])
}

type tokenKind uint8

const (
	tokenByte    tokenKind = iota // c itself
	tokenSegment                  // any bytes but "/"
	tokenAny                      // any bytes
)

type globToken struct {
	kind     tokenKind
	c        byte
	optional bool // a "/" that may be left out together with the `**` after it
}

func (t globToken) isPlain() bool { return t.kind == tokenByte && !t.optional }

// globTokens splits a pattern. Stars that say the same as their neighbour are merged, so that no two stars are adjacent and no
// optional "/**" follows another: the automaton's closure then needs a single pass.
func globTokens(pattern string, path bool) []globToken {
	var tokens []globToken
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '*' {
			tokens = append(tokens, globToken{kind: tokenByte, c: pattern[i]})
			continue
		}
		from := i
		for i+1 < len(pattern) && pattern[i+1] == '*' {
			i++
		}
		if path && i == from {
			tokens = append(tokens, globToken{kind: tokenSegment})
			continue
		}
		n := len(tokens)
		if path && n > 0 && tokens[n-1] == (globToken{kind: tokenByte, c: '/'}) && (i+1 == len(pattern) || pattern[i+1] == '/') {
			if n > 2 && tokens[n-3].optional {
				tokens = tokens[:n-1] // "/**/**" says no more than "/**"
				continue
			}
			tokens[n-1].optional = true
		}
		tokens = append(tokens, globToken{kind: tokenAny})
	}
	return tokens
}

func literalOf(tokens []globToken) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte(t.c)
	}
	return b.String()
}

type globSet [globWords]uint64

func (s *globSet) add(i int) { s[i/64] |= 1 << (i % 64) }

// globAutomaton has a state before each token and one after the last. State i being in the set means that the tokens before
// i match what was read so far.
type globAutomaton struct {
	words    int          // words in use
	bytes    [256]globSet // by input byte: states that it takes one further
	segment  globSet      // states that stay on any byte but "/"
	any      globSet      // states that stay on any byte
	optional globSet      // states that may skip two tokens
	accept   globSet      // the last state
}

func newGlobAutomaton(tokens []globToken) *globAutomaton {
	a := &globAutomaton{words: len(tokens)/64 + 1}
	for i, t := range tokens {
		switch t.kind {
		case tokenByte:
			a.bytes[t.c].add(i)
		case tokenSegment:
			a.segment.add(i)
		case tokenAny:
			a.any.add(i)
		}
		if t.optional {
			a.optional.add(i)
		}
	}
	a.accept.add(len(tokens))
	return a
}

func (a *globAutomaton) match(s string) bool {
	set := globSet{1}
	a.close(&set)
	for i := 0; i < len(s); i++ {
		taken := &a.bytes[s[i]]
		var carry, alive uint64
		for w := range a.words {
			moved := set[w] & taken[w]
			stayed := set[w] & a.any[w]
			if s[i] != '/' {
				stayed |= set[w] & a.segment[w]
			}
			set[w] = moved<<1 | carry | stayed
			carry = moved >> 63
			alive |= set[w]
		}
		if alive == 0 {
			return false
		}
		a.close(&set)
	}
	last := a.words - 1
	return set[last]&a.accept[last] != 0
}

// close adds the states reached without reading a byte: first past a star, then past an optional "/**". In this order one
// pass is enough, because globTokens merges what would need another.
func (a *globAutomaton) close(set *globSet) {
	var carry uint64
	for w := range a.words {
		stars := set[w] & (a.any[w] | a.segment[w])
		set[w] |= stars<<1 | carry
		carry = stars >> 63
	}
	carry = 0
	for w := range a.words {
		skips := set[w] & a.optional[w]
		set[w] |= skips<<2 | carry
		carry = skips >> 62
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
