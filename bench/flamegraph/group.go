package flamegraph

import (
	"hash/fnv"
	"path"
	"strings"
)

// group is whose a function is, which its colour says.
type group int

const (
	ours group = iota
	overHTTP
	system
	runtime
	others
)

// groups are what the legend says, in its order. The colours are pale, so that black text can be read on each of them, and differ in brightness too.
var groups = [...]struct {
	name   string
	colour [3]int // red, green, blue
}{
	ours:     {"cacheproxy", [3]int{245, 158, 72}},
	overHTTP: {"net/http", [3]int{118, 178, 230}},
	system:   {"net, syscall", [3]int{120, 200, 160}},
	runtime:  {"runtime", [3]int{196, 196, 196}},
	others:   {"other", [3]int{240, 228, 150}},
}

// prefixes are the packages of a group, with what is below them.
var prefixes = []struct {
	path string
	of   group
}{
	{"cacheproxy", ours},
	{"net/http", overHTTP}, {"net/textproto", overHTTP}, {"golang.org/x/net/http2", overHTTP},
	{"internal/runtime/syscall", system}, {"syscall", system}, {"internal/syscall", system}, {"internal/poll", system}, {"net", system},
	{"runtime", runtime}, {"internal/runtime", runtime}, {"internal/bytealg", runtime},
}

// groupOf finds the group of a function by its full name. Those without a package are the runtime's, written in assembler.
func groupOf(name string) group {
	in := packageOf(name)
	switch {
	case in == "" && strings.HasPrefix(name, "["):
		return others
	case in == "":
		return runtime
	case in == "net/url":
		return others
	}
	for _, p := range prefixes {
		if in == p.path || strings.HasPrefix(in, p.path+"/") {
			return p.of
		}
	}
	return others
}

// packageOf is the import path in the full name of a function; "" where it has none. Receivers and type arguments may have slashes and
// points too.
func packageOf(name string) string {
	if i := strings.IndexAny(name, "[("); i >= 0 {
		name = name[:i]
	}
	last := strings.LastIndexByte(name, '/') + 1
	point := strings.IndexByte(name[last:], '.')
	if point < 0 {
		return ""
	}
	return name[:last+point]
}

// short is what is written on a rectangle, if there is room: the name without the directory of its package and without type arguments. A
// package whose path ends with a major version is called by what is before it.
func short(name string) string {
	in := packageOf(name)
	rest := strings.TrimPrefix(name, in)
	if dir, last := path.Split(in); dir != "" {
		if len(last) > 1 && last[0] == 'v' && strings.Trim(last[1:], "0123456789") == "" {
			last = path.Base(dir)
		}
		in = last
	}
	return in + withoutArguments(rest)
}

// withoutArguments leaves type arguments out: f[int].g is f[…].g.
func withoutArguments(name string) string {
	var b strings.Builder
	depth := 0
	for i, r := range name {
		switch {
		case r == '[' && i > 0:
			if depth++; depth == 1 {
				b.WriteString("[…]")
			}
		case r == ']' && depth > 0:
			depth--
		case depth == 0:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// colour is that of a function: its group's, a little brighter or darker by its name, so that neighbours are told apart.
func colour(name string) [3]int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	c := groups[groupOf(name)].colour
	for i := range c {
		c[i] = min(255, c[i]+int(h.Sum32()%25)-12)
	}
	return c
}
