package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/policy"
)

// File is a file of cases:
//
//	config: cacheproxy.yaml              # of the rules, beside this file; --config wins
//	time: 2026-01-01T00:00:00Z           # at which each case begins (the default)
//	cases:
//	  - name: a product is kept for a minute
//	    steps:
//	      - request: GET https://shop.example/products/1
//	        response: {header: {Cache-Control: max-age=60}, body: hello}
//	        expect: {outcome: uri-miss, stored: true, ttl: 60s}
//	      - after: 30s                   # since the step before
//	        request: GET https://shop.example/products/1
//	        expect: {outcome: hit, age: 30s, body: hello}
//
// Each case begins with nothing stored. A step without a response is one for which the origin must not be asked, one with a response
// one for which it must.
type File struct {
	Config string `yaml:"config"`
	Time   Moment `yaml:"time"`
	Cases  []Case `yaml:"cases"`

	name  string
	lines config.Lines
}

// Case is a sequence of steps.
type Case struct {
	Name  string `yaml:"name"`
	Time  Moment `yaml:"time"` // instead of the file's
	Steps []Step `yaml:"steps"`
}

// Step is one request and what is expected of it.
type Step struct {
	After    config.Duration `yaml:"after"`
	Request  Request         `yaml:"request"`
	Response *Response       `yaml:"response"`
	Expect   Expect          `yaml:"expect"`
}

// Recorded is a file of one exchange that has taken place.
type Recorded struct {
	Config   string   `yaml:"config"`
	Time     Moment   `yaml:"time"` // when the response came; default: its Date, or else now
	Request  Request  `yaml:"request"`
	Response Response `yaml:"response"`
}

// Moment is a time, as RFC 3339 or HTTP write it.
type Moment struct{ time.Time }

// UnmarshalText reads either form.
func (m *Moment) UnmarshalText(text []byte) (err error) {
	if m.Time, err = time.Parse(time.RFC3339, string(text)); err == nil {
		return nil
	}
	if m.Time, err = time.Parse(time.RFC1123, string(text)); err == nil {
		return nil
	}
	return fmt.Errorf("%q is no time: write 2026-01-01T00:00:00Z or an HTTP-date", text)
}

// begin is when cases begin that do not say.
var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// ReadFile reads a file of cases. The error is config.Mistakes: all of them.
func ReadFile(name string) (*File, error) {
	f := &File{name: name}
	text, err := read(name)
	if err != nil {
		return nil, err
	}
	if f.lines, err = config.Decode(name, text, f); err != nil {
		return nil, err
	}
	if f.Time.IsZero() {
		f.Time.Time = begin
	}
	return f, f.check()
}

// ReadRecorded reads a file of one exchange.
func ReadRecorded(name string, now time.Time) (*Recorded, error) {
	text, err := read(name)
	if err != nil {
		return nil, err
	}
	e := &Recorded{}
	lines, err := config.Decode(name, text, e)
	if err != nil {
		return nil, err
	}
	c := checker{name: name, lines: lines}
	c.request("request", e.Request, now)
	if lines["response"] == 0 {
		c.add("response", "is missing", "an exchange is a request and its response")
	}
	c.response("response", &e.Response)
	if e.Time.IsZero() {
		e.Time.Time = now
		if date := e.Response.Header["Date"]; len(date) == 1 {
			if sent, err := time.Parse(time.RFC1123, date[0]); err == nil {
				e.Time.Time = sent
			}
		}
	}
	return e, c.err()
}

func read(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, config.Mistakes{{File: name, Message: "cannot be read: " + err.Error()}}
	}
	return text, nil
}

// Line is where a path was written, or the nearest part above it.
func (f *File) Line(path string) int { return lineOf(f.lines, path) }

func lineOf(lines config.Lines, path string) int {
	for path != "" {
		if line := lines[path]; line > 0 {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 1
}

// checker collects what is well written and makes no sense.
type checker struct {
	name     string
	lines    config.Lines
	mistakes config.Mistakes
}

func (c *checker) add(path, message, hint string) {
	c.mistakes = append(c.mistakes, config.Mistake{File: c.name, Line: lineOf(c.lines, path), Key: path, Message: message, Hint: hint})
}

func (c *checker) err() error {
	if len(c.mistakes) == 0 {
		return nil
	}
	slices.SortStableFunc(c.mistakes, func(a, b config.Mistake) int { return a.Line - b.Line })
	return c.mistakes
}

func (c *checker) request(path string, q Request, now time.Time) {
	if q.URL == "" {
		c.add(path, "is missing", `write "GET https://host/path", or a map with url`)
		return
	}
	if _, err := q.question(now).Request(context.Background()); err != nil {
		c.add(path, err.Error(), "")
	}
	if err := checkMoments(q.Header); err != nil {
		c.add(path, err.Error(), "")
	}
}

func (c *checker) response(path string, s *Response) {
	if s == nil {
		return
	}
	if s.Status != 0 && (s.Status < 200 || s.Status > 999) {
		c.add(path+".status", fmt.Sprintf("%d is no final status", s.Status), "")
	}
	if s.Error != 0 && (s.Status != 0 || s.Header != nil || s.Body != "" || s.Size != 0) {
		c.add(path+".error", "contradicts what else the response says", "an upstream that fails answers nothing")
	}
	if err := checkMoments(s.Header); err != nil {
		c.add(path, err.Error(), "")
	}
}

// check reports all that is wrong with the cases.
func (f *File) check() error {
	c := checker{name: f.name, lines: f.lines}
	if len(f.Cases) == 0 {
		c.add("cases", "there are none", "cases: [{name: ..., steps: [{request: ..., response: ..., expect: ...}]}]")
	}
	seen := map[string]int{}
	for i := range f.Cases {
		path := fmt.Sprintf("cases[%d]", i)
		name := f.Cases[i].Name
		switch line := seen[name]; {
		case name == "":
			c.add(path, "has no name", "name: what it shows")
		case line > 0:
			c.add(path+".name", fmt.Sprintf("%q is the name of another case, on line %d", name, line), "")
		default:
			seen[name] = lineOf(f.lines, path+".name")
		}
		if len(f.Cases[i].Steps) == 0 {
			c.add(path, "has no steps", "")
		}
		for k := range f.Cases[i].Steps {
			step := &f.Cases[i].Steps[k]
			at := fmt.Sprintf("%s.steps[%d]", path, k)
			c.request(at+".request", step.Request, begin)
			c.response(at+".response", step.Response)
			c.expect(at+".expect", &step.Expect)
		}
	}
	return c.err()
}

func (c *checker) expect(path string, e *Expect) {
	if known := policy.Labels(); e.Outcome != "" && !slices.Contains(known, e.Outcome) {
		c.add(path+".outcome", fmt.Sprintf("%q is no outcome", e.Outcome), config.Hint(e.Outcome, known))
	}
	if e.Reason == nil || *e.Reason == "" || *e.Reason == "none" {
		return
	}
	var known []string
	for _, r := range policy.Reasons() {
		known = append(known, r.String())
	}
	if !slices.Contains(known, *e.Reason) {
		c.add(path+".reason", fmt.Sprintf("%q is no reason", *e.Reason), config.Hint(*e.Reason, append(known, "none")))
	}
}
