package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// The decoder walks the node tree of the file beside the Config. yaml's own construction into structs reports positions, but
// neither paths nor hints, and stops counting fields where a custom type takes over; the tree has all of it.

// decoder puts the values of one file into a Config, recording the line of every key.
type decoder struct {
	report *report
}

// nodeDecoder is implemented by types that accept several kinds of node.
type nodeDecoder interface {
	decodeNode(d *decoder, n *yaml.Node, path string)
}

// defaulter is implemented by elements of lists and maps whose defaults are not zero.
type defaulter interface{ setDefaults() }

// decode parses text into the struct that c points at. An empty file is a valid one.
func (d *decoder) decode(text []byte, c any) {
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		d.report.at("", 1, err.Error(), "")
		return
	}
	var document yaml.Node
	if err := loader.Load(&document); errors.Is(err, io.EOF) {
		return
	} else if err != nil {
		d.syntax(err)
		return
	}
	var more yaml.Node
	if err := loader.Load(&more); err == nil {
		d.report.at("", more.Line, "a second document begins here", "one file is one document: remove the line ---")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
		return
	}
	root := d.visit(document.Content[0], "")
	if isNull(root) {
		return
	}
	d.value(root, reflect.ValueOf(c).Elem(), "")
}

// syntax reports that the file is not YAML, with yaml's own words and place.
func (d *decoder) syntax(err error) {
	d.report.unread = true
	var load *yaml.LoadError
	if errors.As(err, &load) { // a byte that no text has is found before lines are counted
		message := load.Message
		if load.ContextMsg != "" {
			message = load.ContextMsg + ": " + message
		}
		d.report.at("", load.Mark.Line, message, "this is not valid YAML")
		return
	}
	d.report.at("", 0, err.Error(), "this is not valid YAML")
}

// visit follows an alias and records where path was written.
func (d *decoder) visit(n *yaml.Node, path string) *yaml.Node {
	if path != "" {
		d.report.origins[path] = origin{line: n.Line}
	}
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// value decodes n into v. A key without a value keeps its default.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	n = d.visit(n, path)
	if isNull(n) {
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch target := v.Addr().Interface().(type) {
	case nodeDecoder:
		target.decodeNode(d, n, path)
		return
	case encoding.TextUnmarshaler:
		if v.Kind() == reflect.Struct && n.Kind == yaml.MappingNode || v.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode {
			break // the text is a short form of it
		}
		if !d.expect(n, yaml.ScalarNode, path, textForm(v)) {
			return
		}
		if err := target.UnmarshalText([]byte(n.Value)); err != nil {
			d.report.at(path, n.Line, err.Error(), "")
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if d.expect(n, yaml.MappingNode, path, "is a map of keys: "+strings.Join(keysOf(v.Type()), ", ")) {
			d.mapping(n, v, path)
		}
	case reflect.Map:
		if d.expect(n, yaml.MappingNode, path, "is a map of names") {
			d.names(n, v, path)
		}
	case reflect.Slice:
		if d.expect(n, yaml.SequenceNode, path, "is a list: write [a, b] or lines that begin with -") {
			d.list(n, v, path)
		}
	default:
		if d.expect(n, yaml.ScalarNode, path, "is a single value") {
			d.scalar(n, v, path)
		}
	}
}

// textForm says how a value that has a text form is written.
func textForm(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Struct:
		if keys := keysOf(v.Type()); len(keys) > 0 {
			return "is text, or a map of keys: " + strings.Join(keys, ", ")
		}
	case reflect.Slice:
		return "is a single value, or a list"
	}
	return "is a single value"
}

func (d *decoder) expect(n *yaml.Node, kind yaml.Kind, path, what string) bool {
	if n.Kind != kind {
		d.report.at(path, n.Line, what, "")
		return false
	}
	return true
}

// mapping decodes a map node into the fields of a struct, refusing unknown and repeated keys.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, node := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		if line, repeated := first[key.Value]; repeated {
			d.report.at(at, key.Line, fmt.Sprintf("is given twice, first on line %d", line), "")
			continue
		}
		first[key.Value] = key.Line
		field, known := fieldOf(v, key.Value)
		if !known {
			d.report.at(at, key.Line, "unknown key", hint(key.Value, keysOf(v.Type())))
			continue
		}
		d.value(node, field, at)
	}
}

// names decodes a map node into a Go map with string keys.
func (d *decoder) names(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, node := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		if line, repeated := first[key.Value]; repeated {
			d.report.at(at, key.Line, fmt.Sprintf("is given twice, first on line %d", line), "")
			continue
		}
		first[key.Value] = key.Line
		element := newElement(v.Type().Elem())
		d.value(node, element, at)
		v.SetMapIndex(reflect.ValueOf(key.Value), element)
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, node := range n.Content {
		v.Index(i).Set(newElement(v.Type().Elem()))
		d.value(node, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

// scalar decodes into string, bool, int (of 32 bits, so that it is the same everywhere), int64 or float64. A string accepts any scalar: `tags: [2024]` needs no quotes.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if err != nil || len(n.Value) < len("true") {
			d.report.at(path, n.Line, notBool(n.Value), "")
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		bits := 32
		if v.Kind() == reflect.Int64 {
			bits = 64
		}
		number, err := strconv.ParseInt(n.Value, 10, bits)
		if err != nil {
			d.report.at(path, n.Line, notWhole(n.Value, err), "")
			return
		}
		v.SetInt(number)
	case reflect.Float64:
		number, err := strconv.ParseFloat(n.Value, 64)
		if err != nil {
			d.report.at(path, n.Line, notNumber(n.Value), "")
			return
		}
		v.SetFloat(number)
	}
}

func notBool(text string) string   { return fmt.Sprintf("%q is not true or false", text) }
func notNumber(text string) string { return fmt.Sprintf("%q is not a number", text) }

// notWhole says why strconv refused text with err.
func notWhole(text string, err error) string {
	switch {
	case !errors.Is(err, strconv.ErrRange):
		return fmt.Sprintf("%q is not a whole number", text)
	case strings.HasPrefix(text, "-"):
		return fmt.Sprintf("%q is too small", text)
	}
	return fmt.Sprintf("%q is too large", text)
}

func newElement(t reflect.Type) reflect.Value {
	element := reflect.New(t)
	if d, ok := element.Interface().(defaulter); ok {
		d.setDefaults()
	}
	return element.Elem()
}
