package store

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/breaker"
	"cacheproxy/invalidation"
	"cacheproxy/policy"
)

// The index says which entries have a tag, or belong to a cache group, so that a sweep need not look at all there are.
//
//	P:t:{TAG}            sorted set: key of an entry -> when it is gone (index.lua)
//	P:g:{ORIGIN:NAME}    the same of a cache group of an origin
//	P:i:{N}              what the index can be trusted by (trust.go)
//
// It lies in the Redis for state, if there is one, since it must not be evicted. In TAG, ORIGIN and NAME `{`, `}`, `:`, `%` and control bytes
// are percent-encoded; what is then too long is cut as URLs are (keys.go).
//
// It may name entries that are gone, or have other tags by now: a sweep looks at each. It may not lack one:
//
//	saver                                     sweep
//	enters the entry into the index           reads a member and its score
//	writes the entry, for a short time        unlinks the entry if it is older than the purge
//	enters it again, with a higher score      takes the member out if there is no entry, and the score is still the same
//	checks it against the purges (confirm.go)
//
// Whoever enters the index before the check is found by every sweep of a purge that the check did not see. Were the score not compared, a
// sweep that found no entry yet would take out the member of the one that was written since; were the index not entered again, a sweep
// between the first two steps would have taken it out for good. No member is moved anywhere, so any number of sweeps of one tag may be under
// way, and one that dies leaves nothing behind.

//go:embed index.lua
var indexSource string

//go:embed drop.lua
var dropSource string

var (
	indexScript = redis.NewScript(indexSource)
	dropScript  = redis.NewScript(dropSource)
)

const (
	// indexMargin is how much longer than its entry a member stays: the clocks of two servers run unevenly, and an entry is written later
	// than it is entered. That the clock of a Redis for state is set forward by more than this, while it runs, is assumed not to happen.
	indexMargin = time.Minute
	maxIndexed  = 100 * 365 * 24 * time.Hour // so that scores are exact
)

// index asks the Redis in which it lies. Its methods may be called concurrently.
type index struct {
	client  redis.UniversalClient
	beside  bool // in another Redis than the entries
	prefix  string
	clock   func() time.Time // in place of that of Redis; nil = not: tests set it
	janitor *janitor
}

// newIndex makes the index of a store; nil where no purges are followed, since then nobody ever looks into it.
func newIndex(o *Options) *index {
	if o.Follower == nil {
		return nil
	}
	x := &index{client: o.Redis, prefix: o.Prefix}
	if o.State != nil && o.State != o.Redis {
		x.client, x.beside = o.State, true
	}
	x.janitor = newJanitor(x, o.Follower)
	return x
}

func (x *index) tagKey(tag string) string {
	return x.prefix + ":t:{" + foldName(appendName(nil, tag)) + "}"
}

func (x *index) groupKey(origin, name string) string {
	return x.prefix + ":g:{" + foldName(appendName(append(appendName(nil, origin), ':'), name)) + "}"
}

// appendName appends a name as it stands between the braces of a key.
func appendName(dst []byte, name string) []byte {
	for i := range len(name) {
		if c := name[i]; isEncoded(c) || c == ':' || c == '%' {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// foldName cuts a name that is too long.
func foldName(name []byte) string {
	if len(name) <= maxKeyURL {
		return string(name)
	}
	sum := sha256.Sum256(name)
	return string(hex.AppendEncode(append(name[:maxKeyURL:maxKeyURL], '~'), sum[:hashLen]))
}

// keysOf are the indexes that an entry belongs in.
func (x *index) keysOf(e *Entry) []string {
	tags, groups := policy.SplitTags(e.Tags())
	keys := make([]string, 0, len(tags)+len(groups))
	for _, tag := range tags {
		if tag != "" { // by which nothing can be purged
			keys = append(keys, x.tagKey(tag))
		}
	}
	if len(groups) > 0 {
		origin := strings.Clone(invalidation.OriginOf(e.URL()))
		for _, name := range groups {
			keys = append(keys, x.groupKey(origin, name))
		}
	}
	return keys
}

// enter enters an entry, which will be there for ttl, into all indexes that it belongs in.
func (x *index) enter(ctx context.Context, e *Entry, member string, ttl time.Duration) error {
	_, err := runScripts(ctx, x.client, indexScript, x.calls(nil, e, member, ttl))
	return err
}

// calls appends what enter does.
func (x *index) calls(dst []scriptCall, e *Entry, member string, ttl time.Duration) []scriptCall {
	micros := strconv.FormatInt((min(ttl, maxIndexed) + indexMargin).Microseconds(), 10)
	for _, key := range x.keysOf(e) {
		dst = append(dst, scriptCall{[]string{key}, []any{member, micros, x.now()}})
	}
	return dst
}

// now is what scripts take for the clock: "" = that of their server.
func (x *index) now() string {
	if x.clock == nil {
		return ""
	}
	return strconv.FormatInt(x.clock().UnixMicro(), 10)
}

// enter enters the entry that a save is about into the index, if it has tags. It reports whether that was done.
func (s *saver) enter(t *task, member string, ttl time.Duration) bool {
	x := s.far.index
	if x == nil || !t.entry.Tagged() {
		return true
	}
	do := func(ctx context.Context) error { return x.enter(ctx, t.entry, member, ttl) }
	if !x.beside {
		err := s.tell("index", do)
		if err != nil {
			s.pauseFor(err)
		}
		return err == nil
	}
	// Another Redis, whose failures say nothing of the one that the breaker is about.
	ctx, cancel := context.WithTimeout(s.kill, s.timeout)
	defer cancel()
	start := time.Now()
	err := do(ctx)
	s.far.metrics.RedisSeconds("index", time.Since(start))
	if err != nil && s.kill.Err() == nil {
		s.far.metrics.RedisError(breaker.Classify(err).Cause)
		s.far.log.say("a response with tags is not stored: the redis for state has not taken them", "error", err)
	}
	return err == nil
}
