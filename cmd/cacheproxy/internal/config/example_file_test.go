package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

const exampleFile = "../../../../config.example.yaml"

func readExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// decodeText returns the Config that text describes and the report that knows which keys it has.
func decodeText(t *testing.T, text string) (*Config, *report) {
	t.Helper()
	r := &report{file: "config.yaml", origins: map[string]origin{}}
	c := Default()
	(&decoder{report: r}).decode([]byte(text), c)
	if len(r.mistakes) > 0 {
		t.Fatal(r.mistakes)
	}
	return c, r
}

// The values in the example are the defaults; only upstream.url has none.
func TestExampleIsTheDefaults(t *testing.T) {
	text := readExample(t)
	got, _ := decodeText(t, text)
	want := Default()
	want.Upstream.URL = got.Upstream.URL
	want.Upstreams, want.Sites, want.Rules = map[string]Group{}, []Site{}, []Rule{}
	want.Client.Purge = []string{}
	want.Client.Trusted, want.Limits, want.Events, want.Log.Redact = []string{}, []Limit{}, []Event{}, []string{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example says\n%+v\nthe defaults are\n%+v", got, want)
	}
	if _, err := Load(Options{File: writeFile(t, text)}); err != nil {
		t.Error(err)
	}
}

var anyElement = regexp.MustCompile(`\[\d+\]`)

// Every key is in the example: set, or in one of the blocks marked #>, in any element of a list.
func TestExampleListsEveryKey(t *testing.T) {
	_, set := decodeText(t, readExample(t))
	seen := map[string]bool{}
	for path := range set.origins {
		seen[path] = true
	}
	for _, block := range exampleBlocks(t) {
		_, r := decodeText(t, block)
		for path := range r.origins {
			seen[path] = true
			seen[anyElement.ReplaceAllString(path, "[0]")] = true
		}
	}
	for _, path := range keyPaths(reflect.TypeFor[Config](), "") {
		if !seen[path] {
			t.Errorf("config.example.yaml does not show %s", path)
		}
	}
}

// keyPaths lists the paths of all keys, [0] for an element of a list and shop for one of upstreams. A link's keys are shown once.
func keyPaths(t reflect.Type, prefix string) []string {
	var paths []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, inline := keyOf(f)
		if name == "" || inline {
			continue
		}
		path := join(prefix, name)
		paths = append(paths, path)
		switch {
		case f.Type == reflect.TypeFor[Listeners]():
		case f.Type.Kind() == reflect.Struct && (f.Type != reflect.TypeFor[Upstream]() || prefix == ""):
			paths = append(paths, keyPaths(f.Type, path)...)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			paths = append(paths, keyPaths(f.Type.Elem(), path+"[0]")...)
		case f.Type.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Struct:
			paths = append(paths, keyPaths(f.Type.Elem(), path+".shop")...)
		}
	}
	// Rules are shown at the top level.
	kept := paths[:0]
	for _, path := range paths {
		if !strings.HasPrefix(path, "sites[0].rules[0].") || path == "sites[0].rules[0].bypass" {
			kept = append(kept, path)
		}
	}
	return kept
}

// exampleBlocks returns the file as it is with each block of consecutive lines marked #> in use: in place of the key of the
// same name that stands before it.
func exampleBlocks(t *testing.T) []string {
	t.Helper()
	lines := strings.Split(readExample(t), "\n")
	var blocks []string
	for i := 0; i < len(lines); i++ {
		if !strings.HasPrefix(strings.TrimSpace(lines[i]), "#>") {
			continue
		}
		end := i
		for end < len(lines) && strings.HasPrefix(strings.TrimSpace(lines[end]), "#>") {
			end++
		}
		blocks = append(blocks, withBlock(lines, i, end))
		i = end
	}
	return blocks
}

// withBlock uses lines first to end of the example, and drops the other setting of the same key.
func withBlock(lines []string, first, end int) string {
	indent := lines[first][:strings.Index(lines[first], "#>")]
	name, _, _ := strings.Cut(strings.TrimPrefix(lines[first], indent+"#> "), ":")
	var out []string
	skipping := false
	for i, line := range lines {
		marked := strings.HasPrefix(strings.TrimSpace(line), "#>")
		switch {
		case marked && i >= first && i < end:
			out = append(out, indent+strings.TrimPrefix(line, indent+"#> "))
		case marked:
		case strings.HasPrefix(line, indent+name+":"):
			skipping = true
		case skipping && strings.HasPrefix(line, indent+" "):
		default:
			skipping = false
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// What the example only shows is right as well.
func TestExampleBlocksAreValid(t *testing.T) {
	blocks := exampleBlocks(t)
	if len(blocks) != 10 {
		t.Errorf("found %d blocks marked #>", len(blocks))
	}
	for _, block := range blocks {
		redis := []Flag{{Name: "--redis", Key: "redis.url", Value: "redis://127.0.0.1"}} // some need one
		if _, err := Load(Options{File: writeFile(t, block), Flags: redis}); err != nil {
			t.Errorf("%v\nin\n%s", err, block)
		}
	}
}
