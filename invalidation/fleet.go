package invalidation

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Who follows the log, as Redis has it: a hash (heartbeat.lua), which the replicas' heartbeats keep, and which a Redis that is emptied, started
// again or replaced may lose in part. So it says itself since when it can be relied upon: since the server, in its present run, took the first
// heartbeat. Every replica that it serves with heartbeats is in it a little later (youth).

// Replica is one process that follows the log.
type Replica struct {
	ID      string    `json:"id"`
	Applied Position  `json:"-"`
	Seq     Seq       `json:"applied"`
	Beat    time.Time `json:"heartbeat"` // its last, by the clock of Redis
	Version string    `json:"version,omitempty"`
	Silent  bool      `json:"silent"` // it has said nothing for silence
	// Fenced says that it serves nothing any more of what it holds: it is strict, and its lease is over.
	Fenced bool `json:"fenced"`
	lease  time.Duration
}

// silence is how long a replica may say nothing before it is called silent.
const silence = 3 * time.Second

// fenceMargin is for clocks that run unevenly: by how much longer than its lease a strict replica must have been silent.
func fenceMargin(lease time.Duration) time.Duration { return lease/10 + 100*time.Millisecond }

// fleet is who follows the log, as Redis has it.
type fleet struct {
	replicas []Replica
	left     []string // have left, within forgetLeft
	now      time.Time
	tells    bool      // the server says which run of it this is
	since    time.Time // when this run took the first heartbeat since it, or another one, knew nobody; zero = it has not taken any
}

// forgetLeft is when it is no longer of interest that a replica has left: who could not ask for longer names it as lagging, since a Redis that
// went back may have lost it. The next one that registers then takes its mark out.
const forgetLeft = time.Hour

// fleet asks who follows the log.
func (l *redisLog) fleet(ctx context.Context) (f fleet, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	reply, err := fleetScript.Run(ctx, l.client, []string{l.replicas}).StringSlice()
	if err == nil && (len(reply) < 3 || len(reply)%2 != 1) {
		err = errors.New("an answer of another form")
	}
	if err != nil {
		return f, fmt.Errorf("invalidation: listing replicas: %w", err)
	}
	now, err := strconv.ParseInt(reply[0], 10, 64)
	since, err2 := strconv.ParseInt(reply[2], 10, 64)
	if err = errors.Join(err, err2); err != nil {
		return f, fmt.Errorf("invalidation: listing replicas: %w", err)
	}
	if f.now, f.tells = time.UnixMicro(now), reply[1] != "-"; since > 0 {
		f.since = time.UnixMicro(since)
	}
	for i := 3; i < len(reply); i += 2 {
		id, text := reply[i], reply[i+1]
		if id == runField {
			continue
		}
		if strings.HasPrefix(text, leftMark) {
			f.left = append(f.left, id)
			continue
		}
		if r, ok := parseReplica(id, text); ok {
			quiet := f.now.Sub(r.Beat)
			r.Silent, r.Fenced = quiet > silence, r.lease > 0 && quiet > r.lease+fenceMargin(r.lease)
			f.replicas = append(f.replicas, r)
		}
	}
	return f, nil
}

// runField is of the server itself (heartbeat.lua); ids of replicas have a "#".
const runField = "run"

// leftMark begins what stands for a replica that has left. Without it nobody could tell one that has left from one that a Redis, gone
// backwards, has lost.
const leftMark = "left "

func parseReplica(id, text string) (r Replica, ok bool) {
	parts := strings.SplitN(text, " ", 5)
	if len(parts) < 5 {
		return r, false
	}
	seq, err1 := strconv.ParseUint(parts[0], 10, 64)
	epoch, err2 := strconv.ParseUint(parts[1], 16, 64)
	beat, err3 := strconv.ParseInt(parts[2], 10, 64)
	lease, err4 := strconv.ParseInt(parts[3], 10, 64)
	r = Replica{
		ID: id, Applied: Position{Epoch(epoch), Seq(seq)}, Seq: Seq(seq), Beat: time.UnixMicro(beat), Version: parts[4],
		lease: time.Duration(lease) * time.Millisecond,
	}
	return r, errors.Join(err1, err2, err3, err4) == nil
}

// How a replica leaves: argument of leave.lua.
const (
	strikeOff     = "0"      // by an operator's word; one of that id must be there
	strikeOffGone = "1"      // the same of one that is known to have been there
	leaveItself   = "itself" // no heartbeat that comes late registers it again
)

// leave notes that a replica follows the log no more. It reports false where there is none of that id.
func (l *redisLog) leave(ctx context.Context, id, how string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	n, err := leaveScript.Run(ctx, l.client, []string{l.replicas}, id, how).Int()
	return n > 0, err
}
