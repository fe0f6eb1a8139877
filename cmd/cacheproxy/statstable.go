package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"cacheproxy/cmd/cacheproxy/internal/stats"
)

// A table has a column for each number that one looks at in trouble, in groups under a heading. The rightmost are the first to be
// left out where a terminal is too narrow.

type statsColumn struct {
	group, name string
	width       int
	text        func(*stats.Interval) string
}

var statsColumns = []statsColumn{
	{"", "time", 8, func(i *stats.Interval) string { return i.Time.Local().Format("15:04:05") }},
	{"requests", "req/s", 6, func(i *stats.Interval) string { return shortCount(i.Requests) }},
	{"requests", "hit%", 4, func(i *stats.Interval) string { return percent(i.HitRatio) }},
	{"requests", "near%", 5, func(i *stats.Interval) string { return percent(i.NearRatio) }},
	{"requests", "redis%", 6, func(i *stats.Interval) string { return percent(i.FarRatio) }},
	{"requests", "stale", 5, func(i *stats.Interval) string { return shortCount(i.Stale) }},
	{"requests", "coll", 5, func(i *stats.Interval) string { return shortCount(i.Collapsed) }},
	{"requests", "err", 5, func(i *stats.Interval) string { return shortCount(i.Errors) }},
	{"requests", "p50", 6, func(i *stats.Interval) string { return seconds(i.P50) }},
	{"requests", "p99", 6, func(i *stats.Interval) string { return seconds(i.P99) }},
	{"upstream", "req/s", 6, func(i *stats.Interval) string { return shortCount(i.Upstream) }},
	{"upstream", "p50", 6, func(i *stats.Interval) string { return seconds(i.UpstreamP50) }},
	{"upstream", "p99", 6, func(i *stats.Interval) string { return seconds(i.UpstreamP99) }},
	{"upstream", "err", 5, func(i *stats.Interval) string { return shortCount(i.UpstreamErrors) }},
	{"redis", "ops", 6, func(i *stats.Interval) string { return shortCount(i.Redis) }},
	{"redis", "err", 5, func(i *stats.Interval) string { return shortCount(i.RedisErrors) }},
	{"redis", "breaker", 9, func(i *stats.Interval) string { return worst(i.Breakers) }},
	{"near", "size", 5, func(i *stats.Interval) string { return shortBytes(i.NearBytes) }},
	{"near", "entries", 7, func(i *stats.Interval) string { return shortCount(i.NearEntries) }},
	{"near", "evict", 5, func(i *stats.Interval) string { return shortCount(i.NearEvictions) }},
	{"saves", "kept", 5, func(i *stats.Interval) string { return shortCount(i.Saves["ok"] + i.Saves["near-only"]) }},
	{"saves", "lost", 5, func(i *stats.Interval) string {
		return shortCount(i.Saves["dropped-full"] + i.Saves["dropped-slow"] + i.Saves["error"])
	}},
	{"clients", "conns", 6, func(i *stats.Interval) string { return shortCount(i.Connections) }},
	{"clients", "faults", 6, func(i *stats.Interval) string { return shortCount(i.Faults) }},
	{"process", "gorout", 6, func(i *stats.Interval) string { return shortCount(i.Goroutines) }},
	{"process", "cpu%", 4, func(i *stats.Interval) string {
		return optional(i.CPU, func(p float64) string { return fmt.Sprintf("%.0f", p) })
	}},
	{"process", "rss", 5, func(i *stats.Interval) string { return optional(i.Resident, shortBytes) }},
}

// statsTable prints intervals. The headings stand once, and on a terminal again on every screen.
type statsTable struct {
	out     io.Writer
	columns []statsColumn
	screen  int // lines between headings; 0 = never again
	lines   int
}

func newStatsTable(out io.Writer) *statsTable {
	where := terminalOf(out)
	t := &statsTable{out: out, columns: fitting(statsColumns, where.width)}
	if where.height > 4 {
		t.screen = where.height - 3 // the headings are two, the cursor's line is one
	}
	return t
}

// fitting leaves out what does not fit into width; 0 = any.
func fitting(columns []statsColumn, width int) []statsColumn {
	used := -1
	for n, c := range columns {
		if used += 1 + c.width; width > 0 && used > width {
			return columns[:n]
		}
	}
	return columns
}

func (t *statsTable) print(i *stats.Interval) error {
	var text strings.Builder
	if t.lines == 0 || t.screen > 0 && t.lines%t.screen == 0 {
		t.headings(&text)
	}
	t.lines++
	t.row(&text, func(c statsColumn) string { return c.text(i) })
	_, err := io.WriteString(t.out, text.String())
	return err
}

// headings writes the names of the columns under those of their groups, which begin where their first column does.
func (t *statsTable) headings(text *strings.Builder) {
	var groups strings.Builder
	at, last := 0, ""
	for _, c := range t.columns {
		if c.group != last {
			fmt.Fprintf(&groups, "%s%s", strings.Repeat(" ", max(0, at-groups.Len())), c.group)
			last = c.group
		}
		at += c.width + 1
	}
	text.WriteString(groups.String() + "\n")
	t.row(text, func(c statsColumn) string { return c.name })
}

func (t *statsTable) row(text *strings.Builder, cell func(statsColumn) string) {
	for n, c := range t.columns {
		if n > 0 {
			text.WriteByte(' ')
		}
		content := cell(c)
		text.WriteString(strings.Repeat(" ", max(0, c.width-utf8.RuneCountInString(content))) + content)
	}
	text.WriteByte('\n')
}

// optional is a hyphen where there is nothing to tell of.
func optional(value *float64, text func(float64) string) string {
	if value == nil {
		return "-"
	}
	return text(*value)
}

func seconds(value *float64) string { return optional(value, shortSeconds) }

// percent rounds down, so that 100 is all of them.
func percent(ratio *float64) string {
	return optional(ratio, func(r float64) string { return fmt.Sprintf("%d", int(100*r+1e-9)) })
}

// worst is the state of the breaker that is furthest from closed.
func worst(breakers map[string]string) string {
	state := "-"
	for _, s := range breakers {
		if s == "open" || s == "half-open" && state != "open" || state == "-" {
			state = s
		}
	}
	return state
}
