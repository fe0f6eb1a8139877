package store

import (
	"net/http"
	"reflect"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/breaker"
	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// Peek finds what Lookup finds, by the same tests.
func TestPeekFindsByVary(t *testing.T) {
	t.Run("near", func(t *testing.T) {
		s := newStore(t, Options{})
		testVary(t, func(d Draft) *Entry {
			e := mustEntry(t, d)
			s.Save(e)
			return e
		}, func(key policy.Key, h http.Header) Result { return s.Peek(t.Context(), key, h) })
	})
	t.Run("redis", func(t *testing.T) {
		server := redistest.Start(t)
		s := newStore(t, farOptions(dial(t, server.URL(), DialOptions{Timeout: patience})))
		testVary(t, func(d Draft) *Entry { return saved(t, s, d) },
			func(key policy.Key, h http.Header) Result { return s.Peek(t.Context(), key, h) })
	})
}

// evictionOrder lists what near memory holds, what is asked least first.
func evictionOrder(s *Store) (urls []string) {
	s.near.cache.CleanUp() // reads are noted in batches
	for e := range s.near.cache.Coldest() {
		urls = append(urls, e.Value.url())
	}
	return urls
}

func TestPeekIsNoUse(t *testing.T) {
	s := newStore(t, Options{})
	for _, url := range []string{"http://a.example/1", "http://a.example/2", "http://a.example/3"} {
		s.Save(mustEntry(t, draft(url)))
	}
	before := evictionOrder(s)
	key := policy.Key{URL: before[0]}
	for range 100 {
		if s.Peek(t.Context(), key, nil).Tier != TierNear {
			t.Fatal("not found")
		}
	}
	if after := evictionOrder(s); !slices.Equal(after, before) {
		t.Errorf("the order became %v, was %v", after, before)
	}
	for range 100 {
		s.Lookup(t.Context(), key, nil)
	}
	if after := evictionOrder(s); slices.Equal(after, before) {
		t.Error("a lookup does not change the order either, so this test shows nothing")
	}
}

// snapshotOf is every key of a Redis with its value and expiry.
func snapshotOf(t *testing.T, client redis.UniversalClient) map[string]string {
	t.Helper()
	all := map[string]string{}
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		value, err := client.Dump(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		all[key] = value + client.Do(t.Context(), "PEXPIRETIME", key).String()
	}
	return all
}

func TestPeekLeavesNoTrace(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	m := metrics.New()
	writer := newStore(t, farOptions(client))
	const url, varied1, broken, large = "http://a.example/x", "http://a.example/v", "http://a.example/broken", "http://a.example/large"
	red := header("Color", "red")
	saved(t, writer, draft(url))
	saved(t, writer, varied(varied1, "Color", red))
	saved(t, writer, draft(broken))
	keys := newKeyspace("cp").of(broken)
	if err := client.Set(t.Context(), keys.entryKey(variantOf("", "", nil)), "noise", 0).Err(); err != nil {
		t.Fatal(err)
	}
	d := draft(large)
	d.Body = make([]byte, maxRedisBody+1)
	e := saved(t, writer, d)

	s := newStore(t, Options{Redis: client, Prefix: "cp", Timeout: patience, Metrics: m})
	peek := func(url string, h http.Header) Result { return s.Peek(t.Context(), policy.Key{URL: url}, h) }
	redisBefore, countedBefore := snapshotOf(t, client), counters(t, m)
	for range 2 { // the second finds what the first would have promoted
		if r := peek(url, nil); r.Entry == nil || r.Tier != TierRedis {
			t.Errorf("found %+v", r)
		}
		if r := peek(varied1, red); r.Entry == nil || r.Tier != TierRedis {
			t.Errorf("found %+v", r)
		}
		if r := peek(varied1, nil); r.Entry != nil || !r.VaryMiss {
			t.Errorf("found %+v", r)
		}
		if r := peek(broken, nil); r != (Result{}) {
			t.Errorf("found %+v", r)
		}
		if r := peek(large, nil); r.Entry == nil || r.Entry.BodyLen() != maxRedisBody+1 || r.Tier != TierRedis {
			t.Errorf("found %+v", r)
		}
	}
	if n := len(evictionOrder(s)); n > 0 {
		t.Errorf("%d entries are in near memory", n)
	}
	if got := s.Nominated(varied1); got != "" {
		t.Errorf("it remembers that Vary nominates %q", got)
	}
	if err := client.Del(t.Context(), newKeyspace("cp").of(large).chunkKey(e.variant(), e.Fill(), 1)).Err(); err != nil {
		t.Fatal(err)
	}
	delete(redisBefore, newKeyspace("cp").of(large).chunkKey(e.variant(), e.Fill(), 1))
	if r := peek(large, nil); r != (Result{}) {
		t.Errorf("a chunk is gone: %+v", r)
	}
	flush(t, s)
	if after := snapshotOf(t, client); !reflect.DeepEqual(after, redisBefore) {
		t.Error("Redis has changed")
	}
	if after := counters(t, m); !reflect.DeepEqual(after, countedBefore) {
		t.Errorf("counted: %v, before: %v", after, countedBefore)
	}
}

// counters are all values of this cache's metrics.
func counters(t *testing.T, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, name := range []string{
		"redis_seconds", "redis_errors_total", "corrupt_total", "saves_total", "breaker_state", "near_entries", "near_bytes", "near_evictions_total",
	} {
		all[name] = count(t, m, name)
	}
	return all
}

func TestPeekAtARedisThatDoesNotAnswer(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{})
	s := newStore(t, Options{Redis: client, Prefix: "cp", Breaker: breaker.Options{Failures: 1}})
	server.Stop()
	for range 3 {
		if r := s.Peek(t.Context(), policy.Key{URL: "http://a.example/x"}, nil); r.Reason != policy.StoreUnavailable {
			t.Errorf("found %+v", r)
		}
	}
	if !s.far.breaker.Allow() {
		t.Error("peeking has opened the breaker")
	}
}
