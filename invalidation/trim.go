package invalidation

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed trim.lua
var trimSource string

var trimScript = redis.NewScript(trimSource)

// Bounds of the history in Redis.
const (
	maxHistory  = 10_000 // records, about
	historyAge  = 30 * 24 * time.Hour
	maxRecorded = 1 << 10 // bytes of a record as JSON: of a longer one the begin of its selector, and some of its tags and types, are kept
	trimBatch   = 100     // records that one script trims
)

const (
	oldPages  = 20               // reads of the log, of which the records are looked at in one go for what is to be swept again, or trimmed
	lostSweep = 10 * time.Minute // after which a second sweep that is nowhere in the queue may have been lost
)

// sweepOld queues the second sweep of records whose horizon is over, and trims from the log those that have had it, all but the last.
func (f *Follower) sweepOld() error {
	clock := f.clock.Load() // of the log's own server: in a cluster TIME would ask any
	if clock == nil {
		return nil
	}
	now := time.UnixMicro(clock.now())
	over := Seq(now.Add(-f.opt.Horizon).UnixMicro()).String()
	whole := true // all before are to be trimmed too
	for from, page := "-", 0; page < oldPages; page++ {
		asked := f.old
		messages, err := f.opt.Redis.XRangeN(f.ctx, f.log.log, from, over, int64(asked)).Result()
		f.old.adjust(err)
		if err != nil {
			return fmt.Errorf("invalidation: trimming the log: %w", err)
		}
		if len(messages) == 0 {
			return nil
		}
		if whole, err = f.queueOrTrim(messages, whole, now); err != nil || len(messages) < int(asked) {
			return err
		}
		from = "(" + messages[len(messages)-1].ID
	}
	return nil
}

// queueOrTrim does so with some of them. whole says that all before are trimmed, or are to be; it returns the same of these.
func (f *Follower) queueOrTrim(messages []redis.XMessage, whole bool, now time.Time) (bool, error) {
	seqs := make([]string, len(messages))
	for i, m := range messages {
		seqs[i], _, _ = strings.Cut(m.ID, "-")
	}
	noted, err := f.log.notes(f.ctx, seqs...)
	if err != nil {
		return false, err
	}
	trimmed, again := []any{}, []any{lostSweep.Microseconds()}
	for i, m := range messages {
		text, _ := m.Values["r"].(string)
		if text != "" && noted[i].Passes < 2 {
			again = append(again, seqs[i])
			whole = false
		} else if whole {
			trimmed = append(trimmed, seqs[i], recorded(text))
		}
	}
	if len(again) > 1 {
		if err := againScript.Run(f.ctx, f.opt.Redis, []string{f.log.done, f.log.sweeps, f.log.log}, again...).Err(); err != nil {
			return false, fmt.Errorf("invalidation: queueing the second sweep: %w", err)
		}
	}
	return whole, f.trim(trimmed, now.Add(-historyAge))
}

// trim takes the first records out of the log, but never its last: pairs of a sequence and what the history keeps of it.
func (f *Follower) trim(pairs []any, oldest time.Time) error {
	for len(pairs) > 0 {
		some := pairs[:min(len(pairs), 2*trimBatch)]
		pairs = pairs[len(some):]
		failed, err := trimScript.Run(f.ctx, f.opt.Redis, []string{f.log.log, f.log.done, f.log.history},
			append([]any{maxHistory, oldest.UnixMicro()}, some...)...).Text()
		if err != nil {
			return fmt.Errorf("invalidation: trimming the log: %w", err)
		}
		if failed != "" {
			f.opt.Log.Warn("the history of purges could not be kept", "key", f.log.history, "error", failed)
		}
	}
	return nil
}

// recorded is what the history keeps of a record; "" = nothing.
func recorded(text string) string {
	p, err := decodePurge(text)
	if text == "" || err != nil || p.Passing {
		return ""
	}
	if len(text) <= maxRecorded {
		return text
	}
	p.Selector = strings.ToValidUTF8(p.Selector[:min(len(p.Selector), maxRecorded/2)], "")
	p.Origin = strings.ToValidUTF8(p.Origin[:min(len(p.Origin), maxRecorded/2)], "")
	p.Tags, p.URLs = shortened(p.Tags), shortened(p.URLs)
	p.Filters.ContentType = p.Filters.ContentType[:min(len(p.Filters.ContentType), 4)]
	w := wireOf(&p)
	w.Shortened = true
	short, err := json.Marshal(w)
	if err != nil {
		return ""
	}
	return string(short)
}

// shortened are the first of some names, so many as the history may have; the first in any case, but no more of it than that.
func shortened(names []string) []string {
	kept := 0
	for i, name := range names {
		if kept += len(name); kept <= maxRecorded/2 {
			continue
		}
		if i > 0 {
			return names[:i]
		}
		return []string{strings.ToValidUTF8(name[:maxRecorded/2], "")}
	}
	return names
}

// past reads the history backwards, from below a sequence on.
func (l *redisLog) past(ctx context.Context, below Seq, limit int) ([]*Event, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	from := "+"
	if below > 0 {
		from = (below - 1).String()
	}
	return l.pastBetween(ctx, from, "-", limit)
}

// pastBetween reads the history from one ID down to another. What cannot be read, as it is of a later version, is left out.
func (l *redisLog) pastBetween(ctx context.Context, from, to string, limit int) ([]*Event, error) {
	list := []*Event{}
	for len(list) < limit {
		n := limit - len(list)
		messages, err := l.client.XRevRangeN(ctx, l.history, from, to, int64(n)).Result()
		if err != nil {
			return nil, fmt.Errorf("invalidation: reading the history: %w", err)
		}
		for _, m := range messages {
			if e := pastEvent(m); e != nil {
				list = append(list, e)
			}
		}
		if len(messages) < n {
			break
		}
		from = "(" + messages[len(messages)-1].ID
	}
	return list, nil
}

// pastEvent is an entry of the history; nil = it cannot be read.
func pastEvent(m redis.XMessage) *Event {
	records, err := parseRecords([]redis.XMessage{m})
	if err != nil {
		return nil
	}
	text, _ := m.Values["o"].(string)
	n, _ := parseNote(text) // without it the purge is told all the same
	var w wireRecord
	text, _ = m.Values["r"].(string)
	_ = json.Unmarshal([]byte(text), &w) // parseRecords has read it
	return &Event{Record: records[0], Outcome: n.outcome(""), Past: true, Shortened: w.Shortened}
}
