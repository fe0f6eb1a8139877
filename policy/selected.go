package policy

import "encoding/binary"

// A SelectedField is a field that a response nominates, and what the request that it answered had in it.
type SelectedField struct {
	Name  string // lower case
	Value string // normalised, as it is compared
	Sent  bool   // the request had the field
}

// SplitSelection takes apart what AppendSelection made, for people. What is not of that form is left out. The values may be secrets.
func SplitSelection(selection []byte) (fields []SelectedField) {
	text := func(n uint32) (string, bool) {
		if uint64(n) > uint64(len(selection)) {
			return "", false
		}
		s := string(selection[:n])
		selection = selection[n:]
		return s, true
	}
	length := func() (n uint32, ok bool) {
		if len(selection) < 4 {
			return 0, false
		}
		n = binary.BigEndian.Uint32(selection)
		selection = selection[4:]
		return n, true
	}
	for len(selection) > 0 {
		n, ok := length()
		name, named := text(n)
		if !ok || !named {
			break
		}
		n, ok = length()
		if !ok {
			break
		}
		f := SelectedField{Name: name, Sent: n != absentLength}
		if f.Sent {
			if f.Value, ok = text(n); !ok {
				break
			}
		}
		fields = append(fields, f)
	}
	return fields
}
