package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cacheproxy/bench/profile"
)

// profileOurs runs cacheproxy in one scenario and takes profiles of it meanwhile, of each kind for so long.
func (o *options) profileOurs(ctx context.Context, length time.Duration) (err error) {
	chosen, err := named([]string{o.profile})
	if err != nil {
		return err
	}
	st, sc := &chosen[0], &chosen[0].scenarios[0]
	if sc.kind == byStampede || sc.kind == byRestart {
		return fmt.Errorf("-profile: %s is over before it could be looked at", sc.name)
	}
	l, err := newLab(ctx, o.root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	r := &results{}
	who := l.prepare(ctx, []*contestant{contestantNamed(ours)}, r)
	if len(who) == 0 {
		return errors.New("cacheproxy could not be built")
	}
	c := &contest{
		lab: l, pace: pace{each: profile.Needs(length), rounds: 1}, who: who, results: r, bar: newProgress(os.Stderr, profile.Needs(length)),
		keep: func(*entry) error { return nil },
	}
	with := st.variants[len(st.variants)-1]
	e := &entry{c: who[0], with: with}
	defer func() { err = errors.Join(err, e.stop(), e.remove()) }()
	if err := c.startEntry(ctx, e, sc, sc.keys); err != nil || e.lacks != "" {
		return errors.Join(err, errors.New("cacheproxy did not start"))
	}
	if err := c.warm(ctx, st, sc, e); err != nil {
		return err
	}
	rate := 0.0
	if len(sc.rates) > 0 {
		rate = sc.rates[len(sc.rates)/2]
	}
	loading, cancel := context.WithCancel(ctx)
	defer cancel()
	loaded := make(chan error, 1)
	go func() {
		_, err := c.generator(st, sc, e, rate).run(loading, l.rest, l.memory, c.pace.each)
		loaded <- err
	}()
	dir := filepath.Join(o.out, "profiles", sc.name)
	fmt.Fprintf(os.Stderr, "profiling %s for %s\n", sc.title, profile.Needs(length))
	if err := profile.Take(ctx, "http://"+address(e.s.AdminPort), length, dir, sc.title); err != nil {
		cancel()
		<-loaded
		return err
	}
	if err := <-loaded; err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "profiles and flame graphs are in %s; look at one with go tool pprof\n", strings.TrimPrefix(dir, o.root+"/"))
	return nil
}
