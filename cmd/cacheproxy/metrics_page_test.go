package main

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/store"
	"cacheproxy/upstream"
	"cacheproxy/wire"
)

// docs/metrics.md is made of the registry and of the vocabularies that labels are taken from.

const metricsIntro = `# Metrics

<!-- Made by "make docs" from the registry and the vocabularies in the code. Do not edit. -->

` + "`GET /metrics`" + ` on the operator's listener shows all of them, with those of the Go runtime (` + "`go_*`" + `) and of the process
(` + "`process_*`" + `). Labels never hold URLs, clients or tags. Names, labels and words of labels are a contract: they change only with a note in
the changelog. [Alerts](operations.md#alerts) shows them in use.
`

// metricRow is one of them.
type metricRow struct {
	name, kind, help string
	labels           []string
}

var (
	description = regexp.MustCompile(`^Desc\{fqName: (".*?"), help: ("(?:[^"\\]|\\.)*"),.* variableLabels: \{(.*)\}\}$`)
	kindOfName  = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
)

// metricsOf lists what a registry has, by name. The kind is not in a description; it is in what package metrics compares its exposition with.
func metricsOf(t *testing.T, r *prometheus.Registry) []metricRow {
	t.Helper()
	exposition, err := os.ReadFile("../../metrics/testdata/exposition.golden")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, m := range kindOfName.FindAllStringSubmatch(string(exposition), -1) {
		kinds[m[1]] = m[2]
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		r.Describe(descriptions)
		close(descriptions)
	}()
	var all []metricRow
	for d := range descriptions {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			t.Errorf("cannot read %s", d)
			continue
		}
		var row metricRow
		row.name, _ = strconv.Unquote(m[1])
		row.help, _ = strconv.Unquote(m[2])
		row.labels = strings.FieldsFunc(m[3], func(c rune) bool { return c == ',' })
		if !strings.HasPrefix(row.name, "cacheproxy_") {
			continue
		}
		if row.kind = kinds[row.name]; row.kind == "" {
			t.Errorf("%s is not in metrics/testdata/exposition.golden: count one of it in the tests of package metrics", row.name)
		}
		all = append(all, row)
	}
	slices.SortFunc(all, func(a, b metricRow) int { return strings.Compare(a.name, b.name) })
	return all
}

func TestMetricsPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(metricsIntro)
	b.WriteString("\n| metric | type | labels | what it says |\n|---|---|---|---|\n")
	for _, m := range metricsOf(t, metrics.New().Registry()) {
		for i, label := range m.labels {
			m.labels[i] = "`" + label + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.kind, strings.Join(m.labels, ", "), escapeCell(m.help))
	}
	writeWords(&b, "Outcomes", "The label `outcome` of `cacheproxy_requests_total` and `cacheproxy_request_seconds`, and `outcome` in the access log. "+
		"All but `hit`, `hit-stale`, `collapsed` and `error` are values of `fwd` in Cache-Status (RFC 9211).", policy.Labels())
	writeWords(&b, "Tiers", "The label `tier` of `cacheproxy_requests_total`, and `tier` in the access log: where the stored response came from.",
		[]string{store.TierNone.String(), store.TierNear.String(), store.TierRedis.String()})
	b.WriteString("\n## Reasons\n\nWhy something was not stored, not served, not shared, or served although stale: `detail` in Cache-Status and in the " +
		"access log, and what `cacheproxy explain` prints. The label `reason` of `cacheproxy_refusals_total` is one of them.\n\n" +
		"| reason | what it says | section |\n|---|---|---|\n")
	for _, r := range policy.Reasons() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r, escapeCell(r.Sentence()), r.Section())
	}
	b.WriteString("\n## Faults\n\nThe label `reason` of `cacheproxy_faults_total`, and `detail` in Cache-Status of the answer and in the log line " +
		"`refused`. Status 0 means that the connection is closed without an answer.\n\n| reason | status | what is wrong |\n|---|---|---|\n")
	for _, f := range wire.Faults() {
		fmt.Fprintf(&b, "| `%s` | %d | %s |\n", f.Name, f.Status, escapeCell(f.Detail))
	}
	b.WriteString("\n## Causes\n\nThe label `cause` of `cacheproxy_upstream_errors_total`: the proxy error types of RFC 9209, and the status that the " +
		"client is answered with where no stale response may be served.\n\n| cause | status |\n|---|---|\n")
	for _, c := range upstream.Causes() {
		fmt.Fprintf(&b, "| `%s` | %d %s |\n", c, c.Status(), http.StatusText(c.Status()))
	}
	comparePage(t, "metrics.md", b.String())
}

// writeWords writes a section that lists a vocabulary.
func writeWords(b *strings.Builder, title, about string, all []string) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n", title, about)
	for _, word := range all {
		fmt.Fprintf(b, "- `%s`\n", word)
	}
}

// escapeCell keeps what would be markup in a table from being that.
func escapeCell(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace(text)
}
