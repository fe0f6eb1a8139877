// Package figure draws plots as the pages of this project show them: on white, so that they are seen on dark pages too, in colours that nearly
// everybody tells apart, as SVG whose text is text, and as PNG.
package figure

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours are of Okabe and Ito, who chose them so that nearly everybody tells them apart; they differ in brightness too.
var (
	Black     = color.RGBA{A: 255}
	Grey      = color.RGBA{110, 110, 110, 255}
	Pale      = color.RGBA{225, 225, 225, 255}
	Blue      = color.RGBA{0, 114, 178, 255}
	Orange    = color.RGBA{240, 180, 80, 255}
	Vermilion = color.RGBA{213, 94, 0, 255}
	Green     = color.RGBA{0, 158, 115, 255}
	Sky       = color.RGBA{86, 180, 233, 255}
	Purple    = color.RGBA{204, 121, 167, 255}
)

// margin is around a figure, and between its plots.
const margin = vg.Length(6)

// Figure is plots in rows and columns, those of a row of one height and those of a column with one axis below the other. A nil plot leaves its place
// empty.
type Figure struct {
	Plots         [][]*plot.Plot
	Width, Height vg.Length // points; of CSS a third more pixels
}

func (f *Figure) draw(c draw.Canvas) {
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	tiles := draw.Tiles{
		Rows: len(f.Plots), Cols: len(f.Plots[0]), PadTop: margin, PadBottom: margin, PadLeft: margin, PadRight: 2 * margin, PadX: 2 * margin, PadY: margin,
	}
	for i, row := range plot.Align(f.Plots, tiles, c) {
		for j, canvas := range row {
			if p := f.Plots[i][j]; p != nil {
				p.Draw(canvas)
			}
		}
	}
}

// SVG is the figure as SVG.
func (f *Figure) SVG() ([]byte, error) {
	canvas := vgsvg.New(f.Width, f.Height)
	f.draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, err
	}
	// Few have the Liberation fonts that the text was measured with; these have the same metrics, or nearly.
	const one, several = "font-family:Liberation Sans;font-variant:normal;", "font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"
	if !bytes.Contains(b.Bytes(), []byte(one)) {
		return nil, fmt.Errorf("figure: the text is not in %q", one)
	}
	return bytes.ReplaceAll(b.Bytes(), []byte(one), []byte(several)), nil
}

// WritePNG writes the figure to a file, with two pixels for each of CSS.
func (f *Figure) WritePNG(name string) error {
	canvas := vgimg.NewWith(vgimg.UseWH(f.Width, f.Height), vgimg.UseDPI(144))
	f.draw(draw.New(canvas))
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err = (vgimg.PngCanvas{Canvas: canvas}).WriteTo(file); err != nil {
		_ = file.Close() // the first error is the one to tell
		return err
	}
	return file.Close()
}

// Panel is an empty plot. Its Y axis begins at 0.
func Panel(y string) *plot.Plot {
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

// Every has an axis marked at the multiples of a number.
func Every(n float64) plot.Ticker {
	return plot.TickerFunc(func(low, high float64) (ticks []plot.Tick) {
		for at := low; at <= high; at += n {
			ticks = append(ticks, plot.Tick{Value: at, Label: strconv.Itoa(int(at))})
		}
		return ticks
	})
}

// Line goes from point to point.
func Line(of color.Color, wide vg.Length, dashes []vg.Length, points plotter.XYs) plot.Plotter {
	return &plotter.Line{XYs: points, LineStyle: draw.LineStyle{Color: of, Width: wide, Dashes: dashes}}
}

// Label writes at a point.
func Label(of color.Color, align text.XAlignment, at plotter.XY, says string) plot.Plotter {
	style := text.Style{Color: of, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: 9}, XAlign: align, Handler: plot.DefaultTextHandler}
	return &plotter.Labels{XYs: plotter.XYs{at}, Labels: []string{says}, TextStyle: []text.Style{style}}
}

// Legend says what a colour means.
func Legend(p *plot.Plot, says string, of color.Color) {
	p.Legend.Add(says, &plotter.Polygon{Color: of})
}
