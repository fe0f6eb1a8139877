package config

import (
	"encoding"
	"reflect"
	"strings"
)

// structValue returns the struct that pointer points at.
func structValue(pointer any) reflect.Value { return reflect.ValueOf(pointer).Elem() }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// keyOf returns the key of a struct field; "" when it has none, inline for an embedded struct.
func keyOf(f reflect.StructField) (key string, inline bool) {
	if f.Anonymous {
		return "", true
	}
	key, _, _ = strings.Cut(f.Tag.Get("yaml"), ",")
	if key == "-" {
		return "", false
	}
	return key, false
}

// fieldOf finds the field of v that has the key.
func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		name, inline := keyOf(v.Type().Field(i))
		if inline {
			if field, found := fieldOf(v.Field(i), key); found {
				return field, true
			}
		}
		if name != "" && name == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// keysOf lists the keys of a struct in the order of its fields.
func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		name, inline := keyOf(t.Field(i))
		if inline {
			keys = append(keys, keysOf(t.Field(i).Type)...)
		} else if name != "" {
			keys = append(keys, name)
		}
	}
	return keys
}

// leaf is one scalar of a struct: its path, and its place for reflection.
type leaf struct {
	path  string
	index []int
}

func (l leaf) in(v reflect.Value) reflect.Value { return v.FieldByIndex(l.index) }

// leavesOf lists the scalars below a struct: what environment variables can set. Lists and maps are not scalars, except those
// that have a text form.
func leavesOf(t reflect.Type) []leaf {
	var leaves []leaf
	for i := range t.NumField() {
		f := t.Field(i)
		name, inline := keyOf(f)
		if name == "" && !inline {
			continue
		}
		text := reflect.PointerTo(f.Type).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
		switch f.Type.Kind() {
		case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
			leaves = append(leaves, leaf{name, []int{i}})
		default:
			if text {
				leaves = append(leaves, leaf{name, []int{i}})
			}
		}
		if f.Type.Kind() == reflect.Struct {
			for _, below := range leavesOf(f.Type) {
				path := below.path
				if !inline {
					path = join(name, path)
				}
				leaves = append(leaves, leaf{path, append([]int{i}, below.index...)})
			}
		}
	}
	return leaves
}

// hint names the key that was probably meant, else all that are known.
func hint(given string, known []string) string {
	if near := nearest(given, known); near != "" {
		return "did you mean " + near + "?"
	}
	return "known here: " + strings.Join(known, ", ")
}

// nearest returns the word of known that is the fewest edits from given, "" when none is near: at most a third of its letters.
func nearest(given string, known []string) string {
	best, distance := "", 1+max(2, len(given)/3)
	for _, word := range known {
		if d := edits(strings.ToLower(given), strings.ToLower(word)); d < distance && d < len(word) {
			best, distance = word, d
		}
	}
	return best
}

// edits counts the insertions, deletions, replacements and swaps of neighbours that turn a into b (restricted
// Damerau-Levenshtein distance, by bytes).
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
