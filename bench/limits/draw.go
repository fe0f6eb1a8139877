package main

import (
	"fmt"
	"image/color"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"cacheproxy/limiter"
)

// A picture is 720 by 320 pixels of CSS, on white, so that it is seen on dark pages too.
const (
	width, height = vg.Length(540), vg.Length(240) // points
	margin        = vg.Length(6)
)

// The colours are of Okabe and Ito, who chose them so that nearly everybody tells them apart; they differ in brightness too.
var (
	black  = color.RGBA{A: 255}
	grey   = color.RGBA{110, 110, 110, 255}
	pale   = color.RGBA{225, 225, 225, 255}
	blue   = color.RGBA{0, 114, 178, 255}
	orange = color.RGBA{240, 180, 80, 255}
)

// picture is two plots over the same axis.
type picture struct{ upper, lower *plot.Plot }

func (p *picture) draw(c draw.Canvas) {
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	tiles := draw.Tiles{Rows: 2, Cols: 1, PadTop: margin, PadBottom: margin, PadLeft: margin, PadRight: 2 * margin, PadY: margin}
	rows := [][]*plot.Plot{{p.upper}, {p.lower}}
	for i, row := range plot.Align(rows, tiles, c) {
		rows[i][0].Draw(row[0])
	}
}

// picture draws what a limit made of the traffic.
func (c *curve) picture() *picture {
	upper, lower := panel("admitted, last 10 s"), panel("each 0.5 s")
	lower.X.Label.Text = "seconds"
	for _, p := range []*plot.Plot{upper, lower} {
		p.X.Min, p.X.Max = 0, length.Seconds()
		p.X.Tick.Marker = every(5)
	}
	upper.Y.Max, upper.Y.Tick.Marker = 220, every(50)
	lower.Y.Max, lower.Y.Tick.Marker = 30, every(10)

	for _, end := range c.ends {
		if end > length {
			break
		}
		upper.Add(line(pale, 1, nil, plotter.XYs{{X: end.Seconds(), Y: 0}, {X: end.Seconds(), Y: upper.Y.Max}}))
		lower.Add(line(pale, 1, nil, plotter.XYs{{X: end.Seconds(), Y: 0}, {X: end.Seconds(), Y: lower.Y.Max}}))
	}
	last, peak := plotter.XYs{{X: 0, Y: 0}}, plotter.XY{}
	var all, admitted steps
	for at := bin; at <= length; at += bin {
		_, n := c.between(at-window, at)
		one := plotter.XY{X: at.Seconds(), Y: float64(n)}
		last = through(last, one)
		if one.Y > peak.Y {
			peak = one
		}
		n, m := c.between(at-bin, at)
		all.add((at - bin).Seconds(), at.Seconds(), n)
		admitted.add((at - bin).Seconds(), at.Seconds(), m)
	}
	upper.Add(
		line(grey, 1, []vg.Length{4, 3}, plotter.XYs{{X: 0, Y: limit}, {X: length.Seconds(), Y: limit}}),
		line(blue, 2, nil, last),
		label(grey, draw.XLeft, plotter.XY{X: 0.5, Y: limit + 8}, "limit"),
		label(blue, draw.XCenter, plotter.XY{X: peak.X, Y: peak.Y + 8}, strconv.Itoa(int(peak.Y))),
	)
	lower.Add(all.area(orange), admitted.area(blue))
	legend(lower, "admitted", blue)
	legend(lower, "refused", orange)
	lower.Legend.XOffs = 6
	upper.Title.Text = c.title()
	return &picture{upper, lower}
}

func (c *curve) title() string {
	text := fmt.Sprintf("%s: %d in %.0f s", c.spec.Algorithm, limit, window.Seconds())
	switch c.spec.Algorithm {
	case limiter.Fixed:
		text += "; a window ends at each upright line"
	case limiter.GCRA:
		text += fmt.Sprintf(", at most %d at once", c.spec.Burst)
	}
	return text
}

// picture draws what leases ask of Redis.
func (s sharing) picture() *picture {
	upper, lower := panel("tokens"), panel("questions")
	upper.Title.Text = fmt.Sprintf("%d replicas share a limit of %d: leased beside exact", replicas, sharedLimit)
	lower.X.Label.Text = "requests"
	for _, p := range []*plot.Plot{upper, lower} {
		p.X.Min, p.X.Max = 0, sharedAsked
		p.X.Tick.Marker = every(50)
		p.Y.Max, p.Y.Tick.Marker = sharedLimit, every(100)
	}
	of := map[limiter.Accuracy]color.Color{limiter.Exact: orange, limiter.Leased: blue}
	for _, accuracy := range []limiter.Accuracy{limiter.Exact, limiter.Leased} {
		left, asked := plotter.XYs{{X: 0, Y: sharedLimit}}, plotter.XYs{{X: 0, Y: 0}}
		for n, one := range s[accuracy] {
			left = through(left, plotter.XY{X: float64(n + 1), Y: float64(one.left)})
			asked = through(asked, plotter.XY{X: float64(n + 1), Y: float64(one.asked)})
		}
		upper.Add(line(of[accuracy], 2, nil, left))
		lower.Add(line(of[accuracy], 2, nil, asked))
		legend(upper, "left in Redis, "+string(accuracy), of[accuracy])
		end := s.asked(accuracy)
		lower.Add(label(black, draw.XRight, plotter.XY{X: sharedAsked - 2, Y: float64(end) + 12}, strconv.Itoa(end)))
		legend(lower, "asked of Redis, "+string(accuracy), of[accuracy])
	}
	upper.Legend.XOffs, lower.Legend.XOffs, lower.Y.Max = 350, 6, sharedLimit+60
	return &picture{upper, lower}
}

// panel is an empty plot.
func panel(y string) *plot.Plot {
	p := plot.New()
	size := func(f *font.Font, points vg.Length) { f.Typeface, f.Variant, f.Size = "Liberation", "Sans", points }
	size(&p.Title.TextStyle.Font, 10)
	p.Title.Padding = 4
	p.Y.Label.Text = y
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		size(&axis.Label.TextStyle.Font, 9)
		size(&axis.Tick.Label.Font, 8)
		axis.Padding, axis.Tick.Length = 0, 3
	}
	size(&p.Legend.TextStyle.Font, 9)
	// The text is to the right of the colour, so that it may be wider in another font.
	p.Legend.Top, p.Legend.Left, p.Legend.ThumbnailWidth, p.Legend.Padding = true, true, 10, 2
	p.Y.Min = 0
	return p
}

// every has an axis marked at the multiples of a number.
func every(n float64) plot.Ticker {
	return plot.TickerFunc(func(low, high float64) (ticks []plot.Tick) {
		for at := low; at <= high; at += n {
			ticks = append(ticks, plot.Tick{Value: at, Label: strconv.Itoa(int(at))})
		}
		return ticks
	})
}

// through adds a point to a line, in the place of the last one where that lies on the way.
func through(all plotter.XYs, next plotter.XY) plotter.XYs {
	if n := len(all); n > 1 && (next.Y-all[n-1].Y)*(all[n-1].X-all[n-2].X) == (all[n-1].Y-all[n-2].Y)*(next.X-all[n-1].X) {
		all = all[:n-1]
	}
	return append(all, next)
}

func line(of color.Color, wide vg.Length, dashes []vg.Length, points plotter.XYs) plot.Plotter {
	return &plotter.Line{XYs: points, LineStyle: draw.LineStyle{Color: of, Width: wide, Dashes: dashes}}
}

func label(of color.Color, align text.XAlignment, at plotter.XY, says string) plot.Plotter {
	style := text.Style{Color: of, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: 9}, XAlign: align, Handler: plot.DefaultTextHandler}
	return &plotter.Labels{XYs: plotter.XYs{at}, Labels: []string{says}, TextStyle: []text.Style{style}}
}

func legend(p *plot.Plot, says string, of color.Color) {
	p.Legend.Add(says, &plotter.Polygon{Color: of})
}

// steps are points of a line that goes only up, down and to the right.
type steps plotter.XYs

// add goes on at a height from one place to another.
func (s *steps) add(from, to float64, height int) {
	y := float64(height)
	if n := len(*s); n > 1 && (*s)[n-1].Y == y {
		(*s)[n-1].X = to
		return
	}
	*s = append(*s, plotter.XY{X: from, Y: y}, plotter.XY{X: to, Y: y})
}

// area is what is below.
func (s steps) area(of color.Color) plot.Plotter {
	closed := append(plotter.XYs{{X: s[0].X, Y: 0}}, s...)
	closed = append(closed, plotter.XY{X: s[len(s)-1].X, Y: 0})
	return &plotter.Polygon{XYs: []plotter.XYs{closed}, Color: of}
}
