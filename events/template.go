package events

import (
	"fmt"
	"strings"

	"cacheproxy/internal/placeholder"
)

// A template is text with placeholders:
//
//	{channel}     the channel that the message was published on
//	{channel.N}   its N-th part between colons, from 1: of user:42, {channel.2} is 42
//	{a}, {a.b.c}  a field of the payload, which is a JSON object, and a field of an object in it
//
// So a field of the payload that is called channel cannot be named, nor one with a dot in its name. A value is text or a number, as it was
// written, and never empty; in a tag it may be a list of such values, which makes a tag of each.
type template struct {
	source string
	parts  []part
}

type part struct {
	text  string
	path  []string // of a field of the payload
	whole bool     // the channel
	n     int      // of a part of the channel
}

func (p *part) placeholder() bool { return p.whole || p.n > 0 || len(p.path) > 0 }

const maxTemplate = 4 << 10 // bytes

func parseTemplate(s string) (t template, err error) {
	t.source = s
	t.parts, err = placeholder.Parse(s, maxTemplate, func(text string) part { return part{text: text} }, parsePlaceholder)
	return t, err
}

func parsePlaceholder(name string) (p part, err error) {
	if name == "channel" {
		return part{whole: true}, nil
	}
	if n, ok, err := placeholder.Numbered(name, "channel", "a part of the channel"); ok {
		return part{n: n}, err
	}
	for field := range strings.SplitSeq(name, ".") {
		if field == "" || strings.ContainsAny(field, "{ \t") {
			return p, fmt.Errorf("{%s} names no field of the payload: {user_id}, {user.id}, {channel} or {channel.2}", name)
		}
		p.path = append(p.path, field)
	}
	return p, nil
}

// fixed reports whether there are no placeholders.
func (t *template) fixed() bool {
	for i := range t.parts {
		if t.parts[i].placeholder() {
			return false
		}
	}
	return true
}

// maxExpansions bounds what one template becomes.
const maxExpansions = 1000

// expand fills in the values of a message, each as escape makes it (nil: as it is). It is more than one text only where lists are allowed.
func (t *template) expand(m *message, lists bool, escape func(string) string) ([]string, *fault) {
	texts := []string{""}
	for i := range t.parts {
		values, f := m.values(&t.parts[i], lists)
		if f != nil {
			return nil, f
		}
		if len(values)*len(texts) > maxExpansions {
			return nil, &fault{result: refused, err: fmt.Errorf("%s becomes more than %d tags", t.source, maxExpansions)}
		}
		longer := make([]string, 0, len(texts)*len(values))
		for _, text := range texts {
			for _, v := range values {
				if escape != nil && t.parts[i].placeholder() {
					v = escape(v)
				}
				longer = append(longer, text+v)
			}
		}
		texts = longer
	}
	return texts, nil
}

// one is expand where there is exactly one text.
func (t *template) one(m *message, escape func(string) string) (string, *fault) {
	texts, f := t.expand(m, false, escape)
	if f != nil {
		return "", f
	}
	return texts[0], nil
}

// checkPattern refuses placeholders where a value would not stand for itself, even escaped: behind a backslash, which would take the one that
// escapes, and in brackets, which have rules of their own.
func (t *template) checkPattern() error {
	var b strings.Builder
	for i := range t.parts {
		if t.parts[i].placeholder() {
			b.WriteByte(0) // no template has one
		}
		b.WriteString(t.parts[i].text)
	}
	p := b.String()
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '\\':
			if i+1 < len(p) && p[i+1] == 0 {
				return fmt.Errorf("%q has a placeholder behind a backslash", t.source)
			}
			i++
		case '[':
			end := setEnd(p, i)
			if strings.IndexByte(p[i:end], 0) >= 0 {
				return fmt.Errorf("%q has a placeholder in brackets", t.source)
			}
			i = end - 1
		}
	}
	return nil
}

// setEnd is where the set ends that begins at p[i], as Redis reads it: a bracket that is not closed ends with the pattern.
func setEnd(p string, i int) int {
	i++
	if i < len(p) && p[i] == '^' {
		i++
	}
	for ; i < len(p); i++ {
		switch {
		case p[i] == '\\' && i+1 < len(p):
			i++
		case p[i] == ']':
			return i + 1
		case i+2 < len(p) && p[i+1] == '-':
			i += 2
		}
	}
	return len(p)
}
