package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"cacheproxy/bench/body"
	"cacheproxy/bench/load"
)

// resource is what a scenario asks for first, or always.
func (sc *scenario) resource() body.Resource { return body.Resource{Kind: sc.body, Size: sc.size} }

// warms reports whether there are keys to be asked for before.
func (sc *scenario) warms() bool { return sc.keys > 1 && sc.kind != byRestart }

// streams is how many requests a connection of HTTP/2 has at a time.
const streams = 10

// generator is what sends the requests of a scenario to an entry.
func (c *contest) generator(st *stage, sc *scenario, e *entry, rate float64) generator {
	switch sc.kind {
	case byH2load:
		if !e.s.TLS() { // as many at a time
			return wrk{e.url(sc.resource(), false), sc.connections * streams, ""}
		}
		return h2load{e.url(sc.resource(), st.tls), sc.connections, streams, c.lab.certs.openssl}
	case byWrk:
		return wrk{e.url(sc.resource(), st.tls), sc.connections, c.lab.certs.openssl}
	}
	return loadgen{c.lab.loadgen, c.spec(sc, e, rate)}
}

// awake reports whether loadgen does not sleep. Where that would take the server's time it does, and where all its requests go to the origin, with whom it
// shares a processor.
func (c *contest) awake(sc *scenario) bool {
	return c.lab.server != "" && (len(sc.rates) > 0 || sc.hits())
}

// askedBy names who asks in a scenario, as tables tell it.
func (c *contest) askedBy(sc *scenario) string {
	switch {
	case sc.kind == byWrk || sc.kind == byH2load:
		return string(sc.kind)
	case !c.awake(sc):
		return "loadgen"
	case len(sc.rates) > 0:
		return "loadgen, which is awake when a request is due"
	}
	return "loadgen, which never sleeps"
}

// spec is what loadgen is told. Of what nobody has asked for yet it gets enough to be sure.
func (c *contest) spec(sc *scenario, e *entry, rate float64) load.Spec {
	const enough = 10_000_000
	s := load.Spec{Addr: address(e.s.Port), Connections: sc.connections, Rate: rate, Poisson: true, Seed: c.lab.fresh(1), Finish: rate == 0}
	hits := load.Pattern{Kind: sc.body, Size: sc.size, Keys: sc.keys, Zipf: sc.zipf}
	if e.c.fixed { // to whom all keys are alike; net/http would make a body for each
		hits.Keys, hits.Zipf = 1, 0
	}
	misses := load.Pattern{Kind: body.Hit, Size: sc.size, Unique: true, FirstID: c.lab.fresh(enough)}
	if c.awake(sc) {
		s.Spin = 100 * time.Microsecond // where sleepers are woken late, or their waking is dear, that is not the server's doing
	}
	if sc.validate {
		s.Header = []string{"If-None-Match: " + sc.resource().ETag()}
	}
	switch {
	case sc.unique:
		s.Patterns = []load.Pattern{misses}
	case rate > 0:
		hits.Weight, misses.Weight = 90, 5
		s.Patterns = []load.Pattern{hits, misses, {Kind: body.Pass, Size: sc.size, Weight: 5}}
	default:
		s.Patterns = []load.Pattern{hits}
	}
	return s
}

// loadgen is our own generator, for what the others cannot do.
type loadgen struct {
	program string
	spec    load.Spec
}

func (g loadgen) run(ctx context.Context, processors, dir string, d time.Duration) (*run, error) {
	g.spec.Duration = d
	said, err := g.ask(ctx, processors, dir, "run")
	if err != nil {
		return nil, err
	}
	return runOf(said)
}

// ask runs it in one of its modes. It ends with 2 where requests failed, which is in what it says.
func (g loadgen) ask(ctx context.Context, processors, dir, mode string) (*load.Result, error) {
	const slowest = 2_000 // keys a second, of those that are filled
	ctx, cancel := context.WithTimeout(ctx, g.spec.Duration+time.Duration(g.spec.Patterns[0].Keys)*time.Second/slowest+patience)
	defer cancel()
	out, _, err := pinned(ctx, processors, "", g.program, arguments(&g.spec, mode)...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 2 {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	said := new(load.Result)
	if err := json.Unmarshal(out, said); err != nil {
		return nil, fmt.Errorf("contest: what loadgen says: %w", err)
	}
	return said, nil
}

// arguments are the flags of loadgen that ask for what a spec says.
func arguments(s *load.Spec, mode string) []string {
	args := []string{
		"-json", "-mode", mode, "-addr", s.Addr, "-connections", strconv.Itoa(s.Connections), "-seed", strconv.FormatUint(s.Seed, 10),
	}
	if mode == "run" {
		args = append(args, "-duration", s.Duration.String(), "-spin", s.Spin.String(), "-rate", strconv.FormatFloat(s.Rate, 'f', -1, 64), "-poisson="+strconv.FormatBool(s.Poisson), "-finish="+strconv.FormatBool(s.Finish))
	}
	for _, line := range s.Header {
		args = append(args, "-header", line)
	}
	for _, p := range s.Patterns {
		args = append(args, "-pattern", fmt.Sprintf("kind=%s,size=%d,keys=%d,first=%d,zipf=%g,weight=%g,unique=%t",
			p.Kind, p.Size, max(1, p.Keys), p.FirstID, p.Zipf, max(1, p.Weight), p.Unique))
	}
	return args
}

// runOf is what loadgen says, in the form of all generators.
func runOf(said *load.Result) (*run, error) {
	r := &run{
		Requests: said.Requests, Bytes: said.Bytes, Elapsed: said.Elapsed, Errors: map[string]int64{}, Latency: newHistogram(), Own: said.CPU,
	}
	for kind, n := range said.Errors {
		r.Errors[string(kind)] = n
	}
	if said.Open != nil {
		r.Oversleep, r.Due, r.HitP99 = said.Open.Oversleep.P99, float64(said.Open.Scheduled)/said.Elapsed.Seconds(), said.Patterns[0].Latency.P99
	}
	h, err := said.Latency.Histogram()
	if err != nil || h == nil {
		return r, err
	}
	for _, bar := range h.Distribution() {
		if bar.Count > 0 {
			us := max(1, bar.To/int64(time.Microsecond))
			if err := r.Latency.RecordValues(min(us, r.Latency.HighestTrackableValue()), bar.Count); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// warm asks for what a scenario will ask for, so that the cache has it: the one resource until it is answered rightly, or each of many once.
func (c *contest) warm(ctx context.Context, st *stage, sc *scenario, e *entry) error {
	if sc.unique || sc.kind == byStampede {
		return nil
	}
	url := e.url(sc.resource(), st.tls)
	if err := e.ready(ctx, url); err != nil {
		return fmt.Errorf("contest: it does not answer: %w", err)
	}
	if sc.keys < 2 || e.c.fixed {
		return nil
	}
	return c.fill(ctx, sc, e)
}

// fill has the cache fetch every resource of a scenario. Every body is compared.
func (c *contest) fill(ctx context.Context, sc *scenario, e *entry) error {
	s := c.spec(sc, e, 0)
	s.Connections = 32
	s.Patterns[0].Zipf = 0
	said, err := loadgen{c.lab.loadgen, s}.ask(ctx, c.lab.rest, c.lab.memory, "warm")
	if err != nil {
		return err
	}
	if n := said.Failed(); n > 0 {
		return fmt.Errorf("contest: %d of %d requests failed while it was filled: %v", n, sc.keys, said.FirstErrors)
	}
	return nil
}

// sight is what was seen of the responses that were looked at.
type sight struct {
	checked, wrong int64
	fromCache      int64 // of checked: those that say so in X-Cache
	fault, head    string
}

// lookEvery is how often somebody looks at a response beside a measurement.
const lookEvery = 50 * time.Millisecond

// watch begins to look at responses beside a measurement: it asks on a connection of its own and compares every body. What is returned ends
// it and says what was seen.
func (c *contest) watch(ctx context.Context, st *stage, sc *scenario, e *entry) func() *sight {
	ctx, cancel := context.WithCancel(ctx)
	seen, done := &sight{}, make(chan struct{})
	client := lookers(st.tls && sc.kind == byH2load && e.s.TLS())
	id := uint64(0)
	if sc.unique {
		id = c.lab.fresh(1_000_000)
	}
	go func() {
		defer close(done)
		defer client.CloseIdleConnections()
		for ctx.Err() == nil {
			r := sc.resource()
			switch {
			case e.c.fixed: // it has one body alone
			case sc.unique:
				r.ID, id = id, id+1
			case sc.keys > 1:
				r.ID, id = id%sc.keys, id+7919
			}
			seen.look(ctx, client, e.url(r, st.tls), r)
			select {
			case <-ctx.Done():
			case <-time.After(lookEvery):
			}
		}
	}()
	return func() *sight {
		cancel()
		<-done
		return seen
	}
}

// look asks once. What is cut off because the measurement is over does not count.
func (s *sight) look(ctx context.Context, client *http.Client, url string, r body.Resource) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		s.fail(err)
		return
	}
	response, err := client.Do(request)
	var got []byte
	if err == nil {
		got, err = io.ReadAll(io.LimitReader(response.Body, body.MaxSize+1))
		err = errors.Join(err, response.Body.Close())
	}
	switch {
	case ctx.Err() != nil:
		return
	case err == nil && response.StatusCode != http.StatusOK:
		err = fmt.Errorf("status %d", response.StatusCode)
	case err == nil && string(got) != string(r.AppendBody(nil)):
		err = fmt.Errorf("%d bytes, not those of the origin", len(got))
	}
	s.checked++
	if err != nil {
		s.fail(err)
		return
	}
	if strings.HasPrefix(response.Header.Get("X-Cache"), "HIT") {
		s.fromCache++
	}
	if s.checked > 1 || s.head == "" { // the second: the first may have been fetched
		s.head = headOf(response)
	}
}

func (s *sight) fail(err error) {
	if s.wrong++; s.fault == "" {
		s.fault = err.Error()
	}
}
