package store

import (
	"encoding/binary"
	"math"
	"net/http"
	"strings"
	"time"
	"unsafe"

	"cacheproxy/policy"
)

// An Entry is one stored response: one immutable block of bytes, encoded as encoding.go describes. A *Entry points at the first
// byte of the block, and the rest follows it in the same allocation. So an entry costs no handle, and the garbage
// collector finds no pointer in it. Only NewEntry and Decode make one, since they know that the block is as long as its
// preamble says. All methods may be called concurrently. Strings and slices that they return lie in the block and keep it
// alive; none may be written to.
type Entry struct {
	preamble [preambleLen]byte
}

// entryOf makes an Entry of a block, of at least preambleLen bytes, that nobody changes any more.
func entryOf(block []byte) *Entry { return (*Entry)(unsafe.Pointer(unsafe.SliceData(block))) }

// bytes returns a part of the block; nil for an empty one, which may lie past the end of the allocation.
func (e *Entry) bytes(start, end uint32) []byte {
	if start == end {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(e), start)), end-start)
}

// view is the same as a string.
func (e *Entry) view(start, end uint32) string {
	if start == end {
		return ""
	}
	return unsafe.String((*byte)(unsafe.Add(unsafe.Pointer(e), start)), end-start)
}

// block is all of it.
func (e *Entry) block() []byte { return e.bytes(0, e.end()) }

// end is the length of the block.
func (e *Entry) end() uint32 {
	if e.Chunked() {
		return e.u32(atHeadEnd) + digestLen
	}
	return e.u32(atHeadEnd) + digestLen + uint32(e.i64(atBodyLen))
}

func (e *Entry) u16(at int) uint16 { return binary.BigEndian.Uint16(e.preamble[at:]) }
func (e *Entry) u32(at int) uint32 { return binary.BigEndian.Uint32(e.preamble[at:]) }
func (e *Entry) u64(at int) uint64 { return binary.BigEndian.Uint64(e.preamble[at:]) }
func (e *Entry) i64(at int) int64  { return int64(e.u64(at)) }

// Status is the response's status code.
func (e *Entry) Status() int { return int(e.u16(atStatus)) }

// Freshness is what policy computed when the response was stored or last validated, ended by a soft purge since.
func (e *Entry) Freshness() policy.Freshness { return e.softened(e.computed()) }

// computed is what policy computed then, whatever has come since.
func (e *Entry) computed() policy.Freshness {
	flags := e.u32(atFlags)
	return policy.Freshness{
		Born:                 timeOf(e.i64(atBorn)),
		Lifetime:             time.Duration(e.i64(atLifetime)),
		StaleWhileRevalidate: time.Duration(e.i64(atStaleRevalidate)),
		StaleIfError:         time.Duration(e.i64(atStaleIfError)),
		NoCache:              flags&flagNoCache != 0,
		MustRevalidate:       flags&flagMustRevalidate != 0,
		Immutable:            flags&flagImmutable != 0,
		Heuristic:            flags&flagHeuristic != 0,
		Validator:            flags&flagValidator != 0,
	}
}

// Chunked reports whether the body is not in the entry but in Redis, in chunks of its own: Store.Open reads it.
func (e *Entry) Chunked() bool { return e.u32(atFlags)&flagChunked != 0 }

// BodyLen is the length of the stored content in bytes, wherever it is.
func (e *Entry) BodyLen() int64 { return e.i64(atBodyLen) }

// Body is the stored content; nil where it is in chunks.
func (e *Entry) Body() []byte { return e.bytes(e.u32(atHeadEnd)+digestLen, e.end()) }

// Part says which range of the representation the body is, where it is but one.
func (e *Entry) Part() (part policy.Part, partial bool) {
	if !e.partial() {
		return part, false
	}
	b := e.bytes(e.tagsEnd(), e.u32(atHeadEnd))
	part.First, part.Last, part.Total = getI64(b, 0), getI64(b, 8), getI64(b, 16)
	return part, true
}

func (e *Entry) partial() bool { return e.u32(atFlags)&flagPartial != 0 }

// tagsEnd is where the tags end, and the part starts.
func (e *Entry) tagsEnd() uint32 {
	if e.partial() {
		return e.u32(atHeadEnd) - partLen
	}
	return e.u32(atHeadEnd)
}

// URL is the cache URL under which the entry is stored.
func (e *Entry) URL() string { return e.view(preambleLen, e.u32(atURLEnd)) }

// Key is the URL with the values that the rule's key names.
func (e *Entry) Key() policy.Key {
	return policy.Key{URL: e.URL(), Extras: e.extras()}
}

func (e *Entry) extras() string { return e.view(e.u32(atURLEnd), e.u32(atExtrasEnd)) }

// Nomination is the response's Vary in canonical form.
func (e *Entry) Nomination() policy.Nomination {
	return policy.Nomination(e.view(e.u32(atExtrasEnd), e.u32(atNominationEnd)))
}

// Selection is what the nominated fields said in the request that the response answered.
func (e *Entry) Selection() []byte {
	return e.bytes(e.u32(atNominationEnd), e.u32(atSelectionEnd))
}

// selects reports whether a request with these extras and this selection, made with the entry's own nomination, is answered
// by it.
func (e *Entry) selects(extras string, selection []byte) bool {
	return e.extras() == extras && string(e.Selection()) == string(selection)
}

// Fill names the fetch of the body: 64 random bits.
func (e *Entry) Fill() uint64 { return e.u64(atFill) }

// Epoch is the epoch of the invalidation log to which the entry's sequences belong.
func (e *Entry) Epoch() uint64 { return e.u64(atEpoch) }

// BodyAsOf is the sequence of the invalidation log applied before the lookup that led to the fetch of the body.
func (e *Entry) BodyAsOf() uint64 { return e.u64(atBodyAsOf) }

// ValidAsOf is the same for the last fetch or validation.
func (e *Entry) ValidAsOf() uint64 { return e.u64(atValidAsOf) }

// RuleGeneration is the configuration generation whose rules decided on the entry.
func (e *Entry) RuleGeneration() uint32 { return e.u32(atRuleGeneration) }

// ResponseTime is when the head of the response arrived, or of the one that last validated it.
func (e *Entry) ResponseTime() time.Time { return timeOf(e.i64(atResponseTime)) }

// KeepUntil is when the entry is to be forgotten, long after it has become stale.
func (e *Entry) KeepUntil() time.Time { return timeOf(e.i64(atKeepUntil)) }

// ETag is the value of the ETag field, "" when there is none. It does not allocate, nor do LastModified and Date.
func (e *Entry) ETag() string { return e.placed(atETag, "Etag") }

// LastModified is the value of the Last-Modified field, "" when there is none.
func (e *Entry) LastModified() string { return e.placed(atLastModified, "Last-Modified") }

// Date is the value of the Date field.
func (e *Entry) Date() string { return e.placed(atDate, "Date") }

// A place is where a value lies that nearly every hit looks at: 2 bytes of offset from the start of the field lines, 2 of length.
// 0 stands for no such field; placeFar for one that lies too far behind, or is too long, to be said so.
const placeFar = 1<<32 - 1

// placeOf is the place of a value that starts at from, an offset from the start of the field lines.
func placeOf(from, length int) uint32 {
	if from > math.MaxUint16 || length >= math.MaxUint16 {
		return placeFar
	}
	return uint32(from)<<16 | uint32(length)
}

// placed returns the first value of the field with this name, whose place is noted at.
func (e *Entry) placed(at int, name string) string {
	switch place := e.u32(at); place {
	case 0:
		return ""
	case placeFar:
		value, _ := e.Field(name)
		return value
	default:
		start := e.u32(atSelectionEnd) + place>>16
		return e.view(start, start+place&0xffff)
	}
}

// Tags are the surrogate keys of the response. A new slice.
func (e *Entry) Tags() []string {
	if e.tagCount() == 0 {
		return nil
	}
	tags := make([]string, 0, e.tagCount())
	for at, end := e.u32(atFieldsEnd), e.tagsEnd(); at < end; {
		start := at + 2
		at = start + uint32(binary.BigEndian.Uint16(e.bytes(at, start)))
		tags = append(tags, e.view(start, at))
	}
	return tags
}

// Tagged reports whether the entry has tags.
func (e *Entry) Tagged() bool { return e.tagCount() > 0 }

func (e *Entry) tagCount() uint16 { return e.u16(atTagCount) }

// Size is the memory that the entry takes, in bytes: the block, and what the allocator rounds up.
func (e *Entry) Size() int64 { return allocated(int64(e.end())) }

// allocated estimates what an allocation of n bytes takes. Up to 32 KiB, Go's size classes waste a sixteenth on average;
// above, whole pages of 8 KiB are taken.
func allocated(n int64) int64 {
	if n <= 32<<10 {
		return n + n/16
	}
	return (n + 8191) &^ 8191
}

// fields are the stored field lines.
func (e *Entry) fields() string { return e.view(e.u32(atSelectionEnd), e.u32(atFieldsEnd)) }

// cutField cuts the first field line off well-formed lines.
func cutField(lines string) (name, value, rest string) {
	colon := strings.IndexByte(lines, ':')
	name, lines = lines[:colon], lines[colon+2:]
	end := strings.IndexByte(lines, '\r')
	return name, lines[:end], lines[end+2:]
}

// Header returns the stored fields as a new map, the caller's own.
func (e *Entry) Header() http.Header {
	h := make(http.Header, e.u32(atLineCount))
	e.AppendTo(h, 0)
	return h
}

// AppendTo sets the stored fields in dst, each replacing what dst has under that name. The values are slices cut from one
// newly allocated array, at whose end it leaves `extra` unused places, which it returns for the caller's own single-valued
// fields: so that a hit allocates once for its whole head (dst itself apart).
func (e *Entry) AppendTo(dst http.Header, extra int) []string {
	n := int(e.u32(atLineCount))
	values := make([]string, n+extra)
	first, current := 0, ""
	lines := e.fields()
	for i := range n {
		var name string
		name, values[i], lines = cutField(lines)
		if name != current {
			first, current = i, name
		}
		dst[name] = values[first : i+1 : i+1]
	}
	return values[n:]
}

// Field returns the first value of a field, whose name is compared without regard to case. It does not allocate.
func (e *Entry) Field(name string) (string, bool) {
	for lines := e.fields(); lines != ""; {
		var field, value string
		field, value, lines = cutField(lines)
		if len(field) == len(name) && strings.EqualFold(field, name) {
			return value, true
		}
	}
	return "", false
}

// Redraft returns the entry as a draft, for what is derived from it: freshening by a 304, combining ranges. It keeps the
// fill, the key and the sequences. Header is the caller's own; Body and the strings lie in the entry's block.
func (e *Entry) Redraft() Draft {
	part, partial := e.Part()
	d := Draft{
		Key:            e.Key(),
		Nomination:     e.Nomination(),
		Selection:      e.Selection(),
		Status:         e.Status(),
		Header:         e.Header(),
		Body:           e.Body(),
		Partial:        partial,
		Part:           part,
		Compress:       e.compression(),
		Freshness:      e.computed(),
		ResponseTime:   e.ResponseTime(),
		Tags:           e.Tags(),
		KeepUntil:      e.KeepUntil(),
		Epoch:          e.Epoch(),
		BodyAsOf:       e.BodyAsOf(),
		ValidAsOf:      e.ValidAsOf(),
		StaleSince:     e.StaleSince(),
		Fill:           e.Fill(),
		RuleGeneration: e.RuleGeneration(),
	}
	if e.Chunked() {
		d.Chunked, d.Length = true, e.BodyLen()
	}
	return d
}
