package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/admin"
	"cacheproxy/invalidation"
)

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
				return removeReplica(cmd, remove, asJSON)
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

func removeReplica(cmd *cobra.Command, id string, asJSON bool) error {
	client, err := newOperatorClient(cmd)
	if err != nil {
		return err
	}
	var told struct {
		Removed string `json:"removed"`
	}
	if err := client.ask(cmd.Context(), http.MethodDelete, "/v1/replicas/"+url.PathEscape(id), nil, nil, &told); err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), told)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s is struck off\n", printable(told.Removed))
	return nil
}
