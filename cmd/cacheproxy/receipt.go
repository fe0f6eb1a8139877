package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"cacheproxy/admin"
	"cacheproxy/invalidation"
)

// How purges are printed.

// applied prints who has applied a purge.
func (s *sheet) applied(r *admin.Receipt) {
	all := len(r.Applied) + len(r.Lagging) + len(r.Silent) + len(r.Fenced)
	switch {
	case all == 0:
		s.row("applied", "not known: %s", printable(r.Detail))
		return
	case len(r.Applied) == all && r.Young:
		s.row("applied", "by all that are known, %d of %d", len(r.Applied), all)
	case len(r.Applied) == all:
		s.row("applied", "by all, %d of %d", len(r.Applied), all)
	default:
		s.row("applied", "by %d of %d", len(r.Applied), all)
	}
	s.replicas(r.Applied, "")
	s.replicas(r.Lagging, "has not applied it yet")
	s.replicas(r.Fenced, "serves nothing until it has: it is strict, and its lease is over")
	s.replicas(r.Silent, "has not, and is silent: cacheproxy replicas --remove strikes off what will not come back")
	if r.Young {
		s.more("%s", printable(r.Detail))
	}
}

// matched prints what has come of a purge where responses are stored.
func (s *sheet) matched(r *admin.Receipt) {
	o := r.Outcome
	if o == nil {
		s.row("swept", "not known")
		if all := len(r.Applied) + len(r.Lagging) + len(r.Silent) + len(r.Fenced); all > 0 { // else that is told already
			s.more("%s", printable(r.Detail))
		}
		return
	}
	over := o.Sweep.State == invalidation.SweepOnce || o.Sweep.State == invalidation.SweepTwice
	switch {
	case o.Matched > 0:
		s.row("matched", "%s%s, %s of body", quantity(o.Matched, "stored response"), soFar(over), sizeText(o.Bytes))
		s.sample(o.Sample, o.Matched)
	case over:
		s.row("matched", "nothing that is stored")
		s.held(r.Held)
	}
	s.sweep(o, r.Complete)
}

func soFar(over bool) string {
	if over {
		return ""
	}
	return " so far"
}

// sweep prints how far the sweeping is. complete says that all replicas have applied the purge: the others may serve what it forbids.
func (s *sheet) sweep(o *admin.Outcome, complete bool) {
	nobody := "nobody"
	if !complete {
		nobody = "nobody who has applied the purge"
	}
	if o.Sweep.Merged > 0 {
		defer s.more("together with purge %s, which is of the same", o.Sweep.Merged)
	}
	switch o.Sweep.State {
	case invalidation.SweepQueued:
		s.row("swept", "not yet; %s serves it meanwhile", nobody)
	case invalidation.SweepRunning:
		s.row("swept", "%s%s; %s serves the rest meanwhile", grouped(o.Swept), after(", ", progressText(&o.Sweep)), nobody)
		s.more("%s is at it", printable(o.Sweep.By))
	case invalidation.SweepCancelled:
		s.row("swept", "%s, then cancelled by %s", grouped(o.Swept), printable(o.Sweep.Who))
		s.more("%s serves the rest, which is swept when the purge need not be remembered any more", nobody)
	default:
		switch {
		case o.Matched == 0:
		case o.Swept == o.Matched:
			s.row("swept", "all of it")
		default:
			s.row("swept", "%s; the others were gone by then", grouped(o.Swept))
		}
	}
}

// progressText is how much of all keys was gone through; "" where that is not known.
func progressText(w *admin.Sweep) string {
	if w.Of <= 0 {
		return ""
	}
	return fmt.Sprintf("%d%% of about %s keys", walkedOf(w, 100), grouped(w.Of))
}

// sample prints URLs of some that matched, of so many.
func (s *sheet) sample(urls []string, matched int64) {
	for _, url := range urls {
		s.more("%s", printable(url))
	}
	if len(urls) >= invalidation.MaxSample && matched > int64(len(urls)) {
		s.more("...")
	}
}

// held says of what something is stored.
func (s *sheet) held(h *admin.Held) {
	switch {
	case h == nil:
	case len(h.Origins) == 0:
		s.more("nothing at all is stored")
	default:
		also := ""
		if h.More {
			also = " and others"
		}
		s.more("something is stored of %s%s", printable(strings.Join(h.Origins, ", ")), also)
	}
}

// preview prints what a purge would match.
func (s *sheet) preview(p *admin.Purge, found *admin.Preview) {
	s.printf("%s\n", selection(p))
	where := "in Redis"
	if found.Counted == "near" {
		where = "in this process's memory"
	}
	if found.Matched == 0 {
		s.row("matches", "nothing that is stored %s", where)
		s.held(found.Held)
	} else {
		s.row("matches", "%s %s, %s of body", quantity(found.Matched, "stored response"), where, sizeText(found.Bytes))
		s.sample(found.Sample, found.Matched)
	}
	s.row("purged", "nothing: this is a dry run")
}

func (s *sheet) replicas(ids []string, what string) {
	for _, id := range ids {
		s.more("%s", strings.TrimSuffix(printable(id)+": "+what, ": "))
	}
}

// shownURLs is how many of the URLs of one purge are shown.
const shownURLs = 3

// selection is what a purge selects, in words.
func selection(p *admin.Purge) string {
	what := "everything"
	switch {
	case p.URL != nil:
		what = "URL " + *p.URL
	case p.URLs != nil:
		what = "URLs " + strings.Join(p.URLs[:min(len(p.URLs), shownURLs)], ", ")
		if more := len(p.URLs) - shownURLs; more > 0 {
			what += fmt.Sprintf(" and %d more", more)
		}
	case p.Pattern != nil:
		what = "pattern " + *p.Pattern
	case p.Group != nil:
		what = "group " + *p.Group + " of " + p.Origin
	case p.Match == "all":
		what = "all of tags " + strings.Join(p.Tags, ", ")
	case p.Tags != nil:
		what = "tags " + strings.Join(p.Tags, ", ")
	}
	filters := admin.Purge{Status: p.Status, ContentType: p.ContentType, OlderThan: p.OlderThan, MinSize: p.MinSize, MaxSize: p.MaxSize}
	if text, _ := json.Marshal(filters); string(text) != "{}" { // none of its parts fails
		what += " with " + string(text)
	}
	if p.Soft {
		what = "soft, " + what
	}
	return printable(what)
}

// brief is the begin of a selection, for an error that says what was wrong with it.
func brief(p *admin.Purge) string {
	const most = 100
	what := []rune(selection(p))
	if len(what) > most {
		return string(what[:most]) + " ..."
	}
	return string(what)
}

// askAndPrint reads an answer into a value, and prints it, as JSON or for people.
func askAndPrint(cmd *cobra.Command, path string, query url.Values, into any, asJSON bool, print func(*sheet)) error {
	client, err := newOperatorClient(cmd)
	if err != nil {
		return err
	}
	if err := client.ask(cmd.Context(), http.MethodGet, path, query, nil, into); err != nil {
		return err
	}
	return printAnswer(cmd, into, asJSON, print)
}

// printAnswer prints a value as JSON or for people.
func printAnswer(cmd *cobra.Command, value any, asJSON bool, print func(*sheet)) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), value)
	}
	s := &sheet{printer{w: cmd.OutOrStdout()}}
	print(s)
	return s.err
}
