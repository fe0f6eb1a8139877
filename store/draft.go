package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"cacheproxy/policy"
)

// A Draft is what becomes an Entry. NewEntry copies all of it, so the caller keeps its own.
type Draft struct {
	Key        policy.Key
	Nomination policy.Nomination // the response's Vary
	Selection  []byte            // Nomination.AppendSelection of the request that was answered

	Status  int
	Header  http.Header // as policy.StoredHeader returns it
	Body    []byte
	Partial bool        // Body is one range of a representation
	Part    policy.Part // which; used only when Partial
	Chunked bool        // Body is empty, since it is in Redis in chunks
	Length  int64       // of that body; used only when Chunked

	// Compress is how Redis keeps the body.
	Compress policy.Compression

	Freshness    policy.Freshness
	ResponseTime time.Time
	Tags         []string
	KeepUntil    time.Time // when the entry is to be forgotten; required

	// Epoch and the sequences place the entry in the invalidation log. BodyAsOf is the sequence applied before the lookup
	// that led to the fetch of the body, ValidAsOf the same for its last validation; StaleSince is that of a soft purge.
	Epoch, BodyAsOf, ValidAsOf, StaleSince uint64
	// Fill names the fetch of the body. What is derived from stored bytes keeps it; 0 means a new random one.
	Fill uint64

	RuleGeneration uint32
}

// NewEntry encodes d. It fails when d cannot be an entry: no KeepUntil, a Vary that selects nothing, a status out of range,
// a field that would not survive the wire (a name that is no token, a line break in a value), a Part that contradicts the
// body, more than 2 GiB.
func NewEntry(d Draft) (*Entry, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("store: new entry: %w", err)
	}
	var usual [32]string
	names := usual[:0]
	for name := range d.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	lines, fieldsLen, err := measureFields(names, d.Header)
	if err != nil {
		return nil, fmt.Errorf("store: new entry: %w", err)
	}
	tagsLen, err := measureTags(d.Tags)
	if err != nil {
		return nil, fmt.Errorf("store: new entry: %w", err)
	}

	keyLen := len(d.Key.URL) + len(d.Key.Extras) + len(d.Nomination) + len(d.Selection)
	if d.Partial {
		tagsLen += partLen
	}
	total := preambleLen + keyLen + fieldsLen + tagsLen + digestLen + len(d.Body)
	if total > maxBlock {
		return nil, fmt.Errorf("store: new entry: %d bytes are more than an entry can hold", total)
	}
	block := make([]byte, preambleLen, total)
	d.putPreamble(block)
	putU32(block, atLineCount, uint32(lines))

	block = endAt(append(block, d.Key.URL...), atURLEnd)
	block = endAt(append(block, d.Key.Extras...), atExtrasEnd)
	block = endAt(append(block, d.Nomination...), atNominationEnd)
	block = endAt(append(block, d.Selection...), atSelectionEnd)
	block = endAt(appendFields(block, names, d.Header), atFieldsEnd)
	for _, tag := range d.Tags {
		block = append(binary.BigEndian.AppendUint16(block, uint16(len(tag))), tag...)
	}
	if d.Partial {
		for _, n := range [...]int64{d.Part.First, d.Part.Last, d.Part.Total} {
			block = binary.BigEndian.AppendUint64(block, uint64(n))
		}
	}
	block = endAt(block, atHeadEnd)
	headEnd := len(block)
	block = append(append(block, make([]byte, digestLen)...), d.Body...)
	putU64(block, headEnd, digest(block, headEnd))
	return entryOf(block), nil
}

// endAt notes that the part which ends there is whole.
func endAt(block []byte, at int) []byte {
	putU32(block, at, uint32(len(block)))
	return block
}

// appendFields appends the field lines, and notes where the values are that have places.
func appendFields(block []byte, names []string, h http.Header) []byte {
	start := len(block)
	for _, name := range names {
		for i, value := range h[name] {
			block = append(append(block, name...), ": "...)
			if at := placeAt(name); at != 0 && i == 0 {
				putU32(block, at, placeOf(len(block)-start, len(value)))
			}
			block = append(append(block, value...), "\r\n"...)
		}
	}
	return block
}

// placeAt is where the place of a field's value is noted, 0 where it is not.
func placeAt(name string) int {
	switch name {
	case "Etag":
		return atETag
	case "Last-Modified":
		return atLastModified
	case "Date":
		return atDate
	}
	return 0
}

// check says what of d could not be encoded, its fields and tags apart.
func (d *Draft) check() error {
	switch {
	case d.KeepUntil.IsZero():
		return errors.New("when it is to be forgotten (KeepUntil) is not set")
	case d.Nomination == policy.NominationStar:
		return errors.New("vary: * selects nothing")
	case d.Status < 100 || d.Status > 999:
		return fmt.Errorf("status %d", d.Status)
	case d.Partial && !soundPart(d.Part, int64(len(d.Body))):
		return fmt.Errorf("part %+v with %d bytes", d.Part, len(d.Body))
	case d.Chunked && (d.Partial || len(d.Body) > 0 || d.Length <= 0 || d.Length > maxChunkedBody || d.Fill == 0):
		return fmt.Errorf("chunks of %d bytes, partial: %v, fill %x, beside a body of %d", d.Length, d.Partial, d.Fill, len(d.Body))
	}
	return nil
}

// soundPart reports whether p can be where bodyLen bytes belong.
func soundPart(p policy.Part, bodyLen int64) bool {
	return p.First >= 0 && p.Last >= p.First && p.Last-p.First == bodyLen-1 && (p.Total == -1 || p.Total > p.Last)
}

// putPreamble writes the preamble but for what follows from the parts behind it.
func (d *Draft) putPreamble(b []byte) {
	copy(b, magic)
	b[atVersion] = version
	putU32(b, atFlags, d.flags())
	putU64(b, atStaleSince, d.StaleSince)
	putU64(b, atEpoch, d.Epoch)
	putU64(b, atBodyAsOf, d.BodyAsOf)
	putU64(b, atValidAsOf, d.ValidAsOf)
	fill := d.Fill
	for fill == 0 {
		fill = rand.Uint64()
	}
	putU64(b, atFill, fill)
	putI64(b, atBorn, instant(d.Freshness.Born))
	putI64(b, atLifetime, int64(d.Freshness.Lifetime))
	putI64(b, atStaleRevalidate, int64(d.Freshness.StaleWhileRevalidate))
	putI64(b, atStaleIfError, int64(d.Freshness.StaleIfError))
	putI64(b, atResponseTime, instant(d.ResponseTime))
	putI64(b, atKeepUntil, instant(d.KeepUntil))
	putI64(b, atBodyLen, int64(len(d.Body)))
	if d.Chunked {
		putI64(b, atBodyLen, d.Length)
	}
	putU32(b, atRuleGeneration, d.RuleGeneration)
	binary.BigEndian.PutUint16(b[atStatus:], uint16(d.Status))
	binary.BigEndian.PutUint16(b[atTagCount:], uint16(len(d.Tags)))
}

func (d *Draft) flags() (flags uint32) {
	for _, f := range [...]struct {
		set  bool
		flag uint32
	}{
		{d.Partial, flagPartial},
		{d.Freshness.NoCache, flagNoCache},
		{d.Freshness.MustRevalidate, flagMustRevalidate},
		{d.Freshness.Immutable, flagImmutable},
		{d.Freshness.Heuristic, flagHeuristic},
		{d.Freshness.Validator, flagValidator},
		{d.Chunked, flagChunked},
		{d.Compress == policy.S2, flagS2},
		{d.Compress == policy.Zstd, flagZstd},
	} {
		if f.set {
			flags |= f.flag
		}
	}
	return flags
}

// lineOverhead is what a field line has beside name and value: ": " and CRLF.
const lineOverhead = 4

// measureFields counts the lines and bytes of h as it will be encoded.
func measureFields(names []string, h http.Header) (lines, size int, err error) {
	for _, name := range names {
		if !isToken(name) {
			return 0, 0, fmt.Errorf("field name %q is not a token", name)
		}
		for _, value := range h[name] {
			if !isFieldValue(value) {
				return 0, 0, fmt.Errorf("value of field %s has a line break or NUL", name)
			}
			lines++
			size += len(name) + len(value) + lineOverhead
		}
	}
	return lines, size, nil
}

func measureTags(tags []string) (size int, err error) {
	if len(tags) > math.MaxUint16 {
		return 0, fmt.Errorf("%d tags", len(tags))
	}
	for _, tag := range tags {
		if len(tag) > math.MaxUint16 {
			return 0, fmt.Errorf("tag of %d bytes", len(tag))
		}
		size += 2 + len(tag)
	}
	return size, nil
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2, as field names are.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s can stand in a field line without ending it (RFC 9110 section 5.5: CR, LF and NUL are
// dangerous).
func isFieldValue(s string) bool {
	return strings.IndexByte(s, '\r') < 0 && strings.IndexByte(s, '\n') < 0 && strings.IndexByte(s, 0) < 0
}
