package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
)

func TestSizes(t *testing.T) {
	for _, test := range []struct {
		text, back string
		want       Size
	}{
		{"0", "0", 0}, {"512", "512", 512}, {"512B", "512", 512}, {"32KiB", "32KiB", 32 << 10}, {"256 MiB", "256MiB", 256 << 20},
		{"1GiB", "1GiB", 1 << 30}, {"2TiB", "2TiB", 2 << 40}, {"10MB", "10000000", 10e6}, {"1kB", "1000", 1000}, {"1536KiB", "1536KiB", 1536 << 10},
		{"1024KiB", "1MiB", 1 << 20}, {"9223372036854775807", "9223372036854775807", 1<<63 - 1},
	} {
		var got Size
		if err := got.UnmarshalText([]byte(test.text)); err != nil || got != test.want || got.String() != test.back {
			t.Errorf("%s: got %d (%s), %v; want %d (%s)", test.text, got, got, err, test.want, test.back)
		}
	}
	for _, text := range []string{"", "MiB", "1.5MiB", "-1", "-1KiB", "8388608TiB", "9223372036854775808", "1 apple", "1Mi B"} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]string{"1h": "1h", "90m": "1h30m", "60s": "1m", "50ms": "50ms", "0": "0s", "1h0m5s": "1h0m5s"} {
		var got Duration
		if err := got.UnmarshalText([]byte(text)); err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
	}
	if Duration(time.Second).Std() != time.Second {
		t.Error("Std changes the value")
	}
}

// What is formatted is read again as the same value.
func FuzzSize(f *testing.F) {
	for _, text := range []string{"0", "32KiB", "10MB", "-1", "9223372036854775807"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var first, second Size
		if first.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := second.UnmarshalText([]byte(first.String())); err != nil || first != second || first < 0 {
			t.Errorf("%q is %d, %q is %d: %v", text, first, first, second, err)
		}
	})
}

// Any text is a Config or Mistakes, never a panic.
func FuzzDecode(f *testing.F) {
	if text, err := os.ReadFile(exampleFile); err == nil {
		f.Add(string(text))
	}
	for _, text := range []string{"a: *a", "listen: [[]]", "upstream: {tls: 1}", "&a [*a]", "rules: [{match: {header: {a: [b]}}}]", "? [a]\n: b", "upstreams: {? {a: b} : c}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := &report{file: "f", origins: map[string]origin{}}
		c := Default()
		(&decoder{report: r}).decode([]byte(text), c)
		r.later(c)
		r.compile(c)
		r.compileLimits(c)
		if err := r.sorted(); len(err) > 0 && err.Error() == "" {
			t.Error("a mistake without words")
		}
	})
}

// The env tags say what the yaml tags say: the names that the library reads are the paths in capitals.
func TestVariablesAreThePathsInCapitals(t *testing.T) {
	params, err := env.GetFieldParamsWithOptions(Default(), env.Options{Prefix: Prefix})
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]bool{}
	for _, p := range params {
		if p.OwnKey != "" && !p.Ignored {
			read[p.Key] = true
		}
	}
	for _, l := range leavesOf(reflect.TypeFor[Config]()) {
		if !read[VariableOf(l.path)] {
			t.Errorf("%s is not read from %s", l.path, VariableOf(l.path))
		}
		delete(read, VariableOf(l.path))
	}
	if len(read) > 0 {
		t.Errorf("read, but not a key: %v", sortedNames(read))
	}
}

func TestNearest(t *testing.T) {
	known := []string{"size", "max_object", "strict", "lease", "header_timeout"}
	for given, want := range map[string]string{"siez": "size", "maxobject": "max_object", "header-timeout": "header_timeout", "zzz": "", "": "", "Lease": "lease"} {
		if got := nearest(given, known); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
	if edits("abc", "acb") != 1 || edits("", "abc") != 3 || edits("kitten", "sitting") != 3 {
		t.Error("edits counts wrong")
	}
}

func TestInstanceName(t *testing.T) {
	c := Default()
	if host, _ := os.Hostname(); c.InstanceName() != host+"/127.0.0.1:9090" {
		t.Errorf("%q", c.InstanceName())
	}
	c.Instance = "a"
	if c.InstanceName() != "a" || strings.Contains(c.InstanceName(), "/") {
		t.Errorf("%q", c.InstanceName())
	}
}
