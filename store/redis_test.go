package store

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// patience is a timeout for tests whose subject is not the timeout.
const patience = 5 * time.Second

func dial(t testing.TB, url string, o DialOptions) redis.UniversalClient {
	t.Helper()
	client, err := Dial(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// farOptions make stores that keep nothing in near memory, so that every lookup asks Redis.
func farOptions(client redis.UniversalClient) Options {
	return Options{Redis: client, Prefix: "cp", Timeout: patience, NearMaxObject: 1}
}

func flush(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// saved saves what d becomes, in Redis too, and returns it.
func saved(t testing.TB, s *Store, d Draft) *Entry {
	t.Helper()
	e := mustEntry(t, d)
	if r := s.Save(e); r != policy.None {
		t.Fatal(r)
	}
	flush(t, s)
	return e
}

// count is the value of a metric, summed over labels that are not given.
func count(t testing.TB, m *metrics.Metrics, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "cacheproxy_"+name {
			continue
		}
	series:
		for _, series := range family.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				for _, l := range series.GetLabel() {
					if l.GetName() == labels[i] && l.GetValue() != labels[i+1] {
						continue series
					}
				}
			}
			sum += series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func TestRedisAnswersAfterRestartOfTheProxy(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	o := Options{Redis: client, Prefix: "cp", Timeout: patience}
	for _, d := range []Draft{
		draft("http://a.example/x"),
		draft("http://a.example/{" + strings.Repeat("long", 1000) + "}"),
		func() Draft { d := draft("http://a.example/largest"); d.Body = make([]byte, maxRedisBody); return d }(),
	} {
		e := saved(t, newStore(t, o), d)
		second := newStore(t, o)
		r := second.Lookup(t.Context(), e.Key(), nil)
		if r.Entry == nil || r.Tier != TierRedis || !bytes.Equal(r.Entry.block(), e.block()) {
			t.Fatalf("%.40s: %+v", d.Key.URL, r)
		}
		if r := second.Lookup(t.Context(), e.Key(), nil); r.Tier != TierNear {
			t.Fatalf("%.40s: not promoted: %+v", d.Key.URL, r)
		}
	}
}

func TestRedisVary(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	s := newStore(t, farOptions(client))
	testVary(t, func(d Draft) *Entry { return saved(t, s, d) }, func(key policy.Key, h http.Header) Result {
		fresh := newStore(t, farOptions(client)) // one without a hint, and one with
		a, b := fresh.Lookup(t.Context(), key, h), s.Lookup(t.Context(), key, h)
		if (a.Entry == nil) != (b.Entry == nil) || a.Entry != nil && a.Entry.Fill() != b.Entry.Fill() {
			t.Errorf("without hint %+v, with %+v", a, b)
		}
		return b
	})
}

// trips counts the round trips of a client.
type trips struct{ atomic.Int64 }

func (n *trips) DialHook(next redis.DialHook) redis.DialHook { return next }
func (n *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { n.Add(1); return next(ctx, cmd) }
}
func (n *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { n.Add(1); return next(ctx, cmds) }
}

func TestRedisRoundTrips(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	writer := newStore(t, farOptions(client))
	plain := saved(t, writer, draft("http://a.example/plain"))
	red := header("Color", "red")
	vary := saved(t, writer, varied("http://a.example/vary", "Color", red))

	var n trips
	client.AddHook(&n)
	reader := newStore(t, farOptions(client))
	for _, c := range []struct {
		name string
		key  policy.Key
		h    http.Header
		want int64
	}{
		{"no Vary", plain.Key(), nil, 1},
		{"Vary, unknown", vary.Key(), red, 2},
		{"Vary, known", vary.Key(), red, 1},
		{"another variant", vary.Key(), header("Color", "blue"), 1},
		{"absent", policy.Key{URL: "http://a.example/absent"}, red, 1},
	} {
		before := n.Load()
		reader.Lookup(t.Context(), c.key, c.h)
		if got := n.Load() - before; got != c.want {
			t.Errorf("%s: %d round trips, want %d", c.name, got, c.want)
		}
	}
}

func TestRedisVariantCap(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	o := farOptions(client)
	o.VariantCap = 3
	s := newStore(t, o)
	const url = "http://a.example/v"
	minutes := map[string]int{"a": 30, "b": 10, "c": 20, "d": 5, "e": 40}
	for _, color := range []string{"a", "b", "c", "d", "e"} {
		d := varied(url, "Color", header("Color", color))
		d.KeepUntil = time.Now().Add(time.Duration(minutes[color]) * time.Minute)
		saved(t, s, d)
		if s.Lookup(t.Context(), d.Key, header("Color", color)).Entry == nil {
			t.Errorf("%s was not kept", color)
		}
	}
	for color, want := range map[string]bool{"a": true, "b": false, "c": true, "d": false, "e": true} {
		r := s.Lookup(t.Context(), policy.Key{URL: url}, header("Color", color))
		if (r.Entry != nil) != want || r.VaryMiss == want {
			t.Errorf("%s: %+v", color, r)
		}
	}
	if n := client.DBSize(t.Context()).Val(); n != 4 { // the root and three entries
		t.Errorf("%d keys, want 4", n)
	}
	longest := client.PTTL(t.Context(), newKeyspace("cp").of(url).root).Val()
	if longest < 39*time.Minute || longest > 40*time.Minute {
		t.Errorf("the root expires in %v, its longest variant in 40m", longest)
	}
}

func TestRedisExpiry(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	s := newStore(t, farOptions(client))
	for i, keep := range []time.Duration{time.Hour, time.Minute, 10 * time.Minute} {
		d := varied("http://a.example/v", "Color", header("Color", fmt.Sprint(i)))
		d.KeepUntil = time.Now().Add(keep)
		saved(t, s, d)
		saved(t, s, func() Draft { d.Key.URL += fmt.Sprint(i); return d }())
	}
	keys := client.Keys(t.Context(), "*").Val()
	if len(keys) != 4+6 {
		t.Fatalf("%q", keys)
	}
	for _, key := range keys {
		ttl := client.PTTL(t.Context(), key).Val()
		if ttl <= 0 || ttl > time.Hour {
			t.Errorf("%s expires in %v", key, ttl)
		}
	}
}

func TestRedisForget(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	here, there := newStore(t, farOptions(client)), newStore(t, farOptions(client))
	const url = "http://a.example/v"
	key := policy.Key{URL: url}
	red, blue := header("Color", "red"), header("Color", "blue")
	stamp := here.Mark()
	first := saved(t, here, varied(url, "Color", red))
	second := saved(t, here, varied(url, "Color", blue))

	here.ForgetEntry(mustEntry(t, varied(url, "Color", red))) // same variant, another fill
	flush(t, here)
	if r := there.Lookup(t.Context(), key, red); r.Entry == nil {
		t.Errorf("forgot what had replaced the entry: %+v", r)
	}
	here.ForgetEntry(first)
	if r := here.Lookup(t.Context(), key, red); r.Entry != nil {
		t.Errorf("found at once after ForgetEntry: %+v", r)
	}
	flush(t, here)
	if r := there.Lookup(t.Context(), key, red); r.Entry != nil || !r.VaryMiss {
		t.Errorf("after ForgetEntry: %+v", r)
	}
	if r := there.Lookup(t.Context(), key, blue); r.Entry == nil {
		t.Errorf("ForgetEntry forgot the other variant: %+v", r)
	}
	here.Forget(url)
	if r := here.Lookup(t.Context(), key, blue); r.Entry != nil {
		t.Errorf("found at once after Forget: %+v", r)
	}
	if r := here.SaveSince(second, stamp); r != policy.Stale {
		t.Errorf("saved from before the forget: %v", r)
	}
	flush(t, here)
	if r := there.Lookup(t.Context(), key, blue); r.Entry != nil || r.VaryMiss {
		t.Errorf("after Forget: %+v", r)
	}
	// The entry itself is still there, unnamed. A new root does not bring it back.
	saved(t, here, varied(url, "Color", red))
	if r := there.Lookup(t.Context(), key, blue); r.Entry != nil || !r.VaryMiss {
		t.Errorf("a new root names the old entry: %+v", r)
	}
}
