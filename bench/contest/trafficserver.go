package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
)

// trafficServer keeps responses on a disk, here a file on tmpfs, and the hot ones in memory too.
var trafficServer = contestant{
	name:    "trafficserver",
	program: "traffic_server",
	pkg:     "trafficserver",
	version: versionLine("Traffic Server", "-V"),
	files:   []string{"runroot.yaml", "records.config", "remap.config", "storage.config", "plugin.config", "ip_allow.yaml", "logging.yaml", "ssl_multicert.config"},
	before: func(s setup) [][]string {
		return [][]string{{"mkdir", "-p", filepath.Join(s.Dir, "run"), filepath.Join(s.CacheDir, "store")}}
	},
	processes: func(s setup) [][]string {
		return [][]string{{s.Program, "--run-root=" + filepath.Join(s.Dir, "runroot.yaml")}} // without its manager, which would restart it
	},
	hits: trafficServerHits,
	can:  []feature{overTLS, overHTTP2, accessLog, surviving, collapsing},
	cannot: map[feature]string{
		inRedis:  "its stores are memory and disks",
		limiting: "the plugin rate_limit is not in the package",
	},
}

// trafficServerHits asks the plugin stats_over_http for what was fresh, on the disk or in memory, and what was answered with 304 of it.
func trafficServerHits(ctx context.Context, s setup) (int64, error) {
	text, err := fetch(ctx, fmt.Sprintf("http://%s:%d/_stats", s.Host, s.Port))
	if err != nil {
		return 0, err
	}
	var all struct{ Global map[string]string }
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return 0, fmt.Errorf("contest: _stats: %w", err)
	}
	whole, err := strconv.ParseInt(all.Global["proxy.process.http.cache_hit_fresh"], 10, 64)
	notModified, errIMS := strconv.ParseInt(all.Global["proxy.process.http.cache_hit_ims"], 10, 64)
	return whole + notModified, errors.Join(err, errIMS)
}
