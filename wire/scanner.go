package wire

import "encoding/binary"

// A scanner follows the bytes that a client sends on one connection and knows at each of them where in which message it is. It
// keeps none but what it needs to judge a head, so a head may come in any number of pieces. It is the strict grammar of
// RFC 9112 as a machine with one state for each place:
//
//	start -> method -> target -> version -> LF -> field line* -> CRLF -> content -> boundary
//
// where content is nothing, a length of bytes, or chunks with trailers, whose field lines are read by the same states.
//
// scan stops at the first fault and at the end of each message. What comes after a fault is of no interest any more.
type scanner struct {
	state   state
	trailer bool  // the field lines under way are trailers
	left    int64 // bytes of content, or of the chunk, that are still to come

	size   int // of the head so far
	fields int // field lines of it so far
	most   int // bytes a head may have
	lines  int // field lines it may have

	posted bool // the message before was a POST

	name  [24]byte // the field name under way, in lower case, as far as it fits
	named int      // its length; more than fits is no name that matters
	keep  []byte   // the value under way, where its name matters, or the target; reused
	head  head
}

// state is the place of the next byte.
type state uint8

const (
	atStart     state = iota // of a request line; behind a POST one CRLF before it is passed over, as net/http does (RFC 9112 section 2.2)
	atStartLF                // after the CR of that
	atMethod                 // in the method, or at its end
	atTarget                 // in the target
	atVersion                // in the version; left counts its bytes
	atLineLF                 // after the CR of the request line
	atField                  // at the begin of a field line, or of the empty one
	atName                   // in a field name
	atValue                  // in a field value that does not matter
	atKept                   // in one that does
	atFieldLF                // after the CR of a field line
	atEndLF                  // after the CR of the empty line
	atLength                 // in content of a known length
	atSize                   // in a chunk's size; named counts its digits
	atExtension              // in a chunk extension
	atSizeLF                 // after the CR of a chunk's first line
	atChunk                  // in a chunk
	atChunkCR                // after it
	atChunkLF                // after the CR after it
	atBoundary               // behind a message: the next byte is of another one
)

// begin makes the scanner ready for the next message.
func (s *scanner) begin() {
	s.state, s.trailer, s.left, s.size, s.fields = atStart, false, 0, 0, 0
	s.posted = s.head.method == methodPost
	s.head.reset()
	s.keep = s.keep[:0]
}

// idle reports whether nothing of the next message has come yet.
func (s *scanner) idle() bool { return s.state == atStart && s.size == 0 }

// inHead reports whether a head is under way, or awaited.
func (s *scanner) inHead() bool { return !s.trailer && s.state < atLength }

// scan follows p, and returns how many bytes of it belong to the message under way: all, fewer when the message ends in p (then the
// state is atBoundary) or when fault is not nil, which is met at p[n].
func (s *scanner) scan(p []byte) (n int, fault *Fault) {
	for n < len(p) {
		var took int
		switch {
		case s.state == atBoundary:
			return n, nil
		case s.state < atLength:
			took, fault = s.scanHead(p[n:])
		default:
			took, fault = s.scanContent(p[n:])
		}
		n += took
		if fault != nil {
			return n, fault
		}
	}
	return n, nil
}

// Which bytes may stand where, as bits of class.
const (
	isToken  = 1 << iota // RFC 9110 section 5.6.2
	isValue              // in a field value: all but controls; HTAB is allowed
	isTarget             // in a request target: no controls, white space, "#"; bytes that no URI has pass, as clients do send them
)

var class = func() (c [256]byte) {
	for i := range c {
		b := byte(i)
		if b >= 0x20 && b != 0x7f || b == '\t' {
			c[i] |= isValue
		}
		if b > 0x20 && b != 0x7f && b != '#' {
			c[i] |= isTarget
		}
		if b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' {
			c[i] |= isToken
		}
	}
	for _, b := range []byte("!#$%&'*+-.^_`|~") {
		c[b] |= isToken
	}
	return c
}()

// span returns how many bytes p begins with that are of the class.
func span(p []byte, of byte) int {
	for i, b := range p {
		if class[b]&of == 0 {
			return i
		}
	}
	return len(p)
}

// spanValue is span(p, isValue), eight bytes at a time: most of a head is values.
func spanValue(p []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(p)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(p[n:])
		del := x ^ 0x7f*ones
		if (x-0x20*ones)&^x&highs|(del-ones)&^del&highs != 0 { // one below 0x20, or DEL
			break
		}
	}
	for n < len(p) && class[p[n]]&isValue != 0 {
		n++
	}
	return n
}

// equalFold reports whether p is word, which is in lower case, but for the case of ASCII letters. bytes.EqualFold takes the Kelvin sign for
// a k, and then for what no other server takes it.
func equalFold(p []byte, word string) bool {
	if len(p) != len(word) {
		return false
	}
	for i, b := range p {
		if lower(b) != word[i] {
			return false
		}
	}
	return true
}

func lower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b | 0x20
	}
	return b
}
