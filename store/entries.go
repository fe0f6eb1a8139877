package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
	"cacheproxy/policy"
)

// Kept is a stored response as one tier has it, for people. It says what is there, whether or not it may be served.
type Kept struct {
	URL     string
	Tier    Tier
	Variant string // names it among the responses of its URL
	// Extras and Nominated are what a request must have to select it, besides the URL. The values may be secrets.
	Extras    []policy.Extra
	Nominated []policy.SelectedField

	Status                          int
	ContentType, ETag, LastModified string
	Partial                         bool // one range of the representation
	Freshness                       policy.Freshness
	ResponseTime                    time.Time // it came, or was last validated
	KeepUntil                       time.Time // it is forgotten
	Tags, Groups                    []string
	RuleGeneration                  uint32

	Length int64 // of the body
	Size   int64 // bytes that the tier has of it, with what belongs to it
	Packed bool  // in Redis the body is compressed
	Chunks int   // in which the body is; 0 = it is not in chunks

	Fill                uint64
	Epoch               uint64
	BodyAsOf, ValidAsOf invalidation.Seq
	StaleSince          invalidation.Seq // of the soft purge that made it stale; 0 = none

	// Forbidden says why it is served to nobody, if so.
	Forbidden Forbidden
	// Unnamed says that its root names another fetch, in Redis: it is found by nobody.
	Unnamed bool
	// Expires is when Redis deletes it.
	Expires time.Time
}

// Forbidden is why a stored response may not be served.
type Forbidden string

// The reasons.
const (
	NotForbidden   Forbidden = ""
	ForbiddenPurge Forbidden = "purge" // that is remembered, or may have been forgotten since the response was looked at
	ForbiddenEpoch Forbidden = "epoch" // it belongs to a log of purges that has ended
)

// forbidden says whether what is remembered of purges forbids the entry.
func forbidden(e *Entry, table *invalidation.Table) Forbidden {
	if table == nil || table.Epoch() == 0 {
		return NotForbidden
	}
	since := e.checked() // 0 in Redis
	switch {
	case e.Epoch() != uint64(table.Epoch()):
		return ForbiddenEpoch
	case since != 0 && since < table.Floor(), table.Judge(e.subject(), 0).Verdict == invalidation.Forgotten:
		return ForbiddenPurge
	}
	return NotForbidden
}

// keptOf is what the head of an entry says.
func keptOf(e *Entry, tier Tier, table *invalidation.Table) Kept {
	k := Kept{
		URL: e.URL(), Tier: tier, Variant: e.variant(), Extras: e.Key().Parts(), Nominated: policy.SplitSelection(e.Selection()),
		Status: e.Status(), ETag: e.ETag(), LastModified: e.LastModified(), Partial: e.partial(), Freshness: e.Freshness(),
		ResponseTime: e.ResponseTime(), KeepUntil: e.KeepUntil(), RuleGeneration: e.RuleGeneration(),
		Length: e.BodyLen(), Packed: e.u32(atFlags)&flagPacked != 0,
		Fill: e.Fill(), Epoch: e.Epoch(), BodyAsOf: invalidation.Seq(e.BodyAsOf()), ValidAsOf: invalidation.Seq(e.ValidAsOf()),
		StaleSince: invalidation.Seq(e.StaleSince()), Forbidden: forbidden(e, table),
	}
	k.ContentType, _ = e.Field("Content-Type")
	k.Tags, k.Groups = policy.SplitTags(e.Tags())
	if e.Chunked() {
		k.Chunks = chunksOf(e.BodyLen())
	}
	return k
}

// Entries says what is stored of a URL, in near memory and in Redis, the latest response first; without a scheme, of any. It leaves no trace.
// Where Redis cannot be asked the error says why, and what near memory has is returned all the same.
func (s *Store) Entries(ctx context.Context, url string) ([]Kept, error) {
	var list []Kept
	var failed error
	for _, url := range urlsOf(url) {
		if r, ok := s.near.resourceQuietly(url); ok {
			for i := range r.len() {
				e := r.at(i)
				k := keptOf(e, TierNear, s.near.table)
				k.Size = e.Size()
				list = append(list, k)
			}
		}
		if s.far == nil || failed != nil {
			continue
		}
		more, err := s.far.kept(ctx, url)
		list, failed = append(list, more...), err
	}
	slices.SortStableFunc(list, func(a, b Kept) int { return b.ResponseTime.Compare(a.ResponseTime) })
	return list, failed
}

// kept is what Redis has of a URL.
func (r *far) kept(ctx context.Context, url string) ([]Kept, error) {
	keys := r.keys.of(url)
	root, err := r.client.HGetAll(ctx, keys.root).Result()
	if err != nil {
		return nil, fmt.Errorf("store: asking what is stored: %w", err)
	}
	variants := make([]string, 0, len(root))
	entries := make([]string, 0, len(root))
	for variant := range root {
		variants, entries = append(variants, variant), append(entries, keys.entryKey(variant))
	}
	heads, _, err := (&batch{far: r}).read(ctx, entries)
	if err != nil || len(heads) == 0 {
		return nil, err
	}
	pipe := r.client.Pipeline()
	sizes, ttls := make([]*redis.IntCmd, len(entries)), make([]*redis.DurationCmd, len(entries))
	for i, key := range entries {
		sizes[i], ttls[i] = pipe.StrLen(ctx, key), pipe.PTTL(ctx, key)
	}
	asked := time.Now()
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("store: asking what is stored: %w", err)
	}
	var list []Kept
	for i, e := range heads {
		if e == nil || e.URL() != url {
			continue
		}
		k := keptOf(e, TierRedis, r.table)
		k.Size = sizes[i].Val()
		if k.Chunks > 0 {
			k.Size += k.Length + int64(k.Chunks)*digestLen
		}
		if ttl := ttls[i].Val(); ttl > 0 {
			k.Expires = asked.Add(ttl)
		}
		named, readable := parseRootVariant(root[variants[i]])
		k.Unnamed = !readable || named.fill != k.Fill
		list = append(list, k)
	}
	return list, nil
}

// Shared says where all that is stored is to be found: in Redis, or near where there is none.
func (s *Store) Shared() Tier {
	if s.far == nil {
		return TierNear
	}
	return TierRedis
}

// Bounds of Origins.
const (
	maxOrigins     = 20
	maxOriginsKeys = 20_000 // that are looked at on a master
)

// Origins are the schemes and hosts of which something is stored, sorted: for one whose purge has matched nothing. whole is false where there
// may be more: it looks no further than it takes for a hint.
func (s *Store) Origins(ctx context.Context) (origins []string, whole bool, err error) {
	found := make(map[string]struct{})
	if s.far == nil {
		n := 0
		for r := range s.near.cache.Values() {
			if n++; n > maxOriginsKeys || len(found) > maxOrigins {
				break
			}
			found[policy.Key{URL: r.url()}.Origin()] = struct{}{}
		}
		whole = n <= maxOriginsKeys
	} else if whole, err = s.far.origins(ctx, found); err != nil {
		return nil, false, err
	}
	origins = make([]string, 0, len(found))
	for origin := range found {
		origins = append(origins, origin)
	}
	slices.Sort(origins)
	if len(origins) > maxOrigins {
		origins, whole = origins[:maxOrigins], false
	}
	return origins, whole, nil
}

// origins looks at the names of roots.
func (r *far) origins(ctx context.Context, found map[string]struct{}) (whole bool, err error) {
	var mu sync.Mutex
	whole = true
	note := func(keys []string, looked int, last bool) (enough bool) {
		mu.Lock()
		defer mu.Unlock()
		for _, key := range keys {
			url := strings.TrimSuffix(strings.TrimPrefix(key, r.keys.root), "}")
			found[policy.Key{URL: url}.Origin()] = struct{}{}
		}
		if last {
			return true
		}
		enough = looked >= maxOriginsKeys || len(found) > maxOrigins
		whole = whole && !enough
		return enough
	}
	scan := func(ctx context.Context, node *redis.Client) error {
		looked := 0
		for cursor := uint64(0); ; {
			keys, next, err := node.Scan(ctx, cursor, r.keys.root+"*", scanBatch).Result()
			if err != nil {
				return fmt.Errorf("store: looking for what is stored: %w", err)
			}
			looked += scanBatch
			if cursor = next; note(keys, looked, cursor == 0) {
				return nil
			}
		}
	}
	err = eachMaster(ctx, r.client, scan)
	return whole, err
}
