package limiter

// verdict is what a limit says of a request.
type verdict uint8

const (
	undecided   verdict = iota
	exempted            // the limit is not for it
	admitted            //
	denied              // over the limit
	unavailable         // Redis does not answer, and the limit is closed then
)

// source is who has decided.
type source uint8

const (
	fromRedis source = iota
	fromLease
	fromRefusal // a refusal of Redis that was remembered
	fromHere    // there is no Redis
	fromOutage
	sources
)

var sourceNames = [sources]string{"redis", "lease", "refusal", "process", "outage"}

// claim is one limit's part in a Reservation.
type claim struct {
	limit  *limit
	shard  *shard
	entry  *entry
	weight int64 // of the method
	cost   int64 // tokens that are needed

	verdict verdict
	by      source
	free    bool   // admitted, and counted nowhere
	resets  uint32 // of the entry, when it was asked
	using   bool   // among the users of its entry
	joined  *round // the question of another request that it waits for

	// What is told of the client; left is of tokens, the times are in microseconds from now.
	tag, left, retry, reset int64
	ownTag                  int64 // the window of the entry's own count in which it is counted
}

// settleAs ends the claim. The shard of its entry is locked.
func (c *claim) settleAs(v verdict, by source) {
	if v == denied && c.verdict != denied {
		c.entry.refused++
	}
	c.verdict, c.by = v, by
}
