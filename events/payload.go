package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxPayload bounds what is looked at of a message. It is a few fields, not a document.
const maxPayload = 16 << 10 // bytes

// A fault is why a message does not become a purge: result is what is counted. It shows nothing of the payload, which may be private.
type fault struct {
	result string
	err    error
	judged error // of a selection that is refused: what the judge says, which shows values. Never to be logged
}

// message is one message that was received. The payload is read only if a rule looks at it, so that one that does not may hold anything.
type message struct {
	channel string
	payload string

	read   bool
	fields map[string]any
	bad    *fault
}

// values are those of a part: its text alone, where it is no placeholder.
func (m *message) values(p *part, lists bool) ([]string, *fault) {
	switch {
	case p.whole:
		return []string{m.channel}, nil
	case p.n > 0:
		parts := strings.Split(m.channel, ":")
		if p.n > len(parts) || parts[p.n-1] == "" {
			return nil, &fault{result: missingField, err: fmt.Errorf("the channel has no part %d", p.n)}
		}
		return []string{parts[p.n-1]}, nil
	case len(p.path) > 0:
		return m.field(p.path, lists)
	}
	return []string{p.text}, nil
}

// field is the value of a field of the payload.
func (m *message) field(path []string, lists bool) ([]string, *fault) {
	if !m.read {
		m.read = true
		m.fields, m.bad = parsePayload(m.payload)
	}
	if m.bad != nil {
		return nil, m.bad
	}
	name := strings.Join(path, ".")
	var value any = m.fields
	for _, key := range path {
		object, _ := value.(map[string]any)
		if value = object[key]; value == nil {
			return nil, &fault{result: missingField, err: fmt.Errorf("the payload has no field %s", name)}
		}
	}
	list, isList := value.([]any)
	switch {
	case !isList:
		list = []any{value}
	case !lists:
		return nil, &fault{result: badValue, err: fmt.Errorf("field %s is a list, which only tags take", name)}
	case len(list) == 0:
		return nil, &fault{result: missingField, err: fmt.Errorf("field %s is an empty list", name)}
	}
	texts := make([]string, len(list))
	for i, one := range list {
		switch v := one.(type) {
		case string:
			texts[i] = v
		case json.Number:
			texts[i] = v.String()
		}
		if texts[i] == "" { // an empty value would make of users/{id}* all users
			return nil, &fault{result: badValue, err: fmt.Errorf("field %s is no number and no text, or is empty", name)}
		}
	}
	return texts, nil
}

func parsePayload(text string) (map[string]any, *fault) {
	if len(text) > maxPayload {
		return nil, &fault{result: tooLong, err: fmt.Errorf("the payload has %d bytes: at most %d are read", len(text), maxPayload)}
	}
	var fields map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil || fields == nil {
		return nil, &fault{result: notJSON, err: errors.New("the payload is no JSON object")}
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, &fault{result: notJSON, err: errors.New("the payload goes on behind its JSON object")}
	}
	return fields, nil
}
