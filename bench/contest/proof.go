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
				cell = twoDigits(s.Median)
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
			if !o.Hits || len(r.Rounds) == 0 {
				continue
			}
			x := &r.Rounds[len(r.Rounds)-1]
			own := "has none"
			if x.Hits != nil {
				own = thousands(float64(*x.Hits))
			}
			rows = append(rows, []string{r.label() + ", " + o.Name, own, thousands(float64(x.Requests + x.Checked)), thousands(float64(x.Upstream)), thousands(float64(x.Checked))})
		}
	}
	m.table([]string{"", "hits, own counter", "requests", "asked of upstream", "bodies compared"}, rows)
	m.printf("The head of one hit of each, as it came:\n\n")
	if o := m.r.outcome("hit-1k-c64"); o != nil {
		for i := range o.Rows {
			if r := &o.Rows[i]; r.Head != "" {
				m.printf("%s\n\n    %s\n\n", r.label(), strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(r.Head, "\r\n", "\n")), "\n", "\n    "))
			}
		}
	}
}

// oversleep says how much of latency in an open loop is the generator's.
func (m *markdown) oversleep(o *outcome) {
	worst := spread{}
	for i := range o.Rows {
		if r := &o.Rows[i]; !r.saturated() {
			if s, ok := r.over(func(x *round) float64 { return x.Oversleep }); ok && s.Median > worst.Median {
				worst = s
			}
		}
	}
	m.printf("Latency counts from when a request was due. Of that up to %s ms (99 of 100 requests, the median of the rounds in the worst row of those that kept up) are the "+
		"generator's own: it was sent late although a connection was free.\n\n", milliseconds(worst.Median))
}
