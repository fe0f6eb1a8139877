// Package placeholder reads text with placeholders, as the configuration has them in tags and purges: product-{path.2}. A placeholder is a name
// in braces; what names there are, and what they stand for, is up to who reads. There is no way to write a brace that is only a brace.
package placeholder

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Parse splits source into its parts, in their order: each is made by text of the text between placeholders, never empty, or by named of a
// placeholder's name, which may be empty. It refuses what is empty, longer than most bytes, or has a NUL or a brace without its other half;
// an error of named is returned as it is.
func Parse[P any](source string, most int, text func(string) P, named func(name string) (P, error)) (parts []P, err error) {
	switch {
	case source == "":
		return nil, errors.New("is empty")
	case len(source) > most:
		return nil, fmt.Errorf("is longer than %d bytes", most)
	case strings.IndexByte(source, 0) >= 0:
		return nil, errors.New("has a NUL")
	}
	for rest := source; rest != ""; {
		brace := strings.IndexAny(rest, "{}")
		if brace < 0 {
			brace = len(rest)
		}
		if brace > 0 {
			parts = append(parts, text(rest[:brace]))
			rest = rest[brace:]
			continue
		}
		name, after, closed := strings.Cut(rest[1:], "}")
		if rest[0] == '}' || !closed {
			return nil, fmt.Errorf("%q has an unpaired brace", source)
		}
		p, err := named(name)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
		rest = after
	}
	return parts, nil
}

// Numbered reads a name like path.2, of the list path, and returns the number, from 1. ok is false for a name that is of something else.
// one is what the number counts, with its article, for the error.
func Numbered(name, list, one string) (n int, ok bool, err error) {
	number, ok := strings.CutPrefix(name, list+".")
	if !ok {
		return 0, false, nil
	}
	if n, err = strconv.Atoi(number); err != nil || n < 1 {
		return 0, true, fmt.Errorf("{%s} must number %s from 1: {%s.2}", name, one, list)
	}
	return n, true, nil
}
