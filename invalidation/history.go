package invalidation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// The history says what was purged, when, who asked, and what came of it. The newest are in the log itself. What is trimmed from there goes on
// in a stream, P:{inv}:history, so many and so long (trim.go); but not what nobody asked for. Without Redis the newest are kept
// in the process (here.go).

// Event is a purge of the past.
type Event struct {
	*Record
	Outcome Outcome
	// Past says that the log holds it no more: nothing that it forbade is stored any more.
	Past      bool
	Shortened bool // some of what it selects by is left out
}

// History returns purges, the newest first, so many at most: the newest of all, or with below the newest of those before it.
func (f *Follower) History(ctx context.Context, limit int, below Seq) ([]*Event, error) {
	if f.log == nil {
		return f.historyHere(limit, below), nil
	}
	from := "+"
	if below > 0 {
		from = (below - 1).String()
	}
	records, err := f.log.backwards(ctx, from, "-", limit)
	if err != nil {
		return nil, err
	}
	list, err := f.events(ctx, records)
	if err != nil || len(list) == limit {
		return list, err
	}
	// What is trimmed in this moment is older than all that was found.
	if len(list) > 0 {
		below = list[len(list)-1].Seq
	}
	past, err := f.log.past(ctx, below, limit-len(list))
	return append(list, past...), err
}

// events are records of the log, with what has come of them.
func (f *Follower) events(ctx context.Context, records []*Record) ([]*Event, error) {
	seqs := make([]string, len(records))
	for i, r := range records {
		seqs[i] = r.Seq.String()
	}
	noted, err := f.log.notes(ctx, seqs...)
	if err != nil {
		return nil, err
	}
	list := make([]*Event, len(records))
	for i, r := range records {
		list[i] = &Event{Record: r, Outcome: noted[i].outcome(noted[i].stop)}
	}
	return list, nil
}

// Recorded returns the purge of a sequence, nil where neither the log nor the history has it.
func (f *Follower) Recorded(ctx context.Context, seq Seq) (*Event, error) {
	if f.log == nil {
		return f.recordedHere(seq), nil
	}
	id := seq.String() + "-0"
	records, err := f.log.backwards(ctx, id, id, 1)
	if err != nil {
		return nil, err
	}
	list, err := f.events(ctx, records)
	if err == nil && (len(list) == 0 || list[0].Outcome.At.IsZero()) { // it may have been trimmed after it was found
		var past []*Event
		if past, err = f.log.pastBetween(ctx, id, id, 1); len(past) > 0 {
			list = past
		}
	}
	if err != nil || len(list) == 0 {
		return nil, err
	}
	list[0].Outcome, err = f.log.followed(ctx, list[0].Outcome)
	return list[0], err
}

// Receipt says who has applied a record by now, waiting for all of them until ctx ends. What it returns with an error is no receipt: who
// has applied it is not known.
func (f *Follower) Receipt(ctx context.Context, at Position) (*Receipt, error) {
	if f.log == nil {
		return f.receiptHere(at), nil
	}
	return f.receipt(ctx, at)
}

// backwards returns purges from one ID of the stream down to another. The records that begin an epoch are none.
func (l *redisLog) backwards(ctx context.Context, from, to string, limit int) ([]*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	list := []*Record{}
	for len(list) < limit {
		n := limit - len(list)
		messages, err := l.client.XRevRangeN(ctx, l.log, from, to, int64(n)).Result()
		if err != nil {
			return nil, fmt.Errorf("invalidation: reading the history: %w", err)
		}
		records, err := parseRecords(messages)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if r.Kind != "" {
				list = append(list, r)
			}
		}
		if len(messages) < n {
			break
		}
		from = "(" + messages[len(messages)-1].ID
	}
	return list, nil
}

// NothingAppended reports whether an error of Purge leaves no doubt that the log did not take the record. Where it does leave one, as when
// Redis did not answer in time, the purge may happen, also later.
func (f *Follower) NothingAppended(err error) bool {
	if _, cluster := f.opt.Redis.(*redis.ClusterClient); cluster {
		return false // its client tries again by itself, and tells of the last try alone
	}
	var dialled *net.OpError
	var refused redis.Error
	switch {
	case errors.Is(err, redis.ErrPoolTimeout): // no connection was free
		return true
	case errors.As(err, &dialled) && dialled.Op == "dial":
		return true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return false
	}
	// What a command in the script fails with names the script; it may have come after the one that appended.
	return errors.As(err, &refused) && !strings.Contains(refused.Error(), "@user_script")
}
