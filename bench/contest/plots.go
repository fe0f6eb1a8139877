package main

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"cacheproxy/bench/figure"
)

// A picture is drawn of results; the names are those of its files.
type picture struct {
	name, title string
	draw        func(*results) *figure.Figure // nil: the results have nothing to draw
}

func (p picture) has(r *results) bool { return p.draw(r) != nil }

var pictures = []picture{
	{"cost", "processor time of a request, by contestant and kind of request", drawCost},
	{"mixed", "latency of mixed traffic at fixed rates, by contestant", drawMixed},
	{"sizes", "processor time of a hit, by the size of its body", drawSizes},
	{"connections", "hits a second, by the number of connections", drawConnections},
	{"latency", "latency of hits, by percentile", drawLatency},
}

const wide = vg.Length(620) // points; of CSS 827 pixels

// hue is what a contestant is drawn in, in every picture; ours is the one that stands out.
func hue(contestant string) color.Color {
	of := map[string]color.Color{
		ours: figure.Blue, "nginx": figure.Green, "nginx+lua": figure.Green, "varnish": figure.Vermilion, "haproxy": figure.Sky, "squid": figure.Purple,
		"trafficserver": figure.Orange, "floor": figure.Grey, "net/http": figure.Grey,
	}
	if c, known := of[contestant]; known {
		return c
	}
	return figure.Black
}

// stroke tells lines of one figure apart for those who see no colours.
func stroke(contestant string) (thick vg.Length, dashes []vg.Length) {
	switch contestant {
	case ours:
		return 2.5, nil
	case "varnish", "squid":
		return 1.5, []vg.Length{5, 2}
	case "haproxy":
		return 1.5, []vg.Length{1.5, 1.5}
	case "floor":
		return 1, []vg.Length{8, 3, 1.5, 3}
	case "net/http":
		return 1, []vg.Length{3, 3}
	}
	return 1.5, nil
}

// drawCost has a panel of bars for each kind of request.
func drawCost(r *results) *figure.Figure {
	return barGrid(r, [][2]string{
		{"hit-1k-c64", "hit, 1 KB"}, {"zipf-100k", "hit, 1 KB, 100,000 keys"}, {"hit-64k", "hit, 64 KB"},
		{"not-modified", "304"}, {"tls-hit", "hit over TLS, 1 KB"}, {"http2-hit", "hit over HTTP/2, 1 KB"},
		{"pass", "passed through, 1 KB"}, {"miss", "miss, 1 KB, stored"},
	})
}

func drawSizes(r *results) *figure.Figure {
	return barGrid(r, [][2]string{{"hit-1k-c64", "1 KB"}, {"wrk-1k-c64", "1 KB, asked by wrk"}, {"hit-16k", "16 KB"}, {"hit-64k", "64 KB"}, {"hit-1m", "1 MB"}, {"wrk-1m", "1 MB, asked by wrk"}})
}

// barGrid draws scenarios, two in a row, those that were measured.
func barGrid(r *results, scenarios [][2]string) *figure.Figure {
	f := &figure.Figure{Width: wide}
	var panels []*plot.Plot
	most := 0
	for _, s := range scenarios {
		if o := r.outcome(s[0]); o != nil {
			if p, n := bars(r, o, s[1]); n > 0 {
				panels = append(panels, p)
				most = max(most, n)
			}
		}
	}
	if len(panels) < 2 {
		return nil
	}
	if len(panels)%2 == 1 {
		panels = append(panels, nil)
	}
	for pair := range slices.Chunk(panels, 2) {
		f.Plots = append(f.Plots, pair)
	}
	f.Height = vg.Length(len(f.Plots)) * vg.Length(56+14*most)
	return f
}

// bars has a bar for each contestant: the median, with a line from the least to the most of the rounds.
func bars(r *results, o *outcome, title string) (p *plot.Plot, n int) {
	type bar struct {
		name string
		s    spread
	}
	var all []bar
	for _, c := range r.Contestants {
		row := o.plain(c.Name)
		if row == nil {
			continue
		}
		if s, ok := row.over((*round).cpu); ok {
			all = append(all, bar{c.Name, s})
		}
	}
	slices.SortStableFunc(all, func(a, b bar) int { return int(math.Copysign(1, b.s.Median-a.s.Median)) }) // the least is at the top
	p = figure.Panel("")
	p.Title.Text = title
	p.X.Label.Text = "CPU microseconds a request"
	p.X.Min, p.Y.Min, p.Y.Max = 0, -0.6, float64(len(all))-0.4
	var names []plot.Tick
	if len(all) == 0 {
		return p, 0
	}
	// A value far beyond all others would leave them no room: its bar is cut, and its number says what it is.
	reach := cut(all[0].s.Median, second(len(all), func(i int) float64 { return all[i].s.Median }))
	p.X.Max = reach * 1.35
	for i, b := range all {
		y := float64(i)
		names = append(names, plot.Tick{Value: y, Label: b.name})
		end := min(b.s.Median, reach*1.1)
		p.Add(
			&plotter.Polygon{Color: hue(b.name), XYs: []plotter.XYs{{{X: 0, Y: y - 0.36}, {X: end, Y: y - 0.36}, {X: end, Y: y + 0.36}, {X: 0, Y: y + 0.36}}}},
			figure.Line(figure.Black, 1, nil, plotter.XYs{{X: min(b.s.Min, reach*1.15), Y: y}, {X: min(b.s.Max, reach*1.15), Y: y}}),
			figure.Label(figure.Black, text.XRight, plotter.XY{X: p.X.Max, Y: y - 0.22}, microseconds(b.s.Median)),
		)
	}
	p.Y.Tick.Marker = plot.ConstantTicks(names)
	p.Y.LineStyle.Width, p.Y.Tick.Length = 0, 0
	p.X.Tick.Marker = round125(5)
	return p, len(all)
}

// cut is up to where bars are drawn: the longest, unless it is more than four times the second.
func cut(longest, second float64) float64 {
	if second > 0 && longest > 4*second {
		return 2 * second
	}
	return longest
}

// second is the next to the greatest of n figures.
func second(n int, figure func(int) float64) float64 {
	var all []float64
	for i := range n {
		all = append(all, figure(i))
	}
	slices.Sort(all)
	if n < 2 {
		return 0
	}
	return all[n-2]
}

// round125 marks about n steps of 1, 2 or 5 times a power of ten.
func round125(n int) plot.Ticker {
	return plot.TickerFunc(func(low, high float64) (ticks []plot.Tick) {
		step := math.Pow(10, math.Floor(math.Log10((high-low)/float64(n))))
		for _, by := range []float64{1, 2, 5, 10} {
			if (high-low)/(step*by) <= float64(n) {
				step *= by
				break
			}
		}
		for at := math.Ceil(low/step) * step; at <= high; at += step {
			ticks = append(ticks, plot.Tick{Value: at, Label: brief(at)})
		}
		return ticks
	})
}

// brief writes a number of an axis.
func brief(f float64) string {
	switch {
	case f >= 1e6:
		return strconv.FormatFloat(f/1e6, 'f', -1, 64) + "M"
	case f >= 1e3:
		return strconv.FormatFloat(f/1e3, 'f', -1, 64) + "k"
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// decimal writes a power of ten.
func decimal(f float64) string {
	if f >= 1 {
		return thousands(f)
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// curve is a line of one contestant.
type curve struct {
	name   string
	points plotter.XYs
	hollow plotter.XYs // those of points whose dots are hollow
}

func addCurves(p *plot.Plot, all []curve, dots bool) {
	for _, c := range all {
		thick, dashes := stroke(c.name)
		l := &plotter.Line{XYs: c.points, LineStyle: draw.LineStyle{Color: hue(c.name), Width: thick, Dashes: dashes}}
		p.Add(l)
		if dots {
			p.Add(&plotter.Scatter{XYs: c.points, GlyphStyle: draw.GlyphStyle{Color: hue(c.name), Radius: 2, Shape: draw.CircleGlyph{}}})
		}
		if len(c.hollow) > 0 {
			p.Add(&plotter.Scatter{XYs: c.hollow, GlyphStyle: draw.GlyphStyle{Color: color.White, Radius: 2, Shape: draw.CircleGlyph{}}},
				&plotter.Scatter{XYs: c.hollow, GlyphStyle: draw.GlyphStyle{Color: hue(c.name), Radius: 2.5, Shape: draw.RingGlyph{}}})
		}
		p.Legend.Add(c.name, l)
	}
	p.Legend.ThumbnailWidth = 24
}

// drawMixed has the latency that clients see at each rate that is offered: p50 and p99. A line ends where its contestant does not keep up: from
// there on latency says how long the measurement was.
func drawMixed(r *results) *figure.Figure {
	o := r.outcome("mixed")
	if o == nil {
		return nil
	}
	panel := func(title string, figureOf func(*round) float64) *plot.Plot {
		p := figure.Panel("milliseconds")
		p.Title.Text, p.X.Label.Text = title, "requests a second, offered (hollow: few quiet rounds)"
		var all []curve
		for _, c := range r.Contestants {
			one := curve{name: c.Name}
			for i := range o.Rows {
				row := &o.Rows[i]
				if row.Contestant != c.Name || row.Offered == 0 {
					continue
				}
				if row.saturated() {
					break
				}
				if s, ok := row.over(figureOf); ok {
					at := plotter.XY{X: row.Offered, Y: max(s.Median, 10) / 1000}
					if one.points = append(one.points, at); s.Unsure {
						one.hollow = append(one.hollow, at)
					}
				}
			}
			if len(one.points) > 1 {
				all = append(all, one)
			}
		}
		if len(all) == 0 {
			return nil
		}
		addCurves(p, all, true)
		logarithmic(&p.Y, all)
		p.X.Min, p.X.Tick.Marker = 0, round125(6)
		return p
	}
	median, late := panel("half are faster than", func(x *round) float64 { return x.Latency.P50 }), panel("99 of 100 are faster than", func(x *round) float64 { return x.Latency.P99 })
	if median == nil || late == nil {
		return nil
	}
	return &figure.Figure{Plots: [][]*plot.Plot{{median, late}}, Width: wide, Height: 240}
}

// drawConnections has the hits a second over connections.
func drawConnections(r *results) *figure.Figure {
	p := figure.Panel("hits a second")
	p.X.Label.Text = "connections (hollow: limited by who asks)"
	one, many := r.outcome("hit-1k-c1"), r.outcome("hit-1k-c64")
	if one != nil && many != nil && one.AskedBy != many.AskedBy {
		p.X.Label.Text = fmt.Sprintf("connections (1: asked by %s, others not; hollow: limited by who asks)", one.AskedBy)
	}
	var all []curve
	var ticks plot.ConstantTicks
	numbers := []int{1, 16, 64, 256, 1024}
	for _, n := range numbers { // their logarithms, rather than plot.LogScale, which makes room for the name of the axis where it is not
		ticks = append(ticks, plot.Tick{Value: math.Log2(float64(n)), Label: thousands(float64(n))})
	}
	for _, c := range r.Contestants {
		one := curve{name: c.Name}
		for _, n := range numbers {
			if o := r.outcome("hit-1k-c" + strconv.Itoa(n)); o != nil {
				if row := o.row(c.Name); row != nil {
					if s, ok := row.over(func(x *round) float64 { return x.RPS }); ok {
						at := plotter.XY{X: math.Log2(float64(n)), Y: s.Median}
						if one.points = append(one.points, at); !row.full() {
							one.hollow = append(one.hollow, at)
						}
					}
				}
			}
		}
		if len(one.points) > 2 {
			all = append(all, one)
		}
	}
	if len(all) == 0 {
		return nil
	}
	addCurves(p, all, true)
	p.X.Tick.Marker = ticks
	p.Y.Tick.Marker = round125(6)
	return &figure.Figure{Plots: [][]*plot.Plot{{p}}, Width: wide, Height: 260}
}

// drawLatency has the percentiles of hits, from the median on; each step to the right leaves a tenth as many requests.
func drawLatency(r *results) *figure.Figure {
	o := r.outcome("hit-1k-c64")
	if o == nil {
		return nil
	}
	p := figure.Panel("milliseconds")
	p.X.Label.Text = "of 100 hits so many are faster (1 KB, 64 connections)"
	var all []curve
	for _, c := range r.Contestants {
		if row := o.row(c.Name); row != nil && len(row.Rounds) > 0 && row.void() == "" {
			one := curve{name: c.Name}
			for _, at := range row.middle().curve() {
				if at[0] < 99.95 {
					one.points = append(one.points, plotter.XY{X: -math.Log10(1 - at[0]/100), Y: max(at[1], 10) / 1000})
				}
			}
			if len(one.points) > 1 {
				all = append(all, one)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	addCurves(p, all, false)
	logarithmic(&p.Y, all)
	p.X.Tick.Marker = plot.ConstantTicks([]plot.Tick{{Value: -math.Log10(0.5), Label: "50"}, {Value: 1, Label: "90"}, {Value: 2, Label: "99"}, {Value: 3, Label: "99.9"}})
	return &figure.Figure{Plots: [][]*plot.Plot{{p}}, Width: wide, Height: 260}
}

// logarithmic has an axis of whole powers of ten, as many as curves need.
func logarithmic(a *plot.Axis, all []curve) {
	least, most := math.Inf(1), math.Inf(-1)
	for _, c := range all {
		for _, at := range c.points {
			least, most = min(least, at.Y), max(most, at.Y)
		}
	}
	a.Scale = plot.LogScale{}
	a.Min, a.Max = math.Pow(10, math.Floor(math.Log10(least))), math.Pow(10, math.Ceil(math.Log10(most)))
	a.Tick.Marker = plot.TickerFunc(func(low, high float64) (ticks []plot.Tick) {
		for at := low; at <= high*1.0001; at *= 10 {
			ticks = append(ticks, plot.Tick{Value: at, Label: decimal(at)})
			for k := 2.0; k < 10 && at*k < high; k++ {
				ticks = append(ticks, plot.Tick{Value: at * k})
			}
		}
		return ticks
	})
}
