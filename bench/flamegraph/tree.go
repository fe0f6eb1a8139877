// Package flamegraph draws a profile as a flame graph: one SVG that needs nothing else, and no script.
//
// Each function is a rectangle over that of its caller, as wide as the share of what was sampled in it and in what it called. Beside each
// other they are in the order of their names, not of time. What has less than a thousandth is left out, so a caller may be wider than all that
// is over it together, which it also is by what it did itself. Functions that were inlined have rectangles too.
//
// The same profile always gives the same bytes.
package flamegraph

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// frame is a function by the way that it was called.
type frame struct {
	name     string // in full, as the profile has it
	value    int64  // of it and what it called
	children map[string]*frame
}

// child is the frame of a function that this one called.
func (f *frame) child(name string) *frame {
	c := f.children[name]
	if c == nil {
		c = &frame{name: name}
		if f.children == nil {
			f.children = map[string]*frame{}
		}
		f.children[name] = c
	}
	return c
}

// called are the functions that this one called, in the order in which they are drawn.
func (f *frame) called() []*frame {
	return slices.SortedFunc(maps.Values(f.children), func(a, b *frame) int { return strings.Compare(a.name, b.name) })
}

// height is how many frames are over each other that have at least this value.
func (f *frame) height(least int64) int {
	most := 0
	for _, c := range f.children {
		if c.value >= least {
			most = max(most, c.height(least))
		}
	}
	return most + 1
}

// sampled is what a profile says of one type of value.
type sampled struct {
	all  *frame
	unit string
	kind string
	self map[group]int64 // of what functions did themselves
}

// ErrEmpty is that of a profile in which nothing was sampled.
var ErrEmpty = errors.New("flamegraph: nothing was sampled")

// sample adds the stacks of a profile up.
func sample(p *profile.Profile, kind string) (*sampled, error) {
	index, err := indexOf(p, kind)
	if err != nil {
		return nil, err
	}
	t := p.SampleType[index]
	s := &sampled{all: &frame{name: "all"}, unit: t.Unit, kind: t.Type, self: map[group]int64{}}
	for _, one := range p.Sample {
		v := one.Value[index]
		if v <= 0 { // of memory that was freed, in the difference of two profiles
			continue
		}
		s.all.value += v
		at := s.all
		for _, name := range stack(one) {
			at = at.child(name)
			at.value += v
		}
		s.self[groupOf(at.name)] += v
	}
	if s.all.value == 0 {
		return nil, ErrEmpty
	}
	return s, nil
}

// indexOf finds a type of value: "cpu", "alloc_space"; "" is the one that go tool pprof would show.
func indexOf(p *profile.Profile, kind string) (int, error) {
	if kind == "" {
		kind = p.DefaultSampleType
	}
	var known []string
	for i, t := range p.SampleType {
		if t.Type == kind {
			return i, nil
		}
		known = append(known, t.Type)
	}
	if kind == "" && len(known) > 0 {
		return len(known) - 1, nil
	}
	return 0, fmt.Errorf("flamegraph: the profile has no values of type %q, but of %s", kind, strings.Join(known, ", "))
}

// stack has the functions of a sample, the caller before the called. A profile has them the other way round, and so are the lines of a
// location: the first was inlined into the next.
func stack(s *profile.Sample) []string {
	var names []string
	for _, l := range slices.Backward(s.Location) {
		if len(l.Line) == 0 {
			names = append(names, unnamed(l))
		}
		for _, line := range slices.Backward(l.Line) {
			if line.Function == nil || line.Function.Name == "" {
				names = append(names, unnamed(l))
			} else {
				names = append(names, line.Function.Name)
			}
		}
	}
	return names
}

// unnamed is what a place is called that has no function: by the file in which it is.
func unnamed(l *profile.Location) string {
	if l.Mapping != nil && l.Mapping.File != "" {
		return "[" + path.Base(l.Mapping.File) + "]"
	}
	return "[unknown]"
}
