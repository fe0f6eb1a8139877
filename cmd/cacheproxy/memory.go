package main

import (
	"context"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"cacheproxy/cmd/cacheproxy/internal/config"
)

// The collector lets a heap grow to twice what is alive before it collects. A full near memory would so be held twice. Therefore the
// runtime is given a memory limit (GOMEMLIMIT) a quarter above near.size: as long as near memory fills, GOGC governs, and a small heap
// is not collected more often than any other; when it is full the limit governs, and the process stays near its bound.
//
// A limit below what is alive would have the collector run without end. So it is looked at each second, and raised above what
// other things take at the moment: bodies of fetches, saves that wait, thousands of connections.
//
// Where a cgroup limits the process, nine tenths of that are the most. GOGC and GOMEMLIMIT of the environment are left as they are.

const (
	memoryBase  = 64 << 20 // bytes: what a process needs beside near memory
	memoryStep  = 16 << 20 // the limit is moved by no less, since that stops the world
	memoryPause = time.Second
)

// memoryKeeper keeps the runtime's memory limit.
type memoryKeeper struct {
	bound  int64 // without anything unusual
	most   int64 // of the cgroup; MaxInt64 = none
	set    func(int64)
	sample []metrics.Sample
	limit  int64
}

// newMemoryKeeper makes a keeper for this configuration, or none where the environment says GOMEMLIMIT.
func newMemoryKeeper(c *config.Config, log *slog.Logger) *memoryKeeper {
	if os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	near := min(int64(c.Near.Size), 1<<60)
	k := &memoryKeeper{
		bound: near + near/4 + memoryBase, most: math.MaxInt64, set: func(n int64) { debug.SetMemoryLimit(n) },
		sample: []metrics.Sample{
			{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
			{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		},
	}
	if cgroup, err := memlimit.FromCgroup(); err == nil && cgroup < math.MaxInt64 {
		k.most = int64(cgroup / 10 * 9)
		if k.bound > k.most {
			log.Warn("the memory that this process may have is too little for near memory: it may be ended when near memory is full",
				"near", c.Near.Size.String(), "needed", config.Size(k.bound).String(), "cgroup", config.Size(cgroup).String(), "hint", "near.size")
		}
	}
	k.keep()
	return k
}

// run keeps the limit until ctx ends.
func (k *memoryKeeper) run(ctx context.Context) {
	ticker := time.NewTicker(memoryPause)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			k.keep()
		case <-ctx.Done():
			return
		}
	}
}

// keep sets the limit to what is right now.
func (k *memoryKeeper) keep() {
	metrics.Read(k.sample)
	v := func(i int) int64 { return int64(k.sample[i].Value.Uint64()) }
	live, beside := v(0), v(1)-v(2)-v(3)-v(4)-v(5) // beside the heap: stacks, and what the runtime needs for itself
	if next := k.next(live, beside); next != k.limit {
		k.limit = next
		k.set(next)
	}
}

// next is the limit for a heap of which so many bytes are alive, and so many beside it. It leaves the collector a tenth of that to
// work with.
func (k *memoryKeeper) next(live, beside int64) int64 {
	limit := k.bound
	if taken := live + beside; taken+taken/10+memoryBase > limit {
		limit = (taken + taken/10 + memoryBase + memoryStep - 1) / memoryStep * memoryStep
	}
	return min(limit, k.most)
}
