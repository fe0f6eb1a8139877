// Package invalidation makes every replica forget what one of them was told to forget, and says when all of them have.
//
// # The guarantee
//
// No request that arrives after a purge was answered 200 is served a response the fetch of whose body began before the purge was
// appended to the log; after a soft purge, none is served it as fresh. 202 is the answer when some replica has not confirmed, and
// names it.
//
// It assumes that a replica's clock runs at about the rate of the others', that Redis keeps what it has acknowledged or loses its newest records
// only, and that replicas have registered: one that could not register yet says so in /readyz and is not covered. A Redis that has forgotten who
// follows, when it was emptied, started again or replaced, hears of those that it serves within a second or so, and receipts are complete only
// 3 s after that (young). What is left: one that is cut off from Redis when it is forgotten, and for longer than that, is named by those who have
// known it, and by nobody who was started since; if it is strict, as they are, it serves nothing any more by then.
//
// # How
//
// A purge is a Record in a log that all replicas follow, a Redis stream, or in one process's memory where there is no Redis.
//
//	append    gives the record its sequence: its place in the order of all purges                  log.go, memory.go, append.lua
//	apply     each replica's tail reads the records in that order into its Table                    tail.go, table.go
//	match     a stored response is served only if no record in the table forbids it                 table.go
//	sweep     one replica deletes from Redis what the record names, and again later                 sweep.go
//	receipt   who has applied it, and how far the sweep is                                          receipt.go, sweepnotes.go
//	trim      the log forgets it when its horizon is over and it was swept twice; the history does not  trim.go, history.go
//
// Sweeping is for memory, not for the guarantee, until the record is forgotten: then everything that it forbids must be gone, or it would be
// served again. Hence a sweep can be cancelled but for the last one, which comes when the horizon is over.
//
// Everything that is stored carries two sequences: bodyAsOf, what its replica had applied before the lookup that led to the fetch of the
// body, and validAsOf, the same for the last fetch or validation. A hard record above bodyAsOf forbids it; a soft record above validAsOf makes
// it stale. So a fetch under way during a purge is no special case: what it brings carries a sequence below the record's.
//
// Near memory is not walked for a purge. A stored response there remembers up to which sequence it has been compared with the
// table (checked); when that is the table's head, one comparison is all that a hit pays. Otherwise it is matched with the records in
// between, and dropped, served as stale, or advanced.
package invalidation

import (
	"fmt"
	"strconv"
)

// A Seq is a record's place in the log: microseconds since 1970 by the clock of Redis, or just above the last one, so that it never goes
// back. 0 is before all records.
type Seq uint64

// String formats a sequence as the API and the stream have it.
func (s Seq) String() string { return strconv.FormatUint(uint64(s), 10) }

// An Epoch names one life of the log. A log that has lost its records begins a new one; sequences of two epochs cannot be compared, and what
// was stored in another epoch is a miss.
type Epoch uint64

// Position is a place in one epoch's log.
type Position struct {
	Epoch Epoch
	Seq   Seq
}

// String formats a position for logs.
func (p Position) String() string { return fmt.Sprintf("%016x:%d", uint64(p.Epoch), uint64(p.Seq)) }
