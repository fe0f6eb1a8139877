package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/breaker"
	"cacheproxy/invalidation"
)

// Going through all entries. Each master is scanned on its own; a pattern of Redis (SCAN MATCH) keeps it from returning what a purge cannot
// select, and the purge itself decides on the rest.
//
// A cursor means nothing to another server, and a slot that moves to a master that was scanned already is not looked at. So a scan during
// which a master or the slots changed is made again from the start.

const (
	scanBatch = 500              // keys that a SCAN looks at
	scanPause = time.Millisecond // between two, at the least: others have their turn for as long as a SCAN takes
	scanTries = 3                // scans in a row during which something changed

	stepTries = 5                      // of one step of a sweep, where Redis does not answer
	stepPause = 100 * time.Millisecond // after the first of these; each is longer by it
)

var errUnsteady = errors.New("store: sweeping: the masters of Redis, or their slots, changed during each scan")

// persevere tries one step of a sweep, which may be done twice, again while Redis does not answer: a sweep that fails begins anew, and where it takes
// long a busy Redis would never let it come to its end. Whether another server answers then is for whoever compares the masters.
func persevere(ctx context.Context, step func() error) error {
	for n := time.Duration(1); ; n++ {
		err := step()
		if err == nil || n == stepTries || errors.Is(err, errNoTrust) || !breaker.Classify(err).Passing || !pausedFor(ctx, n*stepPause) {
			return err
		}
	}
}

// once takes the place of persevere where a step may not be done twice.
func once(_ context.Context, step func() error) error { return step() }

// steadyTopology is topologyOf, tried again.
func steadyTopology(ctx context.Context, client redis.UniversalClient) (view string, err error) {
	err = persevere(ctx, func() error {
		view, err = topologyOf(ctx, client)
		return err
	})
	return view, err
}

// scanAll does something with all keys of entries, of all masters, that match one of the patterns. A key may come more than once. do is not called
// concurrently. t is told how far it is.
func (r *far) scanAll(ctx context.Context, patterns []string, t *tally, do func(keys []string) error) error {
	var mu sync.Mutex
	for range scanTries {
		before, err := steadyTopology(ctx, r.client)
		try := persevere
		if errors.Is(err, errNoTrust) {
			try = once // another server that answers then would go unnoticed
		} else if err != nil {
			return err
		}
		err = eachMaster(ctx, r.client, func(ctx context.Context, node *redis.Client) error {
			t.expect(keysOf(ctx, node)) // of each pattern's way through them a part
			return scanNode(ctx, node, patterns, t, try, func(keys []string) error {
				mu.Lock()
				defer mu.Unlock()
				return do(keys)
			})
		})
		if err != nil {
			return err
		}
		after, err := steadyTopology(ctx, r.client)
		switch {
		case errors.Is(err, errNoTrust): // it may not be asked
			return nil
		case err != nil:
			return err
		case before == after:
			return nil
		}
	}
	return errUnsteady
}

// topologyOf says which masters there are, and which slots they have.
func topologyOf(ctx context.Context, client redis.UniversalClient) (string, error) {
	runs, err := runsOf(ctx, client, false)
	if _, is := client.(*redis.ClusterClient); err != nil || !is {
		return runs, err
	}
	var mu sync.Mutex
	var views []string
	err = eachMaster(ctx, client, func(ctx context.Context, node *redis.Client) error {
		ranges, err := node.Do(ctx, "CLUSTER", "SLOTS").Slice()
		if err != nil {
			return fmt.Errorf("store: asking for the slots: %w", err)
		}
		view := make([]string, len(ranges))
		for i, one := range ranges { // first slot, last slot, master, replicas
			parts, _ := one.([]any)
			view[i] = fmt.Sprint(parts[:min(3, len(parts))])
		}
		slices.Sort(view)
		mu.Lock()
		defer mu.Unlock()
		views = append(views, strings.Join(view, ","))
		return nil
	})
	slices.Sort(views)
	return runs + "; " + strings.Join(views, "; "), err
}

// scanNode scans one server once for each pattern, all at the same time, so that there is one round trip, and one pause, for a step of each.
func scanNode(
	ctx context.Context, node *redis.Client, patterns []string, t *tally, try func(context.Context, func() error) error, do func(keys []string) error,
) error {
	cursors := make([]uint64, len(patterns))
	for open := patterns; len(open) > 0; {
		began := time.Now()
		replies := make([]*redis.ScanCmd, len(open))
		err := try(ctx, func() error {
			began = time.Now()
			pipe := node.Pipeline()
			for i, pattern := range open {
				replies[i] = pipe.Scan(ctx, cursors[i], pattern, scanBatch)
			}
			_, err := pipe.Exec(ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("store: scanning: %w", err)
		}
		took := time.Since(began)
		var nextOpen []string
		var nextCursors []uint64
		for i, reply := range replies {
			keys, cursor, err := reply.Result()
			if err != nil {
				return fmt.Errorf("store: scanning: %w", err)
			}
			if len(keys) > 0 {
				if err := try(ctx, func() error { return do(keys) }); err != nil {
					return err
				}
			}
			if cursor != 0 {
				nextOpen, nextCursors = append(nextOpen, open[i]), append(nextCursors, cursor)
			}
		}
		if err := t.walk(scanBatch * int64(len(open)) / int64(len(patterns))); err != nil {
			return err
		}
		open, cursors = nextOpen, nextCursors
		if len(open) > 0 && !pausedFor(ctx, max(took, scanPause)) {
			return ctx.Err()
		}
	}
	return nil
}

// patternsOf are patterns for SCAN MATCH of which one at least matches the key of each entry that a record can select.
func (k keyspace) patternsOf(record *invalidation.Record) []string {
	if record.Kind != invalidation.KindPattern {
		return []string{k.entry + "*"}
	}
	glob, err := invalidation.CompileGlob(record.Selector)
	if err != nil { // it was checked when it was appended
		return []string{k.entry + "*"}
	}
	var p keyPattern
	if !invalidation.HasScheme(record.Selector) { // of any scheme
		p.any()
	}
	for part := range glob.Parts() {
		p.add(part)
	}
	return p.patterns(k)
}

// maxKeyStars bounds the stars of a pattern: Redis gives up on those with very many, and then matches nothing.
const maxKeyStars = 100

// A keyPattern is put together from the parts of a glob over URLs, and matches them as they stand in keys (appendKeyURL): a byte that is
// encoded there takes three.
type keyPattern struct {
	text  []byte
	head  int // bytes of text before the first wildcard; -1 = there is none yet
	begun bool
	ends  byte // "*" where text ends with a star, 0 where not
	stars int
	least int // bytes that it matches at the least
}

func (p *keyPattern) wild() {
	if !p.begun {
		p.begun, p.head = true, len(p.text)
	}
}

func (p *keyPattern) any() {
	p.wild()
	if p.ends != '*' {
		p.text, p.ends = append(p.text, '*'), '*'
		p.stars++
	}
}

// one is for a byte of which it is not known whether it is encoded.
func (p *keyPattern) one() {
	p.wild()
	if p.ends == '*' {
		p.text = append(p.text[:len(p.text)-1], "?*"...)
	} else {
		p.text = append(p.text, "?*"...)
		p.stars++
	}
	p.ends = '*'
	p.least++
}

func (p *keyPattern) literal(text string) {
	for i := range len(text) {
		if strings.IndexByte(`*?[]\^`, text[i]) >= 0 {
			p.text = append(p.text, '\\')
		}
		p.text = append(p.text, text[i])
	}
	p.ends = 0
	p.least += len(text)
}

func (p *keyPattern) add(part invalidation.GlobPart) {
	switch c := part.Byte; {
	case part.Kind == invalidation.GlobAny:
		p.any()
	case part.Kind == invalidation.GlobOne:
		p.one()
	case c == '%': // followed by 25 where what comes then could be taken for an escape of ours
		p.literal("%")
		p.any()
	case isEncoded(c):
		p.literal(string([]byte{'%', upperHex[c>>4], upperHex[c&15]}))
	default:
		p.literal(string([]byte{c}))
	}
}

// patterns are those for the keys of URLs that are not cut, and of those that are.
func (p *keyPattern) patterns(k keyspace) []string {
	text, head := string(p.text), string(p.text)
	if p.begun {
		head = head[:p.head]
	}
	if p.stars > maxKeyStars {
		text = head + "*"
	}
	prefix := invalidation.EscapeGlob(k.entry)
	whole := prefix + text + "}:*"
	if len(head) > maxKeyURL { // where it is cut
		head = ""
	}
	cut := prefix + head + "*~" + strings.Repeat("?", 2*hashLen) + "}:*"
	switch {
	case p.least > maxKeyURL:
		return []string{cut}
	case !p.begun: // nothing longer is selected
		return []string{whole}
	}
	return []string{whole, cut}
}
