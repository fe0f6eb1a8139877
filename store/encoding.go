package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/zeebo/xxh3"
)

// The encoding of an entry, version 1.
//
// An entry is one block of bytes, the same in near memory and in Redis, so that a reply of Redis becomes an entry without
// being copied and an entry is saved without being built again. Numbers are big-endian, so that they can be read in
// redis-cli and compared in Lua. Instants are nanoseconds since 1970 UTC, with the smallest int64 standing for "not set";
// durations are nanoseconds.
//
//	offset size
//	     0    3  "CPE"
//	     3    1  version: 1. A reader that meets a higher one must leave the value alone.
//	     4    4  flags, see flagPartial and following
//	     8    8  staleSince: sequence of the soft purge that made it stale, 0 = none
//	    16    8  of use in near memory alone (held.go), 0 in Redis
//	    24    8  epoch of the invalidation log to which the sequences belong
//	    32    8  bodyAsOf: sequence applied before the lookup that led to the fetch of the body
//	    40    8  validAsOf: the same for the last fetch or validation
//	    48    8  FILL: 64 random bits, never 0, that name the fetch of the body; its root repeats them
//	    56    8  born, an instant: when the response's age was zero
//	    64    8  freshness lifetime
//	    72    8  stale-while-revalidate
//	    80    8  stale-if-error
//	    88    8  response time, an instant
//	    96    8  keep until, an instant, always set: when it is to be forgotten
//	   104    8  length of the body
//	   112    4  generation of the rules under which it was stored
//	   116    2  status code
//	   118    2  number of tags
//	   120    4  number of field lines
//	   124    4  where the URL ends, which starts at 160
//	   128    4  where the extras end (values named by key.headers, key.cookies, key.session)
//	   132    4  where the nomination ends (the canonical Vary)
//	   136    4  where the selection ends (what the nominated fields said in the request)
//	   140    4  where the field lines end
//	   144    4  where the head ends, and the digest starts
//	   148    4  where the value of the first ETag line is, see place
//	   152    4  the same of Last-Modified
//	   156    4  the same of Date
//	   160       URL, extras, nomination, selection
//	             field lines, "Name: value\r\n" each, ready for the wire: sorted by name, lines of one name in their order
//	             tags, each two bytes of length and then the tag
//	             of a partial response, 8 bytes each: first byte, last byte, length of the whole representation (-1 = unknown)
//	        8    digest
//	             body, unless it is in chunks
//
// The value in Redis is the block, or a form of it with the body compressed (pack.go).
//
// The digest is the xxh3-64 of the body, seeded with the xxh3-64 of everything between offset 24 and the digest, seeded
// with the first eight bytes. It covers all but the two words that change in place: staleSince, which a soft purge sets by a script
// that cannot hash, and the one behind it. And it can be made piece by piece where the body is in chunks.
//
// An encoding is canonical: whatever Decode accepts, NewEntry makes again from its Redraft, byte for byte.

const (
	magic       = "CPE"
	version     = 1
	preambleLen = 160
	partLen     = 24
	digestLen   = 8

	// maxBlock bounds the whole block, so that every offset fits in 32 bits on every platform.
	maxBlock = math.MaxInt32
)

// Places in the preamble.
const (
	atVersion         = 3
	atFlags           = 4
	atStaleSince      = 8
	atChecked         = 16
	atEpoch           = 24
	atBodyAsOf        = 32
	atValidAsOf       = 40
	atFill            = 48
	atBorn            = 56
	atLifetime        = 64
	atStaleRevalidate = 72
	atStaleIfError    = 80
	atResponseTime    = 88
	atKeepUntil       = 96
	atBodyLen         = 104
	atRuleGeneration  = 112
	atStatus          = 116
	atTagCount        = 118
	atLineCount       = 120
	atURLEnd          = 124
	atExtrasEnd       = 128
	atNominationEnd   = 132
	atSelectionEnd    = 136
	atFieldsEnd       = 140
	atHeadEnd         = 144
	atETag            = 148
	atLastModified    = 152
	atDate            = 156
)

// Flags. A bit that this version does not know belongs to a newer one; save.lua knows them too.
const (
	flagPartial        = 1 << iota // holds one range of a representation: status 206
	flagNoCache                    // policy.Freshness.NoCache
	flagMustRevalidate             // policy.Freshness.MustRevalidate
	flagImmutable                  // policy.Freshness.Immutable
	flagHeuristic                  // policy.Freshness.Heuristic
	flagValidator                  // policy.Freshness.Validator
	flagChunked                    // the body is not here but in chunks of its own (chunks.go)
	flagS2                         // in Redis the body is to be compressed with S2 (pack.go)
	flagZstd                       // or with Zstandard
	flagPacked                     // this value has the body compressed: a form of Redis alone

	flagsKnown = flagPartial | flagNoCache | flagMustRevalidate | flagImmutable | flagHeuristic | flagValidator |
		flagChunked | flagS2 | flagZstd | flagPacked
)

// ErrCorrupt is the error of Decode for bytes that are no entry: foreign, cut short, or changed since they were written.
var ErrCorrupt = errors.New("store: not an entry")

// ErrNewer is the error of Decode for an entry of a version that this program does not know. It is a miss, and the value is
// left to those who can read it.
var ErrNewer = errors.New("store: entry of a newer version")

func corrupt(what string) error { return fmt.Errorf("%w: %s", ErrCorrupt, what) }

// unset is the instant "not set".
const unset = math.MinInt64

// instant returns t as the encoding has it. Instants that do not fit in 64 bits of nanoseconds (before 1678, after 2262) are
// moved to the nearest that does.
func instant(t time.Time) int64 {
	if t.IsZero() {
		return unset
	}
	switch n := t.UnixNano(); {
	case time.Unix(0, n).Equal(t): // it fits
		return max(n, unset+1)
	case t.Unix() < 0:
		return unset + 1
	default:
		return math.MaxInt64
	}
}

// timeOf is the inverse of instant.
func timeOf(n int64) time.Time {
	if n == unset {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// digest returns the digest of a block whose head ends, and whose digest starts, at headEnd.
func digest(block []byte, headEnd int) uint64 {
	seed := xxh3.HashSeed(block[atEpoch:headEnd], binary.BigEndian.Uint64(block))
	return xxh3.HashSeed(block[headEnd+digestLen:], seed)
}

func getU64(b []byte, at int) uint64    { return binary.BigEndian.Uint64(b[at:]) }
func getI64(b []byte, at int) int64     { return int64(binary.BigEndian.Uint64(b[at:])) }
func getU32(b []byte, at int) uint32    { return binary.BigEndian.Uint32(b[at:]) }
func putU64(b []byte, at int, v uint64) { binary.BigEndian.PutUint64(b[at:], v) }
func putI64(b []byte, at int, v int64)  { binary.BigEndian.PutUint64(b[at:], uint64(v)) }
func putU32(b []byte, at int, v uint32) { binary.BigEndian.PutUint32(b[at:], v) }
