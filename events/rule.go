package events

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cacheproxy/invalidation"
)

// Spec is a rule as it is configured: what messages of a channel purge. All but Channel and Soft are templates (template.go). A Channel with any
// of * ? [ \ is a pattern, as PSUBSCRIBE takes it. Exactly one of URL, Pattern, Tags and Group is set; Origin goes with Group.
type Spec struct {
	Channel string
	URL     string
	Pattern string
	Tags    []string
	Group   string
	Origin  string
	Soft    bool
}

// Selection is what a message asks to be purged, as the admin API takes it: exactly one of URL, Pattern, Tags and Group is set.
type Selection struct {
	URL, Pattern, Group *string
	Tags                []string
	Origin              string
	Soft                bool
}

// A Judge makes a purge of a selection, or says what is wrong with it.
type Judge func(Selection) (invalidation.Purge, error)

// Mistake is what is wrong with a rule; Path is that of a key below the list of rules: [0].purge.url.
type Mistake struct {
	Path string
	Err  error
}

// Rules are compiled. The zero value has none.
type Rules struct {
	channels map[string][]*rule
	patterns map[string][]*rule
	judge    Judge
}

// Empty reports whether there are no rules.
func (r *Rules) Empty() bool { return r == nil || len(r.channels)+len(r.patterns) == 0 }

// names lists what to subscribe to.
func names(of map[string][]*rule) []string {
	return slices.Sorted(maps.Keys(of))
}

type rule struct {
	name                        string // of its key: events[0]
	soft                        bool
	url, pattern, group, origin *template // nil = not set
	tags                        []template
}

// Compile checks rules. The judge is asked about each message later, and here about what does not depend on one.
func Compile(specs []Spec, judge Judge) (*Rules, []Mistake) {
	rules := &Rules{channels: map[string][]*rule{}, patterns: map[string][]*rule{}, judge: judge}
	var mistakes []Mistake
	for i := range specs {
		c := compiler{at: fmt.Sprintf("[%d]", i)}
		r := c.compile(&specs[i], judge)
		mistakes = append(mistakes, c.mistakes...)
		of := rules.channels
		if strings.ContainsAny(specs[i].Channel, `*?[\`) {
			of = rules.patterns
		}
		of[specs[i].Channel] = append(of[specs[i].Channel], r)
	}
	return rules, mistakes
}

type compiler struct {
	at       string
	mistakes []Mistake
}

func (c *compiler) add(path string, err error) {
	c.mistakes = append(c.mistakes, Mistake{c.at + path, err})
}

func (c *compiler) template(path, text string) *template {
	if text == "" {
		return nil
	}
	t, err := parseTemplate(text)
	if err != nil {
		c.add(path, err)
	}
	return &t
}

func (c *compiler) compile(s *Spec, judge Judge) *rule {
	if s.Channel == "" {
		c.add(".channel", errors.New("is missing"))
	}
	r := &rule{
		name: "events" + c.at, soft: s.Soft,
		url: c.template(".purge.url", s.URL), pattern: c.template(".purge.pattern", s.Pattern),
		group: c.template(".purge.group", s.Group), origin: c.template(".purge.origin", s.Origin),
	}
	for i, tag := range s.Tags {
		t, err := parseTemplate(tag)
		if err != nil {
			c.add(fmt.Sprintf(".purge.tags[%d]", i), err)
		}
		r.tags = append(r.tags, t)
	}
	given := 0
	for _, there := range []bool{r.url != nil, r.pattern != nil, r.group != nil, len(r.tags) > 0} {
		if there {
			given++
		}
	}
	switch {
	case given != 1:
		c.add(".purge", fmt.Errorf("wants exactly one of url, pattern, tags, group; %d are given", given))
	case r.group == nil && r.origin != nil:
		c.add(".purge.origin", errors.New("goes with group"))
	case r.group != nil && r.origin == nil:
		c.add(".purge.group", errors.New("goes with origin: scheme://host"))
	}
	if r.pattern != nil {
		if err := r.pattern.checkPattern(); err != nil {
			c.add(".purge.pattern", err)
		}
	}
	if len(c.mistakes) == 0 && r.fixed() {
		if _, f := r.purges(&message{channel: s.Channel}, judge); f != nil {
			c.add(".purge", cmp.Or(f.judged, f.err)) // of values that are in the configuration
		}
	}
	return r
}

// fixed reports whether every message purges the same.
func (r *rule) fixed() bool {
	for _, t := range []*template{r.url, r.pattern, r.group, r.origin} {
		if t != nil && !t.fixed() {
			return false
		}
	}
	return !slices.ContainsFunc(r.tags, func(t template) bool { return !t.fixed() })
}

// tagsAtOnce is how many tags a purge may name: more make several.
const tagsAtOnce = 100

// purges are what a message asks for. They are more than one where it names many tags.
func (r *rule) purges(m *message, judge Judge) ([]invalidation.Purge, *fault) {
	selections, f := r.selections(m)
	if f != nil {
		return nil, f
	}
	list := make([]invalidation.Purge, 0, len(selections))
	for _, s := range selections {
		p, err := judge(s)
		if err == nil {
			p.Who = who(m.channel)
			err = p.Check()
		}
		if err != nil {
			return nil, &fault{refused, refusal(&s), err}
		}
		list = append(list, p)
	}
	return list, nil
}

// refusal is why a selection is refused, without its values, which the judge shows.
func refusal(s *Selection) error {
	p := invalidation.Purge{Kind: invalidation.KindTag, Tags: s.Tags}
	otherwise := errors.New("tags are refused")
	switch {
	case s.URL != nil:
		p = invalidation.Purge{Kind: invalidation.KindURL, Selector: *s.URL}
		otherwise = fmt.Errorf("url, of %d bytes: want an absolute URL of http or https, or one without a scheme, with a host and no user", len(*s.URL))
	case s.Pattern != nil:
		p = invalidation.Purge{Kind: invalidation.KindPattern, Selector: *s.Pattern}
		otherwise = errors.New("pattern is refused")
	case s.Group != nil:
		p = invalidation.Purge{Kind: invalidation.KindGroup, Group: *s.Group, Origin: "http://a.example"}
		otherwise = fmt.Errorf("origin, of %d bytes: want scheme://host, with the port unless it is the scheme's own", len(s.Origin))
	}
	err := p.Check() // which shows no values but that of an origin
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		err = several.Unwrap()[0] // of a hundred tags one is enough
	}
	return cmp.Or(err, otherwise)
}

func (r *rule) selections(m *message) ([]Selection, *fault) {
	s := Selection{Soft: r.soft}
	for _, f := range []struct {
		from   *template
		escape func(string) string
		into   **string
	}{{r.url, nil, &s.URL}, {r.pattern, invalidation.EscapeGlob, &s.Pattern}, {r.group, nil, &s.Group}} {
		if f.from == nil {
			continue
		}
		text, bad := f.from.one(m, f.escape)
		if bad != nil {
			return nil, bad
		}
		*f.into = &text
	}
	if r.origin != nil {
		var bad *fault
		if s.Origin, bad = r.origin.one(m, nil); bad != nil {
			return nil, bad
		}
	}
	if len(r.tags) == 0 {
		return []Selection{s}, nil
	}
	var tags []string
	for i := range r.tags {
		more, bad := r.tags[i].expand(m, true, nil)
		if bad != nil {
			return nil, bad
		}
		tags = append(tags, more...)
	}
	slices.Sort(tags)
	var all []Selection
	for some := range slices.Chunk(slices.Compact(tags), tagsAtOnce) {
		all = append(all, Selection{Tags: some, Soft: r.soft})
	}
	return all, nil
}

// maxWho bounds what the history says of where a purge came from.
const maxWho = 128 // bytes

func who(channel string) string {
	return "event " + strings.ToValidUTF8(channel[:min(len(channel), maxWho)], "")
}
