package trial

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cacheproxy/policy"
)

// Expect is what a step expects of what came; what it does not name is not looked at.
type Expect struct {
	Outcome string            `yaml:"outcome"` // hit, hit-stale, uri-miss, vary-miss, stale, bypass, ...: as the metric and the log have it
	Status  *int              `yaml:"status"`
	Stored  *bool             `yaml:"stored"`
	Reason  *string           `yaml:"reason"` // detail of Cache-Status; none = there is no detail
	Age     *Seconds          `yaml:"age"`    // the Age field
	TTL     *Seconds          `yaml:"ttl"`    // ttl of Cache-Status
	Header  map[string]Values `yaml:"header"` // of the response to the client; "*" = any value, no value = not there
	Body    *string           `yaml:"body"`

	Forwarded *Forwarded `yaml:"forwarded"` // of the last request that reached the origin
}

// Forwarded is what is expected of a request that reached the origin.
type Forwarded struct {
	Method string            `yaml:"method"`
	Target string            `yaml:"target"` // path and query
	Header map[string]Values `yaml:"header"`
}

// Seconds is a whole number of seconds: 30, 30s, 5m, -1s.
type Seconds int64

// UnmarshalText reads a number or a duration.
func (s *Seconds) UnmarshalText(text []byte) error {
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		*s = Seconds(n)
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d%time.Second != 0 {
		return fmt.Errorf("%q is no number of seconds: write 30, 30s or 5m", text)
	}
	*s = Seconds(d / time.Second)
	return nil
}

// Difference is one expectation that did not come true.
type Difference struct {
	What     string `json:"what"` // the key of the expectation
	Expected string `json:"expected"`
	Got      string `json:"got"`
}

// String formats it in one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s: expected %s, got %s", d.What, d.Expected, d.Got)
}

const nothing = "nothing"

// compare lists the differences between what was expected and what came.
func (e *Expect) compare(p *Played, now time.Time) (found []Difference) {
	differs := func(what, expected, got string) {
		if expected != got {
			found = append(found, Difference{what, expected, got})
		}
	}
	if p.Unmet {
		last := p.Asked[len(p.Asked)-1]
		differs("response", "no request at the origin", last.Method+" "+last.URL.RequestURI()+", for which the step has no response")
	}
	if p.Unused {
		differs("response", "a request at the origin", "an answer without asking it")
	}
	if p.Aborted {
		differs("response", "a whole response", "an aborted connection")
	}
	if e.Outcome != "" {
		differs("outcome", e.Outcome, p.Outcome.Label())
	}
	if e.Status != nil {
		differs("status", strconv.Itoa(*e.Status), strconv.Itoa(p.Status))
	}
	if e.Stored != nil {
		differs("stored", strconv.FormatBool(*e.Stored), strconv.FormatBool(p.Outcome.Stored))
	}
	if e.Reason != nil {
		differs("reason", orNothing(strings.TrimSuffix(*e.Reason, "none")), orNothing(p.Outcome.Detail.String()))
	}
	if e.Age != nil {
		differs("age", seconds(*e.Age), ageOf(p.Header))
	}
	if e.TTL != nil {
		differs("ttl", seconds(*e.TTL), ttlOf(p.Outcome))
	}
	if e.Body != nil {
		differs("body", strconv.Quote(*e.Body), excerpt(p.Body))
	}
	found = append(found, compareHeader("header", e.Header, p.Header, now)...)
	return append(found, e.Forwarded.compare(p, now)...)
}

func (f *Forwarded) compare(p *Played, now time.Time) (found []Difference) {
	if f == nil {
		return nil
	}
	if len(p.Asked) == 0 {
		return []Difference{{"forwarded", "a request at the origin", nothing}}
	}
	last := p.Asked[len(p.Asked)-1]
	if f.Method != "" && f.Method != last.Method {
		found = append(found, Difference{"forwarded.method", f.Method, last.Method})
	}
	if target := last.URL.RequestURI(); f.Target != "" && f.Target != target {
		found = append(found, Difference{"forwarded.target", f.Target, target})
	}
	return append(found, compareHeader("forwarded.header", f.Header, last.Header, now)...)
}

// compareHeader looks at the fields that are named.
func compareHeader(what string, expected map[string]Values, got http.Header, now time.Time) (found []Difference) {
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		want, have := expandAll(expected[name], now), got.Values(name)
		if len(want) == 1 && want[0] == "*" && len(have) > 0 || slices.Equal(want, have) {
			continue
		}
		found = append(found, Difference{what + "." + name, quoted(want), quoted(have)})
	}
	return found
}

func quoted(values []string) string {
	if len(values) == 0 {
		return nothing
	}
	quotes := make([]string, len(values))
	for i, v := range values {
		quotes[i] = strconv.Quote(v)
	}
	return strings.Join(quotes, " and ")
}

func orNothing(text string) string {
	if text == "" {
		return nothing
	}
	return text
}

func seconds(s Seconds) string { return strconv.FormatInt(int64(s), 10) + "s" }

func ageOf(h http.Header) string {
	if age := h.Get("Age"); age != "" {
		return age + "s"
	}
	return nothing
}

// ttlOf is the ttl as Cache-Status has it.
func ttlOf(o policy.Outcome) string {
	_, after, found := strings.Cut(string(o.AppendCacheStatus(nil, "x")), "; ttl=")
	if !found {
		return nothing
	}
	ttl, _, _ := strings.Cut(after, ";")
	return ttl + "s"
}

// excerpt is enough of a body to be recognised.
func excerpt(body string) string {
	const most = 60
	if len(body) > most {
		return strconv.Quote(body[:most]) + fmt.Sprintf(" and %d bytes more", len(body)-most)
	}
	return strconv.Quote(body)
}
