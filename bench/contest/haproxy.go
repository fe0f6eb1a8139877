package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// haproxy keeps responses in memory that it shares between threads, in pieces of 1 KB.
var haproxy = contestant{
	name:    "haproxy",
	program: "haproxy",
	pkg:     "haproxy",
	version: versionLine("HAProxy version", "-v"),
	files:   []string{"haproxy.cfg"},
	processes: func(s setup) [][]string {
		command := []string{s.Program, "-db", "-f", filepath.Join(s.Dir, "haproxy.cfg")} // -db: the foreground, without a master
		if s.With[accessLog] {
			command = withOutput(s.LogFile, command)
		}
		return [][]string{command}
	},
	hits: haproxyHits,
	can:  []feature{overTLS, overHTTP2, accessLog, limiting},
	cannot: map[feature]string{
		collapsing: "each request that finds nothing goes to the origin",
		inRedis:    "its cache is in the memory of its process",
		surviving:  "its cache is in the memory of its process",
	},
}

// withOutput is a command whose standard output, and error, go to the end of a file.
func withOutput(file string, command []string) []string {
	return append([]string{"sh", "-c", `file=$1; shift; exec "$@" >>"$file" 2>&1`, "sh", file}, command...)
}

// haproxyHits asks the socket of its statistics, whose column cache_hits counts responses from the cache.
func haproxyHits(ctx context.Context, s setup) (n int64, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.Dir, "h.sock"))
	if err != nil {
		return 0, fmt.Errorf("contest: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(conn, "show stat\n"); err != nil {
		return 0, err
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		return 0, err
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimSpace(strings.TrimPrefix(string(text), "# ")))).ReadAll()
	if err != nil {
		return 0, fmt.Errorf("contest: show stat: %w", err)
	}
	return column(rows, "pxname", "clients", "svname", "FRONTEND", "cache_hits")
}

// column finds the row where two columns have the given values, and the number in a third.
func column(rows [][]string, a, isA, b, isB, wanted string) (int64, error) {
	index := map[string]int{}
	for n, row := range rows {
		if n == 0 {
			for m, name := range row {
				index[name] = m
			}
			continue
		}
		at, found := index[wanted]
		if found && row[index[a]] == isA && row[index[b]] == isB {
			return strconv.ParseInt(row[at], 10, 64)
		}
	}
	return 0, fmt.Errorf("contest: no %s of %s %s", wanted, isA, isB)
}
