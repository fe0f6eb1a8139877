package config

import (
	"regexp"
	"strings"
)

// prose is what config.example.yaml says of each key: the comment above it, then the one beside it. A comment on lines of its own that stands far
// to the right goes on with the one beside the key before. Paths are as in a table: rules[].match.path, upstreams.NAME.members.
func prose(example string) map[string]string {
	r := proseReader{said: map[string]string{}}
	for line := range strings.Lines(example) {
		r.line(strings.TrimRight(line, "\n"))
	}
	return r.said
}

type proseReader struct {
	said  map[string]string
	above []string
	last  string // path of the key before
	open  []openKey
}

// openKey is a key, or an element of a list, that the lines further to the right belong to.
type openKey struct {
	column int
	path   string
}

var (
	exampleKey   = regexp.MustCompile(`^( *)(- )?([A-Za-z0-9_]+):( .*)?$`)
	commentRight = 8 // columns; a comment that stands further to the right goes on with the one before
)

func (r *proseReader) line(text string) {
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	if rest, marked := strings.CutPrefix(text[len(indent):], "#>"); marked {
		text = indent + strings.TrimPrefix(rest, " ")
		indent = text[:len(text)-len(strings.TrimLeft(text, " "))]
	}
	comment, isComment := strings.CutPrefix(text[len(indent):], "#")
	switch {
	case isComment && len(indent) >= commentRight:
		r.say(r.last, strings.TrimSpace(comment))
	case isComment:
		r.above = append(r.above, strings.TrimSpace(comment))
	case strings.TrimSpace(text) == "":
		r.above = nil
	default:
		if m := exampleKey.FindStringSubmatch(text); m != nil {
			r.key(len(m[1]), m[2] != "", m[3], m[4])
		}
	}
}

func (r *proseReader) key(column int, begins bool, name, rest string) {
	r.close(column)
	if begins {
		r.open = append(r.open, openKey{column, r.path() + "[]"})
		column += len("- ")
	}
	if r.path() == "upstreams" {
		name = "NAME"
	}
	path := join(r.path(), name)
	r.open = append(r.open, openKey{column, path})
	r.say(path, strings.Join(r.above, " "))
	r.above = nil
	if _, beside, found := strings.Cut(rest, " # "); found {
		r.say(path, strings.TrimSpace(beside))
	}
	r.last = path
}

// close ends the keys that a key at column does not belong to.
func (r *proseReader) close(column int) {
	for len(r.open) > 0 && r.open[len(r.open)-1].column >= column {
		r.open = r.open[:len(r.open)-1]
	}
}

func (r *proseReader) path() string {
	if len(r.open) == 0 {
		return ""
	}
	return r.open[len(r.open)-1].path
}

func (r *proseReader) say(path, text string) {
	if text != "" {
		r.said[path] = strings.TrimSpace(r.said[path] + " " + text)
	}
}
