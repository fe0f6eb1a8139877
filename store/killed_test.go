package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
	"cacheproxy/redistest"
)

// midScan halts the first scan that has got halfway through a server.
type midScan struct {
	addr    string // of the server
	halted  atomic.Bool
	reached chan struct{} // closed then
	goOn    chan struct{} // to be closed by whoever waits for that
}

func (m *midScan) on(node *redis.Client) { node.AddHook(&midScanOf{m, node.Options().Addr}) }

// midScanOf is what the client of one server is hooked with.
type midScanOf struct {
	*midScan
	server string
}

func (m *midScanOf) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (m *midScanOf) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (m *midScanOf) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if m.server == m.addr && len(cmds) > 0 && cmds[0].Name() == "scan" && fmt.Sprint(cmds[0].Args()[1]) != "0" && m.halted.CompareAndSwap(false, true) {
			close(m.reached)
			select {
			case <-m.goOn:
			case <-ctx.Done():
			}
		}
		return next(ctx, cmds)
	}
}

// A master that is killed while a purge by pattern scans it: the sweep is done again when another one has taken its place, and is noted as done only
// when nothing that was purged is left, there or elsewhere. The master comes back, as a replica, and brings nothing back.
func TestMasterKilledInAScan(t *testing.T) {
	const log = "cp:{inv}:log"
	for what, key := range map[string]string{"with the log": log, "without the log": ""} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.StartCluster(t, 3, 1)
			victim := cluster.MasterOf(log)
			for i := 0; key == "" || key != log && cluster.MasterOf(key) == victim; i++ {
				key = "cp:" + strconv.Itoa(i)
			}
			victim = cluster.MasterOf(key)
			scan := &midScan{addr: victim.Addr(), reached: make(chan struct{}), goOn: make(chan struct{})}
			r := replicaAt(t, cluster.URL(), func(o *Options) { o.Redis.(*redis.ClusterClient).OnNewNode(scan.on) })
			const n = 6000
			r.plant(t, n, func(i int, d *Draft) { d.Key.URL = fmt.Sprint("http://a.example/mass/", i) })
			r.plant(t, n/10, func(i int, d *Draft) { d.Key.URL = fmt.Sprint("http://a.example/kept/", i) })
			r.follower.Sweep(r.Store)
			r.purge(t, invalidation.Purge{Kind: invalidation.KindPattern, Selector: "http://a.example/mass/*"})
			select {
			case <-scan.reached:
			case <-time.After(2 * patience):
				t.Fatal("no scan got halfway")
			}
			awaitReplica(t, cluster, victim)
			victim.Kill()
			close(scan.goOn)
			eventually(t, "failed over", func() bool { return cluster.MasterOf(key) != victim })
			awaitSwept(t, cluster)
			if mass, kept := r.left(t, "cp:e:{*/mass/*"), r.left(t, "cp:e:{*/kept/*"); mass != 0 || kept != n/10 {
				t.Errorf("%d that were purged are left when that is noted as done, and of %d others %d", mass, n/10, kept)
			}
			victim.Restart()
			eventually(t, "a replica", func() bool {
				return info(t, victim, "role") == "slave" && info(t, victim, "master_link_status") == "up"
			})
			if mass := r.left(t, "cp:e:{*/mass/*"); mass != 0 {
				t.Errorf("%d have come back", mass)
			}
		})
	}
}

// info is a field of what a server says of replication.
func info(t *testing.T, s *redistest.Server, field string) string {
	t.Helper()
	return infoField(s.Admin().Info(t.Context(), "replication").Val(), field)
}

// awaitReplica waits until the replica of a master has all that it has now: what a failover loses is not what is tested here.
func awaitReplica(t *testing.T, cluster *redistest.Cluster, master *redistest.Server) {
	t.Helper()
	_, port, _ := strings.Cut(master.Addr(), ":")
	written, _ := strconv.Atoi(info(t, master, "master_repl_offset"))
	eventually(t, "replicated", func() bool {
		for _, node := range cluster.Nodes {
			if info(t, node, "master_port") == port {
				has, _ := strconv.Atoi(info(t, node, "slave_repl_offset"))
				return has >= written
			}
		}
		return false
	})
}

// awaitSwept waits until the only purge that the log has is noted as swept.
func awaitSwept(t *testing.T, cluster *redistest.Cluster) {
	t.Helper()
	eventually(t, "noted as swept", func() bool {
		for _, note := range cluster.MasterOf("cp:{inv}:log").Admin().HVals(t.Context(), "cp:{inv}:swept").Val() {
			if strings.Contains(note, `"passes":1`) && !strings.Contains(note, `"running":true`) {
				return true
			}
		}
		return false
	})
}
