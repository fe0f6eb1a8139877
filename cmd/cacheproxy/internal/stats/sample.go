// Package stats makes rates of two readings of a process's metrics.
//
// A Sample is one reading of /metrics, and Between what happened between two of them. The names and labels are those of package
// metrics of this module, which are a contract; what a process does not expose reads as zero, or as absent where that is not the same.
package stats

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Sample is one reading of a process's metrics; immutable.
type Sample struct {
	at       time.Time
	families map[string]*dto.MetricFamily
}

// Read parses an exposition in Prometheus's text format that was read at a time.
func Read(exposition io.Reader, at time.Time) (*Sample, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(exposition)
	if err != nil {
		return nil, fmt.Errorf("stats: reading an exposition: %w", err)
	}
	return &Sample{at: at, families: families}, nil
}

// label is what a series must have under a name.
type label struct{ name, value string }

func has(m *dto.Metric, labels []label) bool {
	for _, l := range labels {
		if labelOf(m, l.name) != l.value {
			return false
		}
	}
	return true
}

func labelOf(m *dto.Metric, name string) string {
	for _, pair := range m.GetLabel() {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// value is that of a counter or a gauge, or how many observations a histogram has.
func value(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Histogram != nil:
		return float64(m.Histogram.GetSampleCount())
	default:
		return m.Untyped.GetValue()
	}
}

// sum adds the series of a family that have the labels.
func (s *Sample) sum(name string, labels ...label) (sum float64) {
	for _, m := range s.families[name].GetMetric() {
		if has(m, labels) {
			sum += value(m)
		}
	}
	return sum
}

// by returns the sums of a family for each value of a label.
func (s *Sample) by(name, of string) map[string]float64 {
	sums := map[string]float64{}
	for _, m := range s.families[name].GetMetric() {
		sums[labelOf(m, of)] += value(m)
	}
	return sums
}

// bucket is how many observations were at most upper.
type bucket struct{ upper, count float64 }

// buckets adds the buckets of all series of a histogram, which have the same bounds; sorted by them.
func (s *Sample) buckets(name string) []bucket {
	counts := map[float64]float64{}
	for _, m := range s.families[name].GetMetric() {
		for _, b := range m.GetHistogram().GetBucket() {
			counts[b.GetUpperBound()] += float64(b.GetCumulativeCount())
		}
	}
	all := make([]bucket, 0, len(counts))
	for upper, count := range counts {
		all = append(all, bucket{upper, count})
	}
	slices.SortFunc(all, func(a, b bucket) int {
		if a.upper < b.upper {
			return -1
		}
		return 1
	})
	return all
}

// quantile estimates the value below which the share q of the observations lies, as if they were spread evenly in their
// bucket: what Prometheus's histogram_quantile does. Beyond the last bound it is that bound. False when there are no observations.
func quantile(q float64, buckets []bucket) (float64, bool) {
	if len(buckets) == 0 || buckets[len(buckets)-1].count <= 0 {
		return 0, false
	}
	rank := q * buckets[len(buckets)-1].count
	i := slices.IndexFunc(buckets, func(b bucket) bool { return b.count >= rank })
	var below bucket
	if i > 0 {
		below = buckets[i-1]
	}
	if math.IsInf(buckets[i].upper, 1) {
		return below.upper, i > 0
	}
	within := buckets[i].count - below.count
	if within <= 0 {
		return buckets[i].upper, true
	}
	return below.upper + (buckets[i].upper-below.upper)*(rank-below.count)/within, true
}

// started is when the process began; false where it does not say.
func (s *Sample) started() (float64, bool) {
	const name = "process_start_time_seconds"
	return s.sum(name), s.families[name] != nil
}
