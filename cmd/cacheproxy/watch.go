package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/admin"
	"cacheproxy/invalidation"
)

// Watching a sweep: on a terminal a bar that is drawn anew, elsewhere a line now and then. Both are prose, and go to standard error.

const (
	watchEvery = 250 * time.Millisecond // on a terminal
	tellEvery  = 5 * time.Second        // elsewhere
)

// watchSweep waits until a sweep is over for now, or the user interrupts the watching, and brings the receipt up to date.
func watchSweep(cmd *cobra.Command, client *operatorClient, r *admin.Receipt) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p := newProgress(cmd.ErrOrStderr())
	defer p.end()
	for r.Outcome == nil || !sweepOver(r.Sweep.State) {
		p.show(r.Outcome)
		timer := time.NewTimer(watchEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil // it goes on without being watched
		}
		var one admin.Recorded
		if err := client.ask(ctx, http.MethodGet, fmt.Sprintf("/v1/purges/%v", r.Sequence), nil, nil, &one); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if one.Receipt.Receipt == nil {
			return failure{fmt.Errorf("%s answers something else than a receipt", client.base.Host)}
		}
		*r = one.Receipt
	}
	return nil
}

func sweepOver(state invalidation.SweepState) bool {
	return (&invalidation.Outcome{State: state}).Over()
}

// progress shows how far a sweep is.
type progress struct {
	out     io.Writer
	width   int // of the terminal; 0 = there is none
	drawn   bool
	told    time.Time // elsewhere: when the last line was written
	colours terminal
}

func newProgress(out io.Writer) *progress {
	t := terminalOf(out)
	if os.Getenv("TERM") == "dumb" { // it knows no way back to the begin of a line
		t.width = 0
	}
	return &progress{out: out, width: t.width, colours: t}
}

func (p *progress) show(o *admin.Outcome) {
	switch {
	case p.width > 0:
		fmt.Fprintf(p.out, "\r\x1b[K%s", p.bar(o))
		p.drawn = true
	case time.Since(p.told) >= tellEvery:
		p.told = time.Now()
		fmt.Fprintln(p.out, sweepingText(o))
	}
}

// end leaves the line to what follows.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// A bar has at least so many places, or there is none, and at most so many.
const minBar, maxBar = 8, 40

// bar is [=====>    ] and what there is to say, no longer than a line.
func (p *progress) bar(o *admin.Outcome) string {
	if o == nil || o.Sweep.Of <= 0 {
		text := sweepingText(o)
		return text[:min(len(text), p.width-1)]
	}
	text := fmt.Sprintf("%3d%% of %s keys, %s swept, %s", walkedOf(&o.Sweep, 100), grouped(o.Sweep.Of), grouped(o.Swept), sizeText(o.Bytes))
	room := min(p.width-len(text)-4, maxBar)
	if room < minBar {
		return text[:min(len(text), p.width-1)]
	}
	full := walkedOf(&o.Sweep, room)
	return "[" + p.colours.paint(green, strings.Repeat("=", full)) + strings.Repeat(" ", room-full) + "] " + text
}

// walkedOf is how many parts of so many are gone through, where that is known: never more, whatever a process says.
func walkedOf(w *admin.Sweep, parts int) int {
	return int(float64(parts) * float64(min(max(w.Walked, 0), w.Of)) / float64(w.Of))
}

func sweepingText(o *admin.Outcome) string {
	switch {
	case o == nil:
		return "sweeping: how far is not known"
	case o.Sweep.State == invalidation.SweepQueued:
		return "waiting for a replica to sweep"
	}
	return fmt.Sprintf("sweeping%s: %s swept, %s", after(" ", progressText(&o.Sweep)), quantity(o.Swept, "response"), sizeText(o.Bytes))
}
