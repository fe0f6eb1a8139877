// Package charts tests the chart as its users meet it, without a cluster: helm's own packages lint and render it, the API's own types
// read what comes out, strictly, and the binary takes the configuration. What is rendered stands in testdata/golden, so that a change of
// a template shows what it changes; `go test -update` writes it anew.
package charts

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	chartDir   = "cacheproxy"
	sidecarDir = "examples/sidecar"
	kubernetes = "v1.33.0"
	release    = "front"
	namespace  = "shop"
)

// values is what a user gives: a file's content, or a test's.
type values = map[string]any

// rendered is what helm would apply: documents by the template that made them, and the notes.
type rendered struct {
	documents map[string]string
	notes     string
}

// load reads the chart in dir. Rendering changes what was loaded, so each test loads its own.
func load(t *testing.T, dir string) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// renderChart does what `helm template --kube-version` does, schema and all.
func renderChart(c *chart.Chart, v values, version string) (rendered, error) {
	if err := chartutil.ProcessDependencies(c, v); err != nil {
		return rendered{}, err
	}
	kube, err := chartutil.ParseKubeVersion(version)
	if err != nil {
		return rendered{}, err
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *kube
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, v, options, capabilities)
	if err != nil {
		return rendered{}, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return rendered{}, err
	}
	out := rendered{documents: map[string]string{}}
	for name, text := range files {
		switch {
		case strings.HasSuffix(name, "/NOTES.txt"):
			if !strings.Contains(name, "/charts/") {
				out.notes = text
			}
		case strings.HasPrefix(filepath.Base(name), "_"), strings.TrimSpace(text) == "":
		default:
			out.documents[name] = text
		}
	}
	return out, nil
}

// render renders the chart of this repository with v.
func render(t *testing.T, v values) rendered {
	t.Helper()
	r, err := renderChart(load(t, chartDir), v, kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// text is what `helm template` prints.
func (r rendered) text() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.documents)) {
		b.WriteString("---\n# Source: " + name + "\n" + strings.TrimSpace(r.documents[name]) + "\n")
	}
	return b.String()
}

// valuesFile reads a file as `helm -f` does.
func valuesFile(t *testing.T, path string) values {
	t.Helper()
	v, err := chartutil.ReadValuesFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// example is a file of values that users copy.
type example struct {
	name   string
	values values
}

func examples(t *testing.T) []example {
	t.Helper()
	files, err := filepath.Glob("examples/values/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d examples of values, %v", len(files), err)
	}
	var list []example
	for _, file := range files {
		list = append(list, example{strings.TrimSuffix(filepath.Base(file), ".yaml"), valuesFile(t, file)})
	}
	return list
}

// golden compares text with a file of testdata/golden.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if changes := differences(string(want), text); len(changes) > 0 {
		t.Errorf("%s: rendered otherwise; if that is meant, go test -update\n%s", path, strings.Join(changes, "\n"))
	}
}

// differences lists the lines that turn from into to: those removed begin with -, those added with +, in their order. The lines kept are a
// longest common subsequence.
func differences(from, to string) []string {
	a, b := strings.Split(from, "\n"), strings.Split(to, "\n")
	common := make([][]int, len(a)+1) // common[i][j]: length of the subsequence of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var lines []string
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b), i < len(a) && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, "-"+a[i])
			i++
		default:
			lines = append(lines, "+"+b[j])
			j++
		}
	}
	return lines
}
