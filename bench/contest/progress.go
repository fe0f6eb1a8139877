package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress tells how far the contest is. On a terminal it is one line with a bar; elsewhere a line for each thing that is begun.
type progress struct {
	out         io.Writer
	terminal    bool
	begun       time.Time
	done, total time.Duration // as they were estimated
	now         func() time.Time
}

func newProgress(f *os.File, total time.Duration) *progress {
	info, err := f.Stat()
	return &progress{
		out: f, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0, begun: time.Now(), total: total, now: time.Now,
	}
}

// begin says what is done now.
func (p *progress) begin(what string) {
	const width = 30
	share := 0.0
	if p.total > 0 {
		share = min(1, float64(p.done)/float64(p.total))
	}
	left := p.left().Round(time.Second)
	if !p.terminal {
		fmt.Fprintf(p.out, "%3.0f %%  %s left  %s\n", 100*share, left, what)
		return
	}
	full := int(share * width)
	fmt.Fprintf(p.out, "\r\033[K[%s%s] %3.0f %%  %s left  %s", strings.Repeat("#", full), strings.Repeat(".", width-full), 100*share, left, what)
}

// left is how long the rest will take, when it goes on taking as much longer than estimated as it did so far.
func (p *progress) left() time.Duration {
	rest := max(0, p.total-p.done)
	if p.done < 30*time.Second {
		return rest
	}
	return time.Duration(float64(rest) * float64(p.now().Sub(p.begun)) / float64(p.done))
}

// add says that what was estimated to take d is done.
func (p *progress) add(d time.Duration) { p.done += d }

// repeat says that something is done once more.
func (p *progress) repeat(d time.Duration) { p.total += d; p.done += d }

// say writes a line that stays.
func (p *progress) say(format string, args ...any) {
	if p.terminal {
		fmt.Fprint(p.out, "\r\033[K")
	}
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.out, "\r\033[K")
	}
}
