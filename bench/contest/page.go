package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// write makes of results all that is made of them: results.json, the page beside it, and the pictures; with -page what README.md shows.
func (o *options) write(r *results) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	if !o.report {
		if err := r.save(o.out); err != nil {
			return err
		}
		there := filepath.Join(o.out, "configurations")
		if err := errors.Join(os.RemoveAll(there), os.Rename(o.configurations, there)); err != nil {
			return err
		}
	}
	var page bytes.Buffer
	if err := (&markdown{w: &page, r: r}).page(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.out, "README.md"), page.Bytes(), 0o644); err != nil {
		return err
	}
	for _, p := range pictures {
		f := p.draw(r)
		if f == nil {
			if err := errors.Join(removeIfThere(filepath.Join(o.out, p.name+".svg")), removeIfThere(filepath.Join(o.out, p.name+".png"))); err != nil {
				return err
			}
			continue
		}
		text, err := f.SVG()
		if err != nil {
			return fmt.Errorf("contest: drawing %s: %w", p.name, err)
		}
		if err := os.WriteFile(filepath.Join(o.out, p.name+".svg"), text, 0o644); err != nil {
			return err
		}
		if err := f.WritePNG(filepath.Join(o.out, p.name+".png")); err != nil {
			return err
		}
	}
	if o.page {
		if err := o.intoReadme(r); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stderr, "results are in", o.out)
	return nil
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// What stands between these lines in README.md is made from results.
const (
	pageBegin = "<!-- contest: made from bench/results/results.json by make bench-page -->\n"
	pageEnd   = "<!-- contest: end -->\n"
)

// intoReadme puts the short table and two pictures where README.md has a place for them.
func (o *options) intoReadme(r *results) error {
	name := filepath.Join(o.root, "README.md")
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	replaced, err := withPart(string(text), r)
	if err != nil {
		return fmt.Errorf("contest: %s: %w", name, err)
	}
	return os.WriteFile(name, []byte(replaced), 0o644)
}

// withPart is a page with what is made from results in its place.
func withPart(page string, r *results) (string, error) {
	before, rest, begins := strings.Cut(page, pageBegin)
	_, after, ends := strings.Cut(rest, pageEnd)
	if !begins || !ends {
		return "", fmt.Errorf("it has no place for results, between %q and %q", pageBegin, pageEnd)
	}
	var b bytes.Buffer
	b.WriteString(before + pageBegin)
	m := &markdown{w: &b, r: r}
	pinned := "contestants on one of them, everything else on others"
	if r.Machine.Server == "" {
		pinned = "nothing pinned"
	}
	m.printf("%s, %s, %d processors, %s, one worker each.\n\n", r.Begun.Format("2 January 2006"), r.Machine.CPU, r.Machine.Processors, pinned)
	m.summary()
	m.ratios()
	for _, name := range []string{"cost", "mixed"} {
		i := slices.IndexFunc(pictures, func(p picture) bool { return p.name == name })
		if pictures[i].has(r) {
			m.printf("![%s](bench/results/%s.svg)\n\n", pictures[i].title, name)
		}
	}
	b.WriteString(pageEnd + after)
	return b.String(), m.err
}

// keeper copies the configuration of each contestant, as it was rendered, and its commands to where write takes them from. That of a contestant with
// features has their names.
func (o *options) keeper() (func(e *entry) error, error) {
	o.configurations = filepath.Join(o.out, "configurations.new")
	all := o.configurations
	if err := os.RemoveAll(all); err != nil {
		return nil, err
	}
	return func(e *entry) error {
		name := strings.ReplaceAll(e.c.name, "/", "")
		for _, f := range e.with {
			name += "+" + string(f)
		}
		dir := filepath.Join(all, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		var commands strings.Builder
		for _, argv := range e.c.processes(e.s) {
			commands.WriteString(strings.Join(argv, " ") + "\n")
		}
		if err := os.WriteFile(filepath.Join(dir, "commands"), e.anonymous([]byte(commands.String())), 0o644); err != nil {
			return err
		}
		for _, file := range e.c.files {
			text, err := os.ReadFile(filepath.Join(e.s.Dir, file))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, file), e.anonymous(text), 0o644); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// anonymous is a configuration without what is another thing each time.
func (e *entry) anonymous(text []byte) []byte {
	s := &e.s
	replaced := strings.NewReplacer(
		s.Dir, "DIR", s.Program, filepath.Base(s.Program), // a program that was built is the beginning of the name of its directory
		s.LogFile, "LOGFILE", s.CacheDir, "CACHE", filepath.Base(s.LogFile), "LOGFILE", filepath.Dir(s.LogFile), "LOGS", filepath.Dir(s.CertFile), "CERTIFICATES",
		fmt.Sprint(s.Port), "PORT", fmt.Sprint(s.TLSPort), "TLSPORT", fmt.Sprint(s.AdminPort), "ADMINPORT", fmt.Sprint(s.OriginPort), "ORIGINPORT",
		fmt.Sprint(s.RedisPort), "REDISPORT",
	).Replace(string(text))
	return []byte(replaced)
}
