package wire

import (
	"bytes"
	"strconv"

	"cacheproxy/policy"
)

// head is what a scanner remembers of the head under way.
type head struct {
	method  method
	form    form
	minor   byte // of HTTP/1.x
	hosts   int
	target  string // authority of a target that has one
	length  int64  // Content-Length
	digits  int    // as which it is written
	lengths int
	expects int // Expect lines
	codings int // Transfer-Encoding lines
	chunked bool
	upgrade bool // has an Upgrade field
}

// method tells apart the methods that matter to framing and form.
type method uint8

const (
	otherMethod method = iota
	methodConnect
	methodOptions
	methodPost
)

// form is one of the four of RFC 9112 section 3.2.
type form uint8

const (
	originForm form = iota
	absoluteForm
	authorityForm
	asteriskForm
)

func (h *head) reset() { *h = head{} }

// scanHead follows one state's bytes of p. At least one byte is taken, unless there is a fault.
func (s *scanner) scanHead(p []byte) (n int, fault *Fault) {
	switch s.state {
	case atStart, atStartLF, atMethod:
		n, fault = s.scanMethod(p)
	case atTarget:
		n, fault = s.scanTarget(p)
	case atVersion, atLineLF:
		n, fault = s.scanVersion(p)
	case atField:
		n, fault = s.scanLineStart(p[0])
	case atName:
		n, fault = s.scanName(p)
	case atValue, atKept:
		n, fault = s.scanValue(p)
	case atFieldLF:
		if p[0] != '\n' {
			return 0, faultBareCR
		}
		n, fault, s.state = 1, s.endField(), atField
	case atEndLF:
		if p[0] != '\n' {
			return 0, faultBareCR
		}
		if fault = s.endHead(); fault != nil {
			return 0, fault // net/http must not see the end of such a head
		}
		n = 1
	}
	if s.size += n; s.size > s.most && fault == nil && s.state < atLength {
		return n, s.tooLarge()
	}
	return n, fault
}

func (s *scanner) tooLarge() *Fault {
	if s.state < atField {
		return faultTargetLong
	}
	return faultHead
}

// scanMethod takes the method and the space behind it. Before it, behind a POST, one empty line is passed over.
func (s *scanner) scanMethod(p []byte) (int, *Fault) {
	switch {
	case s.state == atStart && s.size == 0 && p[0] == '\r' && s.posted:
		s.state = atStartLF
		return 1, nil
	case s.state == atStartLF:
		if p[0] != '\n' {
			return 0, faultBareCR
		}
		s.state = atMethod
		return 1, nil
	}
	s.state = atMethod
	n := span(p, isToken)
	s.keep = append(s.keep, p[:n]...)
	switch {
	case n == len(p):
		return n, nil
	case p[n] == '\n':
		return n, faultBareLF
	case p[n] != ' ' && len(s.keep) == 0 || p[n] == '\r':
		return n, faultRequestLine
	case p[n] != ' ':
		return n, faultMethod
	case len(s.keep) == 0:
		return n, faultRequestLine
	}
	switch string(s.keep) {
	case "CONNECT":
		s.head.method = methodConnect
	case "OPTIONS":
		s.head.method = methodOptions
	case "POST":
		s.head.method = methodPost
	}
	s.keep = s.keep[:0]
	s.state = atTarget
	return n + 1, nil
}

// scanTarget takes the target and the space behind it. Only one that is no origin-form is kept to be looked at, of the others one byte.
func (s *scanner) scanTarget(p []byte) (int, *Fault) {
	n := span(p, isTarget)
	rest := p[:n]
	if n > 0 && len(s.keep) == 0 {
		s.keep, rest = append(s.keep, p[0]), rest[1:]
	}
	if len(s.keep) > 0 && s.keep[0] != '/' {
		s.keep = append(s.keep, rest...)
	}
	switch {
	case n == len(p):
		return n, nil
	case p[n] == '\n':
		return n, faultBareLF
	case p[n] != ' ' && p[n] != '\r' && p[n] != '\t':
		return n, faultTarget
	case p[n] != ' ' || len(s.keep) == 0:
		return n, faultRequestLine
	}
	if fault := s.endTarget(); fault != nil {
		return n, fault
	}
	s.keep, s.left, s.state = s.keep[:0], 0, atVersion
	return n + 1, nil
}

// endTarget finds the target's form, which must go with the method (RFC 9112 section 3.2).
func (s *scanner) endTarget() *Fault {
	h := &s.head
	switch {
	case h.method == methodConnect:
		if _, _, found := bytes.Cut(s.keep, []byte(":")); !found || !policy.ValidHost(string(s.keep)) {
			return faultTarget
		}
		h.form, h.target = authorityForm, string(s.keep)
	case s.keep[0] == '/':
		h.form = originForm
	case string(s.keep) == "*":
		if h.form = asteriskForm; h.method != methodOptions {
			return faultTarget
		}
	default:
		scheme, rest, found := bytes.Cut(s.keep, []byte("://"))
		if !found || !equalFold(scheme, "http") && !equalFold(scheme, "https") {
			return faultTarget
		}
		if i := bytes.IndexAny(rest, "/?"); i >= 0 {
			rest = rest[:i]
		}
		if h.form, h.target = absoluteForm, string(rest); !policy.ValidHost(h.target) {
			return faultTarget
		}
	}
	return nil
}

// scanVersion takes the version and the end of the request line.
func (s *scanner) scanVersion(p []byte) (int, *Fault) {
	const want = "HTTP/1."
	b := p[0]
	switch digit := b >= '0' && b <= '9'; {
	case s.state == atLineLF:
		if b != '\n' {
			return 0, faultBareCR
		}
		s.state = atField
		return 1, nil
	case b == '\n':
		return 0, faultBareLF
	case s.left == 8 && b == '\r':
		s.state = atLineLF
		return 1, nil
	case s.left == 7 && (b == '0' || b == '1'):
		s.head.minor = b - '0'
	case (s.left == 5 || s.left == 7) && digit && b != want[5]:
		return 0, faultVersion
	case s.left >= int64(len(want)) || b != want[s.left]:
		return 0, faultRequestLine
	}
	s.left++
	return 1, nil
}

// scanLineStart looks at the first byte of a field line, or at the CR of the empty line. It takes only that.
func (s *scanner) scanLineStart(b byte) (int, *Fault) {
	switch b {
	case '\r':
		s.state = atEndLF
		return 1, nil
	case '\n':
		return 0, faultBareLF
	case ' ', '\t':
		return 0, faultFold
	}
	s.state, s.named = atName, 0
	return 0, nil
}

// scanName takes a field name and its colon.
func (s *scanner) scanName(p []byte) (int, *Fault) {
	n := span(p, isToken)
	if s.named < len(s.name) {
		copy(s.name[s.named:], p[:n])
	}
	s.named += n
	switch {
	case n == len(p):
		return n, nil
	case p[n] == '\n':
		return n, faultBareLF
	case p[n] != ':' || s.named == 0:
		return n, faultFieldName
	}
	s.state, s.keep = atValue, s.keep[:0]
	if s.matters() {
		s.state = atKept
	}
	return n + 1, nil
}

// matters reports whether the field under way frames or routes the message, and forgets how long its name is where it does not.
func (s *scanner) matters() bool {
	switch s.named {
	case len("host"), len("expect"), len("upgrade"), len("content-length"), len("transfer-encoding"):
		name := s.name[:s.named]
		for i, b := range name {
			name[i] = lower(b)
		}
		switch string(name) {
		case "host", "content-length", "transfer-encoding", "expect", "upgrade":
			return true
		}
	}
	s.named = 0
	return false
}

// scanValue takes a field value and its CR.
func (s *scanner) scanValue(p []byte) (int, *Fault) {
	n := spanValue(p)
	if s.state == atKept {
		s.keep = append(s.keep, p[:n]...)
	}
	switch {
	case n == len(p):
		return n, nil
	case p[n] == '\n':
		return n, faultBareLF
	case p[n] != '\r':
		return n, faultFieldValue
	}
	s.state = atFieldLF
	return n + 1, nil
}

// endField judges the field line that has ended.
func (s *scanner) endField() *Fault {
	if s.fields++; s.fields > s.lines {
		return faultFields
	}
	if s.named == 0 {
		return nil
	}
	value := bytes.Trim(s.keep, " \t")
	switch name := string(s.name[:s.named]); {
	case name == "upgrade":
		s.head.upgrade = true
	case s.trailer:
		return faultTrailer
	case name == "expect":
		return s.endExpect(value)
	case name == "host":
		return s.endHost(value)
	case name == "content-length":
		return s.endLength(value)
	default:
		return s.endCoding(value)
	}
	return nil
}

// endHost judges a Host. The target has been read before.
func (s *scanner) endHost(value []byte) *Fault {
	h := &s.head
	h.hosts++
	switch {
	case h.hosts > 1:
		return faultHostTwice
	case !policy.ValidHost(string(value)):
		return faultHost
	case h.target != "" && !policy.SameHost(h.target, string(value)):
		return faultHostOther
	}
	return nil
}

// endLength judges a Content-Length. Lines that are the same are taken for one (RFC 9112 section 6.3); a list is not.
func (s *scanner) endLength(value []byte) *Fault {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || value[0] < '0' || value[0] > '9' {
		return faultLength
	}
	h := &s.head
	if h.lengths > 0 && (h.length != n || h.digits != len(value)) {
		return faultLength
	}
	h.lengths++
	h.length, h.digits = n, len(value)
	return nil
}

// endExpect judges an Expect. One that is written in any other way than everybody writes it is for those servers that look for the words
// in it, or for the field alone, and then wait for content or do not.
func (s *scanner) endExpect(value []byte) *Fault {
	if s.head.expects++; s.head.expects > 1 || !equalFold(value, "100-continue") {
		return faultExpect
	}
	return nil
}

// endCoding judges a Transfer-Encoding. A list that ends with its only chunked is well said but not understood.
func (s *scanner) endCoding(value []byte) *Fault {
	h := &s.head
	if h.codings++; h.codings > 1 {
		return faultCoding
	}
	if h.chunked = equalFold(value, "chunked"); h.chunked {
		return nil
	}
	codings := bytes.Split(value, []byte(","))
	for i, coding := range codings {
		coding = bytes.Trim(coding, " \t")
		last := i == len(codings)-1
		if span(coding, isToken) != len(coding) || len(coding) == 0 || equalFold(coding, "chunked") != last {
			return faultCoding
		}
	}
	return faultCodingOther
}

// endHead judges the head as a whole, and finds how long the content is (RFC 9112 section 6.3).
func (s *scanner) endHead() *Fault {
	if s.trailer {
		s.state = atBoundary
		return nil
	}
	h := &s.head
	switch {
	case h.hosts == 0 && h.minor == 1:
		return faultHostMissing
	case h.codings > 0 && h.lengths > 0:
		return faultBothLengths
	case h.codings > 0 && h.minor == 0:
		return faultCoding
	}
	s.beginContent()
	return nil
}
