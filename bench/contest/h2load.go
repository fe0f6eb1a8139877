package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// h2load sends requests for one URL over so many connections of HTTP/2, each with so many streams at a time.
type h2load struct {
	url                  string
	connections, streams int
	openssl              string
}

func (h h2load) run(ctx context.Context, core string, dir string, d time.Duration) (*run, error) {
	name := filepath.Join(dir, "h2load.tsv")
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d+patience)
	defer cancel()
	out, own, err := pinned(ctx, core, h.openssl, "h2load", "-t1", "-c", strconv.Itoa(h.connections), "-m", strconv.Itoa(h.streams),
		"--duration", wholeSeconds(d), "--log-file", name, h.url)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := parseH2load(out, f)
	if err != nil {
		return nil, fmt.Errorf("contest: what h2load says: %w\n%s", err, out)
	}
	r.Own = own
	return r, nil
}

var (
	h2finished = regexp.MustCompile(`(?m)^finished in ([0-9.]+)(us|ms|s),`)
	h2requests = regexp.MustCompile(`(?m)^requests: .* (\d+) done, .* (\d+) failed, (\d+) errored, (\d+) timeout`)
	h2statuses = regexp.MustCompile(`(?m)^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)
	h2protocol = regexp.MustCompile(`(?m)^Application protocol: (\S+)`)
)

// parseH2load reads the summary, and the log with a line for each request: when it began, its status, and the microseconds that it took.
func parseH2load(summary []byte, log io.Reader) (*run, error) {
	finished, requests := h2finished.FindSubmatch(summary), h2requests.FindSubmatch(summary)
	statuses, protocol := h2statuses.FindSubmatch(summary), h2protocol.FindSubmatch(summary)
	if finished == nil || requests == nil || statuses == nil || protocol == nil {
		return nil, errors.New("it has no summary")
	}
	if p := string(protocol[1]); p != "h2" && p != "h2c" {
		return nil, fmt.Errorf("it spoke %s, not HTTP/2", p)
	}
	elapsed, err := time.ParseDuration(string(finished[1]) + string(finished[2]))
	if err != nil {
		return nil, err
	}
	r := &run{Elapsed: elapsed, Errors: map[string]int64{}, Latency: newHistogram()}
	number := func(b []byte) int64 { n, _ := strconv.ParseInt(string(b), 10, 64); return n }
	r.Requests = number(statuses[1]) + number(statuses[2])
	for i, kind := range []string{"failed", "errored", "timeout"} {
		if n := number(requests[2+i]); n > 0 {
			r.Errors[kind] = n
		}
	}
	if n := number(statuses[3]) + number(statuses[4]); n > 0 {
		r.Errors["status"] = n
	}
	if at := bytes.Index(summary, []byte("traffic: ")); at >= 0 {
		if open := bytes.IndexByte(summary[at:], '('); open >= 0 {
			digits, _, _ := strings.Cut(string(summary[at+open+1:]), ")")
			r.Bytes, _ = strconv.ParseInt(digits, 10, 64)
		}
	}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		field := strings.Split(lines.Text(), "\t")
		if len(field) != 3 {
			return nil, fmt.Errorf("a line of the log is %.80q", lines.Text())
		}
		took, err := strconv.ParseInt(field[2], 10, 64)
		if err != nil || field[1] == "-1" { // a request that was not answered
			continue
		}
		if err := r.Latency.RecordValue(min(max(1, took), r.Latency.HighestTrackableValue())); err != nil {
			return nil, err
		}
	}
	return r, lines.Err()
}
