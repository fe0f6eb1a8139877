package main

import (
	"fmt"
	"image/color"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"cacheproxy/bench/figure"
	"cacheproxy/limiter"
)

// A picture is 720 by 320 pixels of CSS.
const width, height = vg.Length(540), vg.Length(240) // points

// over puts one plot over another, with the same axis.
func over(upper, lower *plot.Plot) *figure.Figure {
	return &figure.Figure{Plots: [][]*plot.Plot{{upper}, {lower}}, Width: width, Height: height}
}

// picture draws what a limit made of the traffic.
func (c *curve) picture() *figure.Figure {
	upper, lower := figure.Panel("admitted, last 10 s"), figure.Panel("each 0.5 s")
	lower.X.Label.Text = "seconds"
	for _, p := range []*plot.Plot{upper, lower} {
		p.X.Min, p.X.Max = 0, length.Seconds()
		p.X.Tick.Marker = figure.Every(5)
	}
	upper.Y.Max, upper.Y.Tick.Marker = 220, figure.Every(50)
	lower.Y.Max, lower.Y.Tick.Marker = 30, figure.Every(10)

	for _, end := range c.ends {
		if end > length {
			break
		}
		upper.Add(figure.Line(figure.Pale, 1, nil, plotter.XYs{{X: end.Seconds(), Y: 0}, {X: end.Seconds(), Y: upper.Y.Max}}))
		lower.Add(figure.Line(figure.Pale, 1, nil, plotter.XYs{{X: end.Seconds(), Y: 0}, {X: end.Seconds(), Y: lower.Y.Max}}))
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
		figure.Line(figure.Grey, 1, []vg.Length{4, 3}, plotter.XYs{{X: 0, Y: limit}, {X: length.Seconds(), Y: limit}}),
		figure.Line(figure.Blue, 2, nil, last),
		figure.Label(figure.Grey, draw.XLeft, plotter.XY{X: 0.5, Y: limit + 8}, "limit"),
		figure.Label(figure.Blue, draw.XCenter, plotter.XY{X: peak.X, Y: peak.Y + 8}, strconv.Itoa(int(peak.Y))),
	)
	lower.Add(all.area(figure.Orange), admitted.area(figure.Blue))
	figure.Legend(lower, "admitted", figure.Blue)
	figure.Legend(lower, "refused", figure.Orange)
	lower.Legend.XOffs = 6
	upper.Title.Text = c.title()
	return over(upper, lower)
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
func (s sharing) picture() *figure.Figure {
	upper, lower := figure.Panel("tokens"), figure.Panel("questions")
	upper.Title.Text = fmt.Sprintf("%d replicas share a limit of %d: leased beside exact", replicas, sharedLimit)
	lower.X.Label.Text = "requests"
	for _, p := range []*plot.Plot{upper, lower} {
		p.X.Min, p.X.Max = 0, sharedAsked
		p.X.Tick.Marker = figure.Every(50)
		p.Y.Max, p.Y.Tick.Marker = sharedLimit, figure.Every(100)
	}
	of := map[limiter.Accuracy]color.Color{limiter.Exact: figure.Orange, limiter.Leased: figure.Blue}
	for _, accuracy := range []limiter.Accuracy{limiter.Exact, limiter.Leased} {
		left, asked := plotter.XYs{{X: 0, Y: sharedLimit}}, plotter.XYs{{X: 0, Y: 0}}
		for n, one := range s[accuracy] {
			left = through(left, plotter.XY{X: float64(n + 1), Y: float64(one.left)})
			asked = through(asked, plotter.XY{X: float64(n + 1), Y: float64(one.asked)})
		}
		upper.Add(figure.Line(of[accuracy], 2, nil, left))
		lower.Add(figure.Line(of[accuracy], 2, nil, asked))
		figure.Legend(upper, "left in Redis, "+string(accuracy), of[accuracy])
		end := s.asked(accuracy)
		lower.Add(figure.Label(figure.Black, draw.XRight, plotter.XY{X: sharedAsked - 2, Y: float64(end) + 12}, strconv.Itoa(end)))
		figure.Legend(lower, "asked of Redis, "+string(accuracy), of[accuracy])
	}
	upper.Legend.XOffs, lower.Legend.XOffs, lower.Y.Max = 350, 6, sharedLimit+60
	return over(upper, lower)
}

// through adds a point to a line, in the place of the last one where that lies on the way.
func through(all plotter.XYs, next plotter.XY) plotter.XYs {
	if n := len(all); n > 1 && (next.Y-all[n-1].Y)*(all[n-1].X-all[n-2].X) == (all[n-1].Y-all[n-2].Y)*(next.X-all[n-1].X) {
		all = all[:n-1]
	}
	return append(all, next)
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
