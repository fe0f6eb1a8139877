package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/wire"
)

var (
	metricNamed = regexp.MustCompile(`\b(cacheproxy_[a-z_]+)(?:\{([^}]*)\})?`)
	labelNamed  = regexp.MustCompile(`([a-z]+)(?:=|!=|=~|!~)"([^"]*)"`)
	keyNamed    = regexp.MustCompile("`((?:server|drain|admin|upstream|redis|breaker|near|client|cache|collapse|log)\\.[a-z_.0-9]+)")
	variable    = regexp.MustCompile(`\bCACHEPROXY_[A-Z_0-9]+\b`)
)

// What README.md and the pages of docs/ say of metrics, keys and variables exists: names, labels, and the words of labels that are a vocabulary.
func TestNamesOnPages(t *testing.T) {
	known := map[string]metricRow{}
	for _, m := range metricsOf(t, metrics.New().Registry()) {
		known[m.name] = m
	}
	pages := pagesWithNames(t)
	keys := pages["configuration.md"]
	for page, text := range pages {
		for _, m := range metricNamed.FindAllStringSubmatch(text, -1) {
			metric, ok := known[m[1]]
			if !ok && strings.HasSuffix(m[1], "_") { // cacheproxy_*
				continue
			}
			for _, part := range []string{"_bucket", "_count", "_sum"} {
				if base := strings.TrimSuffix(m[1], part); !ok && known[base].kind == "histogram" {
					metric, ok = known[base], true
					metric.labels = append(slices.Clone(metric.labels), "le")
				}
			}
			if !ok {
				t.Errorf("%s: there is no metric %s", page, m[1])
				continue
			}
			for _, l := range labelNamed.FindAllStringSubmatch(m[2], -1) {
				checkLabel(t, page, metric, l[1], l[2])
			}
		}
		for _, m := range keyNamed.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(keys, "| `"+m[1]+"` |") {
				t.Errorf("%s: there is no key %s", page, m[1])
			}
		}
		for _, name := range variable.FindAllString(text, -1) {
			if path := keyOfVariable(name); path == "" && name != "CACHEPROXY_COST_PROFILE" { // which is a benchmark's
				t.Errorf("%s: there is no variable %s", page, name)
			}
		}
	}
}

func pagesWithNames(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, err := filepath.Glob(docsDir + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, "../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = string(text)
	}
	return all
}

// checkLabel checks a label, and those of its values that are of a vocabulary.
func checkLabel(t *testing.T, page string, m metricRow, label, value string) {
	t.Helper()
	if !slices.Contains(m.labels, label) {
		t.Errorf("%s: %s has no label %s", page, m.name, label)
	}
	for word := range strings.SplitSeq(value, "|") {
		ok := true
		switch {
		case label == "outcome":
			ok = slices.Contains(policy.Labels(), word)
		case label == "result":
			ok = strings.Contains(m.help, word)
		case label == "reason" && m.name == "cacheproxy_faults_total":
			ok = slices.ContainsFunc(wire.Faults(), func(f *wire.Fault) bool { return f.Name == word })
		case label == "reason":
			ok = slices.ContainsFunc(policy.Reasons(), func(r policy.Reason) bool { return r.String() == word })
		}
		if !ok {
			t.Errorf("%s: %s of %s is never %q", page, label, m.name, word)
		}
	}
}

// keyOfVariable is the key that a variable sets: loading refuses every other.
func keyOfVariable(name string) string {
	_, err := config.Load(config.Options{Environ: []string{name + "=x"}, Flags: []config.Flag{{Name: "--upstream", Key: "upstream", Value: "http://127.0.0.1"}}})
	if err != nil && strings.Contains(err.Error(), "no such key") {
		return ""
	}
	return name
}
