package store

import (
	"encoding/binary"
	"strings"

	"cacheproxy/policy"
)

// Decode makes an Entry of an encoded block, which it keeps and which must not change any more. Whatever the bytes, the
// result is an entry that says what was encoded, or an error that is ErrCorrupt or ErrNewer; it neither panics nor
// allocates more than the handle. Whether it is the entry that was asked for is for the caller to compare: see Entry.Key,
// Nomination and Selection.
func Decode(block []byte) (*Entry, error) {
	if err := checkVersion(block); err != nil {
		return nil, err
	}
	e := &Entry{block: block}
	if !e.place() {
		return nil, corrupt("lengths")
	}
	if getU64(block, int(e.headEnd)) != digest(block, int(e.headEnd)) {
		return nil, corrupt("digest")
	}
	if err := e.checkNumbers(); err != nil {
		return nil, err
	}
	if !e.checkFields() {
		return nil, corrupt("fields")
	}
	if !e.checkTags() {
		return nil, corrupt("tags")
	}
	e.findFields()
	return e, nil
}

// checkVersion looks at what every version has in common, magic and version, and at the length that this one must have.
func checkVersion(block []byte) error {
	switch {
	case len(block) <= atVersion || string(block[:atVersion]) != magic || block[atVersion] == 0:
		return corrupt("magic")
	case block[atVersion] > version:
		return ErrNewer
	case len(block) < preambleLen+digestLen || len(block) > maxBlock:
		return corrupt("length")
	case getU32(block, atFlags)&^flagsKnown != 0:
		return ErrNewer
	}
	return nil
}

// place computes where the parts of the block lie, and reports whether they fill it exactly.
func (e *Entry) place() bool {
	b := e.block
	at := uint64(preambleLen)
	for _, part := range [...]struct {
		end    *uint32
		length int
	}{
		{&e.urlEnd, atURLLen},
		{&e.extrasEnd, atExtrasLen},
		{&e.nominationEnd, atNominationLen},
		{&e.selectionEnd, atSelectionLen},
		{&e.fieldsEnd, atFieldsLen},
		{&e.headEnd, atTagsLen},
	} {
		at += uint64(getU32(b, part.length)) // six times at most 2^32: no overflow
		if at > uint64(len(b)) {
			return false
		}
		*part.end = uint32(at)
	}
	bodyLen := getU64(b, atBodyLen)
	return bodyLen <= maxBlock && at+digestLen+bodyLen == uint64(len(b))
}

// checkNumbers holds the preamble to what NewEntry can have written.
func (e *Entry) checkNumbers() error {
	b := e.block
	status := binary.BigEndian.Uint16(b[atStatus:])
	part, partial := e.Part()
	switch {
	case getU32(b, atZero) != 0:
		return corrupt("reserved bytes")
	case getU64(b, atFill) == 0:
		return corrupt("no fill")
	case getI64(b, atKeepUntil) == unset:
		return corrupt("no expiry")
	case e.Nomination() == policy.NominationStar:
		return corrupt("nomination")
	case status < 100 || status > 999:
		return corrupt("status")
	case partial && !soundPart(part, int64(len(e.Body()))):
		return corrupt("part")
	case !partial && (part.First != 0 || part.Last != 0 || part.Total != 0):
		return corrupt("part of a whole")
	}
	return nil
}

// checkFields reports whether the field lines are as NewEntry writes them: sorted, well formed, and as many as said.
func (e *Entry) checkFields() bool {
	rest, previous, count := e.fields(), "", uint32(0)
	for rest != "" {
		colon := strings.IndexByte(rest, ':')
		if colon < 0 || !strings.HasPrefix(rest[colon:], ": ") {
			return false
		}
		name := rest[:colon]
		end := strings.IndexByte(rest, '\r')
		if end < colon+2 || !strings.HasPrefix(rest[end:], "\r\n") {
			return false
		}
		if !isToken(name) || name < previous || !isFieldValue(rest[colon+2:end]) {
			return false
		}
		previous, rest = name, rest[end+2:]
		count++
	}
	return count == getU32(e.block, atLineCount)
}

// checkTags reports whether the tags fill their place and are as many as said.
func (e *Entry) checkTags() bool {
	rest, count := e.block[e.fieldsEnd:e.headEnd], uint16(0)
	for ; len(rest) >= 2; count++ {
		n := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+n || count == e.tagCount() {
			return false
		}
		rest = rest[2+n:]
	}
	return len(rest) == 0 && count == e.tagCount()
}
