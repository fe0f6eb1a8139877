package main

import (
	"bytes"
	"log/slog"
	"math"
	"testing"

	"cacheproxy/cmd/cacheproxy/internal/config"
)

func TestMemoryLimit(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name               string
		most, live, beside int64
		want               int64
	}{
		{"nothing is stored yet", math.MaxInt64, 5 * mib, 3 * mib, 1264 * mib},
		{"near memory is full", math.MaxInt64, 1000 * mib, 50 * mib, 1264 * mib},
		{"and fetches hold a lot", math.MaxInt64, 1200 * mib, 100 * mib, 1504 * mib},
		{"thousands of connections", math.MaxInt64, 1000 * mib, 400 * mib, 1616 * mib},
		{"a small cgroup", 900 * mib, 1200 * mib, 100 * mib, 900 * mib},
		{"a large one", 9000 * mib, 5 * mib, 3 * mib, 1264 * mib},
	} {
		k := memoryKeeper{bound: 1264 * mib, most: c.most}
		if got := k.next(c.live, c.beside); got != c.want {
			t.Errorf("%s: %d MiB, want %d", c.name, got/mib, c.want/mib)
		}
	}
}

func TestMemoryKeeperKeeps(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	var text bytes.Buffer
	c := config.Default()
	c.Near.Size = 1000 << 20
	k := newMemoryKeeper(c, slog.New(slog.NewTextHandler(&text, nil)))
	defer k.set(math.MaxInt64)
	if k.limit != min(1314<<20, k.most) {
		t.Errorf("limit %d\n%s", k.limit, text.String())
	}
	sets := 0
	k.set = func(int64) { sets++ }
	if k.keep(); sets != 0 {
		t.Error("set again although nothing has changed")
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	if newMemoryKeeper(c, slog.New(slog.DiscardHandler)) != nil {
		t.Error("the environment's GOMEMLIMIT is not left alone")
	}
}
