package store

import (
	"net/http"
	"testing"
	"time"

	"cacheproxy/internal/breaker"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// A cluster of one node refuses what a cluster of many does: keys of two slots in one command or script, keys that a script
// was not told of.
func TestRedisCluster(t *testing.T) {
	server := redistest.Start(t, "--cluster-enabled", "yes")
	if err := server.Client().ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	awaitCluster(t, server)
	s := newStore(t, farOptions(dial(t, "redis+cluster://"+server.Addr(), DialOptions{Timeout: patience})))
	testVary(t, func(d Draft) *Entry { return saved(t, s, d) },
		func(key policy.Key, h http.Header) Result { return s.Lookup(t.Context(), key, h) })
	e := saved(t, s, draft("http://a.example/x"))
	s.ForgetEntry(e)
	flush(t, s)
	if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry != nil || r.Reason != policy.None {
		t.Errorf("%+v", r)
	}
}

func awaitCluster(t *testing.T, server *redistest.Server) {
	t.Helper()
	client := server.Client()
	deadline := time.After(patience)
	for {
		err := client.Get(t.Context(), "any").Err()
		if err == nil || breaker.Classify(err).Cause != "cluster" {
			return
		}
		select {
		case <-deadline:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond): // the server says nothing when it is ready
		}
	}
}
