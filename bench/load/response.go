package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"cacheproxy/bench/body"
)

// head is what is known of the head of a response.
type head struct {
	status  int
	length  int64 // of the body; -1 = it is not said
	chunked bool
	last    bool // the connection ends with the response
}

const (
	maxHead  = 64 << 10 // bytes
	crlf     = "\r\n"
	endOfAll = "\r\n\r\n"
)

var (
	errHead  = errors.New("load: not the head of a response in HTTP/1")
	errChunk = errors.New("load: not a chunk")
	errEnd   = errors.New("load: the connection was closed before the response was whole")
)

// parseHead reads a head, with the empty line that ends it.
func parseHead(b []byte) (h head, err error) {
	h.length = -1
	line, rest, _ := bytes.Cut(b, []byte(crlf))
	if len(line) < len("HTTP/1.1 200") || string(line[:7]) != "HTTP/1." || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return h, errHead
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return h, errHead
		}
		h.status = 10*h.status + int(c-'0')
	}
	old := line[7] == '0'
	h.last = old
	for {
		line, after, found := bytes.Cut(rest, []byte(crlf))
		if !found {
			return h, errHead
		}
		if len(line) == 0 {
			break
		}
		rest = after
		if err := h.field(line); err != nil {
			return h, err
		}
	}
	if h.chunked && (old || h.length >= 0) {
		return h, fmt.Errorf("%w: Transfer-Encoding with Content-Length or in HTTP/1.0, which can be read in two ways", errHead)
	}
	return h, nil
}

// field reads a field. Most are told from those that count by the length of their names.
func (h *head) field(line []byte) error {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || line[colon-1] == ' ' {
		return fmt.Errorf("%w: field %.100q", errHead, line)
	}
	switch name := line[:colon]; {
	case is(name, "Content-Length"):
		n, err := strconv.ParseUint(string(bytes.TrimSpace(line[colon+1:])), 10, 62)
		if err != nil || h.length >= 0 && h.length != int64(n) {
			return fmt.Errorf("%w: field %.100q", errHead, line)
		}
		h.length = int64(n)
	case is(name, "Transfer-Encoding"):
		if !is(bytes.TrimSpace(line[colon+1:]), "chunked") {
			return fmt.Errorf("%w: field %.100q", errHead, line)
		}
		h.chunked = true
	case is(name, "Connection"):
		value := bytes.TrimSpace(line[colon+1:])
		h.last = is(value, "close") || h.last && !is(value, "keep-alive")
	}
	return nil
}

func is(b []byte, name string) bool {
	return len(b) == len(name) && bytes.EqualFold(b, []byte(name))
}

// receiver takes the bytes of a response as they come, wherever they are cut.
type receiver struct {
	head
	onHead func([]byte) // is told every head, valid until it returns; nil = nobody is
	size   int64        // of the body so far
	wrong  bool         // it is not the body that is expected

	expected expected
	checked  bool
	phase    phase
	left     int64  // of the body, or of a chunk
	part     []byte // of a head or a line that has not come whole
}

type phase int

const (
	inHead phase = iota
	inBody
	inChunkSize
	inChunk
	inChunkEnd
	inTrailer
	untilEnd // of the connection
)

// begin gets ready for the response to a request.
func (r *receiver) begin(resource body.Resource, checked bool) {
	r.head, r.size, r.wrong, r.checked, r.phase, r.part = head{}, 0, false, checked, inHead, r.part[:0]
	if checked {
		r.expected.first = resource.AppendFirst(r.expected.first[:0])
		r.expected.rest, r.expected.at = resource.Rest(), 0
	}
}

// feed takes what has come. It returns how much of it is of this response, and whether that is whole.
func (r *receiver) feed(b []byte) (n int, done bool, err error) {
	for all := len(b); ; {
		var used int
		switch r.phase {
		case inHead:
			used, done, err = r.feedHead(b)
		case inBody, inChunk, untilEnd:
			used, done = r.feedBody(b)
		default:
			used, done, err = r.feedLine(b)
		}
		b = b[used:]
		if done || err != nil || len(b) == 0 {
			return all - len(b), done, err
		}
	}
}

// feedHead takes a head, or a part of one.
func (r *receiver) feedHead(b []byte) (n int, done bool, err error) {
	whole, n := r.whole(b, endOfAll)
	if whole == nil && len(r.part) > maxHead {
		return n, false, fmt.Errorf("%w: more than %d bytes", errHead, maxHead)
	}
	if whole == nil {
		return n, false, nil
	}
	if r.head, err = parseHead(whole); err != nil {
		return n, false, err
	}
	if r.onHead != nil {
		r.onHead(whole)
	}
	r.part = r.part[:0]
	switch {
	case r.status == 101 || r.status < 100:
		return n, false, fmt.Errorf("%w: status %d", errHead, r.status)
	case r.status < 200: // the response comes after it
	case r.status == 204 || r.status == 304 || r.length == 0:
		return n, true, nil
	case r.chunked:
		r.phase = inChunkSize
	case r.length > 0:
		r.phase, r.left = inBody, r.length
	default:
		r.phase, r.last = untilEnd, true
	}
	return n, false, nil
}

// whole returns what ends in b, with what came of it before; nil = it does not end. It is valid until part is used again.
func (r *receiver) whole(b []byte, end string) (whole []byte, n int) {
	if len(r.part) == 0 {
		if i := bytes.Index(b, []byte(end)); i >= 0 {
			return b[:i+len(end)], i + len(end)
		}
		r.part = append(r.part, b...)
		return nil, len(b)
	}
	had := len(r.part)
	from := max(0, had-len(end)+1)
	r.part = append(r.part, b[:min(len(b), maxHead)]...)
	i := bytes.Index(r.part[from:], []byte(end))
	if i < 0 {
		return nil, len(r.part) - had
	}
	whole = r.part[:from+i+len(end)]
	return whole, len(whole) - had
}

// feedBody takes bytes of the body.
func (r *receiver) feedBody(b []byte) (n int, done bool) {
	if r.phase != untilEnd && int64(len(b)) > r.left {
		b = b[:r.left]
	}
	r.size += int64(len(b))
	if r.checked && !r.wrong {
		r.wrong = !r.expected.goesOn(b)
	}
	if r.phase == untilEnd {
		return len(b), false
	}
	r.left -= int64(len(b))
	if r.left == 0 && r.phase == inChunk {
		r.phase = inChunkEnd
		return len(b), false
	}
	return len(b), r.left == 0
}

// feedLine takes a line between chunks (RFC 9112, 7.1).
func (r *receiver) feedLine(b []byte) (n int, done bool, err error) {
	line, n := r.whole(b, crlf)
	if line == nil && len(r.part) > maxHead {
		return n, false, errChunk
	}
	if line == nil {
		return n, false, nil
	}
	line = line[:len(line)-len(crlf)]
	r.part = r.part[:0] // the line is where it was
	switch r.phase {
	case inChunkSize:
		size, _, _ := bytes.Cut(line, []byte(";"))
		left, err := strconv.ParseUint(string(bytes.TrimRight(size, " \t")), 16, 62)
		if err != nil {
			return n, false, fmt.Errorf("%w: size %.100q", errChunk, line)
		}
		if r.left, r.phase = int64(left), inChunk; left == 0 {
			r.phase = inTrailer
		}
	case inChunkEnd:
		if len(line) > 0 {
			return n, false, errChunk
		}
		r.phase = inChunkSize
	case inTrailer:
		return n, len(line) == 0, nil
	}
	return n, false, nil
}

// end is told that the connection was closed.
func (r *receiver) end() error {
	if r.phase == untilEnd {
		return nil
	}
	return errEnd
}

// expected is a body, and how much of it has come.
type expected struct {
	first, rest []byte
	at          int
}

// goesOn reports whether b is what comes next.
func (e *expected) goesOn(b []byte) bool {
	if e.at < len(e.first) {
		n := min(len(b), len(e.first)-e.at)
		if !bytes.Equal(b[:n], e.first[e.at:e.at+n]) {
			return false
		}
		e.at += n
		b = b[n:]
	}
	if len(b) == 0 {
		return true
	}
	rest := e.rest[e.at-len(e.first):]
	if len(b) > len(rest) || !bytes.Equal(b, rest[:len(b)]) {
		return false
	}
	e.at += len(b)
	return true
}
