package charts

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// family is a metric of the exposition that package metrics promises.
type family struct {
	help   string
	kind   string
	labels map[string]bool
}

var (
	metaLine   = regexp.MustCompile(`^# (HELP|TYPE) (\S+) (.*)$`)
	sampleLine = regexp.MustCompile(`^(cacheproxy_\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? `)
	labelName  = regexp.MustCompile(`(\w+)="`)
)

func exposition(t *testing.T) map[string]*family {
	t.Helper()
	data, err := os.ReadFile("../metrics/testdata/exposition.golden")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*family{}
	for line := range strings.SplitSeq(string(data), "\n") {
		if m := metaLine.FindStringSubmatch(line); m != nil {
			if found[m[2]] == nil {
				found[m[2]] = &family{labels: map[string]bool{}}
			}
			if m[1] == "HELP" {
				found[m[2]].help = m[3]
			} else {
				found[m[2]].kind = m[3]
			}
			continue
		}
		if m := sampleLine.FindStringSubmatch(line); m != nil {
			for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
				found[m[1]].labels[l[1]] = true
			}
		}
	}
	return found
}

// of finds the metric that a series belongs to: a histogram has _bucket, _sum and _count, and no series of its own name.
func of(families map[string]*family, series string) *family {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if name, ok := strings.CutSuffix(series, suffix); ok && families[name] != nil && families[name].kind == "histogram" {
			return families[name]
		}
	}
	if f := families[series]; f != nil && f.kind != "histogram" {
		return f
	}
	return nil
}

// target are the labels that scraping adds.
var target = []string{"namespace", "job", "pod", "service", "instance", "container", "endpoint"}

// check returns what is wrong with an expression of an alert: the metric must exist with these labels, and the values asked for must stand
// in its help text.
func check(families map[string]*family, expression string) (wrong []string) {
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return []string{err.Error()}
	}
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		f := of(families, selector.Name)
		if f == nil {
			wrong = append(wrong, "no series "+selector.Name)
			return nil
		}
		for _, m := range selector.LabelMatchers {
			switch {
			case m.Name == labels.MetricName, slices.Contains(target, m.Name):
			case !f.labels[m.Name]:
				wrong = append(wrong, selector.Name+" has no label "+m.Name)
			default:
				for _, value := range strings.Split(m.Value, "|") {
					if !regexp.MustCompile(`(^|[\s(,])` + regexp.QuoteMeta(value) + `($|[\s,;)])`).MatchString(f.help) {
						wrong = append(wrong, selector.Name+": "+m.Name+" is never "+value)
					}
				}
			}
		}
		return nil
	})
	return wrong
}

func TestAlerts(t *testing.T) {
	families := exposition(t)
	if len(families) < 10 {
		t.Fatalf("%d metrics", len(families))
	}
	list := decoded(t, valuesFile(t, "examples/values/monitoring.yaml"))
	monitor := only[*monitoring.ServiceMonitor](t, list)
	seen := map[string]bool{}
	for _, group := range only[*monitoring.PrometheusRule](t, list).Spec.Groups {
		for _, rule := range group.Rules {
			seen[rule.Alert+rule.Record] = true
			for _, w := range check(families, rule.Expr.String()) {
				t.Errorf("%s: %s", rule.Alert+rule.Record, w)
			}
			if rule.Alert != "" && !strings.Contains(rule.Expr.String(), `job="`+monitor.Name+`-admin"`) {
				t.Errorf("%s is not about these pods: %s", rule.Alert, rule.Expr.String())
			}
		}
	}
	readme, err := os.ReadFile(chartDir + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if strings.HasPrefix(name, "Cacheproxy") && !strings.Contains(string(readme), "| `"+name+"` |") {
			t.Errorf("README.md does not say what %s means", name)
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d rules: %v", len(seen), seen)
	}
}

func TestCheckFinds(t *testing.T) {
	families := exposition(t)
	for _, expression := range []string{
		`rate(cacheproxy_request_total[5m])`,             // no such metric
		`rate(cacheproxy_request_seconds[5m])`,           // a histogram has no such series
		`cacheproxy_near_bytes_count`,                    // no histogram
		`cacheproxy_requests_total{result="hit"}`,        // another label
		`cacheproxy_requests_total{outcome="fresh"}`,     // no such value
		`cacheproxy_saves_total{result=~"ok|dropped"}`,   // one that is only a part of one
		`sum(rate(cacheproxy_requests_total[5m])) > > 1`, // no expression
	} {
		if len(check(families, expression)) == 0 {
			t.Errorf("nothing wrong with %s", expression)
		}
	}
}
