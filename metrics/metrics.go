// Package metrics holds every counter of cacheproxy and its exact meaning.
//
// A metric is a promise to whoever builds an alarm on it. So all of them are declared in one file (definitions.go), and each
// help text says what one unit is, when it is counted, and which other metric counts the same event again. A metric is
// registered only when something feeds it: a gauge that always reads zero is a lie about health.
//
// Labels never hold URLs, clients or tags, so the number of series is bounded by the program's own vocabulary and the
// configuration (names of upstreams). Label values arrive as strings, because this package imports nothing of ours; they are
// the String forms of policy.Reason, policy.Outcome.Label, store.Tier and upstream.Cause.
//
// A nil *Metrics is valid and counts nothing, so that a package used on its own needs no metrics. All methods may be called
// concurrently.
package metrics

import (
	"net/http"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is one process's set of counters over a registry of its own; the fields are declared in definitions.go.
type Metrics struct {
	registry *prometheus.Registry
	instruments
	near     nearCollector
	purgeLog purgeCollector
}

// gcTime adds the processor time that collecting garbage takes to what is shown of the Go runtime.
var gcTime = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/cpu/classes/gc/|^/gc/cycles/total:`)}

// New returns counters that all read zero, registered together with the Go runtime's and the process's own (go_*, process_*).
func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), instruments: newInstruments()}
	m.registry.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(gcTime)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.collectors()...)
	m.registry.MustRegister(&m.near, &m.purgeLog)
	return m
}

// Registry returns the registry, for programs that add collectors of their own. It is nil for a nil *Metrics.
func (m *Metrics) Registry() *prometheus.Registry {
	if m == nil {
		return nil
	}
	return m.registry
}

// Handler serves the exposition (Prometheus text format, or OpenMetrics or protobuf where the client asks for them). For a
// nil *Metrics it answers 404.
func (m *Metrics) Handler() http.Handler {
	if m == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// RequestObserver counts the requests of one outcome and tier. Its counters were looked up once, so that the hit path neither
// hashes labels nor allocates.
type RequestObserver struct {
	total   prometheus.Counter
	seconds prometheus.Observer
}

// Requests returns the observer of one outcome (policy.Outcome.Label) and tier (store.Tier.String). Asking makes the series
// exist with the value zero, so ask for all combinations at start: a rate over a series that appears with its first
// event misses that event.
func (m *Metrics) Requests(outcome, tier string) *RequestObserver {
	if m == nil {
		return nil
	}
	return &RequestObserver{
		total:   m.requests.WithLabelValues(outcome, tier),
		seconds: m.requestSeconds.WithLabelValues(outcome),
	}
}

// Observe counts one request that took d. It does not allocate, and does nothing on a nil observer.
func (o *RequestObserver) Observe(d time.Duration) {
	if o == nil {
		return
	}
	o.total.Inc()
	o.seconds.Observe(d.Seconds())
}

// UpstreamSeconds records the time from handing a request to the upstream's transport to its final response head.
func (m *Metrics) UpstreamSeconds(upstream string, d time.Duration) {
	if m != nil {
		m.upstreamSeconds.WithLabelValues(upstream).Observe(d.Seconds())
	}
}

// UpstreamError counts one failed exchange; cause is an RFC 9209 proxy error type (upstream.Cause.String).
func (m *Metrics) UpstreamError(cause string) {
	if m != nil {
		m.upstreamErrors.WithLabelValues(cause).Inc()
	}
}

// RedisSeconds records one operation on Redis, failed or not: one pipeline or one script is one operation.
func (m *Metrics) RedisSeconds(op string, d time.Duration) {
	if m != nil {
		m.redisSeconds.WithLabelValues(op).Observe(d.Seconds())
	}
}

// RedisError counts one failed operation on Redis.
func (m *Metrics) RedisError(cause string) {
	if m != nil {
		m.redisErrors.WithLabelValues(cause).Inc()
	}
}

// BreakerState sets the state of the breaker in front of target: 0 closed, 1 half open, 2 open.
func (m *Metrics) BreakerState(target string, state float64) {
	if m != nil {
		m.breakerState.WithLabelValues(target).Set(state)
	}
}

// NearSource says where the size of near memory is read at each scrape: its weight in bytes and its number of entries. Both
// functions must be safe for concurrent use and quick. A second call replaces the source.
func (m *Metrics) NearSource(bytes, entries func() float64) {
	if m != nil {
		m.near.source.Store(&nearSource{bytes, entries})
	}
}

// NearEviction counts n entries that left near memory to make room.
func (m *Metrics) NearEviction(n int) {
	if m != nil {
		m.nearEvictions.Add(float64(n))
	}
}

// Save counts how the Redis half of one save ended; the results are named in the help text of cacheproxy_saves_total.
func (m *Metrics) Save(result string) {
	if m != nil {
		m.saves.WithLabelValues(result).Inc()
	}
}

// Refusal counts one response that was not stored; reason is policy.Reason.String.
func (m *Metrics) Refusal(reason string) {
	if m != nil {
		m.refusals.WithLabelValues(reason).Inc()
	}
}

// Purges counts purges that requests caused; source and result are named in the help text of cacheproxy_purges_total.
func (m *Metrics) Purges(source, result string, n int) {
	if m != nil {
		m.purges.WithLabelValues(source, result).Add(float64(n))
	}
}

// FillWaiters adds delta to the number of requests that wait on, or read from, another request's fetch.
func (m *Metrics) FillWaiters(delta int) {
	if m != nil {
		m.fillWaiters.Add(float64(delta))
	}
}

// Connections adds delta to the number of open connections of clients.
func (m *Metrics) Connections(delta int) {
	if m != nil {
		m.connections.Add(float64(delta))
	}
}

// Fault counts one request or connection that was refused before it was a request; reason is wire.Fault.Name.
func (m *Metrics) Fault(reason string) {
	if m != nil {
		m.faults.WithLabelValues(reason).Inc()
	}
}

// Generation sets the number of the configuration that is in use.
func (m *Metrics) Generation(n uint64) {
	if m != nil {
		m.generation.Set(float64(n))
	}
}

// Reload counts one reload; result is ok or refused.
func (m *Metrics) Reload(result string) {
	if m != nil {
		m.reloads.WithLabelValues(result).Inc()
	}
}

// Corrupt counts one value read from Redis that was no valid entry of its key.
func (m *Metrics) Corrupt() {
	if m != nil {
		m.corrupt.Inc()
	}
}

type nearSource struct{ bytes, entries func() float64 }

// nearCollector reads the size of near memory when it is scraped. Before NearSource was called it shows nothing.
type nearCollector struct{ source atomic.Pointer[nearSource] }

// Describe implements prometheus.Collector.
func (c *nearCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- nearBytesDesc
	descs <- nearEntriesDesc
}

// Collect implements prometheus.Collector.
func (c *nearCollector) Collect(out chan<- prometheus.Metric) {
	if s := c.source.Load(); s != nil {
		out <- prometheus.MustNewConstMetric(nearBytesDesc, prometheus.GaugeValue, s.bytes())
		out <- prometheus.MustNewConstMetric(nearEntriesDesc, prometheus.GaugeValue, s.entries())
	}
}
