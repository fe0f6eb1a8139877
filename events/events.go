// Package events is what this proxy and the applications beside it tell each other over Redis Pub/Sub: messages of an application become
// purges by configured rules (in), and purges and the state of upstreams are published (out).
//
// # In
//
// Every replica subscribes (listener.go), maps each message to purges (rule.go, template.go, payload.go), and hands them to its desk (desk.go).
// One replica, which holds the lease P:{inv}:events, leads: its desk appends the purges to the log. The desks of the others keep theirs until the
// leader has vouched for them.
//
// Pub/Sub names no message and repeats none, so replicas cannot agree on single messages. They agree on times instead. The answer to a PING on the
// connection of a subscription comes behind all that was published before it. So a leader that has appended everything it received up to such an
// answer may vouch for a span of time, by the clock of Redis: all that was published since its subscription began, or it last lost something,
// and before that PING. It writes the span into the lease with each renewal (lead.lua). Another replica lets go what it received in
// that span. When the lease ends, whoever takes it appends what it still keeps, and what nobody has vouched for in overdue is appended by
// everybody who has it. In a Cluster a message passes between nodes beside any PING: spans leave a second for that (passing).
//
// So a message that any replica has received becomes a purge, also when the leader dies, is cut off, or its log does not answer; it may
// become more than one, which is harmless. A message that was published while nobody was subscribed is lost: that is how Pub/Sub is, and
// whoever needs proof asks the admin API, which gives a receipt.
//
// # Out
//
// A Publisher publishes in the background (publisher.go). What Redis does not take is counted and lost.
package events

import (
	"log/slog"
	"sync"
	"time"
)

// What becomes of a message, once for each rule of its channel: the words of cacheproxy_events_total, as its help text has them.
const (
	appended     = "appended"
	merged       = "merged"
	left         = "left"
	notJSON      = "not-json"
	missingField = "missing-field"
	badValue     = "bad-value"
	tooLong      = "too-long"
	refused      = "refused"
	dropped      = "dropped"
)

// rareLog writes one line for each kind of trouble in a while, however often it happens.
type rareLog struct {
	log *slog.Logger

	mu     sync.Mutex
	next   map[string]time.Time
	silent map[string]int // lines left out since the last
}

// logPause is between two lines of one kind.
const logPause = 10 * time.Second

func (l *rareLog) warn(kind, message string, attributes ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.next[kind]) {
		l.silent[kind]++
		return
	}
	if l.next == nil {
		l.next, l.silent = map[string]time.Time{}, map[string]int{}
	}
	if n := l.silent[kind]; n > 0 {
		attributes = append(attributes, "more_since_the_last", n)
	}
	l.next[kind], l.silent[kind] = now.Add(logPause), 0
	l.log.Warn(message, attributes...)
}
