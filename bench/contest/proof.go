package main

import (
	"strings"
)

// pairs compares everybody with everybody in one scenario.
func (m *markdown) pairs(name string) {
	o := m.r.outcome(name)
	if o == nil {
		return
	}
	head := []string{"CPU of row to column"}
	var rows [][]string
	for i := range o.Rows {
		a := &o.Rows[i]
		if _, ok := a.over((*round).cpu); !ok {
			continue
		}
		head = append(head, a.label())
		cells := []string{a.label()}
		for j := range o.Rows {
			if _, ok := o.Rows[j].over((*round).cpu); !ok {
				continue
			}
			cell := "-"
			if s, ok := ratio(a, &o.Rows[j], (*round).cpu); ok && i != j {
				cell = s.withDoubt(twoDigits)
			}
			cells = append(cells, cell)
		}
		rows = append(rows, cells)
	}
	m.printf("## Everybody beside everybody: %s\n\n", o.Title)
	m.table(head, rows)
}

// proof shows that hits were hits.
func (m *markdown) proof() {
	var rows [][]string
	for i := range m.r.Scenarios {
		o := &m.r.Scenarios[i]
		for j := range o.Rows {
			r := &o.Rows[j]
			x := r.last()
			if !o.Hits || x == nil {
				continue
			}
			own := "has none"
			if x.Hits != nil {
				own = thousands(float64(*x.Hits))
			}
			rows = append(rows, []string{r.label() + ", " + o.Name, own, thousands(float64(x.Requests + x.Checked)), thousands(float64(x.Upstream)), thousands(float64(x.Checked))})
		}
	}
	m.table([]string{"", "hits, own counter", "requests", "asked of upstream", "bodies compared"}, rows)
	if o := m.r.outcome("hit-1k-c64"); o != nil {
		m.printf("The head of one hit of each, as it came:\n\n")
		for i := range o.Rows {
			if r := &o.Rows[i]; r.Head != "" {
				m.printf("%s\n\n    %s\n\n", r.label(), strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(r.Head, "\r\n", "\n")), "\n", "\n    "))
			}
		}
	}
}

// oversleep says how much of latency in an open loop is the generator's.
func (m *markdown) oversleep(o *outcome) {
	var late, delay float64 // of the worst row
	for i := range o.Rows {
		if r := &o.Rows[i]; !r.saturated() {
			s, _ := r.over(func(x *round) float64 { return x.Oversleep })
			d, _ := r.over(func(x *round) float64 { return x.Delay })
			late, delay = max(late, s.Median), max(delay, d.Median)
		}
	}
	if late == 0 && delay == 0 { // nobody looked
		return
	}
	m.printf("Latency counts from when a request was due, and has in it what is not the contestants': in the worst row of those that kept up the generator sent 99 of 100 requests at most %s ms "+
		"late although a connection was free, and the origin waited %s ms for its processor, which it shares with the generator, for each request that it had.\n\n",
		milliseconds(late), milliseconds(delay))
}

// stampedes says how many of the requests of a stampede reached the upstream, and when the clients had their answers.
func (m *markdown) stampedes(o *outcome) (head []string, rows [][]string) {
	head = []string{"", "requests that reached the upstream", "half had their answer after ms", "the last after ms", "CPU us a request"}
	for i := range o.Rows {
		r := &o.Rows[i]
		if len(r.Rounds) == 0 || r.void() != "" {
			continue
		}
		upstream, _ := r.over(func(x *round) float64 { return float64(x.Upstream) })
		half, _ := r.over(func(x *round) float64 { return x.Latency.P50 })
		last, _ := r.over(func(x *round) float64 { return x.Latency.Max })
		cpu, _ := r.over((*round).cpu)
		rows = append(rows, []string{r.label(), span(upstream, thousands), milliseconds(half.Median), span(last, milliseconds), cpu.markedSpan(microseconds)})
	}
	return head, rows
}
