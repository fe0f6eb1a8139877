package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

//go:embed report.lua
var reportScript []byte

// A run is what a generator says of what it has sent.
type run struct {
	Requests int64
	Bytes    int64
	Elapsed  time.Duration
	Errors   map[string]int64 // by kind; none that is 0
	Latency  *hdrhistogram.Histogram
	Own      time.Duration // processor time of the generator
	// Oversleep is up to how late 99 of 100 requests of an open loop were sent although a connection was free.
	Oversleep time.Duration
	Due       float64       // of an open loop: requests a second as chance has made them
	HitP99    time.Duration // of an open loop: of those that are hits
}

// newHistogram is for latencies from a microsecond to a minute, to three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 60_000_000, 3) }

// wrk sends requests for one URL over so many connections, each waiting for its answer before it asks again.
type wrk struct {
	url         string
	connections int
	openssl     string // its configuration of OpenSSL
}

func (w wrk) run(ctx context.Context, core string, dir string, d time.Duration) (*run, error) {
	script := filepath.Join(dir, "report.lua")
	if err := os.WriteFile(script, reportScript, 0o644); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d+patience)
	defer cancel()
	out, own, err := pinned(ctx, core, w.openssl, "wrk", "-t1", "-c"+strconv.Itoa(w.connections), "-d"+wholeSeconds(d), "--timeout", "10s", "-s", script, w.url)
	if err != nil {
		return nil, err
	}
	r, err := parseWrk(out)
	if err != nil {
		return nil, fmt.Errorf("contest: what wrk says: %w\n%s", err, out)
	}
	r.Own = own
	return r, nil
}

// wholeSeconds is how wrk and h2load are told how long to send.
func wholeSeconds(d time.Duration) string {
	return strconv.Itoa(max(1, int((d+time.Second/2)/time.Second)))
}

// parseWrk finds the line of report.lua in what wrk wrote.
func parseWrk(out []byte) (*run, error) {
	at := bytes.Index(out, []byte(`{"requests"`))
	if at < 0 {
		return nil, errors.New("it has no report")
	}
	line, _, _ := bytes.Cut(out[at:], []byte("\n"))
	var said struct {
		Requests, Bytes, Microseconds int64
		Errors                        map[string]int64
		Latency                       [][2]int64 // microseconds, and how many
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return nil, err
	}
	r := &run{
		Requests: said.Requests, Bytes: said.Bytes, Elapsed: time.Duration(said.Microseconds) * time.Microsecond,
		Errors: map[string]int64{}, Latency: newHistogram(),
	}
	for kind, n := range said.Errors {
		if n > 0 {
			r.Errors[kind] = n
		}
	}
	for _, one := range said.Latency {
		if err := r.Latency.RecordValues(min(max(1, one[0]), r.Latency.HighestTrackableValue()), one[1]); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// patience is how much longer than it was told a generator may take.
const patience = time.Minute

// pinned runs a program to its end on the given processors ("" = any), with a configuration of OpenSSL ("" = the system's), and returns what it wrote
// and its processor time.
func pinned(ctx context.Context, cores, openssl, name string, args ...string) (out []byte, own time.Duration, err error) {
	all := append([]string{name}, args...)
	if cores != "" {
		all = append([]string{"taskset", "-c", cores}, all...)
	}
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if openssl != "" {
		cmd.Env = append(os.Environ(), "OPENSSL_CONF="+openssl)
	}
	out, err = cmd.Output()
	if err != nil {
		said := bytes.TrimSpace(slices.Concat(errs.Bytes(), out))
		return out, 0, fmt.Errorf("contest: %s: %w: %s", filepath.Base(name), err, said[max(0, len(said)-1000):])
	}
	return out, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}
