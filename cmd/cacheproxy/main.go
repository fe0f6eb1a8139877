// Command cacheproxy is a caching reverse proxy for HTTP.
//
// This package is the command line: it turns flags, environment and a file into running parts (internal/config), starts and ends
// them in order (serve.go, server.go), and is the only one that knows YAML, flags, environment and signals.
//
//	serve     run the proxy
//	validate  check a configuration, reporting every mistake
//	explain   say what a request would meet, and why
//	test      run cases of a file against the configuration's rules
//	purge     forget stored responses, on all replicas
//	purges    show what was purged
//	entries   show what is stored of a URL
//	replicas  show who follows the log of purges
//	limits    show limits, who asks most, and where a client stands
//	log       show the requests of a running proxy
//	stats     show what a running proxy does each second
//	demo      run a small origin whose pages show caching happening
//	version   say what this binary is
//
// Data goes to standard output, prose and logs to standard error. The exit code is 0 when all went well, 1 when something
// failed, 2 when the command line or the configuration is wrong.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"cacheproxy/cmd/cacheproxy/internal/config"
)

// The exit codes.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

// failure is an error of running, as opposed to one of being asked wrongly: exit code 1.
type failure struct{ err error }

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// errTold ends with exit code 2 and says nothing more, because everything was said on standard output.
var errTold = errors.New("told")

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteC()
	var failed failure
	var mistakes config.Mistakes
	switch {
	case err == nil:
		return exitFine
	case errors.As(err, &failed):
		fmt.Fprintf(stderr, "cacheproxy: %v\n", failed.err)
		return exitFailed
	case errors.As(err, &mistakes):
		fmt.Fprintln(stderr, mistakes)
		return exitUsage
	case errors.Is(err, errTold):
		return exitUsage
	default:
		fmt.Fprintf(stderr, "cacheproxy: %v\nsee %s --help\n", err, command.CommandPath())
		return exitUsage
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "cacheproxy",
		Short: "A caching reverse proxy for HTTP, in memory and in Redis",
		Example: `  cacheproxy serve --upstream http://127.0.0.1:3000
  cacheproxy serve --config config.yaml
  cacheproxy validate --config config.yaml`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,

		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return errTold
		},
	}
	root.AddCommand(newServe(), newValidate(), newExplain(), newTest(), newPurge(), newPurges(), newEntries(), newReplicas(), newLimits(), newLog(), newStats(), newDemo(), newVersion())
	return root
}

// noArguments refuses what stands on the command line beside flags; cobra calls that an unknown command everywhere.
func noArguments(cmd *cobra.Command, arguments []string) error {
	if len(arguments) > 0 {
		return fmt.Errorf("%s takes no argument, and %q is one", cmd.Name(), arguments[0])
	}
	return nil
}
