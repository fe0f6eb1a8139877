package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/cmd/cacheproxy/internal/trial"
	"cacheproxy/store"
)

func newTest() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test FILE...",
		Short: "Test what the configuration's rules do, by cases in files",
		Long: `Test runs the cases of YAML files against the rules of a configuration: requests, what the origin answers, how much time passes
between, and what is expected of the cache. They go through the proxy itself, on a clock of their own and with nothing stored at first;
no network, Redis or upstream is needed. The exit code is 0 when all cases pass, 1 when one fails, 2 when a file has mistakes.

  config: cacheproxy.yaml           # beside this file; --config wins; neither: the defaults
  cases:
    - name: a product is kept for a minute
      steps:
        - request: GET https://shop.example/products/1
          response: {header: {Cache-Control: max-age=60}, body: hello}
          expect: {outcome: uri-miss, stored: true, ttl: 60s}
        - after: 30s                # a step without a response: the origin must not be asked
          request: GET https://shop.example/products/1
          expect: {outcome: hit, age: 30s}

Expectations: outcome, status, stored, reason, age, ttl, header, body, and forwarded: {method, target, header}. docs/testing.md has all
of it.`,
		Example: "  cacheproxy test policy/*.yaml --config cacheproxy.yaml",
		Args: func(_ *cobra.Command, files []string) error {
			if len(files) == 0 {
				return errors.New("test needs a file of cases")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, files []string) error {
			results, err := runTests(cmd, files)
			if err != nil {
				return err
			}
			failed, total := 0, 0
			for _, r := range results {
				total += len(r.Cases)
				for _, c := range r.Cases {
					if !c.OK {
						failed++
					}
				}
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), map[string]any{"ok": failed == 0, "files": results})
			} else {
				err = printResults(cmd.OutOrStdout(), results)
			}
			if err == nil && failed > 0 {
				err = failure{fmt.Errorf("%d of %s failed", failed, count(total, "case"))}
			}
			return err
		},
	}
	cmd.Flags().String("config", "", "YAML `file` with the configuration whose rules are tested")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// runTests reads all files before any case is run, so that every mistake in any of them is told.
func runTests(cmd *cobra.Command, names []string) ([]trial.Result, error) {
	files, options := make([]*trial.File, len(names)), make([]trial.Options, len(names))
	var all config.Mistakes
	for i, name := range names {
		var mistakes config.Mistakes
		file, err := trial.ReadFile(name)
		if err == nil {
			options[i], err = stageOptions(cmd, name, file.Config)
		}
		if err != nil && !errors.As(err, &mistakes) {
			return nil, err
		}
		all = append(all, mistakes...)
		files[i] = file
	}
	if len(all) > 0 {
		return nil, all
	}
	var results []trial.Result
	for i, file := range files {
		result, err := file.Run(options[i])
		if err != nil {
			return nil, failure{err}
		}
		results = append(results, result)
	}
	return results, nil
}

// stageOptions are those of the configuration that --config names, or else a file beside it, or else the defaults.
func stageOptions(cmd *cobra.Command, beside, named string) (trial.Options, error) {
	source := config.Options{File: cmd.Flag("config").Value.String(), Environ: os.Environ(), Offline: true}
	if source.File == "" && named != "" {
		if source.File = named; !filepath.IsAbs(named) {
			source.File = filepath.Join(filepath.Dir(beside), named)
		}
	}
	loaded, err := config.Load(source)
	if err != nil {
		return trial.Options{}, err
	}
	options, err := proxyOptions(loaded)
	return trial.Options{Proxy: options, Store: stageStore(loaded.Config)}, err
}

// stageStore takes in memory what the configured tiers would take. Where there is a Redis that is whatever max_object allows.
func stageStore(c *config.Config) store.Options {
	o := store.Options{NearSize: int64(c.Near.Size), NearMaxObject: int64(c.Near.MaxObject)}
	if c.Redis.URL == "" {
		return o
	}
	largest := c.Cache.MaxObject
	for _, site := range append([]config.Site{{Rules: c.Rules}}, c.Sites...) {
		for _, rule := range site.Rules {
			largest = max(largest, rule.MaxObject)
		}
	}
	const head = 1 << 20 // of a response, at the most
	o.NearMaxObject = max(o.NearMaxObject, int64(largest)+head)
	o.NearSize = max(o.NearSize, 8*o.NearMaxObject)
	return o
}

func printResults(w io.Writer, results []trial.Result) error {
	p := printer{w: w}
	for _, r := range results {
		for _, c := range r.Cases {
			if c.OK {
				p.printf("ok    %s\n", c.Name)
				continue
			}
			last := c.Steps[len(c.Steps)-1]
			p.printf("FAIL  %s\n      %s:%d: step %d: %s\n", c.Name, r.File, last.Line, len(c.Steps), last.Request)
			for _, d := range last.Differences {
				p.printf("        %s\n", d)
			}
			p.printf("        came: %d, Cache-Status: %s\n", last.Status, last.CacheStatus)
		}
	}
	return p.err
}

// printer writes until the first error, and remembers that.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, arguments ...any) {
	if p.err == nil {
		if _, err := fmt.Fprintf(p.w, format, arguments...); err != nil {
			p.err = failure{err}
		}
	}
}
