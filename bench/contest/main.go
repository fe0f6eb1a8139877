// Command contest measures cacheproxy beside its peers: nginx, Varnish, HAProxy and others, the way a sceptic would have it.
//
// Everybody runs on one processor, and everything else (generators, the origin, Redis, this command) on the others. Each scenario is measured
// in short rounds: all contestants once, then all of them again, in an order that is drawn by lot, so that whatever else the machine does comes to
// everybody alike; ratios are made within a round. What a request costs is the processor time of the server, from /proc, over the requests that
// were answered: requests a second say as much about the generator as about the server. Beside every measurement somebody looks at a few
// answers a second and compares their bodies with what they must be; and the contestant's own counter, where it has one, and the origin's must
// say that hits were hits. What fails that is shown as not measured, with the reason.
//
// A contestant is a file of its name (varnish.go) and its configuration in peers/, which says line by line why it is as it is. scenario.go lists what is
// asked. Results are one file, results.json, of which tables, plots and the part of README.md are made (table.go, plots.go, page.go), so
// that no figure is ever typed.
//
// Run it in the bench directory, or from the one above with make bench: go run ./contest [-quick] [-only hit-1k-c64,miss] [-who nginx,varnish].
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	root, out string
	quick     bool
	only, who string
	report    bool
	page      bool
	against   string
	profile   string
	rounds    int
	each      time.Duration
	// configurations is where those of a contest are until its results are written.
	configurations string
}

func main() {
	var o options
	flag.StringVar(&o.root, "root", "..", "the root of this repository")
	flag.StringVar(&o.out, "out", "", "where results go; empty = results, or results/quick with -quick")
	flag.BoolVar(&o.quick, "quick", false, "few scenarios and short measurements")
	flag.StringVar(&o.only, "only", "", "names of scenarios, with commas between; empty = all")
	flag.StringVar(&o.who, "who", "", "names of contestants, with commas between; empty = all")
	flag.IntVar(&o.rounds, "rounds", 0, "how often everybody is measured at least; 0 = five times")
	flag.DurationVar(&o.each, "each", 0, "length of a measurement; 0 = as it should be")
	flag.BoolVar(&o.report, "report", false, "measure nothing: make tables and plots of the results that are there")
	flag.BoolVar(&o.page, "page", false, "with -report: the part of README.md too")
	flag.StringVar(&o.against, "against", "", "with -report: a directory with other results, whose ratios are compared with these")
	flag.StringVar(&o.profile, "profile", "", "the name of a scenario: compare nobody, and take profiles of cacheproxy in it instead, each as long as -each (5s)")
	flag.Parse()
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := o.run(ctx)
	stop()
	if err != nil {
		log.Fatal("contest: ", strings.TrimPrefix(err.Error(), "contest: "))
	}
}

func (o *options) run(ctx context.Context) error {
	partial := o.only != "" || o.who != "" || 0 < o.rounds && o.rounds < full.rounds || o.each != 0
	if o.out == "" {
		o.out = filepath.Join(o.root, "bench", "results")
		switch {
		case partial && !o.report && o.profile == "":
			o.out = filepath.Join(o.out, "partial")
		case o.quick:
			o.out = filepath.Join(o.out, "quick")
		}
	}
	switch {
	case o.report:
		return o.again()
	case o.profile != "":
		return o.profileOurs(ctx, cmp.Or(o.each, 5*time.Second))
	}
	p, stages, who, err := o.choose()
	if err != nil {
		return err
	}
	r, err := o.measure(ctx, p, stages, who, partial)
	if r == nil || len(r.Scenarios) == 0 {
		if err == nil {
			err = errors.New("none of these contestants takes part in any of these scenarios")
		}
		return errors.Join(err, os.RemoveAll(o.configurations))
	}
	if err != nil && !r.Partial { // what there is, is not lost
		if r.Partial = true; o.quick {
			o.out = filepath.Dir(o.out)
		}
		o.out = filepath.Join(o.out, "partial")
	}
	return errors.Join(err, o.write(r))
}

// again makes tables and pictures of results that are there, or compares them with others.
func (o *options) again() error {
	r, err := readResults(o.out)
	if err != nil {
		return err
	}
	if o.against != "" {
		other, err := readResults(o.against)
		if err != nil {
			return err
		}
		return compare(os.Stdout, r, other)
	}
	if o.page && (r.Quick || r.Partial) {
		return fmt.Errorf("the results in %s are of a quick contest or of a part of one, and are not for README.md", o.out)
	}
	return o.write(r)
}

// choose reads the flags that say what is measured.
func (o *options) choose() (p pace, chosen []stage, who []*contestant, err error) {
	if p = full; o.quick {
		p = short
	}
	if o.rounds > 0 {
		p.longest = p.longest * time.Duration(max(o.rounds, p.rounds)) / time.Duration(p.rounds)
		p.rounds = o.rounds
	}
	if o.each > 0 {
		p.each = o.each
	}
	chosen = p.of(stages)
	if o.only != "" {
		if chosen, err = named(strings.Split(o.only, ",")); err != nil {
			return p, nil, nil, err
		}
	}
	who = contestants
	if o.who != "" {
		who = nil
		for name := range strings.SplitSeq(o.who, ",") {
			c := contestantNamed(name)
			if c == nil {
				return p, nil, nil, fmt.Errorf("-who: there is no %q, only %s", name, names(contestants))
			}
			who = append(who, c)
		}
	}
	return p, chosen, who, nil
}

// contestantNamed is nil for a name that nobody has.
func contestantNamed(name string) *contestant {
	for _, c := range contestants {
		if c.name == name {
			return c
		}
	}
	return nil
}

func names(all []*contestant) string {
	var list []string
	for _, c := range all {
		list = append(list, c.name)
	}
	return strings.Join(list, ", ")
}

// named are the stages that have scenarios of these names, with those alone.
func named(wanted []string) (chosen []stage, err error) {
	var all []string
	for _, st := range stages {
		var scenarios []scenario
		for _, sc := range st.scenarios {
			all = append(all, sc.name)
			if slices.Contains(wanted, sc.name) {
				scenarios = append(scenarios, sc)
			}
		}
		if st.scenarios = scenarios; len(scenarios) > 0 {
			chosen = append(chosen, st)
		}
	}
	for _, name := range wanted {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("-only: there is no scenario %q, only %s", name, strings.Join(all, ", "))
		}
	}
	return chosen, nil
}

// measure is the contest itself. When it is interrupted everything that it has started is stopped, and what was measured before is returned too.
func (o *options) measure(ctx context.Context, p pace, chosen []stage, who []*contestant, partial bool) (r *results, err error) {
	begun := time.Now()
	if chosen, err = withTools(chosen); err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, "building what is measured and what measures")
	l, err := newLab(ctx, o.root)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := l.close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	r = &results{
		Begun: begun.UTC().Truncate(time.Second), Quick: p.quick, Partial: partial, Each: p.each.Seconds(),
		Machine: thisMachine(l.server, l.rest), Tools: tools(ctx),
	}
	there := l.prepare(ctx, who, r)
	if len(there) == 0 {
		return nil, errors.New("none of the contestants is installed")
	}
	keep, err := o.keeper()
	if err != nil {
		return nil, err
	}
	c := &contest{
		lab: l, pace: p, who: there, results: r, keep: keep, random: rand.New(rand.NewPCG(uint64(begun.Unix()), 0)), gauge: newGauge(l.server, l.rest),
	}
	total := c.estimate(chosen)
	c.until = begun.Add(p.longest)
	if partial {
		c.until = time.Now().Add(total * 2)
	}
	c.bar = newProgress(os.Stderr, total)
	defer c.bar.end()
	c.bar.say("%s; about %s. All requests go to 127.0.0.1.", names(there), total.Round(time.Second))
	if r.Machine.Shared {
		c.bar.say("The two processors are threads of one core: contestants have half of it while a generator is awake.")
	}
	if l.server == "" {
		c.bar.say("There is one processor alone: nothing is pinned, and figures of servers and generators disturb each other.")
	}
	err = c.run(ctx, chosen)
	r.slowed()
	r.Took = time.Since(begun).Round(time.Second).Seconds()
	return r, err
}

// withTools are the stages for which there is what they need. Without wrk or taskset there is no contest.
func withTools(all []stage) (chosen []stage, err error) {
	for _, tool := range []string{"wrk", "taskset"} {
		if _, err := find(tool); err != nil {
			return nil, fmt.Errorf("%s is not installed: bench/needs installs it as root on Debian", tool)
		}
	}
	_, noH2load := find("h2load")
	_, noRedis := find("redis-server")
	available := procBytes(procField("/proc/meminfo", "MemAvailable"))
	for _, st := range all {
		if available > 0 && available < st.memory {
			fmt.Fprintf(os.Stderr, "%s is left out: %s of memory are available, and it takes up to %s\n", st.name, bytesOf(available), bytesOf(st.memory))
			continue
		}
		st.scenarios = slices.DeleteFunc(slices.Clone(st.scenarios), func(sc scenario) bool { return sc.kind == byH2load && noH2load != nil })
		if noRedis != nil {
			st.variants = slices.DeleteFunc(slices.Clone(st.variants), func(with []feature) bool { return slices.Contains(with, inRedis) || slices.Contains(with, surviving) })
		}
		if len(st.scenarios) == 0 || len(st.variants) == 0 {
			fmt.Fprintf(os.Stderr, "%s is left out: h2load or redis-server is not installed\n", st.name)
			continue
		}
		chosen = append(chosen, st)
	}
	return chosen, nil
}

// prepare finds or builds the contestants, and notes their versions, and who is absent and why.
func (l *lab) prepare(ctx context.Context, who []*contestant, r *results) (there []*contestant) {
	for _, c := range who {
		program, err := "", error(nil)
		if c.build != nil {
			program, err = c.build(ctx, l.dir)
		} else {
			program, err = find(c.program)
		}
		version := ""
		if err == nil {
			version, err = c.version(ctx, program)
		}
		one := participant{Name: c.name, Version: version}
		if err != nil {
			switch {
			case c.build != nil:
				one.Absent = "it could not be built"
			case program == "":
				one.Absent = "not installed: the package is " + c.pkg
			default:
				one.Absent = "it does not tell its version"
			}
			fmt.Fprintf(os.Stderr, "%s is absent: %s: %v\n", c.name, one.Absent, err)
		} else {
			l.programs[c] = program
			there = append(there, c)
		}
		r.Contestants = append(r.Contestants, one)
	}
	return there
}
