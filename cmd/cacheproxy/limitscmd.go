package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/admin"
	"cacheproxy/limiter"
	"cacheproxy/proxy"
)

// limitsFlags are what the command line says of limits.
type limitsFlags struct {
	top           int
	reset, asJSON bool
}

// How many clients are shown of each limit, and of one that is asked for.
const (
	topOfAll, topOfOne, mostTop = 5, 25, 100
)

func newLimits() *cobra.Command {
	var f limitsFlags
	cmd := &cobra.Command{
		Use:   "limits [NAME [CLIENT]]",
		Short: "Show limits, who asks most, and where a client stands",
		Long: `Limits asks a running cacheproxy, on its operator's listener, for the limits in use and the clients that ask most, in the last five minutes
and on all replicas; without Redis, of that process. With the NAME of a limit it shows that one and more of its clients, and with a CLIENT
where that stands: nothing is counted by asking.

A CLIENT is written as the list shows it, in quotes, since your shell may take a ~ for something else. Where the limit's key is the client
alone, it may be an address, of which IPv6 stands for its network.

--reset gives a client all of its limit again, on all replicas.`,
		Example: `  cacheproxy limits
  cacheproxy limits per-client --top 100
  cacheproxy limits per-client 2001:db8::1
  cacheproxy limits per-key '~0f1e2d3c4b5a69788796a5b4c3d2e1f0' --reset`,
		RunE: func(cmd *cobra.Command, arguments []string) error {
			switch {
			case len(arguments) < 2:
				return f.list(cmd, arguments)
			case f.reset:
				return f.resetClient(cmd, arguments[0], arguments[1])
			default:
				var told admin.ClientStanding
				return askAndPrint(cmd, limitPath(arguments...), nil, &told, f.asJSON, func(s *sheet) { s.standing(&told) })
			}
		},
	}
	cmd.Args = func(cmd *cobra.Command, arguments []string) error { return f.check(cmd, arguments) }
	cmd.Flags().IntVar(&f.top, "top", 0, fmt.Sprintf("show the `N` that ask most, 0 to %d (default %d, of one limit %d)", mostTop, topOfAll, topOfOne))
	cmd.Flags().BoolVar(&f.reset, "reset", false, "give CLIENT all of its limit again")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	addOperator(cmd)
	return cmd
}

func (f *limitsFlags) check(cmd *cobra.Command, arguments []string) error {
	switch {
	case len(arguments) > 2:
		return errors.New("limits takes the name of a limit and a client at the most")
	case len(arguments) > 0 && arguments[0] == "":
		return errors.New("the name of the limit is empty")
	case f.reset && len(arguments) < 2:
		return errors.New("--reset is for one client: limits NAME CLIENT --reset")
	case cmd.Flags().Changed("top") && len(arguments) == 2:
		return errors.New("--top is for a list, and you ask for one client")
	case f.top < 0 || f.top > mostTop:
		return fmt.Errorf("--top: %d is not a number from 0 to %d", f.top, mostTop)
	}
	return nil
}

// limitPath is the path of a limit, and of its client. Keys of clients are percent-encoded themselves, so that their % is %25 here.
func limitPath(segments ...string) string {
	path := "/v1/limits"
	for _, s := range segments {
		s = url.PathEscape(s)
		if s == "." || s == ".." { // which would be taken for a step
			s = strings.ReplaceAll(s, ".", "%2E")
		}
		path += "/" + s
	}
	return path
}

func (f *limitsFlags) list(cmd *cobra.Command, names []string) error {
	top := topOfAll
	switch {
	case cmd.Flags().Changed("top"):
		top = f.top
	case len(names) > 0:
		top = topOfOne
	}
	var told admin.LimitsInUse
	return askAndPrint(cmd, limitPath(names...), url.Values{"top": {strconv.Itoa(top)}}, &told, f.asJSON, func(s *sheet) { s.limits(&told, top > 0) })
}

func (f *limitsFlags) resetClient(cmd *cobra.Command, name, key string) error {
	client, err := newOperatorClient(cmd)
	if err != nil {
		return err
	}
	client.more.Set("X-Purged-By", "cacheproxy limits"+userName())
	var told admin.LimitReset
	if err := client.ask(cmd.Context(), http.MethodDelete, limitPath(name, key), nil, nil, &told); err != nil {
		return err
	}
	if !told.Reset {
		return failure{fmt.Errorf("%s does not say that it has reset the client", client.base.Host)}
	}
	return printAnswer(cmd, &told, f.asJSON, func(s *sheet) {
		s.row("limit", "%s", printable(told.Limit))
		s.row("client", "%s", clientText(told.Client))
		s.row("reset", "it has all of its limit again; %s told", wasOrWere(told.Replicas, "replica"))
	})
}

func wasOrWere(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing + " was"
	}
	return quantity(n, thing) + " were"
}

// limits prints limits, each with those who ask most if that was asked for.
func (s *sheet) limits(o *admin.LimitsInUse, busiest bool) {
	if o.Redis == "failed" {
		s.row("redis", "could not be asked who asks most:")
		s.more("%s", printable(o.Detail))
		busiest = false
	}
	if len(o.Limits) == 0 {
		s.printf("there are no limits\n")
	}
	for i := range o.Limits {
		if i > 0 || o.Redis == "failed" {
			s.printf("\n")
		}
		s.limit(&o.Limits[i])
		if busiest {
			s.busiest(o.Limits[i].Busiest)
		}
	}
}

func (s *sheet) limit(l *admin.LimitInUse) {
	s.printf("%s: %s\n", printable(l.Name), quotaText(l))
	kind := fmt.Sprintf("%s, %s, in an outage %s", l.Algorithm, l.Accuracy, l.OnOutage)
	s.row("counted", "%s", printable(kind))
	if l.Shadow {
		s.more("in the shadow: it refuses nobody")
	}
	s.row("clients", "%s known to the process that answers", wasOrIs(l.Clients))
	if l.Overflow > 0 {
		s.more("%s counted in common, for want of room (max_clients)", wasOrWere(l.Overflow, "request"))
	}
}

func wasOrIs(n int64) string {
	if n == 1 {
		return "1 is"
	}
	return grouped(n) + " are"
}

// quotaText is how much a client has, and what a client is.
func quotaText(l *admin.LimitInUse) string {
	burst := ""
	if l.Algorithm == limiter.GCRA {
		burst = fmt.Sprintf(", %s at once", grouped(l.Burst))
	}
	return printable(fmt.Sprintf("%s in %s%s, for each %s", grouped(l.Limit), l.Window, burst, strings.Join(l.Key, ", ")))
}

// busiest prints clients with the numbers first, because a key may be long.
func (s *sheet) busiest(list []admin.BusyClient) {
	if len(list) == 0 {
		s.row("busiest", "nobody has asked in the last five minutes")
		return
	}
	s.row("busiest", "%9s %9s  %s", "asked", "refused", "client")
	for _, b := range list {
		refused := ""
		if b.Refused > 0 {
			refused = grouped(b.Refused)
		}
		s.more("%9s %9s  %s", grouped(b.Asked), refused, clientText(b.Client))
	}
}

// clientText is the key of a client, of which two need words.
func clientText(key string) string {
	switch key {
	case "":
		return `"" (no address, or an empty value)`
	case "~overflow":
		return key + " (all for whom there is no room)"
	}
	return printable(key)
}

func (s *sheet) standing(o *admin.ClientStanding) {
	s.row("limit", "%s", printable(o.Limit))
	if o.Shadow {
		s.more("in the shadow: it refuses nobody")
	}
	s.row("client", "%s", clientText(o.Client))
	by := ""
	if o.Redis == "none" {
		by = ", by the count of the process that answers"
	}
	s.row("remaining", "%s of %s%s", grouped(o.Remaining), grouped(o.Quota), by)
	if o.Reset > 0 {
		s.more("all of it is there again in %s", upText(o.Reset))
	}
	if o.Leased > 0 {
		s.row("leased", "%s more, by the process that answers", grouped(o.Leased))
	}
	if o.Refused > 0 {
		s.row("refused", "by the process that answers, without asking Redis, for %s", upText(o.Refused))
	}
}

// upText is a time from now in whole seconds, none of them too few.
func upText(d proxy.Seconds) string { return (d + proxy.Seconds(time.Second-1)).String() }
