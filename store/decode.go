package store

import (
	"bytes"
	"encoding/binary"
	"strings"

	"cacheproxy/policy"
)

// Decode makes an Entry of an encoded block, which it keeps and which must not change any more. Whatever the bytes, the
// result is an entry that says what was encoded, or an error that is ErrCorrupt or ErrNewer; it neither panics nor
// allocates where it is an entry whose block begins at a multiple of eight. Whether it is the entry that was asked for is for the caller to compare: see Entry.Key,
// Nomination and Selection.
func Decode(block []byte) (*Entry, error) {
	if err := checkVersion(block); err != nil {
		return nil, err
	}
	if flags := getU32(block, atFlags); flags&flagPacked != 0 || flags&flagS2 != 0 && flags&flagZstd != 0 {
		return nil, corrupt("compression")
	}
	if !aligned(block) {
		block = bytes.Clone(block)
	}
	e := entryOf(block)
	if getU64(block, atChecked) != 0 {
		return nil, corrupt("a word of near memory")
	}
	if !e.fills(block) {
		return nil, corrupt("lengths")
	}
	if headEnd := int(e.u32(atHeadEnd)); getU64(block, headEnd) != digest(block, headEnd) {
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

// fills reports whether the parts of e lie one after the other and fill the block exactly. Until then nothing but the preamble of e may
// be looked at.
func (e *Entry) fills(block []byte) bool {
	at := uint32(preambleLen)
	for _, end := range [...]int{atURLEnd, atExtrasEnd, atNominationEnd, atSelectionEnd, atFieldsEnd, atHeadEnd} {
		if e.u32(end) < at {
			return false
		}
		at = e.u32(end)
	}
	if e.partial() && at-e.u32(atFieldsEnd) < partLen {
		return false
	}
	bodyLen := e.u64(atBodyLen)
	if e.Chunked() {
		return bodyLen > 0 && bodyLen <= maxChunkedBody && !e.partial() && uint64(at)+digestLen == uint64(len(block))
	}
	return bodyLen <= maxBlock && uint64(at)+digestLen+bodyLen == uint64(len(block))
}

// checkNumbers holds the preamble to what NewEntry can have written.
func (e *Entry) checkNumbers() error {
	status := e.Status()
	part, partial := e.Part()
	switch {
	case e.Fill() == 0:
		return corrupt("no fill")
	case e.i64(atKeepUntil) == unset:
		return corrupt("no expiry")
	case e.Nomination() == policy.NominationStar:
		return corrupt("nomination")
	case status < 100 || status > 999:
		return corrupt("status")
	case partial && !soundPart(part, int64(len(e.Body()))):
		return corrupt("part")
	}
	return nil
}

// checkFields reports whether the field lines are as NewEntry writes them: sorted, well formed, as many as said, and with their places.
func (e *Entry) checkFields() bool {
	all := e.fields()
	rest, previous, count := all, "", uint32(0)
	places := [...]uint32{0, 0, 0} // of ETag, Last-Modified and Date, in the order of their notes
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
		if at := placeAt(name); at != 0 && name != previous {
			places[(at-atETag)/4] = placeOf(len(all)-len(rest)+colon+2, end-colon-2)
		}
		previous, rest = name, rest[end+2:]
		count++
	}
	return count == e.u32(atLineCount) && places == [...]uint32{e.u32(atETag), e.u32(atLastModified), e.u32(atDate)}
}

// checkTags reports whether the tags fill their place and are as many as said.
func (e *Entry) checkTags() bool {
	rest, count := e.bytes(e.u32(atFieldsEnd), e.tagsEnd()), uint16(0)
	for ; len(rest) >= 2; count++ {
		n := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+n || count == e.tagCount() {
			return false
		}
		rest = rest[2+n:]
	}
	return len(rest) == 0 && count == e.tagCount()
}
