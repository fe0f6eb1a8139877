package flamegraph

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/pprof/profile"
)

// Sizes in pixels of CSS.
const (
	width  = 1200
	margin = 10
	row    = 17
	head   = 62 // of title and legend
	// letter is how wide one is: fonts of one width have letters of three fifths of their size, or a little more.
	letter = 0.605 * 11
)

// least is which share of all a frame must have to be drawn: one of so many.
const least = 1000

// Options say what of a profile is drawn.
type Options struct {
	// Type is the type of the values, such as cpu, alloc_space, alloc_objects or delay; "" is the one that go tool pprof shows.
	Type string
	// Title stands over the picture; "" is the type.
	Title string
}

// Draw writes the flame graph of a profile as SVG. The background is white, so that it can be read on dark pages too.
func Draw(w io.Writer, p *profile.Profile, o Options) error {
	s, err := sample(p, o.Type)
	if err != nil {
		return err
	}
	if o.Title == "" {
		o.Title = s.kind
	}
	c := canvas{all: s, least: max(1, (s.all.value+least-1)/least)}
	height := head + row*s.all.height(c.least) + margin
	c.base = height - margin - row
	fmt.Fprintf(&c.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="%s" font-size="11">`+"\n",
		width, height, `ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,'Liberation Mono',monospace`)
	fmt.Fprintf(&c.b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	c.head(o.Title, p.DurationNanos)
	c.frame(s.all, 0, 0)
	c.b.WriteString("</svg>\n")
	_, err = w.Write(c.b.Bytes())
	return err
}

// DrawFile writes the flame graph of one file to another.
func DrawFile(from, to string, o Options) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("flamegraph: %w", err)
	}
	p, err := profile.ParseData(data)
	if err != nil {
		return fmt.Errorf("flamegraph: %s: %w", from, err)
	}
	var b bytes.Buffer
	if err := Draw(&b, p, o); err != nil {
		return fmt.Errorf("%w: %s", err, from)
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

// canvas is a picture being drawn.
type canvas struct {
	b     bytes.Buffer
	all   *sampled
	least int64
	base  int // the upper edge of the lowest row
}

// head writes the title and the legend: whose functions took how much themselves.
func (c *canvas) head(title string, duration int64) {
	const sans = `font-family="system-ui,'Liberation Sans',Arial,Helvetica,sans-serif"`
	says := quantity(c.all.all.value, c.all.unit) + " of " + c.all.kind
	if duration > 0 {
		says += " in " + quantity(duration, "nanoseconds")
	}
	fmt.Fprintf(&c.b, `<text x="%d" y="24" %s font-size="16" font-weight="bold">%s</text>`+"\n", margin, sans, html.EscapeString(title))
	fmt.Fprintf(&c.b, `<text x="%d" y="24" %s font-size="12" text-anchor="end">%s</text>`+"\n", width-margin, sans, html.EscapeString(says))
	x := margin
	for g, one := range groups {
		value := c.all.self[group(g)]
		if value == 0 {
			continue
		}
		text := one.name + ", itself " + percent(value, c.all.all.value)
		fmt.Fprintf(&c.b, `<rect x="%d" y="37" width="12" height="12" fill="%s"/><text x="%d" y="47" %s font-size="12">%s</text>`+"\n",
			x, css(one.colour), x+17, sans, text)
		x += 30 + 7*len(text)
	}
}

// frame draws a function and what it called; from is where it begins, in values.
func (c *canvas) frame(f *frame, from int64, depth int) {
	scale := float64(width-2*margin) / float64(c.all.all.value)
	x, w, y := margin+float64(from)*scale, float64(f.value)*scale, c.base-row*depth
	fill := "#e4e4e4"
	if depth > 0 {
		fill = css(colour(f.name))
	}
	fmt.Fprintf(&c.b, `<g><title>%s: %s, %s</title><rect x="%s" y="%d" width="%s" height="%d" fill="%s" stroke="#fff" stroke-width=".5"/>`,
		html.EscapeString(f.name), quantity(f.value, c.all.unit), percent(f.value, c.all.all.value), pixels(x), y, pixels(w), row-1, fill)
	if text := label(f.name, w-5); text != "" {
		fmt.Fprintf(&c.b, `<text x="%s" y="%d">%s</text>`, pixels(x+3), y+12, html.EscapeString(text))
	}
	c.b.WriteString("</g>\n")
	for _, child := range f.called() {
		if child.value >= c.least {
			c.frame(child, from, depth+1)
		}
		from += child.value
	}
}

// label is what can be written of a name on a rectangle: of a narrow one the package, which the colour tells, is left out, and then the
// receiver; "" where nothing that says anything is left.
func label(name string, w float64) string {
	n := int(w / letter)
	text := short(name)
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	if _, in, found := strings.Cut(text, "."); found {
		text = in
	}
	_, method, found := strings.Cut(text, ").")
	switch {
	case utf8.RuneCountInString(text) <= n:
		return text
	case found && (utf8.RuneCountInString(method) <= n || n < 10):
		text = method
	}
	switch {
	case utf8.RuneCountInString(text) <= n:
		return text
	case n < 4:
		return ""
	}
	return string([]rune(text)[:n-1]) + "…"
}

func css(c [3]int) string { return fmt.Sprintf("#%02x%02x%02x", c[0], c[1], c[2]) }

func pixels(x float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(x, 'f', 2, 64), "0"), ".")
}

func percent(part, whole int64) string {
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + " %"
}

// quantity writes a value with its unit.
func quantity(v int64, unit string) string {
	switch unit {
	case "nanoseconds":
		d := time.Duration(v)
		switch {
		case d >= time.Second:
			d = d.Round(10 * time.Millisecond)
		case d >= time.Millisecond:
			d = d.Round(10 * time.Microsecond)
		}
		return d.String()
	case "bytes":
		for _, u := range [...]struct {
			name string
			size int64
		}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
			if v >= u.size {
				return strconv.FormatFloat(float64(v)/float64(u.size), 'f', 1, 64) + " " + u.name
			}
		}
		return strconv.FormatInt(v, 10) + " B"
	case "count", "":
		return strconv.FormatInt(v, 10)
	}
	return strconv.FormatInt(v, 10) + " " + unit
}
