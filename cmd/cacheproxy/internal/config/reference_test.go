package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// docs/configuration.md is made of Config, of its defaults, of frozen and of the comments of config.example.yaml.

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const referenceFile = "../../../../docs/configuration.md"

const referenceIntro = `# Configuration

<!-- Made by "make docs" from the configuration's types and the comments of config.example.yaml. Do not edit. -->

Every key, with its default. [config.example.yaml](../config.example.yaml) shows the same as a file.

No key is required but ` + "`upstream`" + `. Flags win over environment variables, those over the file, the file over the defaults;
[serve](commands.md#cacheproxy-serve) lists the flags. Unknown keys and unknown variables that begin with ` + "`CACHEPROXY_`" + ` are
mistakes. ` + "`cacheproxy validate --config FILE`" + ` reports every mistake with its file, line and key.

| type | how it is written |
|---|---|
| duration | ` + "`300ms`, `30s`, `5m`, `1h30m`, `0`" + ` |
| size | bytes, or ` + "`32KiB`, `256MiB`, `1GiB`" + ` (powers of 1024), ` + "`10MB`" + ` (powers of 1000) |
| share | a number from 0 to 1 |
| list | ` + "`[a, b]`" + `, or a line with ` + "`- `" + ` for each element |

*Reload* says when a change of the file takes effect: *live* with a [reload](operations.md#reload), *restart* when the process starts again.
A dash stands for what this version does not have: the key is accepted with its default and refused with any other value.
`

// elsewhere is the prose of keys that the example only tells of: a listener's certificates must exist.
var elsewhere = map[string]string{
	"listen[].address":        "host:port, :port or unix:/path",
	"listen[].tls":            "a certificate or a list of them; the first that is valid for the name that the client asks for is used, else the first; none = no TLS",
	"listen[].tls[].cert":     "PEM file of the certificate and its chain; it is read again when it changes",
	"listen[].tls[].key":      "PEM file of its key; the same",
	"listen[].proxy_protocol": "the peers of client.trusted must begin with a PROXY header; it is not read from others",
}

func TestReference(t *testing.T) {
	example := readExample(t)
	r := reference{said: prose(example), t: t, variables: map[string]bool{}}
	for path, text := range elsewhere {
		r.said[path] = text
	}
	for _, l := range leavesOf(reflect.TypeFor[Config]()) {
		r.variables[l.path] = true
	}
	got := r.render()
	if *update {
		if err := os.WriteFile(referenceFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("docs/configuration.md is not what the code says: run make docs\n%s", firstDifference(got, string(want)))
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("line %d is to be:\n%s", i+1, a[i])
		}
	}
	return "it ends too late"
}

// reference renders the page.
type reference struct {
	t         *testing.T
	said      map[string]string
	variables map[string]bool // paths of keys that have one
	b         strings.Builder
}

func (r *reference) render() string {
	r.b.WriteString(referenceIntro)
	defaults := reflect.ValueOf(*Default())
	for i := range defaults.NumField() {
		name, _ := keyOf(defaults.Type().Field(i))
		v := defaults.Field(i)
		fmt.Fprintf(&r.b, "\n## %s\n\n", name)
		if v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[Upstream]() {
			fmt.Fprintf(&r.b, "%s\n\n", sentence(r.text(name)))
		}
		r.b.WriteString("| key | type | default | environment variable | reload | what it is for |\n|---|---|---|---|---|---|\n")
		if v.Kind() != reflect.Struct || v.Type() == reflect.TypeFor[Upstream]() {
			r.row(name, v)
		}
		r.below(name, v)
	}
	return r.b.String()
}

// text is the prose of a key. Each has some, or is self-evident in the example.
func (r *reference) text(path string) string {
	text := r.said[path]
	if text == "" {
		r.t.Errorf("%s: config.example.yaml does not say what it is for", path)
	}
	return text
}

func (r *reference) row(path string, v reflect.Value) {
	variable := ""
	if r.variables[path] {
		variable = code(VariableOf(path))
	}
	fmt.Fprintf(&r.b, "| %s | %s | %s | %s | %s | %s |\n",
		code(path), typeName(v.Type()), defaultText(v), variable, r.reload(path), cell(r.text(path)))
}

// reload says when a change takes effect.
func (r *reference) reload(path string) string {
	for at := path; at != ""; at = at[:max(0, strings.LastIndexAny(at, ".["))] {
		at = strings.TrimSuffix(at, "[")
		if strings.HasSuffix(r.said[at], "not available yet") {
			return "-"
		}
	}
	if slices.ContainsFunc(frozen, func(key string) bool {
		return path == key || strings.HasPrefix(path, key+".") || strings.HasPrefix(path, key+"[")
	}) {
		return "restart"
	}
	return "live"
}

// below writes the rows of all that is in v. What is the same elsewhere is written there alone.
func (r *reference) below(path string, v reflect.Value) {
	switch t := v.Type(); {
	case path == "sites[].rules", path == "sites[].upstream":
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		r.fields(path+"[]", element(t.Elem()))
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Struct:
		r.fields(path+".NAME", element(t.Elem()))
	case t.Kind() == reflect.Struct:
		r.fields(path, v)
	}
}

func (r *reference) fields(path string, v reflect.Value) {
	for i := range v.NumField() {
		name, inline := keyOf(v.Type().Field(i))
		switch {
		case inline && v.Type() == reflect.TypeFor[Group]():
		case inline:
			r.fields(path, v.Field(i))
		case name != "":
			r.row(join(path, name), v.Field(i))
			r.below(join(path, name), v.Field(i))
		}
	}
}

// element is what an element of a list or a map is before anything is said of it.
func element(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	if d, ok := v.Interface().(interface{ setDefaults() }); ok {
		d.setDefaults()
	}
	return v.Elem()
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration](), reflect.TypeFor[*Duration]():
		return "duration"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Listeners]():
		return "address, map, or list of them"
	case reflect.TypeFor[ListenerTLS]():
		return "map, or list of them"
	case reflect.TypeFor[Upstream]():
		return "URL, name, or map"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Float64:
		return "share"
	case reflect.String:
		return "text"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return "list of maps"
		}
		return "list"
	default:
		return "map"
	}
}

func defaultText(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
		return "not set"
	case v.Type() == reflect.TypeFor[Listeners]():
		return code(v.Interface().(Listeners)[0].Address)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String:
		return code("[" + strings.Join(v.Interface().([]string), ", ") + "]")
	case v.Kind() == reflect.Slice:
		return "`[]`"
	case v.Kind() == reflect.Map:
		return "`{}`"
	case v.Kind() == reflect.Struct:
		return ""
	case v.Kind() == reflect.String && v.Len() == 0:
		return "`\"\"`"
	default:
		return code(fmt.Sprint(v.Interface()))
	}
}

func code(text string) string { return "`" + text + "`" }

// cell escapes what would be markup in a table, outside of code.
func cell(text string) string {
	parts := strings.Split(text, "`")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "|", `\|`)
		if i%2 == 0 {
			parts[i] = strings.NewReplacer("*", `\*`, "<", "&lt;").Replace(parts[i])
		}
	}
	return strings.Join(parts, "`")
}

func sentence(text string) string {
	if text == "" {
		return ""
	}
	return cell(strings.TrimSuffix(strings.ToUpper(text[:1])+text[1:], ".")) + "."
}
