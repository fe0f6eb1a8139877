package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"cacheproxy/cmd/cacheproxy/internal/config"
)

func newServe() *cobra.Command {
	var demoListen string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Serve runs the proxy until SIGTERM or SIGINT. It then lets requests in flight end (drain.timeout); a second signal ends
it at once. Flags win over environment variables (CACHEPROXY_REDIS_URL for redis.url), those over the file, it over defaults.
SIGHUP, a change of the file and POST /v1/reload on the operator's listener read all of them again; requests in flight end with what
they began with, and a configuration with mistakes changes nothing.`,
		Example: `  cacheproxy serve --upstream http://127.0.0.1:3000
  cacheproxy serve --upstream http://127.0.0.1:3000 --redis redis://127.0.0.1:6379
  cacheproxy serve --config config.yaml
  cacheproxy serve --demo`,
		Args: func(cmd *cobra.Command, arguments []string) error {
			err := noArguments(cmd, arguments)
			if err != nil && cmd.Flags().Changed("demo") { // whose address may be left out
				return fmt.Errorf("%w: an address is given as --demo=%s", err, arguments[0])
			}
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd, demoListen)
		},
	}
	addSettings(cmd)
	cmd.Flags().StringVar(&demoListen, "demo", "", "run in front of the demo origin, at `address` with --demo=address")
	cmd.Flags().Lookup("demo").NoOptDefVal = demoAddress
	cmd.MarkFlagsMutuallyExclusive("demo", "upstream")
	return cmd
}

// serve runs until a signal or a failure.
func serve(cmd *cobra.Command, demoListen string) error {
	signals, forget := notifySignals() // first of all: whoever reads that it listens may signal it
	defer forget()
	hangups, forgetHangups := notifyHangups()
	defer forgetHangups()
	var more []config.Flag
	if demoListen != "" {
		origin, err := startDemo(demoListen, "--demo=ADDRESS")
		if err != nil {
			return err
		}
		defer origin.stop()
		more = append(more, config.Flag{Name: "--demo", Key: "upstream", Value: "http://" + origin.address.String()})
	}
	file := cmd.Flag("config").Value.String()
	known, _ := os.ReadFile(file) // before it is loaded: a change that comes between is not missed; load says what is wrong with it
	read := func() (*config.Loaded, error) { return load(cmd, more...) }
	loaded, err := read()
	if err != nil {
		return err
	}
	log := newLogger(loaded.Config.Log, cmd.ErrOrStderr())
	takeStandardLog(log.Handler())
	log.Info("starting", "binary", thisBinary().String(), "config", file)
	s, err := newServer(loaded, read, log)
	if err != nil {
		return err
	}
	if keeper := newMemoryKeeper(loaded.Config, log); keeper != nil {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		go keeper.run(ctx)
	}
	s.run()
	if file != "" {
		s.work.Go(func() { s.watch(file, known) })
	}
	if demoListen != "" {
		printTries(cmd.ErrOrStderr(), s.listeners[0])
	}
	for {
		select {
		case <-hangups:
			_, _ = s.reload("SIGHUP") // it says itself what went wrong
		case sig := <-signals:
			return end(s, sig, signals)
		case err := <-s.failed:
			_ = end(s, syscall.SIGINT, signals)
			return failure{err}
		}
	}
}

// end drains the server. A second signal cuts everything.
func end(s *server, first os.Signal, signals <-chan os.Signal) error {
	c := s.current.Load().config
	delay := c.Drain.Delay.Std()
	if first == os.Interrupt {
		delay = 0 // a person is waiting, not a balancer
	}
	s.draining.Store(true)
	s.log.Info("ending: requests in flight may finish", "signal", first.String(), "delay", delay.String(), "timeout", c.Drain.Timeout.String(),
		"hint", "a second signal ends at once")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.drain(ctx, delay, c.Drain.Timeout.Std()) }()
	select {
	case err := <-done:
		if err != nil {
			return failure{err}
		}
		s.log.Info("ended")
		return nil
	case second := <-signals:
		return failure{fmt.Errorf("%s came while requests were in flight: they were cut", second)}
	}
}

// printTries shows what to do with a demo that is running.
func printTries(w io.Writer, l net.Listener) {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	at := "http://127.0.0.1:" + port
	fmt.Fprint(w, strings.ReplaceAll(`
The demo is ready. Open AT/ or try, each line twice:

  curl -si AT/clock | grep -iE '^(age|cache-status)|It is'
  curl -s -o /dev/null -w '%{time_total} s\n' AT/slow
  curl -si -H 'Accept-Language: fr' AT/vary

`, "AT", at))
}
