package limiter

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Algorithm is how a limit counts: see arithmetic.go.
type Algorithm string

// The algorithms.
const (
	Fixed   Algorithm = "fixed"   // windows that begin with a client's first request (default); twice the limit may pass around the end of one
	Sliding Algorithm = "sliding" // the last window, weighted from two: in a span d, at most limit and what a window has in d
	GCRA    Algorithm = "gcra"    // a bucket that drains evenly; a burst at once, then limit in each window, evenly spaced
)

// Accuracy is how often Redis is asked.
type Accuracy string

// The accuracies.
const (
	Leased Accuracy = "leased" // tokens are taken ahead (default)
	Exact  Accuracy = "exact"  // Redis decides each request
)

// Outage is what is done while Redis does not answer.
type Outage string

// The outages. In every one of them a client that Redis has refused stays refused until the time that it has said.
const (
	// Local enforces the whole limit by what this process has admitted (default), the tokens included that it has admitted before the outage:
	// a client has in a window with an outage at most the limit from Redis, and the limit from each process that it asks.
	Local Outage = "local"
	// Divided enforces the limit divided by the number of processes, at least 1: in a window with an outage all of them together admit at
	// most twice the limit, unless there are more processes than tokens.
	Divided Outage = "divided"
	Open    Outage = "open"   // admits, and counts nothing
	Closed  Outage = "closed" // refuses with 503
)

// The names of fields that tell a client where it stands.
const (
	RateLimit  = "ratelimit"   // RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11)
	XRateLimit = "x-ratelimit" // X-RateLimit-Limit, -Remaining, and -Reset in seconds from now
)

// Spec is one limit. Only Name, Limit and Window are required; every other zero value means what its comment says.
type Spec struct {
	Name string // letters, digits, - and _; in metrics, fields, logs and keys
	// Key says whose requests are counted together: by all of these that are named. Nil means client.
	//
	//	client       the client's address
	//	host         the host asked for
	//	method       the method
	//	rule         the rule of the configuration that matches
	//	api_key      X-Api-Key, or the token of Authorization: Bearer
	//	header.NAME  a request field
	//	cookie.NAME  a cookie
	//
	// A request without the key, field or cookie is counted by its client's address in its place: it neither goes free nor takes from others.
	Key    []string
	Limit  int64         // tokens in a window, from 1
	Window time.Duration // from 10 ms to a year
	// Algorithm "" means Fixed, Accuracy "" Leased, OnOutage "" Local.
	Algorithm Algorithm
	Accuracy  Accuracy
	OnOutage  Outage
	Burst     int64 // of GCRA: tokens that may be used at once; 0 means Limit
	Shadow    bool  // decide and count, and refuse nobody
	Status    int   // of a refusal; 0 means 429
	// Cost is how many tokens a request takes: by how it was answered (hit, miss, error), times by its method (POST). What is not named costs
	// 1. The most that it may cost is taken before, and the rest given back when it is answered.
	Cost map[string]int64
	// Fields tell clients where they stand: RateLimit, XRateLimit. Nil means RateLimit, empty none.
	Fields        []string
	ExemptClients []netip.Prefix // not limited
	ExemptKeys    []string       // not limited: keys as Standing.Key has them
	// Secret are names of request fields whose values must not be readable in keys. Those of Authorization, Proxy-Authorization and X-Api-Key,
	// and all cookies, never are.
	Secret []string
	// MaxClients is how many are told apart at once by this process; others share one count. 0 means 100,000.
	MaxClients int
}

const (
	defaultClients = 100_000
	minWindow      = 10 * time.Millisecond
	maxWindow      = 366 * 24 * time.Hour
	// exact is up to where the numbers of Redis's scripts are exact: 2^53.
	exact = 1 << 53
	// MaxLimits is how many limits one request can be held to.
	MaxLimits = 8
)

// Mistake is something that is wrong with a Spec.
type Mistake struct {
	Path string // as the configuration writes it, below the list: "[2].window"
	Err  error
}

// Error returns the path and what is wrong there.
func (m Mistake) Error() string { return m.Path + ": " + m.Err.Error() }

// Check returns what is wrong with specs, in their order. Those without mistakes are accepted by New and Compile.
func Check(specs []Spec) []Mistake {
	var c checker
	seen := map[string]int{}
	for i := range specs {
		c.at = fmt.Sprintf("[%d]", i)
		s := &specs[i]
		c.check(s)
		if first, twice := seen[s.Name]; twice && s.Name != "" {
			c.addf("name", "%q is also the name of limits[%d]", s.Name, first)
		} else {
			seen[s.Name] = i
		}
	}
	return c.mistakes
}

type checker struct {
	at       string
	mistakes []Mistake
}

func (c *checker) addf(key, format string, arguments ...any) {
	c.mistakes = append(c.mistakes, Mistake{c.at + "." + key, fmt.Errorf(format, arguments...)})
}

func (c *checker) check(s *Spec) {
	switch {
	case s.Name == "":
		c.addf("name", "is missing: rules name limits by it")
	case len(s.Name) > 64 || strings.Trim(s.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "":
		c.addf("name", "%.80q is not a name of at most 64 letters, digits, - and _", s.Name)
	}
	for i, part := range s.Key {
		if _, err := parsePart(part); err != nil {
			c.addf(fmt.Sprintf("key[%d]", i), "%w", err)
		} else if slices.Contains(s.Key[:i], part) {
			c.addf(fmt.Sprintf("key[%d]", i), "%s is listed twice", part)
		}
	}
	if s.Key != nil && len(s.Key) == 0 {
		c.addf("key", "names nothing: [client] counts by address")
	}
	c.numbers(s)
	oneOf(c, "algorithm", s.Algorithm, Fixed, Sliding, GCRA)
	oneOf(c, "accuracy", s.Accuracy, Leased, Exact)
	oneOf(c, "on_outage", s.OnOutage, Local, Divided, Open, Closed)
	if s.Status != 0 && (s.Status < 400 || s.Status > 599) {
		c.addf("status", "%d is no status of a refusal: 400 to 599, mostly 429", s.Status)
	}
	for i, field := range s.Fields {
		if field != RateLimit && field != XRateLimit {
			c.addf(fmt.Sprintf("fields[%d]", i), "%q is not one of %s, %s", field, RateLimit, XRateLimit)
		}
	}
	for i, key := range s.ExemptKeys {
		if key == "" {
			c.addf(fmt.Sprintf("exempt.keys[%d]", i), "is empty")
		}
	}
	if s.MaxClients < 0 {
		c.addf("max_clients", "is negative")
	}
	c.costs(s)
}

func oneOf[T ~string](c *checker, key string, value T, known ...T) {
	if value == "" || slices.Contains(known, value) {
		return
	}
	words := make([]string, len(known))
	for i := range known {
		words[i] = string(known[i])
	}
	c.addf(key, "%q is not one of %s", string(value), strings.Join(words, ", "))
}

func (c *checker) numbers(s *Spec) {
	if s.Limit < 1 {
		c.addf("limit", "must be at least 1: it is how many requests a window admits")
	}
	switch {
	case s.Window == 0:
		c.addf("window", "is missing, or 0: write 1s, 1m or 1h")
	case s.Window < minWindow || s.Window > maxWindow:
		c.addf("window", "is out of range: 10ms to 8784h, which are 366 days")
	}
	switch {
	case s.Burst < 0:
		c.addf("burst", "is negative")
	case s.Burst > 0 && s.Algorithm != GCRA:
		c.addf("burst", "is for algorithm gcra alone")
	}
	if s.Limit < 1 || s.Window < minWindow || s.Window > maxWindow || s.Burst < 0 {
		return
	}
	m := measureOf(s)
	most := int64(exact / 4)
	if m.algorithm != Fixed {
		most = min(most, exact/2/m.window)
	}
	if s.Limit > most {
		c.addf("limit", "is more than can be counted in such a window: at most %d", most)
	}
	if s.Algorithm == GCRA && s.Burst > most {
		c.addf("burst", "is more than can be counted in such a window: at most %d", most)
	}
}

// costs checks what requests cost: each must fit into the limit.
func (c *checker) costs(s *Spec) {
	for _, word := range slices.Sorted(maps.Keys(s.Cost)) {
		switch n := s.Cost[word]; {
		case !isOutcome(word) && !isMethod(word):
			c.addf("cost."+word, "is neither hit, miss or error, nor a method in capitals")
		case n < 0:
			c.addf("cost."+word, "is negative")
		case isMethod(word) && n == 0:
			c.addf("cost."+word, "is 0: a rule with match.method leaves a method out of a limit")
		}
	}
	if s.Limit < 1 {
		return
	}
	price := newPrice(s.Cost)
	if price.most == 0 {
		c.addf("cost", "is 0 for every request, so that nothing is limited")
	}
	most := price.most
	for _, n := range price.methods {
		most = max(most, price.times(n))
	}
	if room := s.atOnce(); most > room && room > 0 {
		c.addf("cost", "is up to %d for one request, and a client never has more than %d", most, room)
	}
}

func isOutcome(word string) bool { return word == "hit" || word == "miss" || word == "error" }

func isMethod(word string) bool {
	return word != "" && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == ""
}

// countsAs reports whether two limits count alike, so that the counts of one are those of the other.
func (m *limit) countsAs(o *limit) bool {
	return m.spec.Name == o.spec.Name && slices.Equal(m.parts, o.parts) && m.measure == o.measure && m.table.max == o.table.max
}

// atOnce is how many tokens a client can have at the most.
func (s *Spec) atOnce() int64 {
	if s.Algorithm == GCRA && s.Burst > 0 {
		return s.Burst
	}
	return s.Limit
}

// measureOf puts the numbers of a spec in ticks. A tick is a microsecond, unless the numbers become too large for that, and a millisecond
// where Redis expires a key. The window is one that is long enough.
func measureOf(s *Spec) measure {
	m := measure{algorithm: s.Algorithm, limit: s.Limit, burst: s.atOnce(), tick: 1}
	if m.algorithm == "" {
		m.algorithm = Fixed
	}
	if m.algorithm == Fixed || max(m.limit, m.burst) > exact/2/s.Window.Microseconds() {
		m.tick = 1000
	}
	m.window = s.Window.Microseconds() / m.tick
	return m
}

// limit is a Spec made ready.
type limit struct {
	limiter *Limiter
	spec    Spec
	measure
	parts   []part
	price   price
	status  int
	table   *table
	fields  fields
	lease   int64 // tokens in a lease, at the most; 1 = none
	life    int64 // of a lease, in microseconds
	counts  counts
	busy    *busiest
	exempt  map[string]bool // keys
	dynamic bool            // what a request costs is known only when it is answered
	arguments
}

func newLimit(l *Limiter, s *Spec) *limit {
	one := &limit{limiter: l, spec: *s, measure: measureOf(s), price: newPrice(s.Cost), status: s.Status, lease: 1}
	if one.status == 0 {
		one.status = http.StatusTooManyRequests
	}
	key := s.Key
	if key == nil {
		key = []string{"client"}
	}
	for _, text := range key {
		p, _ := parsePart(text) // checked
		p.secret = p.secret || p.kind == byHeader && slices.ContainsFunc(s.Secret, func(name string) bool { return strings.EqualFold(name, p.name) })
		one.parts = append(one.parts, p)
	}
	if s.Accuracy != Exact && l.opt.Redis != nil {
		one.lease = max(1, one.burst/leaseShare)
	}
	one.life = leaseLife.Microseconds()
	if one.algorithm != Fixed {
		one.life = min(one.life, s.Window.Microseconds()/10)
	}
	one.exempt = map[string]bool{}
	for _, k := range s.ExemptKeys {
		one.exempt[k] = true
	}
	one.dynamic = one.price.varies()
	one.table, one.busy = newTable(s.MaxClients), new(busiest)
	one.fields = newFields(one)
	one.counts = newCounts(l.opt.Metrics, s.Name)
	one.arguments = newArguments(one)
	return one
}

func (m *limit) outage() Outage {
	if m.spec.OnOutage == "" {
		return Local
	}
	return m.spec.OnOutage
}
