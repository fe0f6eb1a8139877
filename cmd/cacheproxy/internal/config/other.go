package config

// Lines are where the keys of a decoded file were written, from 1: by path, as in cases[0].steps[1].expect.
type Lines map[string]int

// Decode decodes a YAML file of another kind than the configuration, by the same rules: into points at a struct with yaml tags, unknown
// and repeated keys are refused with a hint, and the error is Mistakes, all of them. A type with UnmarshalText is a single value; a
// struct or a slice with it may be written as one.
func Decode(file string, text []byte, into any) (Lines, error) {
	r := &report{file: file, origins: map[string]origin{}}
	(&decoder{report: r}).decode(text, into)
	lines := make(Lines, len(r.origins))
	for path, o := range r.origins {
		lines[path] = o.line
	}
	if len(r.mistakes) > 0 {
		return lines, r.sorted()
	}
	return lines, nil
}

// Hint names the word of known that was probably meant, or else all of them.
func Hint(given string, known []string) string { return hint(given, known) }
