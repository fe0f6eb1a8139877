package store

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/policy"
	"cacheproxy/redistest"
)

func dial(t testing.TB, url string, o DialOptions) redis.UniversalClient {
	t.Helper()
	client, err := Dial(url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestRedisAnswersAfterRestartOfTheProxy(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: 2 * time.Second})
	o := Options{Redis: client, Prefix: "cp", Timeout: 2 * time.Second}
	first := newStore(t, o)
	e := mustEntry(t, draft("http://a.example/x"))
	if r := first.Save(e); r != policy.None {
		t.Fatal(r)
	}
	if err := first.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := newStore(t, o)
	r := second.Lookup(t.Context(), e.Key(), nil)
	if r.Entry == nil || r.Tier != TierRedis || string(r.Entry.block) != string(e.block) {
		t.Fatalf("%+v", r)
	}
	if r := second.Lookup(t.Context(), e.Key(), nil); r.Tier != TierNear {
		t.Fatalf("not promoted: %+v", r)
	}
}
