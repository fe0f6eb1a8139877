// Command conformance runs the public test suite for HTTP caches, the npm
// package http-cache-tests, against a built cacheproxy and compares the results
// with the committed expectations.
//
// The suite is three parties. Its client sends each test's requests through the
// cache, its origin server answers them as the test says and remembers what it
// was asked, and the test passes when both saw what they should. This command
// starts the origin, one cacheproxy per run, a redis-server for those runs that
// want one, and one client per run; all on loopback ports, all ended again.
//
//	run               configuration   stored responses come from
//	defaults          none            memory
//	suite             suite.yaml      memory
//	defaults+redis    none            memory, which shadows Redis
//	suite+redis       suite.yaml      memory, which shadows Redis
//	suite+redis-only  suite.yaml      Redis: nothing fits near memory
//
// A test of kind required or optional passes or does not; one of kind check
// only answers yes or no to a question about behaviour. A test whose
// prerequisite did not pass counts as not passed, as the suite's pages count.
// The Surrogate-Control suite is shown apart and compared with nothing:
// targeted fields (RFC 9213) superseded that field.
//
// Run it in the bench directory: go run ./conformance. Exit status: 0 nothing
// lost, 1 a test was lost or is not argued in README.md, 2 could not run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// errLost says that the suite ran and the outcome is not good enough; what is
// wrong was printed already.
var errLost = errors.New("conformance: tests lost or not argued")

// options are the command line.
type options struct {
	dir     string        // where suite/, suite.yaml, expected.json and README.md are
	bin     string        // the cacheproxy to test
	runs    string        // names of runs, comma-separated; "" = all
	only    string        // test ids, comma-separated; "" = all
	pace    time.Duration // one test starts in each run every so often
	limit   time.Duration // for the whole
	update  bool          // write expected.json
	verbose bool          // name every test not passed
	logs    string        // keep the logs of all processes in this directory
	base    string        // test the cache at this URL instead
	origin  int           // the origin's port; 0 = any
}

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", "conformance", "directory with suite/, suite.yaml, expected.json and README.md")
	flag.StringVar(&o.bin, "bin", "../bin/cacheproxy", "cacheproxy binary to test")
	flag.StringVar(&o.runs, "runs", "", "runs to do, comma-separated (default all: "+strings.Join(runNames(), ",")+")")
	flag.StringVar(&o.only, "only", "", "test ids to run, comma-separated, with the tests they depend on; compares only these")
	flag.DurationVar(&o.pace, "pace", 40*time.Millisecond, "time between the starts of two tests of a run; shorter is faster until tests fail for want of CPU")
	flag.DurationVar(&o.limit, "limit", 5*time.Minute, "give up after this long")
	flag.BoolVar(&o.update, "update", false, "write expected.json from the results")
	flag.BoolVar(&o.verbose, "v", false, "name every test that did not pass, not only unexpected ones")
	flag.StringVar(&o.logs, "logs", "", "keep the logs of all processes in this directory")
	flag.StringVar(&o.base, "base", "", "test the cache at this URL, fronting the origin at -origin, once and without comparing")
	flag.IntVar(&o.origin, "origin", 0, "port of the suite's origin server (default any free one)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	switch err := conform(ctx, o, os.Stdout); {
	case err == nil:
	case err == errLost:
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// conform prepares everything for the chosen runs, does them and ends what it started.
func conform(ctx context.Context, o options, out io.Writer) error {
	specs, err := chooseRuns(o.runs)
	if err != nil {
		return err
	}
	if o.base != "" {
		specs = []runSpec{{name: "peer"}}
	}
	suiteDir := filepath.Join(o.dir, "suite")
	if err := install(ctx, suiteDir); err != nil {
		return err
	}
	work, err := workDir(o.logs)
	if err != nil {
		return fmt.Errorf("conformance: %w", err)
	}
	if o.logs == "" {
		defer os.RemoveAll(work)
	}
	lab := &lab{suiteDir: suiteDir, work: work, pace: o.pace, ports: map[int]bool{}}
	err = lab.compare(ctx, o, specs, out)
	if stopErr := lab.stop(); stopErr != nil {
		return errors.Join(err, stopErr)
	}
	return err
}

// workDir is where logs and Redis's files go: dir, made when it is not there, or
// a temporary directory.
func workDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "conformance-")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// compare does the runs, prints their results and judges them.
func (l *lab) compare(ctx context.Context, o options, specs []runSpec, out io.Writer) error {
	start := time.Now()
	if err := l.startOrigin(ctx, o.origin); err != nil {
		return err
	}
	runs, err := l.all(ctx, specs, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "http-cache-tests %s, %d runs in %s\n\n", suiteVersion, len(runs), time.Since(start).Round(time.Second/10))
	printTable(out, runs)
	if o.base != "" {
		printNotPassed(out, runs, expectations{})
		return nil
	}
	return judge(ctx, o, l, runs, out)
}

// all does the runs side by side; when one cannot be done the others are given up.
func (l *lab) all(ctx context.Context, specs []runSpec, o options) ([]*run, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	runs := make([]*run, len(specs))
	var wg sync.WaitGroup
	for i, spec := range specs {
		wg.Go(func() {
			var err error
			if runs[i], err = l.do(ctx, spec, o); err != nil {
				cancel(err) // the first cause stays
			}
		})
	}
	wg.Wait()
	return runs, context.Cause(ctx)
}

// judge compares the runs with expected.json. Tests that were lost are tried
// once more, alone; one that then passes is named as unsteady, never passed over.
func judge(ctx context.Context, o options, lab *lab, runs []*run, out io.Writer) error {
	file := filepath.Join(o.dir, "expected.json")
	expected, err := loadExpectations(file)
	if err != nil {
		return err
	}
	if err := retryLost(ctx, lab, runs, expected, out); err != nil {
		return err
	}
	if o.update {
		if o.only != "" || o.runs != "" {
			return errors.New("conformance: -update needs all runs and all tests: leave out -only and -runs")
		}
		if expected, err = updated(expected, runs); err != nil {
			return err
		}
		if err := expected.save(file); err != nil {
			return err
		}
		fmt.Fprintf(out, "\nwrote %s\n", file)
	}
	if o.verbose {
		printNotPassed(out, runs, expected)
	}
	readme, err := os.ReadFile(filepath.Join(o.dir, "README.md"))
	if err != nil {
		return fmt.Errorf("conformance: %w", err)
	}
	lost := printChanges(out, runs, expected)
	missing := printUnargued(out, expected, string(readme))
	if lost+missing > 0 {
		return errLost
	}
	return nil
}
