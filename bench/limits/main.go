// Command limits draws the pictures of docs/limits.md: what each algorithm of package limiter admits of the same traffic, and what leases ask of
// Redis.
//
// Every decision in them is one of package limiter, not of a model of it. The algorithms decide in this process, by a clock that stands still
// between two requests (traffic.go); the leases are those of four limiters that share a redis-server, which is started for it and speaks on a
// unix socket alone (leases.go). So the pictures are the same bytes each time, and the test says when they are not what the code does.
//
// Run it in the bench directory: go run ./limits -out ../docs/limits. With -png DIR it writes the same as PNG there, to be looked at.
package main

import (
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"cacheproxy/bench/figure"
)

func main() {
	out := flag.String("out", "../docs/limits", "where the SVG files are written")
	png := flag.String("png", "", "where PNG files are written too; empty = nowhere")
	flag.Parse()
	log.SetFlags(0)
	if err := run(*out, *png); err != nil {
		log.Fatal("limits: ", err)
	}
}

func run(out, png string) error {
	all, err := pictures()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		text, err := all[name].SVG()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(out, name+".svg"), text, 0o644); err != nil {
			return err
		}
		if png == "" {
			continue
		}
		if err := all[name].WritePNG(filepath.Join(png, name+".png")); err != nil {
			return err
		}
	}
	return nil
}

// pictures are all of them, by the names of their files.
func pictures() (map[string]*figure.Figure, error) {
	all := map[string]*figure.Figure{}
	for _, a := range admissions {
		c, err := a.run()
		if err != nil {
			return nil, err
		}
		all[a.name()] = c.picture()
	}
	leased, err := share()
	if err != nil {
		return nil, err
	}
	all["leased"] = leased.picture()
	return all, nil
}
