package redistest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// failureTimeout is after how long a node that does not answer is taken for dead, by its cluster or its sentinels.
const failureTimeout = 2 * time.Second

// Cluster is a Redis Cluster: masters that share the slots evenly, and their replicas.
type Cluster struct {
	t testing.TB
	// Nodes are its servers: the first masters, then as many of their replicas, in the same order, as often as was asked.
	// After a failover the roles are others; MasterOf knows them.
	Nodes []*Server
}

// StartCluster runs a cluster and returns when all its slots are served and all replicas follow. Failing over takes it about twice
// failureTimeout (2 s).
func StartCluster(t testing.TB, masters, replicasEach int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	args = append([]string{
		"--cluster-enabled", "yes",
		"--cluster-node-timeout", strconv.FormatInt(failureTimeout.Milliseconds(), 10),
		"--cluster-replica-validity-factor", "0", // a replica may take over however long ago it last heard of its master
		"--repl-diskless-sync-delay", "0",
	}, args...)
	for range masters * (1 + replicasEach) {
		c.Nodes = append(c.Nodes, Start(t, args...))
	}
	clients := make([]*redis.Client, len(c.Nodes))
	for i, node := range c.Nodes {
		clients[i] = node.Admin()
	}
	for i, client := range clients {
		c.must(client.Do(t.Context(), "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err()) // else the nodes argue about it first
		if i < masters {
			c.must(client.ClusterAddSlotsRange(t.Context(), i*slots/masters, (i+1)*slots/masters-1).Err())
		}
		if i > 0 {
			c.must(clients[0].ClusterMeet(t.Context(), "127.0.0.1", strconv.Itoa(c.Nodes[i].port)).Err())
		}
	}
	for i, client := range clients {
		c.await(client, "all nodes are known", func(ctx context.Context) bool {
			nodes, err := client.ClusterNodes(ctx).Result()
			return err == nil && strings.Count(nodes, "\n") == len(clients) && !strings.Contains(nodes, "handshake")
		})
		if i >= masters {
			id, err := clients[i%masters].ClusterMyID(t.Context()).Result()
			c.must(err)
			c.must(client.ClusterReplicate(t.Context(), id).Err())
		}
	}
	for i, client := range clients {
		c.await(client, "the cluster is whole", func(ctx context.Context) bool {
			info, err := client.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") &&
				(i < masters || follows(ctx, client)) && c.replicasKnown(ctx, client, masters*replicasEach)
		})
	}
	return c
}

const slots = 16384

// replicasKnown reports whether a node knows of so many replicas.
func (c *Cluster) replicasKnown(ctx context.Context, client *redis.Client, n int) bool {
	nodes, err := client.ClusterNodes(ctx).Result()
	return err == nil && strings.Count(nodes, " slave ")+strings.Count(nodes, ",slave ") == n
}

// URL names all nodes: redis+cluster://HOST:PORT,...
func (c *Cluster) URL() string {
	addrs := make([]string, len(c.Nodes))
	for i, node := range c.Nodes {
		addrs[i] = node.Addr()
	}
	return "redis+cluster://" + strings.Join(addrs, ",")
}

// MasterOf returns the server that holds the key's slot. Only what a running node says of itself counts: the others hear of a failover
// later. Where two claim the slot, a master that came back does not know yet that it was replaced, and the higher epoch is right.
func (c *Cluster) MasterOf(key string) *Server {
	c.t.Helper()
	var master *Server
	await(c.t, fmt.Sprintf("somebody has the slot of %q", key), func(ctx context.Context) bool {
		highest := -1
		for _, node := range c.Nodes {
			if node.process == nil {
				continue
			}
			client := node.Admin()
			slot, err := client.ClusterKeySlot(ctx, key).Result()
			c.must(err)
			nodes, err := client.ClusterNodes(ctx).Result()
			c.must(err)
			if epoch, has := holds(nodes, int(slot)); has && epoch > highest {
				master, highest = node, epoch
			}
		}
		return highest >= 0
	})
	return master
}

// holds reports whether the node that answered CLUSTER NODES is a master with this slot, and since which epoch.
func holds(nodes string, slot int) (epoch int, has bool) {
	for line := range strings.Lines(nodes) {
		// ID ADDRESS FLAGS MASTER PING PONG EPOCH LINK SLOT-SLOT...
		field := strings.Fields(line)
		if len(field) < 8 || !strings.Contains(field[2], "myself,master") {
			continue
		}
		epoch, err := strconv.Atoi(field[6])
		for _, slots := range field[8:] {
			first, last, several := strings.Cut(slots, "-")
			if !several {
				last = first
			}
			from, _ := strconv.Atoi(first)
			to, _ := strconv.Atoi(last)
			has = has || err == nil && from <= slot && slot <= to
		}
		return epoch, has
	}
	return 0, false
}

func (c *Cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("redistest: cluster: %v", err)
	}
}

func (c *Cluster) await(client *redis.Client, what string, is func(context.Context) bool) {
	c.t.Helper()
	await(c.t, fmt.Sprintf("%s, says %s", what, client.Options().Addr), is)
}

// follows reports whether the server is a replica that has all its master has.
func follows(ctx context.Context, client *redis.Client) bool {
	info, err := client.Info(ctx, "replication").Result()
	return err == nil && strings.Contains(info, "master_link_status:up")
}

// await waits until something is so that nobody tells us of.
func await(t testing.TB, what string, is func(context.Context) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(t.Context()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("redistest: after %v it is not so that %s", patience, what)
		}
	}
}
