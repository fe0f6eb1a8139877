package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// cacheproxy is ours. What is not in its configuration is as whoever installs it has it.
var cacheproxy = contestant{
	name:    "cacheproxy",
	program: "cacheproxy",
	build: func(ctx context.Context, dir string) (string, error) {
		return goBuild(ctx, filepath.Join(dir, "cacheproxy"), "..", "./cmd/cacheproxy", "-trimpath", "-buildvcs=auto", "-ldflags", "-s -w -X main.version="+revision(ctx))
	},
	version: func(ctx context.Context, program string) (string, error) {
		return versionLine("cacheproxy", "version")(ctx, program)
	},
	files: []string{"cacheproxy.yaml"},
	processes: func(s setup) [][]string {
		command := []string{"env", "GOMAXPROCS=1", s.Program, "serve", "--config", filepath.Join(s.Dir, "cacheproxy.yaml")}
		if s.With[accessLog] {
			command = withOutput(s.LogFile, command)
		}
		return [][]string{command}
	},
	hits: cacheproxyHits,
	can:  []feature{overTLS, overHTTP2, accessLog, inRedis, limiting, surviving, collapsing},
}

// revision is what git says of the working tree; devel where it says nothing.
func revision(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "devel"
	}
	return trimmed(out)
}

// cacheproxyHits adds up what /metrics has of the outcome hit: from each tier, or from Redis alone where nothing else is to answer.
func cacheproxyHits(ctx context.Context, s setup) (int64, error) {
	text, err := fetch(ctx, fmt.Sprintf("http://%s:%d/metrics", s.Host, s.AdminPort))
	if err != nil {
		return 0, err
	}
	var hits float64
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		labels, value, found := strings.Cut(lines.Text(), "} ")
		if !found || !strings.HasPrefix(labels, "cacheproxy_requests_total{") || !strings.Contains(labels, `outcome="hit"`) ||
			s.With[inRedis] && !strings.Contains(labels, `tier="redis"`) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("contest: %q: %w", lines.Text(), err)
		}
		hits += n
	}
	return int64(math.Round(hits)), nil
}
