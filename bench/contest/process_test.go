package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStopEndsAllDescendants has a process with a child in its group and one that has left it, as daemons do.
func TestStopEndsAllDescendants(t *testing.T) {
	p, err := startProcess(t.TempDir(), "out", []string{"sh", "-c", "sleep 100 & setsid sleep 100 & echo ready; wait"}, -1)
	if err != nil {
		t.Fatal(err)
	}
	p.wait = 200 * time.Millisecond
	i := &instance{processes: []*process{p}}
	for deadline := time.Now().Add(10 * time.Second); len(i.pids()) < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v: %s", i.pids(), p.tail())
		}
	}
	all := descent(p.group())
	// The shell ends by the signal and leaves both children behind.
	if err := i.stop(); err == nil || !strings.Contains(err.Error(), "had to be killed") {
		t.Errorf("children that stay are no error: %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(remaining(all)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v are left", remaining(all))
		}
	}
}

func TestAProcessThatEndsIsTold(t *testing.T) {
	c := &contestant{name: "broken", processes: func(setup) [][]string { return [][]string{{"sh", "-c", "echo no such thing >&2; exit 3"}} }}
	_, err := startInstance(t.Context(), c, setup{Dir: t.TempDir(), Host: "127.0.0.1", Port: freePorts(t, 1)[0]}, -1)
	if err == nil || !strings.Contains(err.Error(), "no such thing") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

// TestConfigurationsRender is for where the programs are not installed: with each feature by itself, and with none.
func TestConfigurationsRender(t *testing.T) {
	for _, c := range contestants {
		for _, f := range append([]feature{""}, c.can...) {
			s := setup{Dir: t.TempDir(), CacheDir: "/cache", Host: "127.0.0.1", Port: 1, TLSPort: 2, AdminPort: 3, LogFile: "/logs/access.log",
				OriginHost: "127.0.0.1", OriginPort: 4, CertFile: "/cert", KeyFile: "/key", PEMFile: "/both", CacheMiB: 64, RedisPort: 5,
				LimitPerSecond: 6, Files: 20_000, With: map[feature]bool{f: true}}
			if err := render(c, s); err != nil {
				t.Errorf("%s with %q: %v", c.name, f, err)
			}
			for _, name := range c.files {
				text, err := os.ReadFile(filepath.Join(s.Dir, name))
				if err != nil || strings.Contains(string(text), "{{") {
					t.Errorf("%s with %q: %s is not rendered, %v", c.name, f, name, err)
				}
			}
			if argv := c.processes(s); len(argv) == 0 {
				t.Errorf("%s with %q has no processes", c.name, f)
			}
			if reason, both := c.cannot[f]; both {
				t.Errorf("%s both can and cannot do %s: %s", c.name, f, reason)
			}
		}
	}
}
