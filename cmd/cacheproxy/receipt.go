package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/admin"
	"cacheproxy/invalidation"
)

// How purges and replicas are printed.

func printReceipt(w io.Writer, p *admin.Purge, r *admin.Receipt) error {
	s := &sheet{printer{w: w}}
	s.printf("%s\n", selection(p))
	s.receipt(r)
	return s.err
}

func (s *sheet) receipt(r *admin.Receipt) {
	s.row("sequence", "%v", r.Sequence)
	all := len(r.Applied) + len(r.Lagging) + len(r.Silent) + len(r.Fenced)
	switch {
	case r.Detail != "":
		s.row("applied", "not known: %s", printable(r.Detail))
		return
	case len(r.Applied) == all:
		s.row("applied", "by all, %d of %d", len(r.Applied), all)
	default:
		s.row("applied", "by %d of %d", len(r.Applied), all)
	}
	s.replicas(r.Applied, "")
	s.replicas(r.Lagging, "has not applied it yet")
	s.replicas(r.Fenced, "serves nothing until it has: it is strict, and its lease is over")
	s.replicas(r.Silent, "has not, and is silent: cacheproxy replicas --remove strikes off what will not come back")
}

func (s *sheet) replicas(ids []string, what string) {
	for _, id := range ids {
		s.more("%s", strings.TrimSuffix(printable(id)+": "+what, ": "))
	}
}

func newPurges() *cobra.Command {
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "purges [SEQUENCE]",
		Short: "Show what was purged, when and by whom",
		Long: `Purges shows the newest purges of the log, the newest first, or one of them with its receipt by now. The log reaches back as far as
purges must be remembered: cache.max_fill and half a minute, or longer while they are swept.`,
		Example: `  cacheproxy purges
  cacheproxy purges 1795690000000000`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if len(arguments) == 1 {
				if _, err := strconv.ParseUint(arguments[0], 10, 63); err != nil {
					return fmt.Errorf("%q is no sequence", arguments[0])
				}
				var one admin.Recorded
				return askAndPrint(cmd, "/v1/purges/"+arguments[0], nil, &one, asJSON, func(s *sheet) {
					s.printf("%s\n", describePurge(&one.Purged))
					s.receipt(&one.Receipt)
				})
			}
			var history admin.History
			return askAndPrint(cmd, "/v1/purges", url.Values{"limit": {strconv.Itoa(limit)}}, &history, asJSON, func(s *sheet) {
				for i := range history.Purges {
					s.printf("%v  %s\n", history.Purges[i].Sequence, describePurge(&history.Purges[i]))
				}
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "count", "n", 20, "show the last `N`, 1000 at most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addOperator(cmd)
	return cmd
}

// describePurge is a purge of the past in a line.
func describePurge(p *admin.Purged) string {
	return fmt.Sprintf("%s  %s  by %s", p.Time.Local().Format(time.DateTime), selection(&p.Purge), printable(p.Who))
}

// selection is what a purge selects, in words.
func selection(p *admin.Purge) string {
	what := "everything"
	switch {
	case p.URL != nil:
		what = "URL " + *p.URL
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

func newReplicas() *cobra.Command {
	var remove string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "replicas",
		Short: "Show who follows the log of purges",
		Long: `Replicas shows the processes that have registered with the log of purges, what each has applied, and which are silent. One that
will not come back is named by every receipt until --remove strikes it off. One that lives on registers again by itself.`,
		Example: `  cacheproxy replicas
  cacheproxy replicas --remove 'web-3/127.0.0.1:9090#5f3a9c01'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if remove != "" {
				return removeReplica(cmd, remove)
			}
			var fleet admin.Fleet
			return askAndPrint(cmd, "/v1/replicas", nil, &fleet, asJSON, func(s *sheet) { s.fleet(&fleet) })
		},
	}
	cmd.Flags().StringVar(&remove, "remove", "", "strike the replica with this `id` off the list")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addOperator(cmd)
	return cmd
}

func (s *sheet) fleet(f *admin.Fleet) {
	if !f.Covered {
		s.printf("%s, which answers, has not registered: purges do not reach it\n", printable(f.Asked))
	}
	var newest invalidation.Seq
	for i := range f.Replicas {
		newest = max(newest, f.Replicas[i].Seq)
	}
	for i := range f.Replicas {
		r := &f.Replicas[i]
		state := stateOf(r)
		if state == "live" && r.Seq < newest {
			state = "lagging"
		}
		s.printf("%-8s %s  applied %v  heard of %s  version %s\n", state, printable(r.ID), r.Seq, r.Beat.Local().Format(time.DateTime), printable(r.Version))
	}
}

func removeReplica(cmd *cobra.Command, id string) error {
	client, err := newOperatorClient(cmd)
	if err != nil {
		return err
	}
	res, err := client.do(cmd.Context(), http.MethodDelete, "/v1/replicas/"+url.PathEscape(id), nil, nil)
	if err != nil {
		return err
	}
	res.Body.Close()
	fmt.Fprintf(cmd.ErrOrStderr(), "%s is struck off\n", printable(id))
	return nil
}

// askAndPrint reads an answer into a value, and prints it, as JSON or for people.
func askAndPrint(cmd *cobra.Command, path string, query url.Values, into any, asJSON bool, print func(*sheet)) error {
	client, err := newOperatorClient(cmd)
	if err != nil {
		return err
	}
	res, err := client.do(cmd.Context(), http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return failure{fmt.Errorf("%s answers something else: %w", client.base.Host, err)}
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), into)
	}
	s := &sheet{printer{w: cmd.OutOrStdout()}}
	print(s)
	return s.err
}
