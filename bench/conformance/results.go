package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"
)

// suiteVersion is the release of http-cache-tests that suite/package.json names.
const suiteVersion = "0.4.5"

// kind is how much a test weighs.
type kind string

const (
	required kind = "required" // the suite's reading of what RFC 9111 demands
	optional kind = "optional" // the suite's "optimal": permitted, and saves a request
	check    kind = "check"    // a question; neither answer is wrong
)

// outcome is what the suite's own pages would show for a test.
type outcome string

const (
	pass           outcome = "pass"
	yes            outcome = "yes" // a check that came out as it asked
	dependencyFail outcome = "dependency_fail"
	// others: fail, optional_fail, no, setup_fail (something before the point of
	// the test went wrong), retry (the cache asked twice), harness_fail
)

// result is one test of one run, as suite/client.mjs prints it.
type result struct {
	Suite     string  `json:"suite"`
	SuiteName string  `json:"suiteName"`
	ID        string  `json:"id"`
	Name      string  `json:"name"`
	Kind      kind    `json:"kind"`
	Apart     bool    `json:"apart"` // of the Surrogate-Control suite
	Outcome   outcome `json:"result"`
	Message   string  `json:"message"` // what the suite objected to; "" if nothing
}

func (r result) passed() bool { return r.Outcome == pass || r.Outcome == yes }

// run is one pass through the suite.
type run struct {
	spec    runSpec
	base    string   // URL of the cache under test
	results []result // in the suite's order
}

// parseResults reads the client's output and refuses what it cannot judge.
func parseResults(data []byte) ([]result, error) {
	var rs []result
	if err := json.Unmarshal(data, &rs); err != nil {
		return nil, fmt.Errorf("conformance: read the client's results: %w", err)
	}
	if len(rs) == 0 {
		return nil, fmt.Errorf("conformance: the client ran no test")
	}
	seen := map[string]bool{}
	for _, r := range rs {
		if seen[r.ID] {
			return nil, fmt.Errorf("conformance: test %s reported twice", r.ID)
		}
		seen[r.ID] = true
		if r.Kind != required && r.Kind != optional && r.Kind != check {
			return nil, fmt.Errorf("conformance: test %s has unknown kind %q", r.ID, r.Kind)
		}
	}
	return rs, nil
}

// tally counts passed and all tests by kind.
type tally map[kind][2]int

func (t tally) add(r result) {
	n := t[r.Kind]
	n[1]++
	if r.passed() {
		n[0]++
	}
	t[r.Kind] = n
}

func (t tally) cells() string {
	var cells []string
	for _, k := range []kind{required, optional, check} {
		n := t[k]
		if n[1] == 0 {
			cells = append(cells, "-")
			continue
		}
		cells = append(cells, fmt.Sprintf("%d/%d", n[0], n[1]))
	}
	return strings.Join(cells, "\t")
}

// printTable shows passed/all by suite, three columns (required, optional,
// check) for each group of runs that came out alike. The Surrogate-Control suite
// comes after the totals, outside them.
func printTable(out io.Writer, runs []*run) {
	groups := alike(runs)
	for i, g := range groups {
		fmt.Fprintf(out, "(%d) %s\n", i+1, strings.Join(runNamesOf(g), ", "))
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	line := func(name string, want func(result) bool) {
		fmt.Fprintf(w, "%-58s", name)
		for _, g := range groups {
			t := tally{}
			for _, x := range g[0].results {
				if want(x) {
					t.add(x)
				}
			}
			fmt.Fprintf(w, "\t%s", t.cells())
		}
		fmt.Fprintln(w, "\t")
	}
	fmt.Fprintf(w, "%-58s", "suite")
	for i := range groups {
		fmt.Fprintf(w, "\t(%d) required\toptional\tchecks", i+1)
	}
	fmt.Fprintln(w, "\t")
	var apart []result // the first result of each suite that stands apart
	seen := map[string]bool{}
	for _, first := range runs[0].results {
		switch {
		case seen[first.Suite]:
		case first.Apart:
			apart = append(apart, first)
		default:
			line(first.SuiteName, func(x result) bool { return x.Suite == first.Suite })
		}
		seen[first.Suite] = true
	}
	line("all", func(x result) bool { return !x.Apart })
	for _, first := range apart {
		line(first.SuiteName+" (apart)", func(x result) bool { return x.Suite == first.Suite })
	}
}

// alike puts runs together in which the same tests passed.
func alike(runs []*run) (groups [][]*run) {
	signature := func(r *run) string {
		var b strings.Builder
		for _, x := range r.results {
			fmt.Fprintf(&b, "%s %t\n", x.ID, x.passed())
		}
		return b.String()
	}
	at := map[string]int{}
	for _, r := range runs {
		s := signature(r)
		i, ok := at[s]
		if !ok {
			i = len(groups)
			at[s] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], r)
	}
	return groups
}

func runNamesOf(runs []*run) (names []string) {
	for _, r := range runs {
		names = append(names, r.spec.name)
	}
	return names
}

// finding is a test and the runs that it was found in.
type finding struct {
	result // of the first of these runs
	runs   []string
}

// where names the runs, for people.
func (f finding) where(all []*run) string {
	if len(f.runs) == len(all) {
		return "every run"
	}
	return strings.Join(f.runs, ", ")
}

// gather picks results from each run and merges those of the same test, in the
// suite's order but required tests before optional ones before checks.
func gather(runs []*run, pick func(*run) []result) []finding {
	var found []finding
	at := map[string]int{}
	for _, r := range runs {
		for _, x := range pick(r) {
			i, ok := at[x.ID]
			if !ok {
				i = len(found)
				at[x.ID] = i
				found = append(found, finding{result: x})
			}
			found[i].runs = append(found[i].runs, r.spec.name)
		}
	}
	weight := map[kind]int{required: 0, optional: 1, check: 2}
	sort.SliceStable(found, func(i, j int) bool { return weight[found[i].Kind] < weight[found[j].Kind] })
	return found
}

// notPassed lists the results of r that did not pass.
func notPassed(r *run) (out []result) {
	for _, x := range r.results {
		if !x.Apart && !x.passed() {
			out = append(out, x)
		}
	}
	return out
}

// printNotPassed names each test that did not pass, what the suite said, and
// the runs in which it did not.
func printNotPassed(out io.Writer, runs []*run, expected expectations) {
	fmt.Fprintf(out, "\nnot passed (checks: answered no)\n")
	for _, f := range gather(runs, notPassed) {
		fmt.Fprintf(out, "  %-8s  %s  [%s; %s", f.Kind, f.ID, f.where(runs), f.Outcome)
		if class := expected.class(f.ID); class != "" {
			fmt.Fprintf(out, "; %s", class)
		}
		fmt.Fprintf(out, "]\n")
		if f.Message != "" {
			fmt.Fprintf(out, "            %s\n", f.Message)
		}
	}
}
