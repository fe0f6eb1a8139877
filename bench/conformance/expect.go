package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// A class says why a test is expected not to pass. README.md argues each.
type class string

const (
	classSafety     class = "safety"     // refused by default on purpose; suite.yaml allows it
	classUnwinnable class = "unwinnable" // no cache that behaves could pass
	classStandard   class = "standard"   // the test asks for other than RFC 9110 or 9111 does
	classDeclined   class = "declined"   // permitted, and not worth what it costs
	classNetHTTP    class = "net/http"   // Go's net/http decides before we can
	classDependent  class = "dependent"  // only because its prerequisite did not pass
	classAnswer     class = "answer"     // a check: no is the answer we mean to give
	classUnargued   class = "unargued"   // new; README.md owes an argument
)

var classes = []class{
	classSafety, classUnwinnable, classStandard, classDeclined,
	classNetHTTP, classDependent, classAnswer, classUnargued,
}

// expectations is expected.json: by configuration, the tests that are expected
// not to pass (of checks: to answer no), and why. Storage makes no difference to
// what a client sees, so runs with and without Redis share one list.
type expectations map[string]map[string]expectation

type expectation struct {
	Kind  kind  `json:"kind"`
	Class class `json:"class"`
}

// loadExpectations reads file; a file that does not exist expects every test to pass.
func loadExpectations(file string) (expectations, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return expectations{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("conformance: %w", err)
	}
	var e expectations
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("conformance: %s: %w", file, err)
	}
	for config, tests := range e {
		for id, t := range tests {
			if !slices.Contains(classes, t.Class) {
				return nil, fmt.Errorf("conformance: %s: %s: %s has class %q, want one of %q", file, config, id, t.Class, classes)
			}
		}
	}
	return e, nil
}

// save writes e with its keys sorted (encoding/json sorts maps), so that a diff
// shows exactly what changed.
func (e expectations) save(file string) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("conformance: %w", err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("conformance: %w", err)
	}
	return nil
}

// class returns why id is expected not to pass under some configuration, or "".
func (e expectations) class(id string) class {
	for _, config := range slices.Sorted(maps.Keys(e)) {
		if t, ok := e[config][id]; ok {
			return t.Class
		}
	}
	return ""
}

// lost lists the results of r that did not pass though expected to.
func (e expectations) lost(r *run) (out []result) {
	for _, x := range r.results {
		if _, known := e[r.spec.config][x.ID]; !x.Apart && !x.passed() && !known {
			out = append(out, x)
		}
	}
	return out
}

// won lists the results of r that passed though not expected to.
func (e expectations) won(r *run) (out []result) {
	for _, x := range r.results {
		if _, known := e[r.spec.config][x.ID]; !x.Apart && x.passed() && known {
			out = append(out, x)
		}
	}
	return out
}

// maxRetries bounds how many lost tests of a run are tried again: when more are
// lost than this, something is broken, and trying again only costs time.
const maxRetries = 20

// retryLost runs the lost tests of each run once more, without the load of the
// others, and takes over what passes now, saying so.
func retryLost(ctx context.Context, lab *lab, runs []*run, e expectations, out io.Writer) error {
	for _, r := range runs {
		lost := e.lost(r)
		if len(e) == 0 || len(lost) == 0 || len(lost) > maxRetries {
			continue
		}
		var ids []string
		for _, x := range lost {
			ids = append(ids, x.ID)
		}
		again, err := lab.client(ctx, r, ids)
		if err != nil {
			return err
		}
		for _, x := range again {
			i := slices.IndexFunc(r.results, func(old result) bool { return old.ID == x.ID })
			if i < 0 || r.results[i].passed() || !x.passed() {
				continue
			}
			fmt.Fprintf(out, "\nUNSTEADY in %s: %s did not pass among the others (%s) and passed alone\n", r.spec.name, x.ID, r.results[i].Message)
			r.results[i] = x
		}
	}
	return nil
}

// updated returns what the runs show. A test that already was expected not to
// pass keeps its class; a new one is dependent, or owes an argument. Runs of one
// configuration that disagree are an error: there is no right list to write.
func updated(old expectations, runs []*run) (expectations, error) {
	e := expectations{}
	for _, r := range runs {
		tests := map[string]expectation{}
		for _, x := range r.results {
			if x.passed() || x.Apart {
				continue
			}
			t := expectation{Kind: x.Kind, Class: classUnargued}
			if before, ok := old[r.spec.config][x.ID]; ok {
				t.Class = before.Class
			} else if x.Outcome == dependencyFail {
				t.Class = classDependent
			} else if x.Kind == check {
				t.Class = classAnswer
			}
			tests[x.ID] = t
		}
		if other, ok := e[r.spec.config]; ok {
			if diff := difference(other, tests); len(diff) > 0 {
				return nil, fmt.Errorf("conformance: runs of configuration %q disagree on %s; nothing written", r.spec.config, strings.Join(diff, ", "))
			}
		}
		e[r.spec.config] = tests
	}
	return e, nil
}

// difference returns the ids that only one of a and b has, sorted.
func difference(a, b map[string]expectation) []string {
	var ids []string
	for id := range a {
		if _, ok := b[id]; !ok {
			ids = append(ids, id)
		}
	}
	for id := range b {
		if _, ok := a[id]; !ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// printChanges reports what differs from the expectations and returns how many
// tests were lost, each counted once however many runs lost it.
func printChanges(out io.Writer, runs []*run, e expectations) int {
	lost := gather(runs, e.lost)
	for _, g := range lost {
		fmt.Fprintf(out, "\nLOST in %s: %s (%s, %s)\n  %s\n  %s\n", g.where(runs), g.ID, g.Kind, g.Outcome, g.Name, g.Message)
	}
	won := gather(runs, e.won)
	for _, g := range won {
		fmt.Fprintf(out, "\nWON in %s: %s (%s) was not expected to pass\n", g.where(runs), g.ID, g.Kind)
	}
	switch {
	case len(lost) > 0:
		fmt.Fprintf(out, "\n%d lost\n", len(lost))
	case len(won) > 0:
		fmt.Fprintf(out, "\n%d won: -update writes them to expected.json; take them out of README.md too\n", len(won))
	default:
		fmt.Fprintf(out, "\nas expected\n")
	}
	return len(lost)
}

// printUnargued reports tests that are expected not to pass and that README.md
// does not name in backquotes, or that have no class yet, and returns how many.
func printUnargued(out io.Writer, e expectations, readme string) (n int) {
	seen := map[string]bool{}
	for _, config := range slices.Sorted(maps.Keys(e)) {
		for _, id := range slices.Sorted(maps.Keys(e[config])) {
			t := e[config][id]
			argued := t.Class != classUnargued && strings.Contains(readme, "`"+id+"`")
			if argued || seen[id] {
				continue
			}
			seen[id] = true
			n++
			fmt.Fprintf(out, "\nUNARGUED: %s (%s, class %s in expected.json): give it a class there and an argument in README.md\n", id, t.Kind, t.Class)
		}
	}
	return n
}
