// Command h2spec runs the public test suite for HTTP/2 servers, github.com/summerwind/h2spec, against a built cacheproxy and, in the same run,
// against net/http alone, and compares the failures of both with the committed expectations.
//
// The suite speaks to each with prior knowledge on a cleartext port. cacheproxy stands in front of the same handler that net/http
// serves alone. README.md says why each test fails that does.
//
// Run it in the bench directory: go run ./h2spec. Exit status: 0 as expected, 1 a test failed or passed that was not to, 2 could not run.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// result is what the suite says of one server.
type result struct {
	passed int
	failed []string // section/number, and what it wants
}

func main() {
	bin := flag.String("bin", "../bin/cacheproxy", "the cacheproxy to test")
	expected := flag.String("expected", "h2spec/expected.json", "`file` of the results to compare with")
	update := flag.Bool("update", false, "write them instead")
	flag.Parse()
	switch same, err := run(*bin, *expected, *update); {
	case err != nil:
		fmt.Fprintln(os.Stderr, "h2spec:", err)
		os.Exit(2)
	case !same:
		os.Exit(1)
	}
}

func run(bin, expected string, update bool) (same bool, err error) {
	bare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return false, err
	}
	server := &http.Server{Handler: http.HandlerFunc(page), Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(bare) }() // ends with Close
	defer server.Close()
	proxy, stop, err := start(bin, "http://"+bare.Addr().String())
	if err != nil {
		return false, err
	}
	defer stop()
	results := map[string]result{"net/http": suite(bare.Addr().String()), "cacheproxy": suite(proxy)}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		r := results[name]
		fmt.Printf("%s: %d passed, %d failed\n", name, r.passed, len(r.failed))
	}
	text, err := os.ReadFile(expected)
	if err != nil {
		return false, err
	}
	var want expectations
	if err := json.Unmarshal(text, &want); err != nil {
		return false, fmt.Errorf("%s: %w", expected, err)
	}
	if update {
		return true, write(expected, results, want)
	}
	return compare(results, want), nil
}

// page is served by both. A HEAD and a POST are answered as a GET is.
func page(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a test may end it
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, strings.Repeat("page ", 100)) // a test may not read it
}

// start starts cacheproxy and returns its address.
func start(bin, upstream string) (address string, stop func(), err error) {
	cmd := exec.Command(bin, "serve", "--listen", "127.0.0.1:0", "--admin", "", "--upstream", upstream)
	cmd.Env = append(os.Environ(), "CACHEPROXY_DRAIN_DELAY=0s", "CACHEPROXY_DRAIN_TIMEOUT=1s", "CACHEPROXY_LOG_ACCESS_SAMPLE=0")
	said, err := cmd.StderrPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("%w; make build makes it", err)
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		var line struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			go func() { _, _ = io.Copy(io.Discard, said) }()
			return line.Address, stop, nil
		}
	}
	stop()
	return "", nil, errors.New(bin + " ended before it listened")
}

// suite runs all tests against one address. The suite prints while it runs; what it says is in its results too.
func suite(address string) (r result) {
	out := os.Stdout
	defer func() { os.Stdout = out }()
	os.Stdout, _ = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	addr, _ := net.ResolveTCPAddr("tcp", address)
	c := &config.Config{Host: addr.IP.String(), Port: addr.Port, Path: "/", Timeout: time.Second, MaxHeaderLen: 4000, Strict: true}
	for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		group.Test(c)
		r.add(group)
	}
	slices.Sort(r.failed)
	return r
}

func (r *result) add(group *spec.TestGroup) {
	for i, test := range append(group.Tests, group.StrictTests...) {
		switch {
		case test.Result == nil || test.Result.Skipped:
		case test.Result.Failed:
			r.failed = append(r.failed, fmt.Sprintf("%s/%d %s", group.ID(), i+1, test.Desc))
		default:
			r.passed++
		}
	}
	for _, inner := range group.Groups {
		r.add(inner)
	}
}

// expectations are the committed results.
type expectations struct {
	Failed map[string][]string `json:"failed"` // by server
	// Either are tests that both servers pass in one run and fail in the next.
	Either []string `json:"either"`
}

// compare names every test whose result is not the expected one.
func compare(results map[string]result, want expectations) (same bool) {
	same = true
	say := func(name, how, test string) {
		if !slices.Contains(want.Either, test) {
			same = false
			fmt.Printf("%s %s: %s\n", name, how, test)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		failed := results[name].failed
		for _, test := range failed {
			if !slices.Contains(want.Failed[name], test) {
				say(name, "fails", test)
			}
		}
		for _, test := range want.Failed[name] {
			if !slices.Contains(failed, test) {
				say(name, "does not fail any more", test)
			}
		}
	}
	return same
}

// write writes the results as what is expected from now on.
func write(file string, results map[string]result, want expectations) error {
	want.Failed = map[string][]string{}
	for name, r := range results {
		want.Failed[name] = slices.DeleteFunc(r.failed, func(test string) bool { return slices.Contains(want.Either, test) })
	}
	text, _ := json.MarshalIndent(want, "", "\t") // strings: cannot fail
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
