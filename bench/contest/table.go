package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ours is who all others are compared with.
const ours = "cacheproxy"

// serverFull is the share of its processor below which a server has not been at its limit: requests a second are then those of what asked it.
const serverFull = 0.85

// markdown writes tables. What they say is of results alone.
type markdown struct {
	w   io.Writer
	r   *results
	err error
}

func (m *markdown) printf(format string, args ...any) {
	if m.err == nil {
		_, m.err = fmt.Fprintf(m.w, format, args...)
	}
}

// table writes a table; the first column is text, all others are numbers.
func (m *markdown) table(head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	m.printf("| %s |\n|---%s|\n", strings.Join(head, " | "), strings.Repeat("|---:", len(head)-1))
	for _, r := range rows {
		m.printf("| %s |\n", strings.Join(r, " | "))
	}
	m.printf("\n")
}

// page is all that a contest has found out: the README of its results.
func (m *markdown) page() error {
	m.printf("# The contest of %s\n\nMade by `make bench`", m.r.Begun.UTC().Format("2 January 2006"))
	if m.r.Quick {
		m.printf(" (`QUICK=1`: few scenarios, none of them measured longer, to be looked at and not to be quoted)")
	}
	if m.r.Partial {
		m.printf(" (a part of it)")
	}
	m.printf(" from results.json. How it is measured is in [docs/performance.md](%sdocs/performance.md).\n\n", m.up())
	m.setting()
	m.printf("\n## In short\n\n")
	m.summary()
	for _, p := range pictures {
		if p.has(m.r) {
			m.printf("![%s](%s.svg)\n\n", p.title, p.name)
		}
	}
	for i := range m.r.Scenarios {
		m.scenario(&m.r.Scenarios[i])
	}
	m.pairs("hit-1k-c64")
	m.printf("## Who answered from its cache\n\nOf one round each: requests that the contestant's own counter takes for hits, of those that were sent, and what its upstream was asked for meanwhile. " +
		"A counter may have more than were sent and answered: those that were on their way at the end, at most one for each connection or stream.\n\n")
	m.proof()
	return m.err
}

// up leads from the results to the root of the repository.
func (m *markdown) up() string {
	if m.r.Quick || m.r.Partial {
		return "../../../"
	}
	return "../../"
}

// setting is where, when and who.
func (m *markdown) setting() {
	h := &m.r.Machine
	m.printf("%s, %d processors, %s of memory, %s, Linux %s. ", h.CPU, h.Processors, bytesOf(h.Memory), h.System, h.Kernel)
	if h.Server == "" {
		m.printf("**Nothing was pinned: there is one processor alone.** ")
	} else {
		m.printf("Contestants on processor %s, everything else on %s. ", h.Server, h.Rest)
	}
	if h.Shared {
		m.printf("**The two are threads of one core, of which a generator that never sleeps takes its half: they are not to be compared with figures of whole cores.** ")
	}
	m.printf("A measurement is %g s long, two to five times that where there is more to settle, and a second by wrk and h2load; figures are the median of the rounds, with least and most of them where they differ. ", m.r.Each)
	m.printf("† stands where the server had more than %.0f %% of its processor left: requests a second are then limited by something else, the generator for the most part. Memory is what there was after the first round. %s\n\n", 100*(1-serverFull), m.disturbed())
	var absent []string
	for _, c := range m.r.Contestants {
		if c.Absent != "" {
			absent = append(absent, fmt.Sprintf("%s (%s)", c.Name, c.Absent))
			continue
		}
		m.printf("- %s\n", c.Name+": "+strings.TrimPrefix(c.Version, c.Name+" "))
	}
	for _, t := range m.r.Tools {
		m.printf("- %s: %s\n", t.Name, t.Version)
	}
	if len(absent) > 0 {
		m.printf("\nAbsent: %s.\n", strings.Join(absent, "; "))
	}
}

// disturbed says in how many measurements something else was at work, and the machine not itself.
func (m *markdown) disturbed() string {
	all, n, gauged, slow := 0, 0, 0, 0
	for x := range m.r.rounds() {
		if all++; x.Disturbed > tolerable {
			n++
		}
		if len(x.Pace) > 0 {
			gauged++
		}
		if x.Slowed > sluggish {
			slow++
		}
	}
	text := fmt.Sprintf("What was disturbed was measured again at once or in a later round, as long as there was time, and where a row has %[1]d undisturbed rounds the others are left out of its figures. Ratios are of rounds in which the machine was as fast for the one as for the other; ± is what their median is within at 95 of 100 times, by Student's t, as far as so few tell it. Where fewer than %[1]d are undisturbed, a figure or ratio is of all rounds, and has a %[2]s. Of the %[3]d measurements that are shown something else took more than %.0[4]f %% of a processor in %[5]d",
		fewest, unsure, all, 100*tolerable, n)
	if gauged > 0 {
		text += fmt.Sprintf("; in %d the server's processor was at least %.0f %% below its best", slow, 100*sluggish)
	}
	return text + "."
}

// summaryColumns are the scenarios that the short table has.
var summaryColumns = []struct{ scenario, head string }{
	{"hit-1k-c64", "hit 1 KB"}, {"wrk-1k-c64", "the same, by wrk"}, {"hit-64k", "hit 64 KB"}, {"zipf-100k", "hit, 100,000 keys"}, {"not-modified", "304"},
	{"tls-hit", "hit, TLS"}, {"http2-hit", "hit, HTTP/2"}, {"pass", "pass"}, {"miss", "miss"},
}

// short writes a table with a line for each contestant and a column for each of the summary's scenarios. What cell returns as "" is not measured; a
// contestant of whom nothing is has no line.
func (m *markdown) short(head string, name func(contestant string) string, cell func(o *outcome, r *row) string) {
	heads := []string{head}
	var outcomes []*outcome
	for _, c := range summaryColumns {
		if o := m.r.outcome(c.scenario); o != nil {
			heads, outcomes = append(heads, c.head), append(outcomes, o)
		}
	}
	var rows [][]string
	for _, c := range m.r.Contestants {
		cells, any := []string{name(c.Name)}, false
		for _, o := range outcomes {
			text := ""
			if r := o.plain(c.Name); r != nil {
				text = cell(o, r)
			}
			cells, any = append(cells, cmp.Or(text, "-")), any || text != ""
		}
		if any {
			rows = append(rows, cells)
		}
	}
	m.table(heads, rows)
}

// summary has processor time by contestant and scenario.
func (m *markdown) summary() {
	m.short("CPU us per request", func(contestant string) string { return contestant }, func(_ *outcome, r *row) string {
		if s, ok := r.over((*round).cpu); ok {
			return s.marked(microseconds)
		}
		return ""
	})
	m.printf("Processor time, user and system, that the server takes for a request, in microseconds: less is better. A dash: not measured; %s: the machine was not itself in too many rounds. "+
		"Columns are of different minutes, and of different clients: compare within a column, and by the ratios where one of two has ‡ and the other has not. "+
		"The floor answers with bytes that lie ready and reads nothing of a request but its end; it has no TLS, and is asked over plain HTTP/1.1 in those columns. "+
		"net/http is a handler of Go's own server that does no more. Both have one key alone, where others have 100,000.\n\n", unsure)
}

// ratios is what ours takes beside each of the others.
func (m *markdown) ratios() {
	m.printf("The same as ratios, each the median of those of the rounds, in which both were measured within the same minute or two, and ± what that median is within at 95 of 100 times:\n\n")
	m.short("CPU", func(contestant string) string { return ours + " to " + contestant }, func(o *outcome, r *row) string {
		if own := o.plain(ours); own != nil && own != r {
			if s, ok := ratio(own, r, (*round).cpu); ok {
				return s.withDoubt(twoDigits)
			}
		}
		return ""
	})
}

// only is the one row of a contestant in a scenario that has no other variant.
func (o *outcome) only(contestant string) (found *row) {
	for i := range o.Rows {
		if r := &o.Rows[i]; r.Contestant == contestant && r.Offered == 0 {
			if found != nil {
				return nil
			}
			found = r
		}
	}
	return found
}

// scenario writes the whole table of one.
func (m *markdown) scenario(o *outcome) {
	m.printf("## %s\n\n", o.Title)
	head := []string{"", "requests/s", "busy", "CPU us", "user + system", "CPU to " + ours, "p50 ms", "p99 ms", "p99.9 ms", "memory", "rounds"}
	offered := len(o.Rows) > 0 && o.Rows[0].Offered > 0
	if offered {
		head[1] = "answered/s of offered"
		head = append(head, "p99 ms of hits")
	}
	restart := o.Name == "restart"
	varied := !restart && slices.ContainsFunc(o.Rows, func(r row) bool { return r.Variant != "" && o.row(r.Contestant) != nil })
	if varied {
		head = append(head, "CPU to without")
	}
	if restart {
		head = append(head, "first answer ms", "asked of upstream")
	}
	inRedis := slices.ContainsFunc(o.Rows, func(r row) bool { return slices.ContainsFunc(r.Rounds, func(x round) bool { return x.Redis > 0 }) })
	if inRedis {
		head = append(head, "CPU us of its Redis", "both to "+ours)
	}
	var rows [][]string
	var notes, some, again []string
	for i := range o.Rows {
		r := &o.Rows[i]
		if why := cmp.Or(r.Lacks, r.void()); why != "" || len(r.Rounds) == 0 {
			notes = append(notes, fmt.Sprintf("%s: %s", r.at(), why))
			continue
		}
		if n, why := r.left(); n > 0 {
			some = append(some, fmt.Sprintf("%s: %d of %d rounds (%s)", r.at(), n, len(r.Rounds), why))
		}
		for k := range r.Rounds {
			for _, why := range r.Rounds[k].Again {
				again = append(again, fmt.Sprintf("%s: %s", r.at(), why))
			}
		}
		cells := m.cells(o, r, restart)
		if varied {
			cells = append(cells, toPlain(o, r))
		}
		if inRedis {
			redis, _ := r.over(func(x *round) float64 { return x.Redis })
			both, _ := o.compared(r, func(x *round) float64 { return x.cpu() + x.Redis })
			if redis.Median > 0 {
				cells = append(cells, microseconds(redis.Median), both.markedSpan(twoDigits))
			} else {
				cells = append(cells, "-", "-")
			}
		}
		rows = append(rows, cells)
	}
	if o.Name == "stampede" {
		head, rows = m.stampedes(o)
	}
	m.table(head, rows)
	if o.AskedBy != "" {
		m.printf("Asked by %s.\n\n", o.AskedBy)
	}
	if offered {
		m.oversleep(o)
	}
	if len(notes) > 0 {
		m.printf("Not measured: %s.\n\n", strings.Join(notes, "; "))
	}
	if len(some) > 0 {
		m.printf("Left out: %s.\n\n", strings.Join(some, "; "))
	}
	if len(again) > 0 {
		m.printf("Measured once more, since something was wrong: %s.\n\n", strings.Join(again, "; "))
	}
}

func (m *markdown) cells(o *outcome, r *row, restart bool) []string {
	at := func(figure func(*round) float64) float64 { s, _ := r.over(figure); return s.Median }
	rps, _ := r.over(func(x *round) float64 { return x.RPS })
	cpu, _ := r.over((*round).cpu)
	p50, _ := r.over(func(x *round) float64 { return x.Latency.P50 })
	p99, _ := r.over(func(x *round) float64 { return x.Latency.P99 })
	p999, _ := r.over(func(x *round) float64 { return x.Latency.P999 })
	busy, mark := at((*round).busy), ""
	if !r.full() && r.Offered == 0 && !restart {
		mark = "†"
	}
	asked := span(rps, thousands) + mark
	if r.Offered > 0 {
		asked += " of " + thousands(r.Offered)
	}
	compared := ""
	if s, ok := o.compared(r, (*round).cpu); ok {
		compared = s.markedSpan(twoDigits)
	}
	counted := strconv.Itoa(len(r.Rounds))
	if _, n := r.chosen(); n < min(fewest, len(r.Rounds)) {
		counted += fmt.Sprintf(" (%d quiet)", n)
	}
	cells := []string{
		r.label(), asked, fmt.Sprintf("%.0f %%", 100*busy), cpu.markedSpan(microseconds),
		microseconds(at(func(x *round) float64 { return x.User })) + " + " + microseconds(at(func(x *round) float64 { return x.System })), compared,
		span(p50, milliseconds), span(p99, milliseconds), span(p999, milliseconds), bytesOf(r.memory()), counted,
	}
	if r.Offered > 0 {
		cell := "-" // it was not told apart
		if hits, _ := r.over(func(x *round) float64 { return x.HitP99 }); hits.Median > 0 {
			cell = span(hits, milliseconds)
		}
		cells = append(cells, cell)
	}
	if restart {
		cells = append(cells, thousands(at(func(x *round) float64 { return x.Start })), thousands(at(func(x *round) float64 { return float64(x.Upstream) })))
	}
	return cells
}

// toPlain compares a row with that of the same contestant without features.
func toPlain(o *outcome, r *row) string {
	plain := o.row(r.Contestant)
	if plain == nil || r.Variant == "" {
		return ""
	}
	s, ok := ratio(r, plain, (*round).cpu)
	if !ok {
		return ""
	}
	return s.markedSpan(twoDigits)
}

func twoDigits(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

// thousands writes a whole number with commas.
func thousands(f float64) string {
	text := strconv.FormatInt(int64(math.Round(f)), 10)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// microseconds writes three digits.
func microseconds(f float64) string {
	switch {
	case f >= 100:
		return thousands(f)
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

// milliseconds writes microseconds as milliseconds.
func milliseconds(us float64) string { return microseconds(us / 1000) }

// bytesOf writes a size.
func bytesOf(n int64) string {
	switch f := float64(n); {
	case n >= 10<<30:
		return strconv.FormatFloat(f/(1<<30), 'f', 0, 64) + " GiB"
	case n >= 1<<30:
		return strconv.FormatFloat(f/(1<<30), 'f', 1, 64) + " GiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<20), 'f', 0, 64) + " MiB"
}
