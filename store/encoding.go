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
//	    16    8  epoch of the invalidation log to which the sequences belong
//	    24    8  bodyAsOf: sequence applied before the lookup that led to the fetch of the body
//	    32    8  validAsOf: the same for the last fetch or validation
//	    40    8  FILL: 64 random bits, never 0, that name the fetch of the body; its root repeats them
//	    48    8  born, an instant: when the response's age was zero
//	    56    8  freshness lifetime
//	    64    8  stale-while-revalidate
//	    72    8  stale-if-error
//	    80    8  request time, an instant
//	    88    8  response time, an instant
//	    96    8  keep until, an instant, always set: when it is to be forgotten
//	   104    8  length of the body
//	   112    8  partial: first byte; otherwise 0
//	   120    8  partial: last byte; otherwise 0
//	   128    8  partial: length of the whole representation, -1 = unknown; otherwise 0
//	   136    4  generation of the rules under which it was stored
//	   140    2  status code
//	   142    2  number of tags
//	   144    4  number of field lines
//	   148    4  length of the URL
//	   152    4  length of the extras (values named by key.headers, key.cookies, key.session)
//	   156    4  length of the nomination (the canonical Vary)
//	   160    4  length of the selection (what the nominated fields said in the request)
//	   164    4  length of the field lines
//	   168    4  length of the tags
//	   172    4  zero
//	   176       URL, extras, nomination, selection
//	             field lines, "Name: value\r\n" each, ready for the wire: sorted by name, lines of one name in their order
//	             tags, each two bytes of length and then the tag
//	        8    digest
//	             body
//
// The digest is the xxh3-64 of the body, seeded with the xxh3-64 of everything between offset 16 and the digest, seeded
// with the first eight bytes. It covers all but staleSince, which a soft purge sets in place by a script that cannot hash;
// and it can be made piece by piece where the body is in chunks.
//
// An encoding is canonical: whatever Decode accepts, NewEntry makes again from its Redraft, byte for byte.

const (
	magic       = "CPE"
	version     = 1
	preambleLen = 176
	digestLen   = 8

	// maxBlock bounds the whole block, so that every offset fits in 32 bits on every platform.
	maxBlock = math.MaxInt32
)

// Places in the preamble.
const (
	atVersion         = 3
	atFlags           = 4
	atStaleSince      = 8
	atEpoch           = 16
	atBodyAsOf        = 24
	atValidAsOf       = 32
	atFill            = 40
	atBorn            = 48
	atLifetime        = 56
	atStaleRevalidate = 64
	atStaleIfError    = 72
	atRequestTime     = 80
	atResponseTime    = 88
	atKeepUntil       = 96
	atBodyLen         = 104
	atPartFirst       = 112
	atPartLast        = 120
	atPartTotal       = 128
	atRuleGeneration  = 136
	atStatus          = 140
	atTagCount        = 142
	atLineCount       = 144
	atURLLen          = 148
	atExtrasLen       = 152
	atNominationLen   = 156
	atSelectionLen    = 160
	atFieldsLen       = 164
	atTagsLen         = 168
	atZero            = 172
)

// Flags. A bit that this version does not know belongs to a newer one.
const (
	flagPartial        = 1 << iota // holds one range of a representation: status 206
	flagNoCache                    // policy.Freshness.NoCache
	flagMustRevalidate             // policy.Freshness.MustRevalidate
	flagImmutable                  // policy.Freshness.Immutable
	flagHeuristic                  // policy.Freshness.Heuristic
	flagValidator                  // policy.Freshness.Validator
	flagChunked                    // reserved: the body is not here but in chunks of its own; this version writes none

	flagsKnown = flagPartial | flagNoCache | flagMustRevalidate | flagImmutable | flagHeuristic | flagValidator
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
