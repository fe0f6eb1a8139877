package metrics

// Every metric, by theme, in the order of a request's journey: requests, upstream, Redis, storing, purges; limits (limits.go); then connections and the
// configuration. Names and labels are a contract (they change only with a note in the changelog); so is each help text, which is what an
// operator reads.

import "github.com/prometheus/client_golang/prometheus"

// requestBuckets are upper bounds in seconds. A near hit takes some tens of microseconds and a slow page a minute: three
// bounds a decade, so that a quantile read from them is off by less than a factor of 2.5.
var requestBuckets = []float64{
	.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60,
}

// upstreamBuckets start at half a millisecond: nothing upstream answers faster than a round trip and some work.
var upstreamBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// redisBuckets end at a second: redis.timeout (50 ms by default) cuts everything a request waits for.
var redisBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}

type instruments struct {
	requestInstruments
	upstreamInstruments
	redisInstruments
	storingInstruments
	purgeInstruments
	limitInstruments
	connectionInstruments
	reloadInstruments
}

func newInstruments() instruments {
	return instruments{
		requestInstruments:    newRequestInstruments(),
		upstreamInstruments:   newUpstreamInstruments(),
		redisInstruments:      newRedisInstruments(),
		storingInstruments:    newStoringInstruments(),
		purgeInstruments:      newPurgeInstruments(),
		limitInstruments:      newLimitInstruments(),
		connectionInstruments: newConnectionInstruments(),
		reloadInstruments:     newReloadInstruments(),
	}
}

// requestInstruments are those of clients' requests, and of those that share a fetch.
type requestInstruments struct {
	requests       *prometheus.CounterVec
	requestSeconds *prometheus.HistogramVec
	fillWaiters    prometheus.Gauge
}

func newRequestInstruments() requestInstruments {
	return requestInstruments{
		requests: counters("cacheproxy_requests_total",
			"Client requests that ended, each exactly once: answered, aborted, or given up by the client. "+
				"outcome is hit, hit-stale, collapsed, purge, error or the fwd value of Cache-Status (RFC 9211); "+
				"tier is where the stored response came from (near, redis) or none. "+
				"The sum over tier of one outcome equals cacheproxy_request_seconds_count.",
			"outcome", "tier"),
		requestSeconds: histograms("cacheproxy_request_seconds",
			"Seconds from the request's head to the end of its response, the client's own slowness included. "+
				"The same events as cacheproxy_requests_total. An upgraded connection counts for as long as it lives.",
			requestBuckets, "outcome"),
		fillWaiters: gauge("cacheproxy_fill_waiters",
			"Requests that at this moment wait on, or read from, a fetch that another request began. "+
				"When they end they are in cacheproxy_requests_total as collapsed, unless they had to go alone."),
	}
}

// upstreamInstruments are those of exchanges with upstreams.
type upstreamInstruments struct {
	upstreamSeconds *prometheus.HistogramVec
	upstreamErrors  *prometheus.CounterVec
}

func newUpstreamInstruments() upstreamInstruments {
	return upstreamInstruments{
		upstreamSeconds: histograms("cacheproxy_upstream_seconds",
			"Seconds from handing a request to the upstream's transport to its final response head: connecting, TLS, sending and "+
				"waiting, not the body. Exchanges without a head are not here but in cacheproxy_upstream_errors_total. "+
				"Revalidations and refreshes count, so this is not the number of misses.",
			upstreamBuckets, "upstream"),
		upstreamErrors: counters("cacheproxy_upstream_errors_total",
			"Exchanges with an upstream that failed, each once; cause is a proxy error type of RFC 9209. "+
				"Those that failed in the body were counted in cacheproxy_upstream_seconds too. "+
				"A 5xx status is a response, not a failure; a client that leaves is not a failure either.",
			"cause"),
	}
}

// redisInstruments are those of operations on Redis.
type redisInstruments struct {
	redisSeconds *prometheus.HistogramVec
	redisErrors  *prometheus.CounterVec
	breakerState *prometheus.GaugeVec
}

func newRedisInstruments() redisInstruments {
	return redisInstruments{
		redisSeconds: histograms("cacheproxy_redis_seconds",
			"Seconds of one operation on Redis as its caller saw it, waiting for a connection included, whether it failed or not. "+
				"A pipeline or a script is one operation. Operations refused by an open breaker are not counted.",
			redisBuckets, "op"),
		redisErrors: counters("cacheproxy_redis_errors_total",
			"Operations on Redis that failed, each also in cacheproxy_redis_seconds_count, but for forget-dropped: too many "+
				"URLs waited to be forgotten. What is tried again counts at each try. "+
				"A key that does not exist is no failure, nor is a corrupt value (see cacheproxy_corrupt_total).",
			"cause"),
		breakerState: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cacheproxy_breaker_state",
			Help: "State of the breaker in front of target: 0 closed (asked as usual), 1 half open (a probe is under way), " +
				"2 open (not asked at all).",
		}, []string{"target"}),
	}
}

// storingInstruments are those of what is stored, and of what is not.
type storingInstruments struct {
	nearEvictions prometheus.Counter
	saves         *prometheus.CounterVec
	refusals      *prometheus.CounterVec
	corrupt       prometheus.Counter
}

func newStoringInstruments() storingInstruments {
	return storingInstruments{
		nearEvictions: counter("cacheproxy_near_evictions_total",
			"Stored responses that left near memory before their time to make room for others. "+
				"Those that expired, were replaced or were invalidated are not counted."),
		saves: counters("cacheproxy_saves_total",
			"Responses that were to be stored, by how the Redis half ended, each once: ok; near-only (no Redis, or too large for it); "+
				"dropped-full (the queue was full); dropped-slow (waited too long); "+
				"refused (Redis holds something newer, or the URL was forgotten since the fetch, or its time to be kept was over); "+
				"unchecked (written, and left to expire soon, since it could not be found out whether a purge forbids it); "+
				"unindexed (not written, or left to expire soon, since its tags could not be noted: purges would miss it); "+
				"error (also in cacheproxy_redis_errors_total, unless the breaker was open, the store closed, or saving pauses "+
				"because Redis is out of memory). Near memory may hold the response whatever is said here.",
			"result"),
		refusals: counters("cacheproxy_refusals_total",
			"What was not done, by reason: a response from upstream that was not stored, by the first rule that said no (the same "+
				"words as detail in Cache-Status), a background refresh that found no slot (refresh-limit), or a request that did not "+
				"share a fetch because a response under its key was of use to one client only (not-shareable; the response "+
				"that it then gets may be counted by its own reason as well). Responses that "+
				"were to be stored and failed in Redis are in cacheproxy_saves_total.",
			"reason"),
		corrupt: counter("cacheproxy_corrupt_total",
			"Values read from Redis that were no valid entry of their key: damaged, cut, or written by something else. "+
				"Each was treated as a miss, so its request is in cacheproxy_requests_total as such. Values of a newer version are not counted."),
	}
}

// purgeInstruments are those of purges, and of the events that make them or tell of them.
type purgeInstruments struct {
	purges     *prometheus.CounterVec
	events     *prometheus.CounterVec
	eventCuts  prometheus.Counter
	eventsSent *prometheus.CounterVec
}

func newPurgeInstruments() purgeInstruments {
	return purgeInstruments{
		purges: counters("cacheproxy_purges_total",
			"Purges that requests to the public listeners caused, each once, also where one was for several requests; source is unsafe (the URLs that a POST or the like made doubtful), "+
				"group (a group that its response named in Cache-Group-Invalidation) or method (a PURGE, which is in "+
				"cacheproxy_requests_total too). result is ok; unconfirmed (entered in the log, but not every replica has confirmed it in the time "+
				"that the request waits); error (not entered, as far as is known; but for PURGE it is tried again, and counts at each try); coarse (too many waited "+
				"for the log: the whole origin, or everything, was purged in their place, which is counted besides); lost (the process ended before the log took it). "+
				"Whatever it is, this process has forgotten the URLs of unsafe requests. Nothing is counted where there is no log.",
			"source", "result"),
		events: counters("cacheproxy_events_total",
			"Messages of the channels of events that this process received and is done with, each once for every rule of its channel. "+
				"result is appended (this process has entered the purges in the log); merged (an equal one waited, and its purge does for both); "+
				"left (another process has entered them); not-json, missing-field, bad-value, too-long (the payload is not what the rule wants); "+
				"refused (it asks for what POST /v1/purge would refuse too); dropped (more came than could be entered). "+
				"Every process receives every message, so that appended is what to add up over all of them.",
			"result"),
		eventCuts: counter("cacheproxy_event_cuts_total",
			"Subscriptions to the channels of events that ended by themselves. What was published before the next one began has not reached this process."),
		eventsSent: counters("cacheproxy_events_sent_total",
			"Events that this process was to publish, by type (purge, upstream), and how that ended: ok (Redis took it, whether or not anybody listens), "+
				"error, or dropped (too many waited).",
			"type", "result"),
	}
}

// connectionInstruments are those of connections, and of what is refused on them.
type connectionInstruments struct {
	connections prometheus.Gauge
	faults      *prometheus.CounterVec
}

func newConnectionInstruments() connectionInstruments {
	return connectionInstruments{
		connections: gauge("cacheproxy_connections",
			"Connections of clients that are open, idle ones and those in their handshake included; bounded by server.max_connections."),
		faults: counters("cacheproxy_faults_total",
			"Requests and connections that were refused before they were requests, by reason: a head that could be read in two ways, is "+
				"too large or too slow (the same words as detail in Cache-Status), a PROXY header or a TLS handshake that failed, a client "+
				"with too many connections. None of them is in cacheproxy_requests_total.",
			"reason"),
	}
}

// reloadInstruments are those of the configuration.
type reloadInstruments struct {
	generation prometheus.Gauge
	reloads    *prometheus.CounterVec
}

func newReloadInstruments() reloadInstruments {
	return reloadInstruments{
		generation: gauge("cacheproxy_config_generation",
			"Number of the configuration that new requests are served by: 1 since the start, one more with each reload."),
		reloads: counters("cacheproxy_reloads_total",
			"Reloads of the configuration, by result: ok, or refused (it has mistakes, and the one before stays).",
			"result"),
	}
}

var (
	nearBytesDesc = prometheus.NewDesc("cacheproxy_near_bytes",
		"Bytes that near memory accounts for, overhead included; bounded by near.size.", nil, nil)
	nearEntriesDesc = prometheus.NewDesc("cacheproxy_near_entries",
		"Cache URLs held in near memory, each with all its variants. May count some that expired and are not removed yet.", nil, nil)
)

var (
	sequenceDesc = prometheus.NewDesc("cacheproxy_invalidation_sequence",
		"Sequence of the last purge that this process has applied, or of the place where it began to follow the log of purges: microseconds "+
			"since 1970 by the clock of Redis. 0 until it follows the log.", nil, nil)
	lagDesc = prometheus.NewDesc("cacheproxy_invalidation_lag_seconds",
		"Seconds for which this process has not known that it had applied all purges. It asks each second, so up to about 1 when all is well; "+
			"growing while Redis does not answer. 0 without Redis.", nil, nil)
	replicasDesc = prometheus.NewDesc("cacheproxy_replicas",
		"Processes that follow the log of purges, this one included, as it saw them last, by state: live; silent (registered, and not heard of "+
			"for 3 s); fenced (the same, but strict, so that it serves nothing until it is back); unregistered (this process itself, while no receipt of a purge covers it; 1 or 0). All but the last are absent while "+
			"Redis does not tell.", []string{"state"}, nil)
)

func (i *instruments) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		i.requests, i.requestSeconds, i.fillWaiters,
		i.upstreamSeconds, i.upstreamErrors,
		i.redisSeconds, i.redisErrors, i.breakerState,
		i.nearEvictions, i.saves, i.refusals, i.corrupt,
		i.purges, i.events, i.eventCuts, i.eventsSent,
		i.limits, i.limitSources,
		i.connections, i.faults,
		i.generation, i.reloads,
	}
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}
