package config

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"
)

// Mistake is one thing that is wrong, where the user wrote it.
type Mistake struct {
	File    string `json:"file,omitempty"`   // as given to Load; with Line
	Line    int    `json:"line,omitempty"`   // from 1
	Source  string `json:"source,omitempty"` // a flag or a variable: --redis, CACHEPROXY_REDIS_URL
	Key     string `json:"key,omitempty"`    // rules[0].ttl
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// String formats the mistake in one line: `config.yaml:12: rules[0].ttl: message (hint)`.
func (m Mistake) String() string {
	var parts []string
	switch {
	case m.Source != "":
		parts = append(parts, m.Source)
	case m.File != "" && m.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d", m.File, m.Line))
	case m.File != "":
		parts = append(parts, m.File)
	}
	if m.Key != "" && m.Source == "" {
		parts = append(parts, m.Key)
	}
	text := strings.Join(append(parts, m.Message), ": ")
	if m.Hint != "" {
		text += " (" + m.Hint + ")"
	}
	return text
}

// Mistakes is everything that is wrong: by file and line, then variables, then flags.
type Mistakes []Mistake

// Error returns one line for each mistake.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i := range m {
		lines[i] = m[i].String()
	}
	return strings.Join(lines, "\n")
}

// origin is where the value of a key was written.
type origin struct {
	line   int    // in the file
	source string // or a variable or a flag
}

// report collects mistakes and knows where keys were written.
type report struct {
	file       string
	origins    map[string]origin // by path, as in rules[0].match.path
	mistakes   Mistakes
	kubernetes bool // the environment is that of a pod
	offline    bool // see Options
	unread     bool // the file is not YAML: what it would have said is not known
}

// add reports a mistake at a path. It is placed where the path, or the nearest part above it, was written.
func (r *report) add(path, message string) { r.addHint(path, message, "") }

func (r *report) addHint(path, message, hint string) {
	m := Mistake{Key: path, Message: message, Hint: hint}
	if o, found := r.origin(path); found {
		m.Source = o.source
		if o.line > 0 {
			m.File, m.Line = r.file, o.line
		}
	}
	r.mistakes = append(r.mistakes, m)
}

// at reports a mistake on a line of the file.
func (r *report) at(path string, line int, message, hint string) {
	r.mistakes = append(r.mistakes, Mistake{File: r.file, Line: line, Key: path, Message: message, Hint: hint})
}

// source reports a mistake in a variable or a flag.
func (r *report) source(name, path, message, hint string) {
	r.mistakes = append(r.mistakes, Mistake{Source: name, Key: path, Message: message, Hint: hint})
}

// has says whether a mistake was reported at path or below it: later checks then keep quiet about it.
func (r *report) has(path string) bool {
	for _, m := range r.mistakes {
		if m.Key == path || strings.HasPrefix(m.Key, path+".") || strings.HasPrefix(m.Key, path+"[") {
			return true
		}
	}
	return false
}

// misread says whether what was written at path itself is a mistake: nothing below it is known then.
func (r *report) misread(path string) bool {
	return slices.ContainsFunc(r.mistakes, func(m Mistake) bool { return m.Key == path })
}

// set records that a variable or a flag set path. The URL that the file gave in a map no longer counts then; what it said there of
// how to connect does (Upstream.UnmarshalText), and is still found where it was written.
func (r *report) set(path, source string) {
	delete(r.origins, path+".url")
	r.origins[path] = origin{source: source}
}

func (r *report) origin(path string) (origin, bool) {
	for path != "" {
		if o, found := r.origins[path]; found {
			return o, true
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return origin{}, false
}

// user is the user information of a URL, wherever it was written: what is quoted may be one that was put at the wrong place.
var user = regexp.MustCompile(`://[^/@\s]*@`)

func withoutUser(text string) string { return user.ReplaceAllString(text, "://...@") }

// sorted returns the mistakes in the order of Mistakes, each once.
func (r *report) sorted() Mistakes {
	rank := func(m Mistake) int {
		switch {
		case m.File != "":
			return 0
		case strings.HasPrefix(m.Source, "--"):
			return 2
		case m.Source != "":
			return 1
		default:
			return 3
		}
	}
	sort.SliceStable(r.mistakes, func(i, j int) bool {
		a, b := r.mistakes[i], r.mistakes[j]
		if rank(a) != rank(b) {
			return rank(a) < rank(b)
		}
		return a.Line < b.Line
	})
	for i := range r.mistakes {
		m := &r.mistakes[i]
		m.Message, m.Key = withoutUser(m.Message), withoutUser(m.Key)
	}
	seen := map[Mistake]bool{}
	unique := r.mistakes[:0]
	for _, m := range r.mistakes {
		if !seen[m] {
			seen[m] = true
			unique = append(unique, m)
		}
	}
	return unique
}
