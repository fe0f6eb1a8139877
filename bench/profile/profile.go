// Package profile takes profiles of a program that runs under load, and draws them.
package profile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cacheproxy/bench/flamegraph"
)

// kinds are the profiles that are taken, by their names in net/http/pprof, and how they are drawn. All but the heap are of what happens
// meanwhile: net/http/pprof takes away what was there before. They are taken one after the other, so that none has another's work in it, and
// because cacheproxy allows no more. It records what it waits for while it is asked for that; of other programs the profiles of blocking and
// of mutexes are empty unless they have set runtime.SetBlockProfileRate and runtime.SetMutexProfileFraction.
var kinds = []struct {
	name  string // of its path
	file  string
	draw  string // the type of values that is drawn; "" = it is not
	says  string // in the title
	after bool   // it is of a moment: the end
}{
	{name: "profile", file: "cpu", draw: "cpu", says: "processor time"},
	{name: "allocs", file: "allocs", draw: "alloc_space", says: "bytes allocated"},
	{name: "block", file: "block"},
	{name: "mutex", file: "mutex"},
	{name: "heap", file: "heap", after: true},
}

// most is how many bytes a profile may have.
const most = 256 << 20

// Take asks the program at base, such as http://127.0.0.1:9090, for its profiles, each of length, at least a second, while somebody else
// gives it work: Needs says for how long. It writes cpu.pprof, allocs.pprof, block.pprof, mutex.pprof and heap.pprof to dir, which it makes, and the flame graphs
// cpu.svg and allocs.svg, with title over them.
func Take(ctx context.Context, base string, length time.Duration, dir, title string) error {
	seconds := int(length.Round(time.Second) / time.Second)
	if seconds < 1 {
		return fmt.Errorf("profile: %s is too short: a second is the least", length)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Needs(length)+time.Minute)
	defer cancel()
	for _, k := range kinds {
		from := filepath.Join(dir, k.file+".pprof")
		query := ""
		if !k.after {
			query = fmt.Sprintf("?seconds=%d", seconds)
		}
		if err := fetch(ctx, base, k.name+query, from); err != nil {
			return err
		}
		if k.draw == "" {
			continue
		}
		err := flamegraph.DrawFile(from, filepath.Join(dir, k.file+".svg"), flamegraph.Options{Type: k.draw, Title: title + ": " + k.says})
		if errors.Is(err, flamegraph.ErrEmpty) {
			err = fmt.Errorf("%w: had the program anything to do?", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Needs is for how long Take needs a program that has work.
func Needs(length time.Duration) time.Duration {
	return time.Duration(len(kinds)) * (length + time.Second)
}

// fetch writes one profile to a file.
func fetch(ctx context.Context, base, name, to string) error {
	url := strings.TrimSuffix(base, "/") + "/debug/pprof/" + name
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200)) // what there is of it
		return fmt.Errorf("profile: %s answers %s: %s", url, res.Status, strings.TrimSpace(string(text)))
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	switch {
	case err != nil:
		return fmt.Errorf("profile: %s: %w", url, err)
	case len(data) > most:
		return fmt.Errorf("profile: %s has more than %d bytes", url, most)
	}
	return os.WriteFile(to, data, 0o644)
}
