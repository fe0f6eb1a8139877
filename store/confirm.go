package store

import (
	"context"
	_ "embed"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
)

// Saving in two steps, where purges are followed in Redis:
//
//	saver                                    purge
//	writes the entry, for a short time       appends its record
//	reads the newest record                  sweeps what it selects
//	waits until it has applied that
//	extends the entry's life, or deletes it
//
// Either the sweep finds the entry, or the saver finds the record: each writes before it reads. A saver that dies in between leaves an
// entry that is soon gone. A save that comes so late that a purge in between might be forgotten already is refused by save.lua.

//go:embed confirm.lua
var confirmSource string

var confirmScript = redis.NewScript(confirmSource)

// checkPatience is how long a saver waits for what it has read to be applied.
const checkPatience = 2 * time.Second

// check is the second step, for an entry that was written. It says how the save has ended.
func (s *saver) check(t *task, keys resourceKeys, variant string, ttl time.Duration) (result string) {
	if s.follower == nil {
		return savedOK
	}
	ctx, cancel := context.WithTimeout(s.kill, checkPatience)
	defer cancel()
	newest, err := s.follower.Newest(ctx)
	if err != nil || !s.follower.Reached(ctx, newest) {
		return savedUnchecked // it expires by itself
	}
	j := s.follower.Table().Judge(t.entry.subject(), 0)
	if t.stamp.mark.Number < j.Floor || t.entry.Epoch() != uint64(j.Epoch) {
		return savedUnchecked
	}
	if j.Verdict == invalidation.Forgotten {
		forget := func(ctx context.Context) error {
			return forgetScript.Run(ctx, s.far.client, []string{keys.entryKey(variant), keys.root}, variant, fillHex(t.entry.Fill())).Err()
		}
		_ = s.tell("check", forget) // else it expires by itself
		return savedRefused
	}
	stale := ""
	if j.Verdict == invalidation.Stale {
		stale = string(binary.BigEndian.AppendUint64(nil, uint64(j.Soft)))
	}
	var confirmed int
	err = s.tell("check", func(ctx context.Context) (err error) {
		confirmed, err = confirmScript.Run(ctx, s.far.client, []string{keys.entryKey(variant), keys.root},
			variant, string(t.entry.bytes(atValidAsOf, atFill+8)), strconv.FormatInt(ttl.Milliseconds(), 10), stale).Int()
		return err
	})
	if err != nil || confirmed == 0 {
		return savedUnchecked
	}
	return savedOK
}
