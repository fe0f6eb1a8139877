package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// PurgeLog is what a process knows of the log of purges and of those who follow it.
type PurgeLog struct {
	Sequence uint64  // of the last record applied
	Lag      float64 // seconds, as the help text says
	// Replicas by state; nil where they are not known at this moment.
	Replicas map[string]int
}

// PurgeSource says where the state of the log of purges is read at each scrape. It must be safe for concurrent use and quick. A second
// call replaces the source.
func (m *Metrics) PurgeSource(read func() PurgeLog) {
	if m != nil {
		m.purgeLog.source.Store(&read)
	}
}

// purgeCollector reads the state of the log when it is scraped. Before PurgeSource was called it shows nothing.
type purgeCollector struct {
	source atomic.Pointer[func() PurgeLog]
}

// Describe implements prometheus.Collector.
func (c *purgeCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- sequenceDesc
	descs <- lagDesc
	descs <- replicasDesc
}

// Collect implements prometheus.Collector.
func (c *purgeCollector) Collect(out chan<- prometheus.Metric) {
	read := c.source.Load()
	if read == nil {
		return
	}
	state := (*read)()
	out <- prometheus.MustNewConstMetric(sequenceDesc, prometheus.GaugeValue, float64(state.Sequence))
	out <- prometheus.MustNewConstMetric(lagDesc, prometheus.GaugeValue, state.Lag)
	for name, n := range state.Replicas {
		out <- prometheus.MustNewConstMetric(replicasDesc, prometheus.GaugeValue, float64(n), name)
	}
}

// Event counts what became of one message of an application, by one rule; the results are named in the help text of cacheproxy_events_total.
func (m *Metrics) Event(result string) {
	if m != nil {
		m.events.WithLabelValues(result).Inc()
	}
}

// EventCut counts one subscription that ended by itself.
func (m *Metrics) EventCut() {
	if m != nil {
		m.eventCuts.Inc()
	}
}

// EventSent counts one event that was to be published; the words are named in the help text of cacheproxy_events_sent_total.
func (m *Metrics) EventSent(about, result string) {
	if m != nil {
		m.eventsSent.WithLabelValues(about, result).Inc()
	}
}
