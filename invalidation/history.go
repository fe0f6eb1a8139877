package invalidation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// The history is the log itself: what was purged, when, and who asked. It reaches back as far as the log does; what was trimmed is no more.

// History returns the newest records, the newest first, so many at most.
func (f *Follower) History(ctx context.Context, limit int) ([]*Record, error) {
	if f.log == nil {
		list := f.table.records()
		slices.Reverse(list)
		return list[:min(len(list), limit)], nil
	}
	return f.log.backwards(ctx, "+", "-", limit)
}

// Recorded returns the record of a sequence, nil where the log has none of it.
func (f *Follower) Recorded(ctx context.Context, seq Seq) (*Record, error) {
	if f.log == nil {
		for _, r := range f.table.records() {
			if r.Seq == seq {
				return r, nil
			}
		}
		return nil, nil
	}
	id := seq.String() + "-0"
	list, err := f.log.backwards(ctx, id, id, 1)
	if len(list) == 0 {
		return nil, err
	}
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
