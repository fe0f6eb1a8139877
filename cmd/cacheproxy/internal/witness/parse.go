// Package witness is the server behind the proxy in tests of security: it reads each request with a grammar of its own, written from
// RFC 9112 and shared with nothing that it checks, keeps every byte, and names whatever another server could have read in another way.
package witness

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Message is one request as it was read.
type Message struct {
	Raw      []byte // all its bytes
	Method   string
	Target   string
	Version  string
	Fields   []Field
	Body     []byte
	Trailers []Field
}

// Field is one field line. The name is as it was sent.
type Field struct{ Name, Value string }

// Get returns the values of all lines of that name.
func (m *Message) Get(name string) (values []string) {
	for _, f := range m.Fields {
		if strings.EqualFold(f.Name, name) {
			values = append(values, f.Value)
		}
	}
	return values
}

// Host is the host that the request is for, which an absolute-form target names over the field (RFC 9112 section 3.2.2).
func (m *Message) Host() string {
	if _, rest, found := strings.Cut(m.Target, "://"); found && m.Target[0] != '/' {
		end := strings.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		return rest[:end]
	}
	return strings.Join(m.Get("Host"), ",")
}

// Path is the target in origin-form.
func (m *Message) Path() string {
	_, rest, found := strings.Cut(m.Target, "://")
	if !found || m.Target[0] == '/' {
		return m.Target
	}
	i := strings.IndexAny(rest, "/?")
	switch {
	case i < 0:
		return "/"
	case rest[i] == '?':
		return "/" + rest[i:]
	}
	return rest[i:]
}

// String is what tests compare: method, target, host and content.
func (m *Message) String() string {
	text := m.Method + " " + m.Target + " " + m.Host()
	if len(m.Body) > 40 {
		return fmt.Sprintf("%s %d bytes", text, len(m.Body))
	}
	if len(m.Body) > 0 {
		text += " " + strconv.Quote(string(m.Body))
	}
	return text
}

// Side says whose requests are read.
type Side uint8

const (
	FromProxy  Side = iota // has no excuse for anything that is not in the plainest form
	FromClient             // may say the same twice, extend chunks and use the other forms of targets
)

// A Doubt is why bytes are no request that everybody reads alike.
type Doubt string

// Error implements error.
func (d Doubt) Error() string { return string(d) }

// errMore says that the message goes on.
const errMore = Doubt("unfinished")

// Parse reads the request that p begins with. Its error is a Doubt; the message then has what was read before. unfinished reports that the
// bytes so far are in order, but not all.
func Parse(p []byte, side Side) (m *Message, unfinished bool, err error) {
	r := &reader{p: p, side: side}
	m = &Message{}
	err = r.message(m)
	m.Raw = p[:r.n]
	return m, err == errMore, err
}

// ParseAll reads all requests that p consists of. rest is what is left when err is not nil.
func ParseAll(p []byte, side Side) (all []*Message, rest []byte, err error) {
	for len(p) > 0 {
		m, _, err := Parse(p, side)
		if err != nil {
			return all, p, err
		}
		all = append(all, m)
		p = p[len(m.Raw):]
	}
	return all, nil, nil
}

// reader is a place in bytes.
type reader struct {
	p    []byte
	n    int
	side Side
}

// line takes a line without its CRLF. Nothing in it is a control but HTAB.
func (r *reader) line() (string, error) {
	rest := r.p[r.n:]
	for i, b := range rest {
		switch {
		case b == '\r' && i+1 == len(rest):
			return "", errMore
		case b == '\r' && rest[i+1] == '\n':
			r.n += i + 2
			return string(rest[:i]), nil
		case b < ' ' && b != '\t' || b == 0x7f:
			return "", Doubt(fmt.Sprintf("byte %#02x in a line", b))
		}
	}
	return "", errMore
}

func (r *reader) message(m *Message) error {
	if r.side == FromClient && bytes.HasPrefix(r.p, []byte("\r\n")) {
		r.n = 2 // RFC 9112 section 2.2
	}
	line, err := r.line()
	if err != nil {
		return err
	}
	if err := r.requestLine(m, line); err != nil {
		return err
	}
	if m.Fields, err = r.fields(); err != nil {
		return err
	}
	if err := r.host(m); err != nil {
		return err
	}
	return r.content(m)
}

func (r *reader) requestLine(m *Message, line string) error {
	parts := strings.Split(line, " ")
	if len(parts) != 3 {
		return Doubt("a request line of other than three parts")
	}
	m.Method, m.Target, m.Version = parts[0], parts[1], parts[2]
	switch {
	case !isToken(m.Method):
		return Doubt("the method is no token")
	case m.Version != "HTTP/1.1" && m.Version != "HTTP/1.0":
		return Doubt("version " + m.Version)
	case m.Target == "" || strings.ContainsAny(m.Target, "\t#"):
		return Doubt("the target has bytes that no target has")
	case m.Target[0] == '/' || m.Target == "*" && m.Method == "OPTIONS":
		return nil
	case r.side == FromProxy:
		return Doubt("the target is in a form that is for proxies")
	}
	return nil
}

func (r *reader) fields() (all []Field, err error) {
	for {
		line, err := r.line()
		if err != nil || line == "" {
			return all, err
		}
		name, value, found := strings.Cut(line, ":")
		if !found || !isToken(name) {
			return all, Doubt(fmt.Sprintf("no field line: %.60q", line))
		}
		all = append(all, Field{name, strings.Trim(value, " \t")})
	}
}

func (r *reader) host(m *Message) error {
	hosts := m.Get("Host")
	switch {
	case len(hosts) > 1 || len(hosts) == 0 && m.Version == "HTTP/1.1":
		return Doubt(fmt.Sprintf("%d Host fields", len(hosts)))
	case len(hosts) == 1 && strings.ContainsAny(hosts[0], " \t@/?#\\"):
		return Doubt("a Host that is none")
	}
	return nil
}

// content reads what the framing fields announce (RFC 9112 section 6.3).
func (r *reader) content(m *Message) error {
	lengths, codings := m.Get("Content-Length"), m.Get("Transfer-Encoding")
	switch {
	case len(codings) > 0 && len(lengths) > 0:
		return Doubt("Content-Length with Transfer-Encoding")
	case len(codings) > 1 || len(codings) == 1 && !strings.EqualFold(codings[0], "chunked"):
		return Doubt("a coding that is not chunked")
	case len(codings) == 1 && m.Version != "HTTP/1.1":
		return Doubt("a coding in HTTP/1.0")
	case len(lengths) > 1 && r.side == FromProxy:
		return Doubt("several Content-Lengths")
	case len(codings) == 1:
		return r.chunks(m)
	}
	lengths = slices.Compact(lengths)
	if len(lengths) == 0 {
		return nil
	}
	var n uint64
	for i, length := range lengths {
		each, err := strconv.ParseUint(length, 10, 63) // no sign, no base, no underscores
		if err != nil || i > 0 && each != n {
			return Doubt("a Content-Length that is not one number")
		}
		n = each
	}
	var err error
	m.Body, err = r.bytes(n)
	return err
}

func (r *reader) bytes(n uint64) ([]byte, error) {
	rest := r.p[r.n:]
	if uint64(len(rest)) < n {
		r.n = len(r.p)
		return rest, errMore
	}
	r.n += int(n)
	return rest[:n:n], nil
}

// chunks reads RFC 9112 section 7.1.
func (r *reader) chunks(m *Message) error {
	for {
		line, err := r.line()
		if err != nil {
			return err
		}
		digits, _, extended := strings.Cut(line, ";")
		size, err := strconv.ParseUint(digits, 16, 60)
		switch {
		case err != nil:
			return Doubt(fmt.Sprintf("no chunk size: %.60q", line))
		case extended && r.side == FromProxy:
			return Doubt("a chunk extension")
		case size == 0:
			return r.trailers(m)
		}
		chunk, err := r.bytes(size)
		m.Body = append(m.Body, chunk...)
		if err != nil {
			return err
		}
		switch end, err := r.bytes(2); {
		case len(end) > 0 && end[0] != '\r' || len(end) > 1 && end[1] != '\n':
			return Doubt("a chunk does not end where it should")
		case err != nil:
			return err
		}
	}
}

func (r *reader) trailers(m *Message) (err error) {
	m.Trailers, err = r.fields()
	for _, f := range m.Trailers {
		switch strings.ToLower(f.Name) {
		case "content-length", "transfer-encoding", "host":
			return Doubt("framing or routing in the trailers: " + f.Name)
		}
	}
	return err
}

func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
