package flamegraph

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// stacks makes a profile. The functions of a stack are separated by blanks, the caller first; what is inlined into the one before has a + before
// it. Each stack counts its number of calls, and takes ten nanoseconds each time.
func stacks(samples map[string]int64) *profile.Profile {
	p := &profile.Profile{
		SampleType:    []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		DurationNanos: 2e9,
	}
	for text, n := range samples {
		s := &profile.Sample{Value: []int64{n, 10 * n}}
		for name := range strings.FieldsSeq(text) {
			name, inlined := strings.CutPrefix(name, "+")
			line := profile.Line{Function: &profile.Function{Name: name}}
			if inlined {
				s.Location[0].Line = append([]profile.Line{line}, s.Location[0].Line...)
				continue
			}
			s.Location = append([]*profile.Location{{Line: []profile.Line{line}}}, s.Location...)
		}
		p.Sample = append(p.Sample, s)
	}
	return p
}

// drawn is a rectangle of the picture, with what is said and written of it.
type drawn struct {
	Title string `xml:"title"`
	Text  string `xml:"text"`
	Rect  struct {
		X      float64 `xml:"x,attr"`
		Y      float64 `xml:"y,attr"`
		Width  float64 `xml:"width,attr"`
		Height float64 `xml:"height,attr"`
	} `xml:"rect"`
}

func (d *drawn) name() string { return d.Title[:strings.LastIndex(d.Title, ": ")] }

// draws draws a profile and reads the rectangles back.
func draws(t *testing.T, p *profile.Profile, o Options) []drawn {
	t.Helper()
	var b bytes.Buffer
	if err := Draw(&b, p, o); err != nil {
		t.Fatal(err)
	}
	var picture struct {
		All []drawn `xml:"g"`
	}
	if err := xml.Unmarshal(b.Bytes(), &picture); err != nil {
		t.Fatalf("%v in\n%s", err, b.Bytes())
	}
	return picture.All
}

func titles(all []drawn) string {
	var b strings.Builder
	for _, d := range all {
		b.WriteString(d.Title + "\n")
	}
	return b.String()
}

func TestFrames(t *testing.T) {
	for _, test := range []struct {
		name    string
		samples map[string]int64
		o       Options
		want    string
	}{
		{"callers are under the called", map[string]int64{"main a": 3, "main b": 1}, Options{Type: "samples"},
			"all: 4, 100.0 %\nmain: 4, 100.0 %\na: 3, 75.0 %\nb: 1, 25.0 %\n"},
		{"of another type", map[string]int64{"main": 3}, Options{Type: "cpu"}, "all: 30ns, 100.0 %\nmain: 30ns, 100.0 %\n"},
		{"of the type that pprof shows", map[string]int64{"main": 3}, Options{}, "all: 30ns, 100.0 %\nmain: 30ns, 100.0 %\n"},
		{"inlined functions are functions", map[string]int64{"main +a +b": 1, "main c": 1}, Options{Type: "samples"},
			"all: 2, 100.0 %\nmain: 2, 100.0 %\na: 1, 50.0 %\nb: 1, 50.0 %\nc: 1, 50.0 %\n"},
		{"recursion is not added up", map[string]int64{"f f f": 1, "f": 1}, Options{Type: "samples"},
			"all: 2, 100.0 %\nf: 2, 100.0 %\nf: 1, 50.0 %\nf: 1, 50.0 %\n"},
		{"less than a thousandth is left out", map[string]int64{"main a": 9990, "main b": 9, "main c": 1, "main d": 10}, Options{Type: "samples"},
			"all: 10010, 100.0 %\nmain: 10010, 100.0 %\na: 9990, 99.8 %\n"},
		{"markup is written as text", map[string]int64{`a<b>&"c"`: 1}, Options{Type: "samples"}, "all: 1, 100.0 %\na<b>&\"c\": 1, 100.0 %\n"},
	} {
		if got := titles(draws(t, stacks(test.samples), test.o)); got != test.want {
			t.Errorf("%s:\n%swant\n%s", test.name, got, test.want)
		}
	}
}

// Rectangles over another lie within it, those of a row do not overlap, and each is as wide as its share.
func TestRectangles(t *testing.T) {
	all := draws(t, stacks(map[string]int64{"m a x": 5, "m a y": 3, "m a": 2, "m b": 7, "n": 13, "m a x z": 10}), Options{Type: "samples"})
	if len(all) != 8 {
		t.Fatalf("%d rectangles:\n%s", len(all), titles(all))
	}
	var open []drawn // from the lowest to the one before
	for _, d := range all {
		for len(open) > 0 && open[len(open)-1].Rect.Y <= d.Rect.Y {
			before := open[len(open)-1]
			if before.Rect.Y == d.Rect.Y && before.Rect.X+before.Rect.Width > d.Rect.X+.02 {
				t.Errorf("%q overlaps %q", before.Title, d.Title)
			}
			open = open[:len(open)-1]
		}
		if len(open) > 0 {
			under := open[len(open)-1].Rect
			if d.Rect.X < under.X-.02 || d.Rect.X+d.Rect.Width > under.X+under.Width+.02 || d.Rect.Y != under.Y-row {
				t.Errorf("%q is not over %q", d.Title, open[len(open)-1].Title)
			}
		}
		open = append(open, d)
		value, _, _ := strings.Cut(strings.TrimPrefix(d.Title, d.name()+": "), ",")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		if want := n / 40 * (width - 2*margin); math.Abs(d.Rect.Width-want) > .01 {
			t.Errorf("%q is %v wide, want %v", d.Title, d.Rect.Width, want)
		}
	}
}

func TestTheSameBytes(t *testing.T) {
	var first []byte
	for range 20 { // maps are in another order each time
		var b bytes.Buffer
		if err := Draw(&b, stacks(map[string]int64{"m a x": 5, "m a y": 5, "m b": 5, "n": 5, "o p": 5}), Options{Title: "a & b"}); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b.Bytes()
		}
		if !bytes.Equal(first, b.Bytes()) {
			t.Fatal("two pictures of the same profile differ")
		}
	}
	for _, want := range []string{">a &amp; b</text>", "250ns of cpu in 2s", `fill="#fff"`} {
		if !bytes.Contains(first, []byte(want)) {
			t.Errorf("there is no %s in\n%s", want, first)
		}
	}
}

func TestErrors(t *testing.T) {
	if err := Draw(io.Discard, stacks(nil), Options{}); !errors.Is(err, ErrEmpty) {
		t.Errorf("%v for a profile without samples", err)
	}
	if err := Draw(io.Discard, stacks(map[string]int64{"f": 1}), Options{Type: "delay"}); err == nil || !strings.Contains(err.Error(), "samples, cpu") {
		t.Errorf("%v does not say which types there are", err)
	}
	name := filepath.Join(t.TempDir(), "none.pprof")
	if err := os.WriteFile(name, []byte("no profile"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := DrawFile(name, name+".svg", Options{}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("%v", err)
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct {
		name, in, short string
		of              group
	}{
		{"cacheproxy/proxy.(*journey).serve", "cacheproxy/proxy", "proxy.(*journey).serve", ours},
		{"cacheproxy/cmd/cacheproxy.main.func1", "cacheproxy/cmd/cacheproxy", "cacheproxy.main.func1", ours},
		{"net/http.(*conn).serve", "net/http", "http.(*conn).serve", overHTTP},
		{"net/http/httputil.(*ReverseProxy).ServeHTTP", "net/http/httputil", "httputil.(*ReverseProxy).ServeHTTP", overHTTP},
		{"net/url.Parse", "net/url", "url.Parse", others},
		{"net.(*conn).Read", "net", "net.(*conn).Read", system},
		{"internal/runtime/syscall.Syscall6", "internal/runtime/syscall", "syscall.Syscall6", system},
		{"internal/runtime/maps.(*Map).Clear", "internal/runtime/maps", "maps.(*Map).Clear", runtime},
		{"runtime.mallocgc", "runtime", "runtime.mallocgc", runtime},
		{"memeqbody", "", "memeqbody", runtime},
		{"[vdso]", "", "[vdso]", others},
		{"cacheproxyx.f", "cacheproxyx", "cacheproxyx.f", others},
		{"github.com/maypok86/otter/v2.(*cache[go.shape.string,go.shape.*a/b.C]).Set", "github.com/maypok86/otter/v2", "otter.(*cache[…]).Set", others},
		{"slices.SortFunc[go.shape.[]a/b.C,d.E]", "slices", "slices.SortFunc[…]", others},
	} {
		if got := packageOf(test.name); got != test.in {
			t.Errorf("%s is in %q, want %q", test.name, got, test.in)
		}
		if got := short(test.name); got != test.short {
			t.Errorf("%s: %q, want %q", test.name, got, test.short)
		}
		if got := groupOf(test.name); got != test.of {
			t.Errorf("%s: group %d, want %d", test.name, got, test.of)
		}
	}
}

func TestLabel(t *testing.T) {
	const name = "cacheproxy/proxy.(*journey).serveWhole"
	for _, test := range []struct {
		letters int
		want    string
	}{
		{27, "proxy.(*journey).serveWhole"}, {26, "(*journey).serveWhole"}, {15, "serveWhole"}, {10, "serveWhole"}, {8, "serveWh…"}, {4, "ser…"}, {3, ""},
	} {
		if got := label(name, (float64(test.letters)+.5)*letter); got != test.want {
			t.Errorf("%d letters: %q, want %q", test.letters, got, test.want)
		}
	}
}

func TestQuantity(t *testing.T) {
	for _, test := range []struct {
		value int64
		unit  string
		want  string
	}{
		{1_234_567_890, "nanoseconds", "1.23s"}, {1_234_567, "nanoseconds", "1.23ms"}, {999, "nanoseconds", "999ns"},
		{1 << 20, "bytes", "1.0 MiB"}, {1000, "bytes", "1000 B"}, {3 << 29, "bytes", "1.5 GiB"}, {7, "count", "7"}, {7, "seconds", "7 seconds"},
	} {
		if got := quantity(test.value, test.unit); got != test.want {
			t.Errorf("%d %s: %q, want %q", test.value, test.unit, got, test.want)
		}
	}
}
