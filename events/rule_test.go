package events

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"cacheproxy/invalidation"
)

// plainly makes a purge of a selection without looking at its URL.
func plainly(s Selection) (invalidation.Purge, error) {
	p := invalidation.Purge{Tags: s.Tags, Origin: s.Origin, Soft: s.Soft}
	switch {
	case s.URL != nil:
		p.Kind, p.Selector = invalidation.KindURL, *s.URL
	case s.Pattern != nil:
		p.Kind, p.Selector = invalidation.KindPattern, *s.Pattern
	case s.Group != nil:
		p.Kind, p.Group = invalidation.KindGroup, *s.Group
	default:
		p.Kind = invalidation.KindTag
	}
	return p, p.Check()
}

func compiled(t *testing.T, specs ...Spec) *Rules {
	t.Helper()
	rules, mistakes := Compile(specs, plainly)
	if len(mistakes) > 0 {
		t.Fatalf("%v", mistakes)
	}
	return rules
}

// onlyRule is the rule of rules that have one.
func onlyRule(t *testing.T, rules *Rules) *rule {
	t.Helper()
	for _, of := range []map[string][]*rule{rules.channels, rules.patterns} {
		for _, list := range of {
			return list[0]
		}
	}
	t.Fatal("no rule")
	return nil
}

func TestWhatAMessagePurges(t *testing.T) {
	list := func(n int) string {
		all := make([]int, n)
		for i := range all {
			all[i] = i + 100
		}
		text, _ := json.Marshal(all)
		return fmt.Sprintf(`{"ids": %s}`, text)
	}
	tags := func(tags ...string) Spec { return Spec{Channel: "user:*", Tags: tags} }
	for _, test := range []struct {
		name, channel, payload string
		rule                   Spec
		want                   string // the purges, or the result and a part of the message
	}{
		{"a number", "user:42", `{"user_id": 42}`, tags("user-{user_id}"), `tag [user-42]`},
		{"text", "user:42", `{"user_id": "4 2"}`, tags("user-{user_id}", "users"), `tag [user-4 2 users]`},
		{"a number as it was written", "user:1", `{"user_id": 9007199254740993.10}`, tags("user-{user_id}"), `tag [user-9007199254740993.10]`},
		{"an escape in JSON", "user:1", `{"user_id": "\u00e9\n"}`, tags("{user_id}"), "tag [é\n]"},
		{"of the channel", "user:42", `what is not looked at`, tags("user-{channel.2}", "{channel}"), `tag [user-42 user:42]`},
		{"a field of a field", "user:42", `{"user": {"id": 7, "name": "x"}, "user.id": 8}`, tags("{user.id}-{user.name}"), `tag [7-x]`},
		{"a list", "user:42", `{"ids": [1, "2", 1]}`, tags("a-{ids}", "b"), `tag [a-1 a-2 b]`},
		{"two lists", "user:42", `{"a": [1, 2], "b": ["x", "y"]}`, tags("{a}{b}"), `tag [1x 1y 2x 2y]`},
		{"softly", "user:42", `{}`, Spec{Channel: "user:*", Tags: []string{"users"}, Soft: true}, `soft tag [users]`},
		{"no placeholder, no JSON", "user:42", ``, tags("users"), `tag [users]`},
		{"a URL", "p", `{"host": "shop.example", "id": "a/b?c"}`, Spec{Channel: "p", URL: "https://{host}/{id}"}, `url https://shop.example/a/b?c`},
		{"a URL of one field", "p", `{"url": "https://shop.example/x*"}`, Spec{Channel: "p", URL: "{url}"}, `url https://shop.example/x*`},
		{"a pattern", "p", `{"id": 7}`, Spec{Channel: "p", Pattern: "https://a/[0-9]/{id}/*"}, `pattern https://a/[0-9]/7/*`},
		{"a pattern that is not to be widened", "p", `{"id": "*[a]\\?"}`, Spec{Channel: "p", Pattern: "https://a/{id}/*"}, `pattern https://a/\*\[a\]\\\?/*`},
		{"a channel that would widen a pattern", "u:*", ``, Spec{Channel: "u:*", Pattern: "https://a/{channel.2}"}, `pattern https://a/\*`},
		{"a group", "p", `{"g": "stock", "o": "https://a"}`, Spec{Channel: "p", Group: "{g}", Origin: "{o}"}, `group https://a stock`},

		{"no JSON", "user:42", `user_id=42`, tags("{user_id}"), `not-json: is no JSON object`},
		{"nothing", "user:42", ``, tags("{user_id}"), `not-json: is no JSON object`},
		{"no object", "user:42", `[42]`, tags("{user_id}"), `not-json: is no JSON object`},
		{"null", "user:42", `null`, tags("{user_id}"), `not-json: is no JSON object`},
		{"two objects", "user:42", `{"user_id": 1} {"user_id": 2}`, tags("{user_id}"), `not-json: goes on`},
		{"no field", "user:42", `{"userid": 42}`, tags("{user_id}"), `missing-field: no field user_id`},
		{"a field of another case", "user:42", `{"User_Id": 42}`, tags("{user_id}"), `missing-field: no field user_id`},
		{"a field that is null", "user:42", `{"user_id": null}`, tags("{user_id}"), `missing-field: no field user_id`},
		{"a field of text", "user:42", `{"user": "x"}`, tags("{user.id}"), `missing-field: no field user.id`},
		{"no such part", "user", ``, tags("{channel.2}"), `missing-field: no part 2`},
		{"an empty part", "user:", ``, tags("{channel.2}"), `missing-field: no part 2`},
		{"an empty list", "user:42", `{"ids": []}`, tags("{ids}"), `missing-field: empty list`},
		{"true", "user:42", `{"user_id": true}`, tags("{user_id}"), `bad-value: no number and no text`},
		{"an object", "user:42", `{"user_id": {}}`, tags("{user_id}"), `bad-value: no number and no text`},
		{"empty", "user:42", `{"user_id": ""}`, tags("user-{user_id}"), `bad-value: is empty`},
		{"a list of lists", "user:42", `{"ids": [1, [2]]}`, tags("{ids}"), `bad-value: no number and no text`},
		{"null in a list", "user:42", `{"ids": [1, null]}`, tags("{ids}"), `bad-value: no number and no text`},
		{"a list for a URL", "p", `{"ids": [1]}`, Spec{Channel: "p", URL: "http://a/{ids}"}, `bad-value: only tags take`},
		{"a long payload", "user:42", fmt.Sprintf(`{"user_id": 1, "x": "%s"}`, strings.Repeat("x", maxPayload)), tags("{user_id}"), `too-long: at most 16384 are read`},
		{"a long tag", "user:42", fmt.Sprintf(`{"user_id": "%s"}`, strings.Repeat("x", 257)), tags("{user_id}"), `refused: a tag has 257 bytes`},
		{"many tags of two lists", "user:42", list(32), tags("{ids}{ids}"), `refused: more than 1000 tags`},
		{"an origin that is none", "p", `{"o": "a"}`, Spec{Channel: "p", Group: "g", Origin: "{o}"}, `refused: want scheme://host`},
		{"a channel that is no text", "u:\xff", ``, Spec{Channel: "u:*", Tags: []string{"{channel.2}"}}, `refused: is not UTF-8`},
	} {
		t.Run(test.name, func(t *testing.T) {
			purges, f := onlyRule(t, compiled(t, test.rule)).purges(&message{channel: test.channel, payload: test.payload}, plainly)
			if f != nil {
				result, part, _ := strings.Cut(test.want, ": ")
				if f.result != result || !strings.Contains(f.err.Error(), part) || part == "" {
					t.Errorf("got  %s: %v\nwant %s", f.result, f.err, test.want)
				}
				return
			}
			if got := shown(purges); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func shown(purges []invalidation.Purge) string {
	var all []string
	for i := range purges {
		p := &purges[i]
		text := string(p.Kind)
		if p.Soft {
			text = "soft " + text
		}
		for _, s := range []string{p.Origin, p.Group, p.Selector} {
			if s != "" {
				text += " " + s
			}
		}
		if p.Tags != nil {
			text += fmt.Sprint(" ", p.Tags)
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// Why a message is refused is told without what it says, whatever its judge says.
func TestRefusalShowsNoValues(t *testing.T) {
	judge := func(s Selection) (invalidation.Purge, error) {
		p, err := plainly(s)
		if text := fmt.Sprint(s.Tags, s.Origin, p.Selector, p.Group); err == nil && strings.Contains(text, "hush") {
			err = fmt.Errorf("%q is refused", text)
		}
		return p, err
	}
	long := "hush" + strings.Repeat("x", 9<<10)
	for _, tt := range []struct {
		spec        Spec
		value, want string
	}{
		{Spec{URL: "{v}"}, "ftp://hush/", "url, of 11 bytes: want an absolute URL"},
		{Spec{URL: "http://a/{v}"}, long, "url is longer than 8192 bytes"},
		{Spec{Pattern: "{v}"}, "hush", "pattern is refused"},
		{Spec{Pattern: "{v}"}, long, "pattern is longer than 8192 bytes"},
		{Spec{Tags: []string{"a{v}", "b{v}"}}, long[:300], "a tag has 301 bytes: want 1 to 256"},
		{Spec{Tags: []string{"{v}"}}, "hush", "tags are refused"},
		{Spec{Group: "{v}", Origin: "http://a"}, long[:300], "group has 300 bytes: want 1 to 256"},
		{Spec{Group: "g", Origin: "{v}"}, "hush", "origin, of 4 bytes: want scheme://host"},
		{Spec{Group: "g", Origin: "{v}"}, long, "origin, of 9220 bytes: want scheme://host"},
	} {
		tt.spec.Channel = "a"
		payload, _ := json.Marshal(map[string]string{"v": tt.value})
		_, f := onlyRule(t, compiled(t, tt.spec)).purges(&message{channel: "a", payload: string(payload)}, judge)
		if f == nil || f.result != refused || f.judged == nil || !strings.HasPrefix(f.err.Error(), tt.want) || strings.Contains(f.err.Error(), "hush") || strings.Contains(f.err.Error(), "\n") {
			t.Errorf("%+v of %.20s: %+v, want %s", tt.spec, tt.value, f, tt.want)
		}
	}
}

// A purge names a hundred tags at most; a list that is longer makes several.
func TestManyTags(t *testing.T) {
	ids := make([]string, 250)
	for i := range ids {
		ids[i] = fmt.Sprint(1000 + i)
	}
	text, _ := json.Marshal(map[string]any{"ids": ids})
	r := onlyRule(t, compiled(t, Spec{Channel: "a", Tags: []string{"{ids}"}}))
	purges, f := r.purges(&message{channel: "a", payload: string(text)}, plainly)
	if f != nil || len(purges) != 3 {
		t.Fatalf("%v, %d purges", f, len(purges))
	}
	var got []string
	for i := range purges {
		got = append(got, purges[i].Tags...)
		if purges[i].Who != "event a" {
			t.Errorf("who: %q", purges[i].Who)
		}
	}
	if !reflect.DeepEqual(got, ids) {
		t.Errorf("%d tags: %v", len(got), got)
	}
}

func TestRulesThatAreMistakes(t *testing.T) {
	for want, spec := range map[string]Spec{
		"[0].channel: is missing":                                      {Tags: []string{"a"}},
		"[0].purge: wants exactly one of url, pattern, tags, group; 0": {Channel: "a"},
		"[0].purge: wants exactly one of url, pattern, tags, group; 2": {Channel: "a", URL: "u", Tags: []string{"a"}},
		"[0].purge.origin: goes with group":                            {Channel: "a", URL: "u", Origin: "http://a"},
		"[0].purge.group: goes with origin":                            {Channel: "a", Group: "g"},
		"[0].purge.tags[1]: is empty":                                  {Channel: "a", Tags: []string{"a", ""}},
		`[0].purge.url: "a}" has an unpaired brace`:                    {Channel: "a", URL: "a}"},
		`[0].purge.url: "{a" has an unpaired brace`:                    {Channel: "a", URL: "{a"},
		"[0].purge.url: {} names no field":                             {Channel: "a", URL: "{}"},
		"[0].purge.url: {a..b} names no field":                         {Channel: "a", URL: "{a..b}"},
		"[0].purge.url: {channel.0} must number":                       {Channel: "a", URL: "{channel.0}"},
		"[0].purge.url: {channel.id} must number":                      {Channel: "a", URL: "{channel.id}"},
		"[0].purge.url: has a NUL":                                     {Channel: "a", URL: "a\x00"},
		"[0].purge.url: is longer than":                                {Channel: "a", URL: strings.Repeat("a", maxTemplate+1)},
		`[0].purge.pattern: "a\\{b}" has a placeholder behind`:         {Channel: "a", Pattern: `a\{b}`},
		`[0].purge.pattern: "[a{b}]" has a placeholder in brackets`:    {Channel: "a", Pattern: `[a{b}]`},
		`[0].purge.pattern: "[^{b}]" has a placeholder in brackets`:    {Channel: "a", Pattern: `[^{b}]`},
		`[0].purge.pattern: "[a-]{b}]" has a placeholder in brackets`:  {Channel: "a", Pattern: `[a-]{b}]`},
		`[0].purge.pattern: "[\\]{b}]" has a placeholder in brackets`:  {Channel: "a", Pattern: `[\]{b}]`},
		`[0].purge.pattern: "[a/{b}" has a placeholder in brackets`:    {Channel: "a", Pattern: `[a/{b}`},
		"[0].purge: pattern: more than 32 stars":                       {Channel: "a", Pattern: strings.Repeat("*a", 33)},
		"[0].purge: a tag has 257 bytes":                               {Channel: "a", Tags: []string{strings.Repeat("a", 257)}},
		"[0].purge: origin is \"a\": want scheme://host":               {Channel: "a", Group: "g", Origin: "a"},
	} {
		_, mistakes := Compile([]Spec{spec}, plainly)
		if len(mistakes) != 1 || !strings.HasPrefix(mistakes[0].Path+": "+mistakes[0].Err.Error(), want) {
			t.Errorf("%+v\ngot  %v\nwant %s", spec, mistakes, want)
		}
	}
	for _, pattern := range []string{`[a]{b}`, `\[{b}`, `[]{b}`, `a\\{b}`, `[a-z]*{b}`, `{b}`} {
		if _, mistakes := Compile([]Spec{{Channel: "a", Pattern: pattern}}, plainly); len(mistakes) > 0 {
			t.Errorf("%s: %v", pattern, mistakes)
		}
	}
}

// Whatever a value is, in a pattern it matches itself alone.
func FuzzValueInPattern(f *testing.F) {
	for _, template := range []string{"a{v}b", `{v}`, "/{v}/]", "{v}^-"} {
		for _, value := range []string{"x", "*", `\`, "[^a]", "a]b", "?", "é"} {
			f.Add(template, value, "other")
		}
	}
	f.Fuzz(func(t *testing.T, source, value, other string) {
		tpl, err := parseTemplate(source)
		if err != nil || value == "" || strings.Count(source, "{v}") != 1 || strings.Count(source, "{") != 1 || tpl.checkPattern() != nil {
			return
		}
		before, after, _ := strings.Cut(source, "{v}")
		if strings.ContainsAny(before+after, `*?[\`) { // what the pattern itself matches is not foretold
			return
		}
		text, bad := tpl.one(&message{read: true, fields: map[string]any{"v": value}}, invalidation.EscapeGlob)
		if bad != nil {
			t.Fatal(bad.err)
		}
		glob, err := invalidation.CompileGlob(text)
		if err != nil {
			return
		}
		if !glob.Match(before + value + after) {
			t.Errorf("%q does not match its own value %q", text, value)
		}
		if other != value && glob.Match(before+other+after) {
			t.Errorf("%q, made of %q, matches %q", text, value, other)
		}
	})
}
