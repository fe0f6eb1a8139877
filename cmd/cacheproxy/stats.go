package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/cmd/cacheproxy/internal/stats"
)

func newStats() *cobra.Command {
	var interval time.Duration
	var count int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Show what a running proxy does each second",
		Long: `Stats reads /metrics of a running proxy and prints a line for each interval: rates a second, ratios in percent, p50 and p99 as
estimated from the histograms' buckets. The first line comes after the first interval. On a terminal the columns that do not fit
are left out. saves: kept and lost (dropped or failed); --json has all results and all outcomes.`,
		Example: `  cacheproxy stats
  cacheproxy stats --interval 10s -n 6 --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < minInterval {
				return fmt.Errorf("--interval: %v is too short: at least %v", interval, minInterval)
			}
			if count < 0 {
				return fmt.Errorf("-n: %d is no number of lines", count)
			}
			client, err := newOperatorClient(cmd)
			if err != nil {
				return err
			}
			ctx, forget := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer forget()
			w := &statsWatch{client: client, notes: cmd.ErrOrStderr(), every: interval, print: newStatsTable(cmd.OutOrStdout()).print}
			if asJSON {
				out := json.NewEncoder(cmd.OutOrStdout())
				w.print = func(i *stats.Interval) error { return out.Encode(i) }
			}
			return w.run(ctx, count)
		},
	}
	addOperator(cmd)
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "`time` from one line to the next")
	cmd.Flags().IntVarP(&count, "count", "n", 0, "end after `N` intervals (default: at Ctrl-C)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object for each interval")
	return cmd
}

const (
	// minInterval keeps reading from being a load of its own.
	minInterval = 100 * time.Millisecond
	// readingPatience is how long a process may take to show its metrics.
	readingPatience = 5 * time.Second
	// maxExposition is far above what the bounded number of series takes.
	maxExposition = 16 << 20
)

// statsWatch compares readings. A process that does not answer in between is waited for: it may be restarting.
type statsWatch struct {
	client *operatorClient
	notes  io.Writer
	every  time.Duration
	print  func(*stats.Interval) error
}

func (w *statsWatch) run(ctx context.Context, count int) error {
	before, lost := w.read(ctx)
	if lost != nil {
		return unlessOver(ctx, lost)
	}
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for n := 0; count == 0 || n < count; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now, err := w.read(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if lost == nil {
				fmt.Fprintf(w.notes, "%v\n", err)
			}
			lost = err
			continue
		}
		lost = nil
		interval := stats.Between(before, now)
		if interval.Restarted {
			fmt.Fprintf(w.notes, "%s: the process restarted: the next line is what it did since\n", w.client.base.Host)
		}
		if err := w.print(interval); err != nil {
			return failure{err}
		}
		before = now
	}
	return lost
}

// unlessOver leaves out what failed because a signal came.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (w *statsWatch) read(ctx context.Context) (*stats.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, readingPatience)
	defer cancel()
	response, err := w.client.do(ctx, http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	sample, err := stats.Read(io.LimitReader(response.Body, maxExposition), time.Now())
	if err != nil {
		return nil, failure{fmt.Errorf("%s: %w", w.client.base.Host, errors.Unwrap(err))}
	}
	return sample, nil
}
