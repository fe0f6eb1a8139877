package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/admin"
	"cacheproxy/invalidation"
)

// purgesFlags are what the command line says of purges of the past.
type purgesFlags struct {
	count                 int
	before                string
	watch, cancel, asJSON bool
}

func newPurges() *cobra.Command {
	var f purgesFlags
	cmd := &cobra.Command{
		Use:   "purges [SEQUENCE]",
		Short: "Show what was purged, when and by whom, and what came of it",
		Long: `Purges shows the newest purges, the newest first, or one of them with its receipt by now. It reaches back 30 days, and some 10,000
purges; what unsafe requests made doubtful, which nobody asked for, is shown only for as long as purges must be remembered. Without Redis it
reaches back 1,000 purges of this process.

--cancel ends the sweep of a purge, for one who needs Redis for something else now. The purge stands: what it forbids is served by nobody. It is
swept when the purge need not be remembered any more, after cache.max_fill and half a minute, and that cannot be cancelled, since it could be
served again.`,
		Example: `  cacheproxy purges
  cacheproxy purges -n 100 --before 1795690000000000
  cacheproxy purges 1795690000000000 --watch
  cacheproxy purges 1795690000000000 --cancel`,
		Args: func(_ *cobra.Command, arguments []string) error { return f.check(arguments) },
		RunE: func(cmd *cobra.Command, arguments []string) error {
			switch {
			case len(arguments) == 0:
				return f.list(cmd)
			case f.cancel:
				return f.cancelSweep(cmd, arguments[0])
			default:
				return f.show(cmd, arguments[0])
			}
		},
	}
	cmd.Flags().IntVarP(&f.count, "count", "n", 20, "show the last `N`, 1000 at most")
	cmd.Flags().StringVar(&f.before, "before", "", "show those before this `sequence`")
	cmd.Flags().BoolVar(&f.watch, "watch", false, "stay until it is swept, and show how far that is")
	cmd.Flags().BoolVar(&f.cancel, "cancel", false, "cancel its sweep; the purge stands")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	addOperator(cmd)
	return cmd
}

func (f *purgesFlags) check(arguments []string) error {
	for _, text := range append([]string{f.before}, arguments...) {
		if _, err := strconv.ParseUint(text, 10, 63); err != nil && text != "" {
			return fmt.Errorf("%q is no sequence", text)
		}
	}
	switch {
	case len(arguments) > 1:
		return errors.New("purges takes one sequence at the most")
	case len(arguments) == 0 && (f.watch || f.cancel):
		return errors.New("--watch and --cancel are for one purge: give its sequence")
	case len(arguments) == 1 && f.before != "", f.watch && f.cancel:
		return errors.New("--before is for the list, --watch or --cancel for one purge")
	}
	return nil
}

// list shows many.
func (f *purgesFlags) list(cmd *cobra.Command) error {
	query := url.Values{"limit": {strconv.Itoa(f.count)}}
	if f.before != "" {
		query.Set("before", f.before)
	}
	var history admin.History
	return askAndPrint(cmd, "/v1/purges", query, &history, f.asJSON, func(s *sheet) {
		for i := range history.Purges {
			p := &history.Purges[i]
			s.printf("%v  %s: %s\n", p.Sequence, describePurge(p), outcomeText(&p.Outcome))
		}
		if history.Before != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "there are more: --before %v\n", *history.Before)
		}
	})
}

// show shows one.
func (f *purgesFlags) show(cmd *cobra.Command, sequence string) error {
	client, err := newOperatorClient(cmd)
	if err != nil {
		return err
	}
	var one admin.Recorded
	if err := client.ask(cmd.Context(), http.MethodGet, "/v1/purges/"+sequence, nil, nil, &one); err != nil {
		return err
	}
	if one.Receipt.Receipt == nil {
		return failure{fmt.Errorf("%s answers something else than a receipt", client.base.Host)}
	}
	var unwatched error
	if f.watch {
		unwatched = watchSweep(cmd, client, &one.Receipt)
		if one.Receipt.Outcome != nil {
			one.Outcome = *one.Receipt.Outcome
		}
	}
	err = printAnswer(cmd, &one, f.asJSON, func(s *sheet) {
		s.printf("%s\n", describePurge(&one.Purged))
		s.row("sequence", "%v", one.Sequence)
		s.applied(&one.Receipt)
		s.matched(&one.Receipt)
	})
	if err == nil && unwatched != nil { // what was known before is told all the same
		err = failure{fmt.Errorf("watching ended: %w", unwatched)}
	}
	return err
}

func (f *purgesFlags) cancelSweep(cmd *cobra.Command, sequence string) error {
	client, err := newOperatorClient(cmd)
	if err != nil {
		return err
	}
	client.more.Set("X-Purged-By", "cacheproxy purges"+userName())
	var told admin.Cancelled
	if err := client.ask(cmd.Context(), http.MethodDelete, "/v1/purges/"+sequence, nil, nil, &told); err != nil {
		return err
	}
	return printAnswer(cmd, &told, f.asJSON, func(s *sheet) {
		s.row("sequence", "%v", told.Sequence)
		s.sweep(&told.Outcome, false) // which it does not say
	})
}

// describePurge is a purge of the past in a line.
func describePurge(p *admin.Purged) string {
	what := selection(&p.Purge)
	if p.Shortened {
		what += " (and more, which is not remembered)"
	}
	return fmt.Sprintf("%s  %s  by %s", p.Time.Local().Format(time.DateTime), what, printable(p.Who))
}

// outcomeText is what has come of a purge, in a few words.
func outcomeText(o *admin.Outcome) string {
	if m := o.Sweep.Merged; m > 0 && (o.Sweep.State == invalidation.SweepOnce || o.Sweep.State == invalidation.SweepTwice) {
		return fmt.Sprintf("swept together with %s", m)
	} else if m > 0 {
		return fmt.Sprintf("to be swept together with %s", m)
	}
	switch o.Sweep.State {
	case invalidation.SweepQueued:
		return "not swept yet"
	case invalidation.SweepRunning:
		return fmt.Sprintf("sweeping%s, %s swept", after(" ", progressText(&o.Sweep)), grouped(o.Swept))
	case invalidation.SweepCancelled:
		return fmt.Sprintf("cancelled, %s swept", grouped(o.Swept))
	}
	if o.Matched == 0 {
		return "matched nothing"
	}
	return fmt.Sprintf("%s swept, %s", grouped(o.Swept), sizeText(o.Bytes))
}
