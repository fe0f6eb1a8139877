package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cacheproxy/admin"
	"cacheproxy/cmd/cacheproxy/internal/config"
)

// purgeFlags are what the command line says of a purge.
type purgeFlags struct {
	tags                 []string
	matchAll, all, soft  bool
	group, origin        string
	exact, pattern       bool
	status, contentTypes []string
	olderThan, wait      time.Duration
	minSize, maxSize     string
	dryRun, watch        bool
	max                  string
	yes, asJSON          bool
}

func newPurge() *cobra.Command {
	var f purgeFlags
	cmd := &cobra.Command{
		Use:   "purge URL|PATTERN...",
		Short: "Forget stored responses, on all replicas",
		Long: `Purge asks a running cacheproxy, on its operator's listener, that all replicas forget what is named, and prints the receipt: who has
applied it, and who has not; how many stored responses it matched, and how many of these are swept away. Nobody serves what is not swept
yet. Each argument, or --tag, --group or --all, is a purge by itself; all --tag together are one.

An argument with a * that no backslash escapes is a pattern, any other an exact cache URL (explain shows it as "key"), with all its variants.
--pattern and --exact say which. A pattern is a glob as Redis has them: * is any text, also with /, ? one byte, [a-z] one of these. What has
no scheme is of any.

--soft makes stale instead of forgetting. The filters narrow down: a response is purged only if it passes all of them.

--dry-run counts what would be purged, shows some of it, and purges nothing. --max counts before, and purges nothing where that is more; what is
stored between counting and purging is not counted. --watch stays until all is swept, and shows how far that is; interrupting it
interrupts nothing else.

The exit code is 0 when every replica has applied every purge, and 1 when one was not appended, would have matched more than --max, or somebody
has not applied it within --wait.`,
		Example: `  cacheproxy purge https://shop.example/products/1
  cacheproxy purge 'https://shop.example/products*' --dry-run
  cacheproxy purge 'https://shop.example/products*' --soft --max 500
  cacheproxy purge --tag product-42 --wait 2s
  cacheproxy purge --all --status 4xx,5xx --older-than 5m`,
		Args: func(_ *cobra.Command, arguments []string) error { return f.check(arguments) },
		RunE: func(cmd *cobra.Command, arguments []string) error {
			purges, err := f.purges(arguments)
			if err != nil {
				return err
			}
			client, err := newOperatorClient(cmd)
			if err != nil {
				return err
			}
			if f.all && !f.yes && !f.dryRun {
				if err := confirm(cmd, os.Stdin, "This forgets everything that passes the filters, on all replicas. Go on? [y/N] "); err != nil {
					return err
				}
			}
			client.more.Set("X-Purged-By", "cacheproxy purge"+userName())
			if f.dryRun {
				return runPreviews(cmd, client, purges, &f)
			}
			return runPurges(cmd, client, purges, &f)
		},
	}
	f.add(cmd)
	addOperator(cmd)
	return cmd
}

func (f *purgeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.tags, "tag", nil, "`tag` of what to forget; several may be given, any of which is enough")
	flags.BoolVar(&f.matchAll, "match-all", false, "only what has all of the tags")
	flags.StringVar(&f.group, "group", "", "cache `group` of what to forget (RFC 9875), of --origin")
	flags.StringVar(&f.origin, "origin", "", "`origin` of the group: scheme://host[:port]")
	flags.BoolVar(&f.all, "all", false, "everything; asks on a terminal, unless --yes")
	flags.BoolVar(&f.exact, "exact", false, "take the arguments for exact URLs, whatever is in them")
	flags.BoolVar(&f.pattern, "pattern", false, "take the arguments for patterns")
	flags.BoolVar(&f.soft, "soft", false, "make stale instead of forgetting")
	flags.StringSliceVar(&f.status, "status", nil, "only responses with this `status`: 404 or 4xx, several with commas")
	flags.StringSliceVar(&f.contentTypes, "content-type", nil, "only this media `type`, * for any text: image/*")
	flags.DurationVar(&f.olderThan, "older-than", 0, "only what was stored, or last validated, so `long` ago: 5m")
	flags.StringVar(&f.minSize, "min-size", "", "only bodies of at least this `size`: 64KiB")
	flags.StringVar(&f.maxSize, "max-size", "", "only bodies of at most this `size`")
	flags.DurationVar(&f.wait, "wait", time.Second, "how `long` to wait for all replicas, and for the sweep; 0 = not at all. With --dry-run or --max also for the counting, 10s unless given")
	flags.BoolVar(&f.dryRun, "dry-run", false, "count what would be purged, and purge nothing")
	flags.StringVar(&f.max, "max", "", "purge nothing if that would be more than `N` stored responses")
	flags.BoolVar(&f.watch, "watch", false, "stay until all is swept, and show how far that is")
	flags.BoolVar(&f.yes, "yes", false, "do not ask")
	flags.BoolVar(&f.asJSON, "json", false, "print a JSON object for each purge")
	cmd.MarkFlagsMutuallyExclusive("tag", "group", "all", "exact", "pattern")
}

// check reports what does not go together; what each is worth is for the process to say.
func (f *purgeFlags) check(arguments []string) error {
	named := len(f.tags) > 0 || f.group != "" || f.all
	switch {
	case len(arguments) > 0 && named:
		return fmt.Errorf("%q is one thing to forget, and --tag, --group or --all another: name one of them", arguments[0])
	case len(arguments) == 0 && !named:
		return errors.New("say what to forget: a URL, a pattern, --tag, --group with --origin, or --all")
	case (f.group == "") != (f.origin == ""):
		return errors.New("--group and --origin go together")
	case f.matchAll && len(f.tags) == 0:
		return errors.New("--match-all is for several --tag")
	case f.dryRun && f.watch:
		return errors.New("with --dry-run there is nothing to --watch")
	case f.wait < 0 || f.olderThan < 0:
		return errors.New("--wait and --older-than are lengths of time from 0 on")
	}
	return nil
}

// purges are what the flags and arguments ask for.
func (f *purgeFlags) purges(arguments []string) ([]admin.Purge, error) {
	common, err := f.filters()
	if err != nil {
		return nil, err
	}
	list := f.selectBy(common, arguments)
	for i := range list {
		if err := list[i].Check(); err != nil {
			return nil, fmt.Errorf("%s: %w", brief(&list[i]), err)
		}
	}
	return list, nil
}

// selectBy makes the purges, of which each selects by one thing.
func (f *purgeFlags) selectBy(common admin.Purge, arguments []string) []admin.Purge {
	switch {
	case len(f.tags) > 0:
		common.Tags = f.tags
		if f.matchAll {
			common.Match = "all"
		}
		return []admin.Purge{common}
	case f.group != "":
		common.Group, common.Origin = &f.group, f.origin
		return []admin.Purge{common}
	case f.all:
		common.All = &f.all
		return []admin.Purge{common}
	}
	list := make([]admin.Purge, len(arguments))
	for i, argument := range arguments {
		list[i] = common
		switch {
		case f.pattern || !f.exact && hasStar(argument):
			list[i].Pattern = &argument
		case f.exact:
			list[i].URL = &argument
		default:
			list[i].URL = new(strings.ReplaceAll(argument, `\*`, "*"))
		}
	}
	return list
}

func (f *purgeFlags) filters() (p admin.Purge, err error) {
	p = admin.Purge{Soft: f.soft, ContentType: f.contentTypes}
	for _, text := range f.status {
		var s admin.StatusFilter
		if err := s.UnmarshalJSON([]byte(text)); err != nil {
			return p, fmt.Errorf("--status: %w", err)
		}
		p.Status = append(p.Status, s)
	}
	if f.dryRun {
		p.DryRun = json.RawMessage("true")
	}
	if f.max != "" {
		n, err := strconv.ParseUint(f.max, 10, 63)
		if err != nil {
			return p, fmt.Errorf("--max: %q is no number of stored responses", f.max)
		}
		p.Max = json.RawMessage(strconv.FormatUint(n, 10))
	}
	if f.olderThan > 0 {
		p.OlderThan = f.olderThan.String()
	}
	for _, size := range []struct {
		flag, text string
		into       *int64
	}{{"--min-size", f.minSize, &p.MinSize}, {"--max-size", f.maxSize, &p.MaxSize}} {
		var bytes config.Size
		if size.text == "" {
			continue
		}
		if err := bytes.UnmarshalText([]byte(size.text)); err != nil {
			return p, fmt.Errorf("%s: %w", size.flag, err)
		}
		*size.into = int64(bytes)
	}
	return p, nil
}

// hasStar reports whether there is a * that no backslash escapes.
func hasStar(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '*':
			return true
		}
	}
	return false
}

// confirm asks on a terminal. Where there is none, nobody can be asked, and the command line is taken at its word.
func confirm(cmd *cobra.Command, in *os.File, question string) error {
	if !term.IsTerminal(int(in.Fd())) {
		return nil
	}
	fmt.Fprint(cmd.ErrOrStderr(), question)
	answer, _ := bufio.NewReader(in).ReadString('\n') // the end of the input is no yes
	if !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
		return failure{errors.New("nothing was purged")}
	}
	return nil
}

// runPurges asks for one purge after the other, and prints each receipt as it comes. It goes on after one that somebody has not applied, and
// ends at one that was not confirmed.
func runPurges(cmd *cobra.Command, client *operatorClient, purges []admin.Purge, f *purgeFlags) error {
	incomplete := 0
	query := url.Values{"until": {"swept"}}
	if f.max == "" || cmd.Flags().Changed("wait") { // else counting may take longer, as it may with --dry-run
		query.Set("wait", f.wait.String())
	}
	for i := range purges {
		p := &purges[i]
		var receipt admin.Receipt
		if err := client.ask(cmd.Context(), http.MethodPost, "/v1/purge", query, p, &receipt); err != nil {
			return failure{fmt.Errorf("%s: %w", brief(p), err)}
		}
		if receipt.Receipt == nil {
			return failure{fmt.Errorf("%s answers something else than a receipt", client.base.Host)}
		}
		s := &sheet{printer{w: cmd.OutOrStdout()}}
		if !f.asJSON {
			s.printf("%s\n", selection(p))
			s.row("sequence", "%v", receipt.Sequence)
		}
		var unwatched error
		if f.watch {
			unwatched = watchSweep(cmd, client, &receipt)
		}
		if !receipt.Complete {
			incomplete++
		}
		if f.asJSON {
			s.err = json.NewEncoder(cmd.OutOrStdout()).Encode(receipt)
		} else {
			s.applied(&receipt)
			s.matched(&receipt)
		}
		if s.err != nil {
			return failure{s.err}
		}
		if unwatched != nil { // what was known before is told all the same
			return failure{fmt.Errorf("watching ended: %w", unwatched)}
		}
	}
	if incomplete > 0 {
		return failure{fmt.Errorf("%d of %d purges are appended, and not known to be applied everywhere", incomplete, len(purges))}
	}
	return nil
}

// runPreviews counts what each purge would match.
func runPreviews(cmd *cobra.Command, client *operatorClient, purges []admin.Purge, f *purgeFlags) error {
	query := url.Values{}
	if cmd.Flags().Changed("wait") {
		query.Set("wait", f.wait.String())
	}
	for i := range purges {
		var found admin.Preview
		if err := client.ask(cmd.Context(), http.MethodPost, "/v1/purge", query, &purges[i], &found); err != nil {
			return failure{fmt.Errorf("%s: %w", brief(&purges[i]), err)}
		}
		if !found.DryRun {
			return failure{fmt.Errorf("%s answers something else than a preview", client.base.Host)}
		}
		s := &sheet{printer{w: cmd.OutOrStdout()}}
		if f.asJSON {
			s.err = json.NewEncoder(cmd.OutOrStdout()).Encode(found)
		} else {
			s.preview(&purges[i], &found)
		}
		if s.err != nil {
			return failure{s.err}
		}
	}
	return nil
}

// userName is who runs the command, for the history.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return ", " + u.Username
}
