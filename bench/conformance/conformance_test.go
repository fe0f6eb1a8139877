package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// runOf makes a run of configuration config from pairs of test id and outcome.
func runOf(name, config string, pairs ...string) *run {
	r := &run{spec: runSpec{name: name, config: config}}
	for i := 0; i < len(pairs); i += 2 {
		r.results = append(r.results, result{
			Suite: "s", SuiteName: "Suite", ID: pairs[i], Name: "test " + pairs[i],
			Kind: required, Outcome: outcome(pairs[i+1]), Message: "because",
		})
	}
	return r
}

func ids(rs []result) string {
	var s []string
	for _, r := range rs {
		s = append(s, r.ID)
	}
	return strings.Join(s, " ")
}

func TestLostAndWon(t *testing.T) {
	e := expectations{"defaults": {
		"b": {Kind: required, Class: classSafety},
		"d": {Kind: required, Class: classSafety},
	}}
	r := runOf("defaults", "defaults", "a", "pass", "b", "fail", "c", "dependency_fail", "d", "pass", "e", "yes", "f", "no")
	r.results = append(r.results, result{ID: "g", Kind: required, Apart: true, Outcome: "fail"})
	if got := ids(e.lost(r)); got != "c f" {
		t.Errorf("lost %q, want c (its prerequisite failed) and f, neither the expected b nor g, which stands apart", got)
	}
	if got := ids(e.won(r)); got != "d" {
		t.Errorf("won %q, want d", got)
	}
}

func TestUpdateKeepsClassesAndDropsTheWon(t *testing.T) {
	old := expectations{"defaults": {
		"a": {Kind: required, Class: classSafety},
		"b": {Kind: required, Class: classSafety},
	}}
	got, err := updated(old, []*run{
		runOf("defaults", "defaults", "a", "fail", "b", "pass", "c", "dependency_fail", "d", "fail"),
		runOf("defaults+redis", "defaults", "a", "fail", "b", "pass", "c", "dependency_fail", "d", "fail"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]class{"a": classSafety, "c": classDependent, "d": classUnargued}
	if len(got["defaults"]) != len(want) {
		t.Errorf("got %v, want %v", got["defaults"], want)
	}
	for id, class := range want {
		if got["defaults"][id].Class != class {
			t.Errorf("%s has class %q, want %q", id, got["defaults"][id].Class, class)
		}
	}
}

func TestUpdateRefusesRunsThatDisagree(t *testing.T) {
	_, err := updated(nil, []*run{
		runOf("suite", "suite", "a", "fail", "b", "pass"),
		runOf("suite+redis", "suite", "a", "fail", "b", "fail"),
	})
	if err == nil || !strings.Contains(err.Error(), "disagree on b") {
		t.Errorf("got error %v, want one that says the runs disagree on b", err)
	}
}

func TestUnarguedTestsAreNamed(t *testing.T) {
	e := expectations{
		"defaults": {"argued": {Class: classSafety}, "new": {Class: classUnargued}, "silent": {Class: classStandard}},
		"suite":    {"silent": {Class: classStandard}},
	}
	var out bytes.Buffer
	if n := printUnargued(&out, e, "`argued` is on purpose, `new` is listed, silent is only mentioned"); n != 2 {
		t.Errorf("%d unargued tests, want 2 (new, silent):\n%s", n, &out)
	}
}

func TestTableCountsByKindAndShowsRunsThatAgreeOnce(t *testing.T) {
	r := runOf("defaults", "defaults", "a", "pass", "b", "dependency_fail")
	r.results = append(r.results,
		result{Suite: "s", SuiteName: "Suite", ID: "c", Kind: optional, Outcome: pass},
		result{Suite: "x", SuiteName: "Other", ID: "d", Kind: check, Outcome: yes},
		result{Suite: "x", SuiteName: "Other", ID: "e", Kind: check, Outcome: "no"},
		result{Suite: "sc", SuiteName: "Surrogate-Control", ID: "f", Kind: required, Apart: true, Outcome: pass})
	twin := &run{spec: runSpec{name: "twin"}, results: r.results}
	other := &run{spec: runSpec{name: "other"}, results: slices.Clone(r.results)}
	other.results[1].Outcome = pass
	var out bytes.Buffer
	printTable(&out, []*run{r, other, twin})
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"(1) defaults, twin",
		"(2) other",
		"",
		"suite (1) required optional checks (2) required optional checks",
		"Suite 1/2 1/1 - 2/2 1/1 -",
		"Other - - 1/2 - - 1/2",
		"all 1/2 1/1 1/2 2/2 1/1 1/2",
		"Surrogate-Control (apart) 1/1 - - 1/1 - -",
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func TestFindingsMergeRunsAndPutRequiredFirst(t *testing.T) {
	a := runOf("defaults", "defaults", "x", "fail", "y", "fail")
	b := runOf("suite", "suite", "x", "pass", "y", "fail")
	a.results[0].Kind, b.results[0].Kind = check, check
	runs := []*run{a, b}
	var got []string
	for _, f := range gather(runs, notPassed) {
		got = append(got, f.ID+" in "+f.where(runs))
	}
	if s := strings.Join(got, "; "); s != "y in every run; x in defaults" {
		t.Errorf("got %q", s)
	}
}

func TestResultsThatCannotBeJudgedAreRefused(t *testing.T) {
	for name, data := range map[string]string{
		"not JSON":     `Error: connect ECONNREFUSED`,
		"nothing ran":  `[]`,
		"unknown kind": `[{"id": "a", "kind": "optimal", "result": "pass"}]`,
		"same id":      `[{"id": "a", "kind": "check", "result": "yes"}, {"id": "a", "kind": "check", "result": "no"}]`,
	} {
		if _, err := parseResults([]byte(data)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestExpectationsSurviveSaving(t *testing.T) {
	file := filepath.Join(t.TempDir(), "expected.json")
	if e, err := loadExpectations(file); err != nil || len(e) != 0 {
		t.Fatalf("absent file: %v, %v, want no expectations and no error", e, err)
	}
	e := expectations{"suite": {"a": {Kind: optional, Class: classDeclined}}}
	if err := e.save(file); err != nil {
		t.Fatal(err)
	}
	got, err := loadExpectations(file)
	if err != nil || got["suite"]["a"] != e["suite"]["a"] {
		t.Errorf("got %v, %v, want %v", got, err, e)
	}
	if err := os.WriteFile(file, []byte(`{"suite": {"a": {"kind": "required", "class": "whim"}}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadExpectations(file); err == nil || !strings.Contains(err.Error(), "whim") {
		t.Errorf("unknown class: got error %v, want one that names it", err)
	}
}

func TestCommittedExpectationsAreArgued(t *testing.T) {
	e, err := loadExpectations("expected.json")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if printUnargued(&out, e, string(readme)) > 0 {
		t.Error(out.String())
	}
}

func TestReadmeStatesTheCountsThatAreExpected(t *testing.T) {
	e, err := loadExpectations("expected.json")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range allRuns {
		passed := map[kind]int{required: 157, optional: 86}
		for _, x := range e[spec.config] {
			passed[x.Kind]--
		}
		begin, end := "| `"+spec.name+"` |", fmt.Sprintf("| %d | %d |", passed[required], passed[optional])
		found := false
		for line := range strings.Lines(string(readme)) {
			found = found || strings.HasPrefix(line, begin) && strings.HasSuffix(strings.TrimSpace(line), end)
		}
		if !found {
			t.Errorf("README.md has no row that begins with %q and ends with %q", begin, end)
		}
	}
}

func TestPortsAreDistinct(t *testing.T) {
	l := &lab{ports: map[int]bool{}}
	seen := map[string]bool{}
	for range 20 {
		ports, err := l.freePorts(3)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range ports {
			if seen[p] {
				t.Errorf("port %s twice", p)
			}
			seen[p] = true
		}
	}
}
