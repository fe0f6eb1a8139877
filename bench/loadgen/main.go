// Command loadgen sends load to an HTTP server that serves package body (package load), and prints what became of it.
//
// Run it in the bench directory, beside go run ./origin -listen 127.0.0.1:8001:
//
//	go run ./loadgen -addr 127.0.0.1:8001 -connections 50 -rate 20000 -duration 10s -pattern kind=hit,size=1024,keys=10000,zipf=0.99
//
// The modes are run (the default); warm, which asks for each key of the first pattern once and checks it; stampede, which sends the same request on all
// connections at the same moment; and check, which looks at the keys of all patterns in turn, slowly, until -duration has passed or it is interrupted.
//
// What it will send is on stderr before it begins. It ends with status 1 when it cannot begin, and with 2 when a request failed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cacheproxy/bench/body"
	"cacheproxy/bench/load"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failed, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		log.Print("loadgen: ", err)
		os.Exit(1)
	case failed:
		os.Exit(2)
	}
}

// command is what the flags say.
type command struct {
	spec   load.Spec
	mode   string
	json   bool
	tls    bool
	fields []string
}

func parse(args []string, stderr io.Writer) (*command, error) {
	c := &command{spec: load.Spec{Alone: true}}
	s := &c.spec
	f := flag.NewFlagSet("loadgen", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&c.mode, "mode", "run", "run, warm, stampede or check")
	f.StringVar(&s.Addr, "addr", "", "`HOST:PORT` of the server, on loopback")
	f.BoolVar(&s.AllowRemote, "allow-remote", false, "let -addr be another machine, which must be yours")
	f.StringVar(&s.Host, "host", "", "the field Host; empty = as -addr")
	f.IntVar(&s.Connections, "connections", 1, "how many connections")
	f.DurationVar(&s.Duration, "duration", 0, "how long requests are counted; 0 = until -max-requests are answered")
	f.DurationVar(&s.Warmup, "warmup", 0, "how long requests are sent before that and not counted")
	f.Int64Var(&s.MaxRequests, "max-requests", 0, "how many requests at most; 0 = no limit")
	f.Float64Var(&s.Rate, "rate", 0, "requests per second of an open loop; 0 = a closed loop. With -mode check: 0 = 20")
	f.BoolVar(&s.Poisson, "poisson", false, "an open loop's requests come independently, not evenly spaced")
	f.DurationVar(&s.Spin, "spin", 0, "how long before a request of an open loop is due not to sleep, where the machine wakes sleepers late; in a closed loop more than 0 is never to sleep")
	f.BoolVar(&s.Finish, "finish", false, "have a closed loop end when all that was sent has been answered, and count it")
	f.Float64Var(&s.Check, "check", 0, "the fraction of responses whose bodies are compared, from 0 to 1")
	f.Uint64Var(&s.Seed, "seed", 1, "the same seed draws the same keys")
	f.DurationVar(&s.Timeout, "timeout", 10*time.Second, "how long a response may take")
	f.BoolVar(&c.json, "json", false, "print the result as JSON")
	f.BoolVar(&c.tls, "tls", false, "with -mode check: speak TLS, and take any certificate")
	f.Func("header", "a field of requests, \"`Name: value`\"; may be repeated", func(line string) error { s.Header = append(s.Header, line); return nil })
	f.Func("field", "with -mode check: count the values of this `field` of responses; may be repeated", func(name string) error { c.fields = append(c.fields, name); return nil })
	f.Func("pattern", "what to ask for, as `kind=hit,size=1024,keys=1000,zipf=0.99,weight=1,first=0` or with unique in place of keys and zipf; may be repeated",
		func(text string) error {
			p, err := pattern(text)
			s.Patterns = append(s.Patterns, p)
			return err
		})
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is not a flag", f.Arg(0))
	}
	if s.Addr == "" || len(s.Patterns) == 0 {
		return nil, errors.New("-addr and -pattern are needed")
	}
	return c, nil
}

// pattern reads a pattern, such as kind=hit,size=1024,keys=1000,zipf=0.99.
func pattern(text string) (p load.Pattern, err error) {
	p = load.Pattern{Kind: body.Hit, Size: 1024, Keys: 1, Weight: 1}
	for one := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(one, "=")
		switch name {
		case "kind":
			p.Kind = body.Kind(value)
		case "size":
			p.Size, err = strconv.Atoi(value)
		case "keys":
			p.Keys, err = strconv.ParseUint(value, 10, 64)
		case "first":
			p.FirstID, err = strconv.ParseUint(value, 10, 64)
		case "zipf":
			p.Zipf, err = strconv.ParseFloat(value, 64)
		case "weight":
			p.Weight, err = strconv.ParseFloat(value, 64)
		case "unique":
			p.Unique = true
			if value != "" {
				p.Unique, err = strconv.ParseBool(value)
			}
		default:
			err = fmt.Errorf("%q is not part of a pattern: kind, size, keys, first, zipf, weight and unique are", name)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// run does what the arguments say, and reports whether a request failed.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (failed bool, err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return false, err
	}
	var result *load.Result
	switch c.mode {
	case "run":
		fmt.Fprintln(stderr, "loadgen:", c.spec.Describe())
		result, err = load.Run(ctx, c.spec)
	case "warm":
		fmt.Fprintf(stderr, "loadgen: once for each key, to %s over %d connections, %s\n", c.spec.Addr, c.spec.Connections, c.spec.Patterns[0])
		result, err = load.Warm(ctx, c.spec)
	case "stampede":
		p := c.spec.Patterns[0]
		resource := body.Resource{Kind: p.Kind, Size: p.Size, ID: p.FirstID}
		fmt.Fprintf(stderr, "loadgen: %d times at once for %s, to %s\n", c.spec.Connections, resource.Path(), c.spec.Addr)
		result, err = load.Stampede(ctx, c.spec, resource)
	case "check":
		return c.watch(ctx, stdout, stderr)
	default:
		err = fmt.Errorf("-mode %q: it is run, warm, stampede or check", c.mode)
	}
	if err != nil {
		return false, err
	}
	return result.Failed() > 0, c.print(stdout, result, result.String())
}

// watch is the mode check.
func (c *command) watch(ctx context.Context, stdout, stderr io.Writer) (failed bool, err error) {
	s := &c.spec
	if s.Duration == 0 && s.MaxRequests == 0 {
		s.Duration = 10 * time.Second
	}
	if s.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.Duration)
		defer cancel()
	}
	if s.Rate == 0 {
		s.Rate = 20
	}
	spec := load.WatchSpec{
		Addr: s.Addr, AllowRemote: s.AllowRemote, Host: s.Host, Header: s.Header, TLS: c.tls, Rate: s.Rate, MaxRequests: s.MaxRequests, Fields: c.fields, Timeout: s.Timeout,
	}
	const most = 10_000
	for _, p := range s.Patterns {
		if p.Unique || p.Keys > most {
			return false, fmt.Errorf("-mode check looks at %d keys of a pattern at most, not at %s", most, p)
		}
		for id := range max(1, p.Keys) {
			spec.Resources = append(spec.Resources, body.Resource{Kind: p.Kind, Size: p.Size, ID: p.FirstID + id})
		}
	}
	fmt.Fprintf(stderr, "loadgen: %g checks/s of %d keys in turn, to %s over 1 connection (TLS: %v), for %s (0 = no limit), at most %d (0 = no limit)\n", s.Rate,
		len(spec.Resources), s.Addr, c.tls, s.Duration, s.MaxRequests)
	watched, err := load.Watch(ctx, spec)
	if err != nil {
		return false, err
	}
	text := fmt.Sprintf("%d checked, %d wrong, statuses %v, errors %v %v, values %v\n%s", watched.Checked, watched.Wrong, watched.Statuses, watched.Errors,
		watched.FirstErrors, watched.Values, watched.Head)
	return len(watched.Errors) > 0, c.print(stdout, watched, text)
}

// print prints a result, for programs or for people.
func (c *command) print(stdout io.Writer, result any, text string) error {
	if !c.json {
		_, err := io.WriteString(stdout, text)
		return err
	}
	out := json.NewEncoder(stdout)
	out.SetIndent("", "  ")
	return out.Encode(result)
}
