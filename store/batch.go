package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
)

// A sweep looks at many entries at once: one round trip reads their heads, and one more does what the purge asks for with those that it
// selects.

// batch is one sweep's way with many entries.
type batch struct {
	far    *far
	record *invalidation.Record
	tally  *tally
	enter  bool            // what is left is entered into the index
	gone   map[string]bool // keys of the last ones at which there is no entry now
}

// candidate is an entry of which a purge wants something.
type candidate struct {
	key, variant string
	keys         resourceKeys
	fill         string // of the entry that was looked at; "" = whichever is there
	url          string
	body         int64 // its length
	matched      bool  // by the purge, when it was looked at
}

// sweep looks at entries, and does what the purge asks for with those that it selects, or counts them alone in a preview.
func (b *batch) sweep(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		b.gone = nil
		return nil
	}
	heads, left, err := b.read(ctx, keys)
	if err != nil {
		return err
	}
	var selected []candidate
	var mine []int // places of what this version can read
	for i, key := range keys {
		e := heads[i]
		if e == nil {
			continue
		}
		one := candidate{
			key: key, variant: e.variant(), keys: b.far.keys.of(e.URL()), fill: string(e.bytes(atFill, atFill+8)),
			url: e.URL(), body: e.BodyLen(), matched: b.tally.matches(e, b.record),
		}
		if one.keys.entryKey(one.variant) != key {
			continue
		}
		mine = append(mine, i)
		switch {
		case !one.matched:
		case b.tally.preview:
			b.tally.count(one.key, one.url, one.body, 0, true)
		default:
			selected = append(selected, one)
		}
	}
	if err := b.unlink(ctx, selected); err != nil || !b.enter {
		return err
	}
	var calls []scriptCall
	for _, i := range mine {
		if e := heads[i]; e.Tagged() && !b.gone[keys[i]] {
			calls = b.far.index.calls(calls, e, keys[i], max(left[i], e.KeepUntil().Sub(b.far.now())))
		}
	}
	if _, err := runScripts(ctx, b.far.index.client, indexScript, calls); err != nil {
		return fmt.Errorf("store: entering into the index: %w", err)
	}
	return nil
}

// read reads the heads of entries: nil where there is none that this version can read. left is for how long they will be there, where they
// are to be entered.
func (b *batch) read(ctx context.Context, keys []string) (heads []*Entry, left []time.Duration, err error) {
	b.gone = make(map[string]bool)
	if len(keys) == 0 {
		return nil, nil, nil
	}
	pipe := b.far.client.Pipeline()
	begins, lives := make([]*redis.StringCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	for i, key := range keys {
		begins[i] = pipe.GetRange(ctx, key, 0, sweepHead-1)
		if b.enter {
			lives[i] = pipe.PTTL(ctx, key)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, nil, fmt.Errorf("store: sweeping: %w", err)
	}
	heads, left = make([]*Entry, len(keys)), make([]time.Duration, len(keys))
	for i, key := range keys {
		if b.enter {
			left[i] = lives[i].Val()
		}
		begin, err := begins[i].Bytes()
		switch {
		case redis.HasErrorPrefix(err, "WRONGTYPE"):
			continue // none of ours
		case err != nil:
			return nil, nil, fmt.Errorf("store: sweeping: %w", err)
		case len(begin) == 0:
			b.gone[key] = true
			continue
		}
		if heads[i], err = b.far.wholeHead(ctx, key, begin); err != nil {
			return nil, nil, err
		}
	}
	return heads, left, nil
}

// wholeHead makes an entry, of which only the head may be looked at, of the first bytes of a value, and reads more of it where the head is
// long. It is nil where that is none: it was of another version, which its own program sweeps.
func (r *far) wholeHead(ctx context.Context, key string, begin []byte) (*Entry, error) {
	e, need := headOf(begin)
	if e != nil || need <= len(begin) {
		return e, nil
	}
	whole, err := r.client.GetRange(ctx, key, 0, int64(need)-1).Bytes()
	if err != nil {
		return nil, fmt.Errorf("store: sweeping: %w", err)
	}
	e, _ = headOf(whole)
	return e, nil
}

// unlink does with entries what the purge asks for, if they are still those that were looked at and it forbids them.
func (b *batch) unlink(ctx context.Context, selected []candidate) error {
	soft := ""
	if b.record.Soft {
		soft = "soft"
	}
	epoch := string(binary.BigEndian.AppendUint64(nil, uint64(b.record.Epoch)))
	seq := string(binary.BigEndian.AppendUint64(nil, uint64(b.record.Seq)))
	calls := make([]scriptCall, len(selected))
	for i, one := range selected {
		calls[i] = scriptCall{[]string{one.key, one.keys.root}, []any{one.variant, epoch, seq, one.fill, soft}}
	}
	replies, err := runScripts(ctx, b.far.client, unlinkScript, calls)
	var chunks []string
	for i, reply := range replies {
		done, replyErr := reply.Slice()
		if replyErr != nil || len(done) != 2 {
			continue
		}
		one, swept := selected[i], 0
		if n, _ := done[0].(int64); n > 0 {
			swept = 1
			b.gone[one.key] = !b.record.Soft
		}
		if one.matched || swept > 0 {
			b.tally.count(one.key, one.url, one.body, swept, b.record.Soft)
		}
		told, _ := done[1].(string)
		chunks = append(chunks, one.keys.toldChunks(one.variant, told)...)
	}
	if err != nil {
		return fmt.Errorf("store: sweeping: %w", err)
	}
	return b.far.unlinkChunks(ctx, chunks)
}

// toldChunks are the keys of the chunks of which a script has told: "FILL CHUNKS" (unlink.lua), or "".
func (r resourceKeys) toldChunks(variant, told string) []string {
	hex, count, _ := strings.Cut(told, " ")
	fill, err1 := strconv.ParseUint(hex, 16, 64)
	n, err2 := strconv.Atoi(count)
	if errors.Join(err1, err2) != nil || n > chunksOf(maxChunkedBody) {
		return nil
	}
	keys := make([]string, n)
	for i := range keys {
		keys[i] = r.chunkKey(variant, fill, i)
	}
	return keys
}

// unlinkChunks unlinks chunks whose entries are gone. Those that it does not reach expire by themselves.
func (r *far) unlinkChunks(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), scanBatch)
		pipe := r.client.Pipeline()
		for _, key := range keys[:n] {
			pipe.Unlink(ctx, key)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("store: sweeping chunks: %w", err)
		}
		keys = keys[n:]
	}
	return nil
}
