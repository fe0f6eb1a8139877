package store

import (
	"encoding/binary"
	"net/http"
	"strings"
	"time"
	"unsafe"

	"cacheproxy/policy"
)

// An Entry is one stored response: an immutable handle over one block of bytes, encoded as encoding.go describes. It holds
// no pointer but the block, so the garbage collector has two objects to look at per stored response. All methods may be
// called concurrently. Strings and slices that they return lie in the block and keep it alive; none may be written to.
type Entry struct {
	block []byte

	// Ends of the parts of the block, each of which starts where the one before ends; the URL starts at preambleLen, the body
	// digestLen after headEnd.
	urlEnd, extrasEnd, nominationEnd, selectionEnd, fieldsEnd, headEnd uint32

	// Values that nearly every hit looks at; a zero span where there is none.
	etag, lastModified, date span
}

// A span is a place in the block.
type span struct{ start, end uint32 }

// view returns a part of the block as a string, without copying: the block never changes.
func (e *Entry) view(start, end uint32) string {
	if start == end {
		return ""
	}
	return unsafe.String(&e.block[start], end-start)
}

// Status is the response's status code.
func (e *Entry) Status() int { return int(binary.BigEndian.Uint16(e.block[atStatus:])) }

// Freshness is what policy computed when the response was stored or last validated.
func (e *Entry) Freshness() policy.Freshness {
	b, flags := e.block, getU32(e.block, atFlags)
	return policy.Freshness{
		Born:                 timeOf(getI64(b, atBorn)),
		Lifetime:             time.Duration(getI64(b, atLifetime)),
		StaleWhileRevalidate: time.Duration(getI64(b, atStaleRevalidate)),
		StaleIfError:         time.Duration(getI64(b, atStaleIfError)),
		NoCache:              flags&flagNoCache != 0,
		MustRevalidate:       flags&flagMustRevalidate != 0,
		Immutable:            flags&flagImmutable != 0,
		Heuristic:            flags&flagHeuristic != 0,
		Validator:            flags&flagValidator != 0,
	}
}

// Body is the stored content.
func (e *Entry) Body() []byte {
	start := e.headEnd + digestLen
	return e.block[start:len(e.block):len(e.block)]
}

// Part says which range of the representation the body is, where it is but one.
func (e *Entry) Part() (part policy.Part, partial bool) {
	part.First, part.Last, part.Total = getI64(e.block, atPartFirst), getI64(e.block, atPartLast), getI64(e.block, atPartTotal)
	return part, getU32(e.block, atFlags)&flagPartial != 0
}

// URL is the cache URL under which the entry is stored.
func (e *Entry) URL() string { return e.view(preambleLen, e.urlEnd) }

// Key is the URL with the values that the rule's key names.
func (e *Entry) Key() policy.Key {
	return policy.Key{URL: e.URL(), Extras: e.view(e.urlEnd, e.extrasEnd)}
}

// Nomination is the response's Vary in canonical form.
func (e *Entry) Nomination() policy.Nomination {
	return policy.Nomination(e.view(e.extrasEnd, e.nominationEnd))
}

// Selection is what the nominated fields said in the request that the response answered.
func (e *Entry) Selection() []byte {
	return e.block[e.nominationEnd:e.selectionEnd:e.selectionEnd]
}

// selects reports whether a request with these extras and this selection, made with the entry's own nomination, is answered
// by it.
func (e *Entry) selects(extras string, selection []byte) bool {
	return e.view(e.urlEnd, e.extrasEnd) == extras && string(e.block[e.nominationEnd:e.selectionEnd]) == string(selection)
}

// Fill names the fetch of the body: 64 random bits.
func (e *Entry) Fill() uint64 { return getU64(e.block, atFill) }

// Epoch is the epoch of the invalidation log to which the entry's sequences belong.
func (e *Entry) Epoch() uint64 { return getU64(e.block, atEpoch) }

// BodyAsOf is the sequence of the invalidation log applied before the lookup that led to the fetch of the body.
func (e *Entry) BodyAsOf() uint64 { return getU64(e.block, atBodyAsOf) }

// ValidAsOf is the same for the last fetch or validation.
func (e *Entry) ValidAsOf() uint64 { return getU64(e.block, atValidAsOf) }

// StaleSince is the sequence of the soft purge that made the entry stale; 0 means none did.
func (e *Entry) StaleSince() uint64 { return getU64(e.block, atStaleSince) }

// RuleGeneration is the configuration generation whose rules decided on the entry.
func (e *Entry) RuleGeneration() uint32 { return getU32(e.block, atRuleGeneration) }

// RequestTime is when the request was sent that this responds to, or that last validated it.
func (e *Entry) RequestTime() time.Time { return timeOf(getI64(e.block, atRequestTime)) }

// ResponseTime is when its head arrived.
func (e *Entry) ResponseTime() time.Time { return timeOf(getI64(e.block, atResponseTime)) }

// KeepUntil is when the entry is to be forgotten, long after it has become stale.
func (e *Entry) KeepUntil() time.Time { return timeOf(getI64(e.block, atKeepUntil)) }

// ETag is the value of the ETag field, "" when there is none. It does not allocate, nor do LastModified and Date.
func (e *Entry) ETag() string { return e.view(e.etag.start, e.etag.end) }

// LastModified is the value of the Last-Modified field, "" when there is none.
func (e *Entry) LastModified() string { return e.view(e.lastModified.start, e.lastModified.end) }

// Date is the value of the Date field.
func (e *Entry) Date() string { return e.view(e.date.start, e.date.end) }

// Tags are the surrogate keys of the response. A new slice.
func (e *Entry) Tags() []string {
	if e.tagCount() == 0 {
		return nil
	}
	tags := make([]string, 0, e.tagCount())
	for at := e.fieldsEnd; at < e.headEnd; {
		start := at + 2
		at = start + uint32(binary.BigEndian.Uint16(e.block[at:]))
		tags = append(tags, e.view(start, at))
	}
	return tags
}

func (e *Entry) tagCount() uint16 { return binary.BigEndian.Uint16(e.block[atTagCount:]) }

// Size is the memory that the entry takes, in bytes: handle, block, and what the allocator rounds up.
func (e *Entry) Size() int64 { return int64(unsafe.Sizeof(*e)) + allocated(int64(len(e.block))) }

// allocated estimates what an allocation of n bytes takes. Up to 32 KiB, Go's size classes waste a sixteenth on average;
// above, whole pages of 8 KiB are taken.
func allocated(n int64) int64 {
	if n <= 32<<10 {
		return n + n/16
	}
	return (n + 8191) &^ 8191
}

// fields are the stored field lines.
func (e *Entry) fields() string { return e.view(e.selectionEnd, e.fieldsEnd) }

// cutField cuts the first field line off well-formed lines.
func cutField(lines string) (name, value, rest string) {
	colon := strings.IndexByte(lines, ':')
	name, lines = lines[:colon], lines[colon+2:]
	end := strings.IndexByte(lines, '\r')
	return name, lines[:end], lines[end+2:]
}

// Header returns the stored fields as a new map, the caller's own.
func (e *Entry) Header() http.Header {
	h := make(http.Header, getU32(e.block, atLineCount))
	e.AppendTo(h, 0)
	return h
}

// AppendTo sets the stored fields in dst, each replacing what dst has under that name. The values are slices cut from one
// newly allocated array, at whose end it leaves `extra` unused places, which it returns for the caller's own single-valued
// fields: so that a hit allocates once for its whole head (dst itself apart).
func (e *Entry) AppendTo(dst http.Header, extra int) []string {
	n := int(getU32(e.block, atLineCount))
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

// findFields notes where the fields lie that nearly every hit looks at: the first line of each.
func (e *Entry) findFields() {
	for lines := e.fields(); lines != ""; {
		var name, value string
		name, value, lines = cutField(lines)
		end := e.fieldsEnd - uint32(len(lines)) - 2
		at := span{end - uint32(len(value)), end}
		switch {
		case name == "Etag" && e.etag == span{}:
			e.etag = at
		case name == "Last-Modified" && e.lastModified == span{}:
			e.lastModified = at
		case name == "Date" && e.date == span{}:
			e.date = at
		}
	}
}

// Redraft returns the entry as a draft, for what is derived from it: freshening by a 304, combining ranges. It keeps the
// fill, the key and the sequences. Header is the caller's own; Body and the strings lie in the entry's block.
func (e *Entry) Redraft() Draft {
	part, partial := e.Part()
	return Draft{
		Key:            e.Key(),
		Nomination:     e.Nomination(),
		Selection:      e.Selection(),
		Status:         e.Status(),
		Header:         e.Header(),
		Body:           e.Body(),
		Partial:        partial,
		Part:           part,
		Freshness:      e.Freshness(),
		RequestTime:    e.RequestTime(),
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
}
