package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// squid keeps responses in memory, in pages of 4 KB.
var squid = contestant{
	name:    "squid",
	program: "squid",
	pkg:     "squid-openssl", // the package squid is the same without TLS for clients
	version: versionLine("Version", "-v"),
	files:   []string{"squid.conf"},
	before: func(s setup) [][]string {
		if !s.Root() {
			return nil
		}
		return [][]string{{"chown", "proxy", s.Dir}} // as root it refuses to run, so it is this user, who writes its logs
	},
	processes: func(s setup) [][]string {
		return [][]string{
			// -N: one process, in the foreground; -n: a name of its own, since what it shares is under it
			{s.Program, "-N", "-n", "bench" + strconv.Itoa(s.Port), "-f", filepath.Join(s.Dir, "squid.conf")},
		}
	},
	hits: squidHits,
	can:  []feature{overTLS, accessLog, collapsing},
	cannot: map[feature]string{
		overHTTP2: "it speaks HTTP/1.1 alone",
		inRedis:   "its stores are memory and disks",
		limiting:  "its delay pools limit bytes, not requests",
		surviving: "memory is lost; its disk stores would be another contestant",
	},
}

// squidHits asks the cache manager, whose client_http.hits counts requests that were answered from the cache.
func squidHits(ctx context.Context, s setup) (int64, error) {
	text, err := fetch(ctx, fmt.Sprintf("http://%s:%d/squid-internal-mgr/counters", s.Host, s.AdminPort))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, "client_http.hits = "); found {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, fmt.Errorf("contest: no client_http.hits in %.200q", text)
}
