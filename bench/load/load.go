// Package load sends requests for the resources of package body to an HTTP server, and says how long it took to answer and whether it was right.
//
// It is for what wrk and h2load cannot do. In an open loop the requests come at times that do not depend on the answers, as those of many clients do,
// and latency counts from the time that a request was scheduled for: one that waits because the server keeps every connection busy has waited for the
// server. (A closed loop sends the next request when the last is answered, so a server that stalls is asked less while it does, and its stall is seen
// once per connection: what Gil Tene called coordinated omission.) Keys are drawn by Zipf's law, as those of the web are, or are all different.
// Bodies are compared with what they must be.
//
// One thread does it all, around package poll: it costs a few microseconds per request, and what it costs is in the Result. It is made for a core of
// its own.
package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"cacheproxy/bench/body"
)

// Spec says what to send.
type Spec struct {
	// Addr is HOST:PORT, which is refused unless all addresses of HOST are loopback.
	Addr string `json:"addr"`
	// AllowRemote lets Addr be anywhere. Mind whose it is.
	AllowRemote bool `json:"allow_remote,omitempty"`
	// Host is the field Host. Empty = Addr.
	Host string `json:"host,omitempty"`
	// Header has more fields, each "Name: value". With If-None-Match, 304 is right too.
	Header []string `json:"header,omitempty"`
	// Connections is how many there are. All are open before the first request is sent, and are made again when they close. 0 = 1.
	Connections int `json:"connections"`
	// Warmup comes first. What is due in it is sent, but not counted; what goes wrong is.
	Warmup time.Duration `json:"warmup_ns,omitempty"`
	// Duration is how long requests are counted. 0 = until MaxRequests are answered.
	Duration time.Duration `json:"duration_ns,omitempty"`
	// MaxRequests ends it sooner, and is counted from the warm-up on. 0 = no limit.
	MaxRequests int64 `json:"max_requests,omitempty"`
	// Rate is that of an open loop, in requests per second over all connections. 0 = a closed loop.
	Rate float64 `json:"rate,omitempty"`
	// Poisson has an open loop's requests come independently of each other. False = evenly spaced.
	Poisson bool `json:"poisson,omitempty"`
	// Patterns are what is asked for, each as often as its weight says. At least one.
	Patterns []Pattern `json:"patterns"`
	// Check is the fraction of responses whose bodies are compared, from 0 to 1. Status and length are checked always.
	Check float64 `json:"check,omitempty"`
	// Seed makes the same requests again.
	Seed uint64 `json:"seed"`
	// Finish has a closed loop end when all that was sent by then has been answered, and count it: so each request that the server has worked for counts.
	// Elapsed is longer for that. False = what is on its way when the time is over is not counted.
	Finish bool `json:"finish,omitempty"`
	// Timeout is how long a server may take to answer a request that was sent. 0 = 10 s.
	Timeout time.Duration `json:"timeout_ns,omitempty"`
	// Spin is how long before a request of an open loop is due the thread keeps awake, for a machine that wakes it late: OpenLoop.Oversleep. In a closed loop
	// any of it keeps the thread awake all the time: a server that is slower than its client need not wake it then, which is dear on a virtual machine. It
	// costs CPU time, which whoever shares the core lacks. 0 = it sleeps.
	Spin time.Duration `json:"spin_ns,omitempty"`
	// Alone says that this process does nothing else meanwhile, which makes requests cheaper, above all those that come seldom: poll.Poller.
	Alone bool `json:"-"`
}

// Pattern is a set of resources of a size, and how they are drawn.
type Pattern struct {
	// Weight is the share of requests, by the sum of all weights. 0 = 1.
	Weight float64   `json:"weight,omitempty"`
	Kind   body.Kind `json:"kind"`
	Size   int       `json:"size"`
	// Keys is how many resources there are: of the IDs FirstID, FirstID+1, and so on. 0 = 1.
	Keys    uint64 `json:"keys,omitempty"`
	FirstID uint64 `json:"first_id,omitempty"`
	// Zipf is the exponent of Zipf's law: the resource of rank k, with the ID FirstID+k-1, is drawn in proportion to 1/k^Zipf. 0 = all alike.
	Zipf float64 `json:"zipf,omitempty"`
	// Unique asks for FirstID, FirstID+1, and so on without end, each once; Keys and Zipf say nothing then.
	Unique bool `json:"unique,omitempty"`
}

const (
	defaultTimeout = 10 * time.Second
	maxConnections = 16384
)

// prepare checks the spec and returns it with its defaults.
func (s Spec) prepare() (Spec, error) {
	if s.Host == "" {
		s.Host = s.Addr
	}
	if s.Connections == 0 {
		s.Connections = 1
	}
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	switch {
	case s.Connections < 1 || s.Connections > maxConnections:
		return s, fmt.Errorf("load: %d connections: there are from 1 to %d", s.Connections, maxConnections)
	case s.Duration < 0 || s.Warmup < 0 || s.MaxRequests < 0 || s.Timeout < 0 || s.Rate < 0 || s.Spin < 0:
		return s, errors.New("load: a duration, a rate or a number of requests is negative")
	case s.Duration == 0 && s.MaxRequests == 0:
		return s, errors.New("load: neither a duration nor a number of requests ends it")
	case s.Finish && s.Rate > 0:
		return s, errors.New("load: an open loop does not wait for what is on its way at its end")
	case !(s.Rate <= 1e8):
		return s, errors.New("load: a rate of more than 1e8")
	case !(s.Check >= 0 && s.Check <= 1):
		return s, fmt.Errorf("load: a fraction of %v is checked: it is from 0 to 1", s.Check)
	case len(s.Patterns) == 0:
		return s, errors.New("load: no pattern says what to ask for")
	case !httpguts.ValidHostHeader(s.Host):
		return s, fmt.Errorf("load: %.100q is not a host", s.Host)
	}
	for _, line := range s.Header {
		name, value, found := strings.Cut(line, ":")
		if !found || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return s, fmt.Errorf("load: field %.100q is not Name: value", line)
		}
	}
	s.Patterns = append([]Pattern(nil), s.Patterns...) // the caller's stay as they are
	for i := range s.Patterns {
		if err := s.Patterns[i].prepare(); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (p *Pattern) prepare() error {
	if p.Weight == 0 {
		p.Weight = 1
	}
	if p.Keys == 0 {
		p.Keys = 1
	}
	if _, err := body.Parse(body.Resource{Kind: p.Kind, Size: p.Size}.Path()); err != nil {
		return fmt.Errorf("load: pattern: %w", err)
	}
	if !(p.Weight > 0 && p.Weight < 1e12) || !(p.Zipf >= 0 && p.Zipf <= 10) || p.Keys > 1<<48 {
		return fmt.Errorf("load: pattern %+v: a weight is positive, an exponent from 0 to 10, and there are at most 2^48 keys", *p)
	}
	return nil
}

// Describe says in one line what will be sent, for whoever starts it.
func (s Spec) Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "to %s over %d connections", s.Addr, max(1, s.Connections))
	if s.Rate == 0 {
		b.WriteString(", closed loop")
	} else {
		fmt.Fprintf(&b, ", open loop of %g requests/s", s.Rate)
		if s.Poisson {
			b.WriteString(" (Poisson)")
		}
	}
	for _, p := range s.Patterns {
		fmt.Fprintf(&b, ", %s", p)
	}
	if s.Duration > 0 {
		fmt.Fprintf(&b, ", for %s after %s", s.Duration, s.Warmup)
	}
	most := s.MaxRequests
	if scheduled := int64(s.Rate * (s.Warmup + s.Duration).Seconds()); scheduled > 0 && s.Duration > 0 && (most == 0 || scheduled < most) {
		fmt.Fprintf(&b, ", about %d requests", scheduled)
	} else if most > 0 {
		fmt.Fprintf(&b, ", at most %d requests", most)
	} else {
		b.WriteString(", as many requests as are answered")
	}
	return b.String()
}

// String is a pattern in words.
func (p Pattern) String() string {
	what := fmt.Sprintf("%d keys", max(1, p.Keys))
	switch {
	case p.Unique:
		what = "another key each"
	case p.Zipf > 0:
		what += fmt.Sprintf(" by Zipf %g", p.Zipf)
	}
	return fmt.Sprintf("/%s/%d/ (%s from %d, weight %g)", p.Kind, p.Size, what, p.FirstID, max(p.Weight, 0))
}

// Run sends what the spec says, until it is done or ctx is. What goes wrong between it and the server is in the Result; an error is that it could not
// begin.
func Run(ctx context.Context, spec Spec) (*Result, error) {
	spec, err := spec.prepare()
	if err != nil {
		return nil, err
	}
	addr, err := resolve(ctx, lookup, spec.Addr, spec.AllowRemote)
	if err != nil {
		return nil, err
	}
	r, err := newRunner(spec, addr)
	if err != nil {
		return nil, err
	}
	return r.run(ctx)
}

// Stampede opens the connections of the spec, sends the same request on each of them at the same moment, and waits for all responses, whose bodies are
// checked. What the spec says besides of what is sent, and when, does not count.
func Stampede(ctx context.Context, spec Spec, resource body.Resource) (*Result, error) {
	spec.MaxRequests = int64(max(1, spec.Connections))
	spec.Rate, spec.Warmup, spec.Duration, spec.Check = 0, 0, 0, 1
	spec.Patterns = []Pattern{{Kind: resource.Kind, Size: resource.Size, FirstID: resource.ID}}
	return Run(ctx, spec)
}

// Warm asks for every resource of a pattern once, and checks it. Of the spec, the first pattern counts, and neither rate nor duration does.
func Warm(ctx context.Context, spec Spec) (*Result, error) {
	if len(spec.Patterns) == 0 {
		return nil, errors.New("load: no pattern says what to ask for")
	}
	p := spec.Patterns[0]
	spec.MaxRequests = int64(max(1, p.Keys))
	spec.Rate, spec.Warmup, spec.Duration, spec.Check = 0, 0, 0, 1
	spec.Connections = int(min(int64(max(1, spec.Connections)), spec.MaxRequests))
	p.Unique = true
	spec.Patterns = []Pattern{p}
	return Run(ctx, spec)
}
