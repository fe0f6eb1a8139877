package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// asCacheproxy makes the test binary behave as the command: tests start it as a process of its own, with the race detector in.
// Its name does not begin with CACHEPROXY_, which would make it a key of the configuration.
const asCacheproxy = "TEST_AS_CACHEPROXY"

// quickRace keeps the race detector from sleeping for a second when a process ends, as it does by default.
const quickRace = "GORACE=atexit_sleep_ms=10"

func TestMain(m *testing.M) {
	if os.Getenv(asCacheproxy) != "" {
		main()
	}
	testscript.Main(leakChecked{m}, map[string]func(){"cacheproxy": main})
}

// leakChecked runs all tests, and fails if goroutines are left when they are over.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// The scripts in testdata show the command line: what it says, where it says it, and the exit code.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			for _, variable := range os.Environ() {
				if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "CACHEPROXY_") {
					e.Setenv(name, "")
				}
			}
			name, value, _ := strings.Cut(quickRace, "=")
			e.Setenv(name, value)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs cacheproxy and checks its exit code: exits 2 validate --config x.yaml.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE ARGUMENT...")
	}
	err := ts.Exec("cacheproxy", args[1:]...)
	code := "0"
	if err != nil {
		code = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}
