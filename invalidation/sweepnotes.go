package invalidation

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// What is noted of the sweeps of records that the log holds is in a hash, P:{inv}:swept, so that every replica can tell:
//
//	SEQ        JSON, a note: by whoever has the sweep in hand, at its begin, now and then, and at its end
//	SEQ:again  when the second sweep was queued, microseconds since 1970 by the clock of Redis
//	SEQ:stop   who has cancelled the first
//
// All are gone when the record is trimmed; its note is then in the history.

//go:embed note.lua
var noteSource string

//go:embed cancel.lua
var cancelSource string

//go:embed move.lua
var moveSource string

//go:embed claim.lua
var claimSource string

//go:embed worker.lua
var workerSource string

//go:embed again.lua
var againSource string

var (
	noteScript   = redis.NewScript(noteSource)
	cancelScript = redis.NewScript(cancelSource)
	moveScript   = redis.NewScript(moveSource)
	claimScript  = redis.NewScript(claimSource)
	workerScript = redis.NewScript(workerSource)
	againScript  = redis.NewScript(againSource)
)

// note is what is noted of a sweep. Counts are those of all passes.
type note struct {
	Passes    int    `json:"passes"` // that have ended, the second without the first counting as both; one that was cancelled counts
	Running   bool   `json:"running,omitempty"`
	By        string `json:"by,omitempty"`
	At        int64  `json:"at"` // microseconds since 1970 by the clock of By
	Cancelled string `json:"cancelled,omitempty"`
	Merged    Seq    `json:"merged,omitempty"` // the newer record that is swept in its place (merge.go)
	Tally
}

// outcome is what the note tells. stop is who has cancelled the sweep, as far as that is not in the note yet.
func (n *note) outcome(stop string) Outcome {
	o := Outcome{State: SweepQueued, By: n.By, Cancelled: n.Cancelled, Merged: n.Merged, Tally: n.Tally}
	if n.At > 0 {
		o.At = time.UnixMicro(n.At).UTC()
	}
	if o.Cancelled == "" && n.Passes == 0 {
		o.Cancelled = stop
	}
	switch {
	case n.Passes >= 2:
		o.State = SweepTwice
	case n.Running && (n.Passes > 0 || stop == ""):
		o.State = SweepRunning
	case o.Cancelled != "":
		o.State = SweepCancelled
	case n.Passes == 1:
		o.State = SweepOnce
	}
	if o.Sample == nil {
		o.Sample = []string{}
	}
	return o
}

func parseNote(text string) (n note, err error) {
	if text == "" {
		return n, nil
	}
	if err = json.Unmarshal([]byte(text), &n); err != nil {
		err = fmt.Errorf("invalidation: what is noted of a sweep cannot be read: %w", err)
	}
	return n, err
}

// noted is what there is of one record's sweep.
type noted struct {
	note
	again bool // the second is queued
	stop  string
}

// notes reads what is noted of records.
func (l *redisLog) notes(ctx context.Context, seqs ...string) ([]noted, error) {
	if len(seqs) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return parseNotes(l.client.HMGet(ctx, l.done, noteFields(seqs...)...))
}

// toSweep is the record of a sequence, nil where the log does not hold it, and what is noted of its sweep.
func (l *redisLog) toSweep(ctx context.Context, seq string) (*Record, noted, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	pipe := l.client.Pipeline()
	messages := pipe.XRange(ctx, l.log, seq+"-0", seq+"-0")
	fields := pipe.HMGet(ctx, l.done, noteFields(seq)...)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, noted{}, fmt.Errorf("invalidation: asking for what is to be swept: %w", err)
	}
	records, err := parseRecords(messages.Val())
	if err != nil {
		return nil, noted{}, err
	}
	list, err := parseNotes(fields)
	switch {
	case err != nil:
		return nil, noted{}, err
	case len(records) == 0:
		return nil, list[0], nil
	}
	return records[0], list[0], nil
}

// noteFields are those of records, as parseNotes wants them.
func noteFields(seqs ...string) []string {
	fields := make([]string, 0, fieldsNoted*len(seqs))
	for _, seq := range seqs {
		fields = append(fields, seq, seq+":again", seq+":stop")
	}
	return fields
}

const fieldsNoted = 3 // of each record

func parseNotes(reply *redis.SliceCmd) ([]noted, error) {
	values, err := reply.Result()
	if err != nil {
		return nil, fmt.Errorf("invalidation: asking how far sweeps are: %w", err)
	}
	list := make([]noted, len(values)/fieldsNoted)
	for i := range list {
		of := values[fieldsNoted*i:]
		text, _ := of[0].(string)
		_, list[i].again = of[1].(string)
		list[i].stop, _ = of[2].(string)
		if list[i].note, err = parseNote(text); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// note notes how far a sweep is, and with over that it is not in the worker's hands any more. It reports whether the log holds the record
// still, and who has cancelled the sweep.
func (l *redisLog) note(ctx context.Context, mine, seq string, n *note, over bool) (there bool, stop string, err error) {
	n.At = time.Now().UnixMicro()
	text, err := json.Marshal(n)
	if err != nil {
		return false, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	flag := "0"
	if over {
		flag = "1"
	}
	reply, err := noteScript.Run(ctx, l.client, []string{l.done, l.log, mine}, seq, text, flag).StringSlice()
	if err == nil && len(reply) != 2 {
		err = fmt.Errorf("an answer of another form: %q", reply)
	}
	if err != nil {
		return false, "", fmt.Errorf("invalidation: noting a sweep: %w", err)
	}
	return reply[0] == "1", reply[1], nil
}

// move moves a sweep between lists; ok is false where there is none.
func (l *redisLog) move(ctx context.Context, from, to, out, in string) (seq string, ok bool, err error) {
	seq, err = moveScript.Run(ctx, l.client, []string{from, to}, out, in).Text()
	if errors.Is(err, redis.Nil) {
		return "", false, nil
	}
	return seq, err == nil, err
}

// Cancelled is what has come of cancelling a sweep.
type Cancelled string

// What may come of it.
const (
	CancelOK   Cancelled = "ok"   // it ends, or does not begin; the purge stands, and is swept when the horizon is over
	CancelLate Cancelled = "late" // it is over, or merged into that of a newer one
	CancelGone Cancelled = "gone" // the log does not hold the record
)

// Cancel ends the first sweep of a record, or keeps it from beginning: for one who needs Redis for something else now. What the record
// forbids is served by nobody all the same. It must be gone before the record is forgotten, so the sweep at the end of the horizon
// cannot be cancelled.
func (f *Follower) Cancel(ctx context.Context, seq Seq, who string) (Cancelled, error) {
	if f.log == nil {
		return f.past.cancel(seq, who), nil
	}
	list, err := f.log.notes(ctx, seq.String())
	if err != nil {
		return "", err
	}
	if list[0].Merged > 0 {
		return CancelLate, nil // it has none of its own
	}
	ctx, cancel := context.WithTimeout(ctx, f.log.timeout)
	defer cancel()
	reply, err := cancelScript.Run(ctx, f.log.client, []string{f.log.done, f.log.log}, seq.String(), who).Text()
	if err != nil {
		return "", fmt.Errorf("invalidation: cancelling a sweep: %w", err)
	}
	return Cancelled(reply), nil
}

// Outcome says how far the sweep of a record is; where it is merged into that of a newer one, how far that is.
func (f *Follower) Outcome(ctx context.Context, seq Seq) (Outcome, error) {
	if f.log == nil {
		o, _ := f.past.outcome(seq)
		return o, nil
	}
	told, _, err := f.log.outcome(ctx, seq)
	if err != nil {
		return Outcome{}, err
	}
	return f.log.followed(ctx, told)
}

// outcome is Outcome of the record by itself. It reports whether anything is known of it.
func (l *redisLog) outcome(ctx context.Context, seq Seq) (o Outcome, known bool, err error) {
	list, err := l.notes(ctx, seq.String())
	if err != nil {
		return o, false, err
	}
	if one := list[0]; one.At > 0 || one.stop != "" {
		return one.outcome(one.stop), true, nil
	}
	past, err := l.pastBetween(ctx, seq.String()+"-0", seq.String()+"-0", 1) // where it may have been trimmed to meanwhile
	if err != nil || len(past) == 0 {
		return list[0].outcome(""), false, err
	}
	return past[0].Outcome, true, nil
}

// maxMerged bounds how far it is followed what an outcome is merged into: that may be merged into a newer one too.
const maxMerged = 16

// followed is the outcome that this one is merged into, as far as anything is known of that.
func (l *redisLog) followed(ctx context.Context, o Outcome) (Outcome, error) {
	for range maxMerged {
		if o.Merged == 0 {
			break
		}
		newer, known, err := l.outcome(ctx, o.Merged)
		if err != nil || !known {
			return o, err
		}
		last := newer.Merged == 0
		newer.Merged = cmp.Or(newer.Merged, o.Merged)
		if o = newer; last {
			break
		}
	}
	return o, nil
}

// AwaitSwept waits until nothing more is to be expected of a sweep before the horizon is over, or until ctx ends, and says how far it is then. It
// asks at least once.
func (f *Follower) AwaitSwept(ctx context.Context, seq Seq) (Outcome, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, noteEvery) {
		o, err := f.Outcome(context.WithoutCancel(ctx), seq)
		if err != nil || o.Over() {
			return o, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return o, nil
		}
	}
}
