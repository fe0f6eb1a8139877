package redistest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Sentinel is a master with its replicas, and three sentinels that watch them and name a new master when the old one is gone.
type Sentinel struct {
	t testing.TB
	// Nodes are the master and its replicas, as they were at the start; Master knows who it is now.
	Nodes []*Server
	// Sentinels are the sentinels. Of the methods of a Server those about data and users mean nothing for them.
	Sentinels []*Server
}

// masterName is what the sentinels call the master.
const masterName = "cache"

// StartSentinel runs a master with so many replicas and three sentinels, two of which must agree that the master is gone. It returns when
// all know of each other. Failing over takes them about twice failureTimeout (2 s).
func StartSentinel(t testing.TB, replicas int, args ...string) *Sentinel {
	t.Helper()
	s := &Sentinel{t: t}
	args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
	s.Nodes = append(s.Nodes, Start(t, args...))
	for range replicas {
		follower := append([]string{"--replicaof", fmt.Sprintf("127.0.0.1 %d", s.Nodes[0].port)}, args...)
		s.Nodes = append(s.Nodes, Start(t, follower...))
	}
	for _, node := range s.Nodes[1:] {
		client := node.Admin()
		await(t, node.Addr()+" follows", func(ctx context.Context) bool { return follows(ctx, client) })
	}
	for range 3 {
		s.Sentinels = append(s.Sentinels, StartWith(t, Options{watches: s.Nodes[0].port}))
	}
	for _, sentinel := range s.Sentinels {
		client := sentinel.Admin()
		await(t, sentinel.Addr()+" knows of all", func(ctx context.Context) bool {
			state, err := client.Do(ctx, "SENTINEL", "MASTER", masterName).Result()
			facts, _ := state.(map[any]any)
			return err == nil && facts["num-other-sentinels"] == "2" && facts["num-slaves"] == strconv.Itoa(replicas)
		})
	}
	return s
}

// URL names the sentinels: redis+sentinel://HOST:PORT,.../cache
func (s *Sentinel) URL() string {
	addrs := make([]string, len(s.Sentinels))
	for i, sentinel := range s.Sentinels {
		addrs[i] = sentinel.Addr()
	}
	return "redis+sentinel://" + strings.Join(addrs, ",") + "/" + masterName
}

// Master returns the running server that calls itself the master, as soon as there is one and only one: a sentinel may hear of a failover
// later than its clients, and an old master that comes back is told after a while that it is none any more.
func (s *Sentinel) Master() *Server {
	s.t.Helper()
	var masters []*Server
	await(s.t, "there is one master", func(ctx context.Context) bool {
		masters = masters[:0]
		for _, node := range s.Nodes {
			if node.process == nil {
				continue
			}
			role, err := node.Admin().Do(ctx, "ROLE").Slice()
			if err != nil {
				s.t.Fatalf("redistest: role of %s: %v", node.Addr(), err)
			}
			if role[0] == "master" {
				masters = append(masters, node)
			}
		}
		return len(masters) == 1
	})
	return masters[0]
}

// writeSentinelConfig writes the configuration file of a sentinel; the sentinel keeps what it learns in it.
func (s *Server) writeSentinelConfig() (path string, err error) {
	timeout := failureTimeout.Milliseconds()
	lines := []string{
		"bind 127.0.0.1",
		fmt.Sprintf("port %d", s.port),
		fmt.Sprintf("unixsocket %q", s.Socket()),
		fmt.Sprintf("dir %q", s.dataDir()),
		`logfile ""`,
		"daemonize no",
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2", masterName, s.options.watches),
		fmt.Sprintf("sentinel down-after-milliseconds %s %d", masterName, timeout),
		fmt.Sprintf("sentinel failover-timeout %s %d", masterName, 3*timeout),
	}
	path = filepath.Join(s.dir, "sentinel.conf")
	return path, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}
