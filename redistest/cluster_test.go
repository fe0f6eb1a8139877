package redistest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/redistest"
)

// unprobed is a pool so large that the client never sees it all fail: it would begin to probe, and go on after it is closed.
const unprobed = 1000

// A cluster serves all slots, and a replica takes over from a master that is killed.
func TestCluster(t *testing.T) {
	c := redistest.StartCluster(t, 3, 1)
	if len(c.Nodes) != 6 {
		t.Fatalf("%d nodes", len(c.Nodes))
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{c.Nodes[0].Addr()}, ClusterStateReloadInterval: time.Second, PoolSize: unprobed})
	defer client.Close()
	masters := map[*redistest.Server]bool{}
	for i := range 30 {
		key := fmt.Sprint("key", i)
		if err := client.Set(t.Context(), key, i, 0).Err(); err != nil {
			t.Fatal(err)
		}
		masters[c.MasterOf(key)] = true
	}
	if len(masters) != 3 {
		t.Errorf("keys are on %d masters", len(masters))
	}
	old := c.MasterOf("key1")
	old.Kill()
	await(t, func(ctx context.Context) bool { return client.Set(ctx, "key1", "again", 0).Err() == nil })
	if now := c.MasterOf("key1"); now == old || now == nil {
		t.Errorf("the master is %v", now)
	}
}

// The sentinels name a replica the master when the master is killed.
func TestSentinel(t *testing.T) {
	s := redistest.StartSentinel(t, 1)
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "cache", SentinelAddrs: []string{s.Sentinels[0].Addr(), s.Sentinels[1].Addr()}, PoolSize: unprobed})
	defer client.Close()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if s.Master() != s.Nodes[0] {
		t.Fatal("another master than was started")
	}
	s.Master().Kill()
	await(t, func(ctx context.Context) bool { return client.Set(ctx, "k", "w", 0).Err() == nil })
	if s.Master() != s.Nodes[1] {
		t.Error("the replica is not the master")
	}
}

func await(t *testing.T, is func(context.Context) bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(t.Context()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not become so")
		}
	}
}
