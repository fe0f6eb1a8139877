package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// results is all that one contest has found out. It is kept as results.json; tables and plots are made of it and of nothing else.
type results struct {
	Begun       time.Time     `json:"begun"`
	Took        float64       `json:"took_seconds"`
	Quick       bool          `json:"quick"`
	Partial     bool          `json:"partial,omitempty"` // some scenarios or contestants were left out, or it was interrupted
	Each        float64       `json:"measurement_seconds"`
	Machine     machine       `json:"machine"`
	Tools       []program     `json:"tools"` // generators and what else matters
	Contestants []participant `json:"contestants"`
	Scenarios   []outcome     `json:"scenarios"`
}

// participant is a contestant as it was, or why it was not there.
type participant struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Absent  string `json:"absent,omitempty"`
}

type program struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// outcome is what came of one scenario.
type outcome struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	AskedBy string `json:"asked_by,omitempty"`
	Hits    bool   `json:"hits"` // all should come from the cache
	Rows    []row  `json:"rows"`
}

// row is one contestant in a scenario.
type row struct {
	Contestant string  `json:"contestant"`
	Variant    string  `json:"variant,omitempty"` // the features that are on
	Offered    float64 `json:"offered_rps,omitempty"`
	Lacks      string  `json:"lacks,omitempty"` // why it was not measured
	Rounds     []round `json:"rounds,omitempty"`
	Head       string  `json:"head,omitempty"` // of one response, as it came
}

// label names the row within its scenario.
func (r *row) label() string {
	if r.Variant == "" {
		return r.Contestant
	}
	return r.Contestant + ", " + r.Variant
}

// at is the label, with the rate.
func (r *row) at() string {
	if r.Offered == 0 {
		return r.label()
	}
	return r.label() + " at " + thousands(r.Offered)
}

// round is one measurement.
type round struct {
	Number    int              `json:"round"` // rounds of one number were measured within the same minute or so
	Requests  int64            `json:"requests"`
	Seconds   float64          `json:"seconds"`
	RPS       float64          `json:"rps"`
	Due       float64          `json:"due_rps,omitempty"` // of an open loop: what chance has made of the rate that was offered
	User      float64          `json:"user_us"`           // processor time of the server for each request, in microseconds
	System    float64          `json:"system_us"`
	Redis     float64          `json:"redis_us,omitempty"`  // the same of its Redis, which is elsewhere
	Disturbed float64          `json:"disturbed,omitempty"` // share of a processor that something else on this machine has taken
	Pace      []float64        `json:"pace_us,omitempty"`   // of a gauge's pieces meanwhile, on the server's processor and another: a quarter of them took less
	Slowed    float64          `json:"-"`                   // share of the server's processor's time that was not there, by that and the best tenth of all rounds
	Again     []string         `json:"again,omitempty"`     // why attempts before this one did not count
	Generator float64          `json:"generator_busy"`
	Latency   latency          `json:"latency_us"`
	HDR       string           `json:"hdr,omitempty"`             // all latencies, in microseconds, as HdrHistogram writes them: V2, compressed, base64
	HitP99    float64          `json:"hit_p99_us,omitempty"`      // of an open loop's mix: of those that are hits
	Delay     float64          `json:"origin_delay_us,omitempty"` // how long the origin waited for its processor, for each request that it had
	Oversleep float64          `json:"oversleep_us,omitempty"`    // of 100 requests of an open loop 99 were sent at most so much late by the generator's doing
	Memory    int64            `json:"memory_bytes"`              // at the end, what is kept on tmpfs included
	Hits      *int64           `json:"own_hits,omitempty"`        // by its own counter
	Upstream  int64            `json:"upstream_requests"`
	Checked   int64            `json:"checked"` // responses whose whole bodies were compared
	Errors    map[string]int64 `json:"errors,omitempty"`
	Void      string           `json:"void,omitempty"`     // why this does not count
	Start     float64          `json:"start_ms,omitempty"` // of a restart: until the first answer
}

func (r *round) cpu() float64 { return r.User + r.System }

// busy is the share of its processor that a server had to do with what was asked, while it was asked.
func (r *round) busy() float64 { return min(1, r.RPS*r.cpu()/1e6) }

// latency is in microseconds.
type latency struct {
	P50  float64 `json:"p50"`
	P75  float64 `json:"p75"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// fewest is how many undisturbed rounds are enough to go without the others.
const fewest = 3

// chosen are the rounds that figures are made of: those that count, without the disturbed ones where there are enough others. quiet is how many are
// not disturbed.
func (r *row) chosen() (all []*round, quiet int) {
	var undisturbed []*round
	for i := range r.Rounds {
		x := &r.Rounds[i]
		if x.Void != "" {
			continue
		}
		if all = append(all, x); x.trouble() <= 1 {
			undisturbed = append(undisturbed, x)
		}
	}
	if len(undisturbed) >= fewest {
		all = undisturbed
	}
	return all, len(undisturbed)
}

// over reads a figure of the chosen rounds; ok is false when half of all count or less.
func (r *row) over(figure func(*round) float64) (s spread, ok bool) {
	if n, _ := r.left(); n*2 >= len(r.Rounds) {
		return spread{}, false
	}
	chosen, quiet := r.chosen()
	all := make([]float64, 0, len(chosen))
	for _, x := range chosen {
		all = append(all, figure(x))
	}
	s, ok = spreadOf(all)
	s.Unsure = quiet < fewest
	return s, ok
}

// rounds are all that there are.
func (r *results) rounds() iter.Seq[*round] {
	return func(yield func(*round) bool) {
		for i := range r.Scenarios {
			for j := range r.Scenarios[i].Rows {
				rounds := r.Scenarios[i].Rows[j].Rounds
				for k := range rounds {
					if !yield(&rounds[k]) {
						return
					}
				}
			}
		}
	}
}

// ratio compares two rows round by round: what was measured within the same minute. ok is false when that is half of the rounds or less.
func ratio(a, b *row, figure func(*round) float64) (s spread, ok bool) {
	all, quiet := ratios(a, b, figure)
	if len(all) == 0 {
		return spread{}, false
	}
	s, ok = spreadOf(all)
	s.Unsure, s.Doubt = quiet < fewest, 2*uncertainty(all)
	return s, ok
}

// ratios are those of the rounds in which both rows count, without those that were disturbed, or that the processor was not even in, where there are enough others; none when half or less
// count. undisturbed is how many are not disturbed.
func ratios(a, b *row, figure func(*round) float64) (all []float64, undisturbed int) {
	var quiet []float64
	both := 0
	for i := range a.Rounds {
		x := &a.Rounds[i]
		at := slices.IndexFunc(b.Rounds, func(y round) bool { return y.Number == x.Number })
		if at < 0 {
			continue
		}
		both++
		y := &b.Rounds[at]
		if x.Void != "" || y.Void != "" || figure(x) <= 0 || figure(y) <= 0 {
			continue
		}
		all = append(all, figure(x)/figure(y))
		if max(x.Disturbed, y.Disturbed) <= tolerable && even(x, y) {
			quiet = append(quiet, figure(x)/figure(y))
		}
	}
	switch {
	case len(all)*2 <= both:
		return nil, 0
	case len(quiet) >= fewest:
		return quiet, len(quiet)
	}
	return all, len(quiet)
}

// void is why a row has no figure, "" when it has one.
func (r *row) void() string {
	if _, ok := r.over((*round).cpu); ok {
		return ""
	}
	_, why := r.left()
	return why
}

// saturated reports whether a contestant did not keep up with the rate that was offered: it answered less, or half of the clients waited so long that
// they were queueing.
func (r *row) saturated() bool {
	const queueing = 50_000 // microseconds; an answer takes a hundredth of it, a miss included
	s, ok := r.over(func(x *round) float64 { return x.RPS / cmp.Or(x.Due, r.Offered) })
	waited, _ := r.over(func(x *round) float64 { return x.Latency.P50 })
	return ok && r.Offered > 0 && (s.Median < 0.97 || waited.Median > queueing)
}

// full reports whether a server was at its limit.
func (r *row) full() bool {
	s, ok := r.over((*round).busy)
	return ok && s.Median >= serverFull
}

// memory is that of a server when the first round that counts was over: later ones come after other scenarios, of which it may have kept some.
func (r *row) memory() int64 {
	for i := range r.Rounds {
		if r.Rounds[i].Void == "" {
			return r.Rounds[i].Memory
		}
	}
	return 0
}

// last is the newest round that counts; nil where none does.
func (r *row) last() *round {
	for i := len(r.Rounds) - 1; i >= 0; i-- {
		if r.Rounds[i].Void == "" {
			return &r.Rounds[i]
		}
	}
	return nil
}

// left is how many rounds do not count, and why the first of them does not.
func (r *row) left() (n int, why string) {
	for i := range r.Rounds {
		if v := r.Rounds[i].Void; v != "" {
			n, why = n+1, cmp.Or(why, v)
		}
	}
	return n, why
}

// middle is the one of the chosen rounds that has the median latency of the slowest hundredth.
func (r *row) middle() *round {
	all, _ := r.chosen()
	if len(all) == 0 {
		return &round{}
	}
	slices.SortFunc(all, func(a, b *round) int { return cmp.Compare(a.Latency.P99, b.Latency.P99) })
	return all[len(all)/2]
}

func (r *results) outcome(name string) *outcome {
	for i := range r.Scenarios {
		if r.Scenarios[i].Name == name {
			return &r.Scenarios[i]
		}
	}
	return nil
}

// plain is the row that stands for a contestant: that without features, or else its only one.
func (o *outcome) plain(contestant string) *row {
	if r := o.row(contestant); r != nil {
		return r
	}
	return o.only(contestant)
}

// row finds the one of a contestant, without features and with no rate.
func (o *outcome) row(contestant string) *row {
	for i := range o.Rows {
		if r := &o.Rows[i]; r.Contestant == contestant && r.Variant == "" && r.Offered == 0 {
			return r
		}
	}
	return nil
}

const resultsFile = "results.json"

// save writes results.json in dir, whole or not at all.
func (r *results) save(dir string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	for _, member := range []string{`{"name":`, `{"contestant":`, `{"round":`} { // a line for each scenario, row and round; in a string " is \"
		text = bytes.ReplaceAll(text, []byte(member), []byte("\n"+member))
	}
	name := filepath.Join(dir, resultsFile)
	if err := os.WriteFile(name+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

func readResults(dir string) (*results, error) {
	text, err := os.ReadFile(filepath.Join(dir, resultsFile))
	if err != nil {
		return nil, err
	}
	r := new(results)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("contest: %s: %w", filepath.Join(dir, resultsFile), err)
	}
	r.slowed()
	return r, nil
}
