package stats

import (
	"math"
	"time"
)

// Interval is what a process did between two samples. Rates are a second. A pointer is nil where there is nothing to tell of: no
// request has no hit ratio, and no median.
type Interval struct {
	Time      time.Time `json:"time"`      // its end
	Seconds   float64   `json:"seconds"`   // its length
	Restarted bool      `json:"restarted"` // the process began anew in it: it is told of since then

	Requests  float64            `json:"requests_per_second"`
	Outcomes  map[string]float64 `json:"outcomes_per_second"`
	HitRatio  *float64           `json:"hit_ratio"`       // answered from a stored response, fresh or stale, of all requests
	NearRatio *float64           `json:"near_hit_ratio"`  // the part of hit_ratio from near memory
	FarRatio  *float64           `json:"redis_hit_ratio"` // and from Redis
	Stale     float64            `json:"stale_per_second"`
	Collapsed float64            `json:"collapsed_per_second"`
	Errors    float64            `json:"errors_per_second"` // answered by the proxy itself; see upstream_errors_per_second
	P50       *float64           `json:"request_p50_seconds"`
	P99       *float64           `json:"request_p99_seconds"`

	Upstream       float64  `json:"upstream_requests_per_second"` // that had a response head
	UpstreamP50    *float64 `json:"upstream_p50_seconds"`
	UpstreamP99    *float64 `json:"upstream_p99_seconds"`
	UpstreamErrors float64  `json:"upstream_errors_per_second"`

	Redis       float64           `json:"redis_operations_per_second"`
	RedisErrors float64           `json:"redis_errors_per_second"`
	Breakers    map[string]string `json:"breakers"` // closed, half-open or open, by what is behind it

	NearBytes     float64            `json:"near_bytes"`
	NearEntries   float64            `json:"near_entries"`
	NearEvictions float64            `json:"near_evictions_per_second"`
	Saves         map[string]float64 `json:"saves_per_second"` // by result: ok, near-only, dropped-full, ...

	Connections float64 `json:"connections"`
	Faults      float64 `json:"faults_per_second"`

	Goroutines float64  `json:"goroutines"`
	CPU        *float64 `json:"cpu_percent"` // of one processor: 200 is two; nil where the process cannot tell
	Resident   *float64 `json:"resident_bytes"`
}

// Between returns what happened from one sample to a later one of the same address. Where the process there began anew in between, what it
// counted since is all there is: the counts of its predecessor after the first sample are lost.
func Between(first, second *Sample) *Interval {
	d := delta{first, second, second.at.Sub(first.at).Seconds()}
	restarted := restartedBetween(first, second)
	if restarted {
		d.first = &Sample{}
		if began, ok := second.started(); ok {
			if alive := float64(second.at.UnixNano())/1e9 - began; 0 < alive && alive < d.seconds {
				d.seconds = alive
			}
		}
	}
	i := &Interval{Time: second.at, Seconds: d.seconds, Restarted: restarted}
	d.requests(i)
	i.Upstream = d.rate("cacheproxy_upstream_seconds")
	i.UpstreamP50, i.UpstreamP99 = d.quantiles("cacheproxy_upstream_seconds")
	i.UpstreamErrors = d.rate("cacheproxy_upstream_errors_total")
	i.Redis = d.rate("cacheproxy_redis_seconds")
	i.RedisErrors = d.rate("cacheproxy_redis_errors_total")
	i.Breakers = breakers(second)
	i.NearBytes, i.NearEntries = second.sum("cacheproxy_near_bytes"), second.sum("cacheproxy_near_entries")
	i.NearEvictions = d.rate("cacheproxy_near_evictions_total")
	i.Saves = d.rates("cacheproxy_saves_total", "result")
	i.Connections = second.sum("cacheproxy_connections")
	i.Faults = d.rate("cacheproxy_faults_total")
	i.Goroutines = second.sum("go_goroutines")
	if second.families["process_cpu_seconds_total"] != nil {
		percent := 100 * d.rate("process_cpu_seconds_total")
		i.CPU = &percent
	}
	if second.families["process_resident_memory_bytes"] != nil {
		resident := second.sum("process_resident_memory_bytes")
		i.Resident = &resident
	}
	return i
}

// restartedBetween goes by the time at which the process began, and by counts that went back: not every system tells the first.
func restartedBetween(first, second *Sample) bool {
	before, told := first.started()
	after, toldAgain := second.started()
	if told && toldAgain && before != after {
		return true
	}
	for _, name := range []string{"cacheproxy_requests_total", "cacheproxy_upstream_seconds", "cacheproxy_redis_seconds", "process_cpu_seconds_total"} {
		if second.sum(name) < first.sum(name) {
			return true
		}
	}
	return false
}

// delta is what was counted between two samples.
type delta struct {
	first, second *Sample
	seconds       float64
}

func (d delta) count(name string, labels ...label) float64 {
	return max(0, d.second.sum(name, labels...)-d.first.sum(name, labels...))
}

func (d delta) rate(name string, labels ...label) float64 {
	return perSecond(d.count(name, labels...), d.seconds)
}

func perSecond(count, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return count / seconds
}

// rates are those of a family by the values of a label.
func (d delta) rates(name, of string) map[string]float64 {
	rates := d.second.by(name, of)
	before := d.first.by(name, of)
	for v, count := range rates {
		rates[v] = perSecond(max(0, count-before[v]), d.seconds)
	}
	return rates
}

// quantiles are the median and the 99th percentile of what a histogram observed, in seconds.
func (d delta) quantiles(name string) (p50, p99 *float64) {
	before := map[float64]float64{}
	for _, b := range d.first.buckets(name) {
		before[b.upper] = b.count
	}
	buckets := d.second.buckets(name)
	for i := range buckets {
		buckets[i].count -= before[buckets[i].upper]
	}
	at := func(q float64) *float64 {
		estimate, ok := quantile(q, buckets)
		if !ok {
			return nil
		}
		estimate = math.Round(estimate*1e9) / 1e9 // a nanosecond is more than it is worth
		return &estimate
	}
	return at(.5), at(.99)
}

// requests tells of what clients asked.
func (d delta) requests(i *Interval) {
	const name = "cacheproxy_requests_total"
	hits := func(tier ...label) float64 {
		return d.count(name, append(tier, label{"outcome", "hit"})...) + d.count(name, append(tier, label{"outcome", "hit-stale"})...)
	}
	ratio := func(part float64) *float64 {
		all := d.count(name)
		if all == 0 {
			return nil
		}
		share := part / all
		return &share
	}
	i.Requests, i.Outcomes = d.rate(name), d.rates(name, "outcome")
	i.HitRatio, i.NearRatio, i.FarRatio = ratio(hits()), ratio(hits(label{"tier", "near"})), ratio(hits(label{"tier", "redis"}))
	i.Stale, i.Collapsed, i.Errors = i.Outcomes["hit-stale"], i.Outcomes["collapsed"], i.Outcomes["error"]
	i.P50, i.P99 = d.quantiles("cacheproxy_request_seconds")
}

// breakers names the states of cacheproxy_breaker_state.
func breakers(s *Sample) map[string]string {
	states := map[string]string{}
	for target, state := range s.by("cacheproxy_breaker_state", "target") {
		switch state {
		case 0:
			states[target] = "closed"
		case 1:
			states[target] = "half-open"
		default:
			states[target] = "open"
		}
	}
	return states
}
