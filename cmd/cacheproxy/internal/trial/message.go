package trial

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/proxy"
	"cacheproxy/upstream"
)

// Messages are written as maps of keys, or as text, the way HTTP/1.1 and `curl -i` have them: a first line, field lines, and after an
// empty line the content.
//
//	request: GET https://shop.example/products/1
//	request: |
//	  GET https://shop.example/products/1
//	  Accept-Language: de
//	response: |
//	  HTTP/1.1 200 OK
//	  Cache-Control: max-age=60
//
//	  hello
//	response: {status: 200, header: {Cache-Control: max-age=60, Last-Modified: "{now-10h}"}, body: hello}
//
// {now}, {now-10h} and {now+5m} in the value of a field are an HTTP-date by the clock of the script.

// Request is what a client sends. Client is its address, "" = unknown.
type Request struct {
	Method string            `yaml:"method"` // "" = GET
	URL    string            `yaml:"url"`
	Header map[string]Values `yaml:"header"`
	Body   string            `yaml:"body"`
	Client string            `yaml:"client"`
}

// Response is what the origin answers; Error, in place of all the others, why it does not.
type Response struct {
	Status int               `yaml:"status"` // 0 = 200
	Header map[string]Values `yaml:"header"`
	Body   string            `yaml:"body"`
	Size   config.Size       `yaml:"size"` // of the content: Body is filled up to it
	Error  Cause             `yaml:"error"`
}

// Values are the values of a field: one, or a list of lines. None stands for a field that is not there.
type Values []string

// UnmarshalText takes a single value.
func (v *Values) UnmarshalText(text []byte) error {
	*v = Values{string(text)}
	return nil
}

// Cause is a proxy error type of RFC 9209 section 2.3 by its token: connection_refused, http_response_timeout.
type Cause upstream.Cause

// UnmarshalText knows the tokens of package upstream.
func (c *Cause) UnmarshalText(text []byte) error {
	var known []string
	for cause := upstream.CauseNone + 1; cause != 0; cause++ {
		token := cause.String()
		if token == string(text) {
			*c = Cause(cause)
			return nil
		}
		known = append(known, token)
		if cause == upstream.ProxyInternalError {
			break
		}
	}
	return fmt.Errorf("%q is no error of RFC 9209 (%s)", text, config.Hint(string(text), known))
}

// UnmarshalText reads the written form: METHOD URL, or a URL alone, and field lines.
func (q *Request) UnmarshalText(text []byte) error {
	first, header, body, err := readMessage(string(text))
	if err != nil {
		return err
	}
	words := strings.Fields(first)
	switch {
	case len(words) == 1:
		q.URL = words[0]
	case len(words) == 2, len(words) == 3 && strings.HasPrefix(words[2], "HTTP/"):
		q.Method, q.URL = words[0], words[1]
	default:
		return fmt.Errorf(`%q is no request: write "GET https://host/path"`, first)
	}
	if host := header["Host"]; len(host) == 1 && strings.HasPrefix(q.URL, "/") {
		q.URL = "http://" + host[0] + q.URL
	}
	q.Header, q.Body = header, body
	return nil
}

// UnmarshalText reads the written form: a status line and field lines.
func (s *Response) UnmarshalText(text []byte) error {
	first, header, body, err := readMessage(string(text))
	if err != nil {
		return err
	}
	words := strings.Fields(first)
	if len(words) > 0 && strings.HasPrefix(words[0], "HTTP/") {
		words = words[1:]
	}
	if len(words) == 0 {
		return fmt.Errorf(`%q is no response: write "HTTP/1.1 200 OK"`, first)
	}
	if s.Status, err = strconv.Atoi(words[0]); err != nil || s.Status < 200 || s.Status > 999 {
		return fmt.Errorf("%q is no final status", words[0])
	}
	s.Header, s.Body = header, body
	return nil
}

// readMessage splits a written message.
func readMessage(text string) (first string, header map[string]Values, body string, err error) {
	first, rest, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	head, body, _ := strings.Cut("\n"+rest, "\n\n")
	head = strings.TrimSpace(head)
	if head == "" {
		return first, nil, body, nil
	}
	fields, err := textproto.NewReader(bufio.NewReader(strings.NewReader(head + "\n\n"))).ReadMIMEHeader()
	if err != nil {
		return "", nil, "", errors.New(strings.Replace(err.Error(), "malformed MIME header", "no field", 1))
	}
	header = make(map[string]Values, len(fields))
	for name, values := range fields {
		header[name] = values
	}
	return first, header, body, nil
}

// question is the request at a moment. Fields are in the order of their names, which for those that a map holds is as good as any.
func (q Request) question(now time.Time) proxy.Question {
	asked := proxy.Question{Method: q.Method, URL: q.URL, Client: q.Client}
	for _, name := range slices.Sorted(maps.Keys(q.Header)) {
		for _, value := range expandAll(q.Header[name], now) {
			asked.Header = append(asked.Header, [2]string{name, value})
		}
	}
	return asked
}

// String is the request's first line.
func (q Request) String() string {
	if q.Method == "" {
		return http.MethodGet + " " + q.URL
	}
	return q.Method + " " + q.URL
}

var moment = regexp.MustCompile(`\{now([+-][^}]*)?\}`)

// expandAll puts dates in the place of {now}. What is no duration behind it stays as it is: checkMoments has refused it.
func expandAll(values []string, now time.Time) []string {
	expanded := make([]string, len(values))
	for i, value := range values {
		expanded[i] = moment.ReplaceAllStringFunc(value, func(match string) string {
			offset, err := offsetOf(match)
			if err != nil {
				return match
			}
			return now.Add(offset).UTC().Format(http.TimeFormat)
		})
	}
	return expanded
}

// offsetOf reads {now-10h}.
func offsetOf(match string) (time.Duration, error) {
	text := match[len("{now") : len(match)-1]
	if text == "" {
		return 0, nil
	}
	return time.ParseDuration(text)
}

// checkMoments says what is wrong with the moments in the values of fields.
func checkMoments(header map[string]Values) error {
	for _, values := range header {
		for _, value := range values {
			for _, match := range moment.FindAllString(value, -1) {
				if _, err := offsetOf(match); err != nil {
					return fmt.Errorf("%s is no moment: write {now}, {now-10h} or {now+5m}", match)
				}
			}
		}
	}
	return nil
}
