package invalidation

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The log in Redis is a stream, P:{inv}:log, whose entries append.lua describes. Each record names the one before it, nonce included, so that a
// reader who has missed one knows, and one who reads another log than it has begun with. The log always holds a record: the first of an
// epoch selects nothing, and trimming leaves the last.

//go:embed append.lua
var appendSource string

//go:embed heartbeat.lua
var heartbeatSource string

//go:embed fleet.lua
var fleetSource string

//go:embed leave.lua
var leaveSource string

var (
	fleetScript     = redis.NewScript(fleetSource)
	leaveScript     = redis.NewScript(leaveSource)
	appendScript    = redis.NewScript(appendSource)
	heartbeatScript = redis.NewScript(heartbeatSource)
)

// redisLog asks Redis. Its methods may be called concurrently.
type redisLog struct {
	client                redis.UniversalClient
	log, replicas, sweeps string
	done, workers         string // hash and set, see sweep.go
	again                 string // hash, see append.lua
	history               string // stream, see history.go
	channel               string
	timeout               time.Duration
}

func newRedisLog(client redis.UniversalClient, prefix string, timeout time.Duration) *redisLog {
	base := prefix + ":{inv}:"
	return &redisLog{
		client: client, log: base + "log", replicas: base + "replicas", sweeps: base + "sweeps", channel: base + "log", done: base + "swept",
		workers: base + "workers", again: base + "again", history: base + "history", timeout: timeout,
	}
}

// wire is how a purge stands in the log.
type wireRecord struct {
	Kind     Kind     `json:"kind"`
	Selector string   `json:"selector,omitempty"`
	URLs     []string `json:"urls,omitempty"`
	Tags     []string `json:"tags,omitempty"`
	MatchAll bool     `json:"match_all,omitempty"`
	Origin   string   `json:"origin,omitempty"`
	Group    string   `json:"group,omitempty"`
	Soft     bool     `json:"soft,omitempty"`
	Filters  *Filters `json:"filters,omitempty"`
	Who      string   `json:"who,omitempty"`
	Passing  bool     `json:"passing,omitempty"`

	Shortened bool `json:"shortened,omitempty"` // in the history: some of it is left out
}

func wireOf(p *Purge) wireRecord {
	w := wireRecord{
		Kind: p.Kind, Selector: p.Selector, URLs: p.URLs, Tags: p.Tags, MatchAll: p.MatchAll, Origin: p.Origin, Group: p.Group, Soft: p.Soft,
		Who: p.Who, Passing: p.Passing,
	}
	if !p.Filters.empty() {
		w.Filters = &p.Filters
	}
	return w
}

// encode writes what the log has of a purge. No browser reads it: "&", of which URLs may have many, is one byte and not the six of \u0026.
func (p *Purge) encode() (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(wireOf(p))
	return strings.TrimSuffix(b.String(), "\n"), err
}

func decodePurge(text string) (p Purge, err error) {
	var w wireRecord
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return p, err
	}
	p = Purge{
		Kind: w.Kind, Selector: w.Selector, URLs: w.URLs, Tags: w.Tags, MatchAll: w.MatchAll, Origin: w.Origin, Group: w.Group, Soft: w.Soft,
		Who: w.Who, Passing: w.Passing,
	}
	if w.Filters != nil {
		p.Filters = *w.Filters
	}
	return p, p.Check()
}

// append gives the purge its place. A purge of no kind begins an epoch where the log holds nothing, and is nil where it holds something.
func (l *redisLog) append(ctx context.Context, p Purge) (*Record, error) {
	return l.appendFor(ctx, p, nil)
}

// rememberAgain is for how long it is remembered that a record was appended again: longer than replicas take to notice a loss. A copy that one
// appends later costs some fetches and no more.
const rememberAgain = time.Hour

// appendAgain appends a record that the log has lost, unless another replica has done so, or it was trimmed as it should be: then it is nil.
func (l *redisLog) appendAgain(ctx context.Context, lost *Record) (*Record, error) {
	p := lost.Purge
	p.Filters.OlderThan = 0 // it was counted from then: StoredBefore says what it meant
	return l.appendFor(ctx, p, lost)
}

// appendFor appends a purge in place of a lost record, where there is one.
func (l *redisLog) appendFor(ctx context.Context, p Purge, lost *Record) (*Record, error) {
	r := &Record{Purge: p, Nonce: rand.Uint64()}
	text, lostNonce, lostSeq := "", "", ""
	if lost != nil {
		lostNonce, lostSeq = hex64(lost.Nonce), lost.Seq.String()
	}
	if p.Kind != "" {
		var err error
		if text, err = p.encode(); err != nil {
			return nil, fmt.Errorf("invalidation: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	reply, err := appendScript.Run(ctx, l.client, []string{l.log, l.sweeps, l.again, l.history},
		text, hex64(r.Nonce), hex64(rand.Uint64()), l.channel, p.Filters.OlderThan.Microseconds(), lostNonce, rememberAgain.Milliseconds(), lostSeq).StringSlice()
	switch {
	case err != nil:
		return nil, fmt.Errorf("invalidation: appending to the log: %w", err)
	case len(reply) == 0:
		return nil, nil
	case len(reply) != 5:
		return nil, fmt.Errorf("invalidation: appending to the log: Redis answers %q", reply)
	}
	fields := map[string]string{"n": hex64(r.Nonce), "e": reply[1], "p": reply[2], "q": reply[3], "b": reply[4], "r": text}
	return parseRecord(reply[0], fields)
}

var errUnreadable = errors.New("invalidation: a record in the log cannot be read")

// parseRecord reads an entry of the stream. A record of a kind or with filters that this version does not know cannot be skipped: the
// error is errUnreadable.
func parseRecord(id string, fields map[string]string) (*Record, error) {
	var r Record
	fail := func(what string, err error) (*Record, error) {
		return nil, fmt.Errorf("%w: %s of %s: %w", errUnreadable, what, id, err)
	}
	number := func(text string, base int) (uint64, error) {
		if text == "" {
			return 0, nil
		}
		return strconv.ParseUint(text, base, 64)
	}
	seq, _, _ := strings.Cut(id, "-")
	var before uint64
	for _, f := range []struct {
		name, text string
		base       int
		into       *uint64
	}{
		{"sequence", seq, 10, (*uint64)(&r.Seq)}, {"epoch", fields["e"], 16, (*uint64)(&r.Epoch)}, {"nonce", fields["n"], 16, &r.Nonce},
		{"predecessor", fields["p"], 10, (*uint64)(&r.Prev)}, {"predecessor's nonce", fields["q"], 16, &r.PrevN}, {"stored-before", fields["b"], 10, &before},
	} {
		n, err := number(f.text, f.base)
		if err != nil {
			return fail(f.name, err)
		}
		*f.into = n
	}
	if text := fields["r"]; text != "" {
		p, err := decodePurge(text)
		if err != nil {
			return fail("purge", err)
		}
		r.Purge = p
	}
	r.Filters.StoredBefore = max(r.Filters.StoredBefore, int64(before))
	return &r, nil
}

func hex64(n uint64) string { return fmt.Sprintf("%016x", n) }

// read returns the records behind seq, waiting for so long if there is none yet; count bounds them. Client is one whose connections may
// wait.
func (l *redisLog) read(ctx context.Context, client redis.UniversalClient, seq Seq, wait time.Duration, count int64) ([]*Record, error) {
	streams, err := client.XRead(ctx, &redis.XReadArgs{Streams: []string{l.log, seq.String() + "-0"}, Count: count, Block: wait}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("invalidation: reading the log: %w", err)
	}
	return parseRecords(streams[0].Messages)
}

func parseRecords(messages []redis.XMessage) ([]*Record, error) {
	records := make([]*Record, 0, len(messages))
	for _, message := range messages {
		fields := make(map[string]string, len(message.Values))
		for name, value := range message.Values {
			fields[name], _ = value.(string)
		}
		r, err := parseRecord(message.ID, fields)
		if err != nil {
			return records, err
		}
		records = append(records, r)
	}
	return records, nil
}

// ask returns the records between two IDs, at most one; backwards from the second where reversed.
func (l *redisLog) ask(ctx context.Context, what, from, to string, reversed bool) (*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	var messages []redis.XMessage
	var err error
	if reversed {
		messages, err = l.client.XRevRangeN(ctx, l.log, to, from, 1).Result()
	} else {
		messages, err = l.client.XRangeN(ctx, l.log, from, to, 1).Result()
	}
	if err != nil {
		return nil, fmt.Errorf("invalidation: asking for the %s record: %w", what, err)
	}
	records, err := parseRecords(messages)
	if len(records) == 0 {
		return nil, err
	}
	return records[0], err
}

// first is the oldest record that the log holds; nil = it holds none.
func (l *redisLog) first(ctx context.Context) (*Record, error) {
	r, err := l.ask(ctx, "oldest", "-", "+", false)
	if err == nil && r == nil {
		return nil, errDoubt // it was emptied in this moment
	}
	return r, err
}

// has reports whether the log holds this very record.
func (l *redisLog) has(ctx context.Context, r *Record) (bool, error) {
	id := r.Seq.String() + "-0"
	found, err := l.ask(ctx, "same", id, id, false)
	return found != nil && found.Nonce == r.Nonce && found.Epoch == r.Epoch, err
}

// newest is the position of the newest record, as its master has it.
func (l *redisLog) newest(ctx context.Context) (Position, error) {
	r, err := l.ask(ctx, "newest", "-", "+", true)
	if err != nil || r == nil {
		return Position{}, err
	}
	return r.Position(), nil
}

// beat is what a heartbeat is answered.
type beat struct {
	accepted bool
	at       int64 // microseconds by the clock of Redis
	newest   Seq
	oldest   Seq // in the log
}

// heartbeat says what the replica has applied last. register also removes other incarnations of its instance.
func (l *redisLog) heartbeat(ctx context.Context, id string, last *Record, version string, lease time.Duration, register bool) (b beat, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	flag := "0"
	if register {
		flag = "1"
	}
	reply, err := heartbeatScript.Run(ctx, l.client, []string{l.log, l.replicas},
		id, last.Seq.String(), hex64(uint64(last.Epoch)), hex64(last.Nonce), version, flag, lease.Milliseconds(), forgetLeft.Microseconds()).StringSlice()
	if err == nil && len(reply) != 4 {
		err = fmt.Errorf("an answer of another form: %q", reply)
	}
	if err != nil {
		return b, fmt.Errorf("invalidation: heartbeat: %w", err)
	}
	at, err1 := strconv.ParseInt(reply[1], 10, 64)
	newest, err2 := strconv.ParseUint(reply[2], 10, 64)
	oldest, err3 := strconv.ParseUint(reply[3], 10, 64)
	return beat{reply[0] == "ok", at, Seq(newest), Seq(oldest)}, errors.Join(err1, err2, err3)
}
