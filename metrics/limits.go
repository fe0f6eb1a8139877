package metrics

import "github.com/prometheus/client_golang/prometheus"

// limitInstruments are those of limits.
type limitInstruments struct {
	limits       *prometheus.CounterVec
	limitSources *prometheus.CounterVec
}

func newLimitInstruments() limitInstruments {
	return limitInstruments{
		limits: counters("cacheproxy_limit_total",
			"Requests that a limit was asked about, each once for every limit of its rule: allowed; near (allowed, with a fifth of the limit or less left); refused; "+
				"shadow (would have been refused, if the limit were no shadow); exempt (the limit is not for it); unavailable (refused because Redis does not "+
				"answer and the limit is closed then). A request that one limit refuses is not counted by those that were not asked any more.",
			"limit", "result"),
		limitSources: counters("cacheproxy_limit_decisions_total",
			"How the requests of cacheproxy_limit_total but the exempt were decided, by what: redis (it was asked), lease (a token that this process had taken ahead), "+
				"refusal (Redis had refused the client before, for a time that is not over), process (there is no Redis) or outage (Redis did not answer). "+
				"Only redis costs a round trip, one for all limits of a request.",
			"limit", "by"),
	}
}

// LimitCounter counts for one limit. It was looked up once, so that a decision hashes no labels.
type LimitCounter struct{ counter prometheus.Counter }

// Inc counts one request. It does nothing on a nil counter.
func (c *LimitCounter) Inc() {
	if c != nil {
		c.counter.Inc()
	}
}

// Limit returns the counter of what came of requests; the results are named in the help text of cacheproxy_limit_total.
func (m *Metrics) Limit(limit, result string) *LimitCounter {
	if m == nil {
		return nil
	}
	return &LimitCounter{m.limits.WithLabelValues(limit, result)}
}

// LimitSource returns the counter of who has decided; the words are named in the help text of cacheproxy_limit_decisions_total.
func (m *Metrics) LimitSource(limit, by string) *LimitCounter {
	if m == nil {
		return nil
	}
	return &LimitCounter{m.limitSources.WithLabelValues(limit, by)}
}
