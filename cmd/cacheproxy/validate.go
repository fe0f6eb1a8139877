package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"cacheproxy/cmd/cacheproxy/internal/config"
)

// verdict is what validate prints with --json.
type verdict struct {
	OK       bool            `json:"ok"`
	File     string          `json:"file,omitempty"`
	Sites    []siteSummary   `json:"sites,omitempty"`
	Mistakes config.Mistakes `json:"mistakes,omitempty"`
}

// siteSummary is one site of a verdict; the default site has no hosts.
type siteSummary struct {
	Hosts    []string `json:"hosts,omitempty"`
	Upstream string   `json:"upstream,omitempty"`
	Rules    int      `json:"rules"`
}

func newValidate() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration, reporting every mistake",
		Long: `Validate reads the configuration from the same sources as serve, with the same precedence: flags, environment, file.
It starts and connects nothing. Every mistake is reported with its file, line and key; the exit code is then 2.`,
		Example: "  cacheproxy validate --config config.yaml",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := load(cmd)
			result := verdict{OK: err == nil, File: cmd.Flag("config").Value.String()}
			if err == nil {
				result.Sites = summarise(loaded.Config)
			}
			if asJSON {
				if err != nil && !errors.As(err, &result.Mistakes) {
					return err
				}
				if failed := printJSON(cmd.OutOrStdout(), result); failed != nil {
					return failed
				}
				if err != nil {
					return errTold
				}
				return nil
			}
			if err != nil {
				return err
			}
			printVerdict(cmd.OutOrStdout(), result)
			return nil
		},
	}
	addSettings(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// summarise lists the default site first, if it has an upstream or rules, then the others in their order.
func summarise(c *config.Config) []siteSummary {
	var sites []siteSummary
	address, _, _ := c.Named(c.Upstream)
	if address != "" || len(c.Rules) > 0 {
		sites = append(sites, siteSummary{Upstream: address, Rules: len(c.Rules)})
	}
	for i := range c.Sites {
		own, _, ok := c.Named(c.Sites[i].Upstream)
		if !ok {
			own = address
		}
		sites = append(sites, siteSummary{Hosts: c.Sites[i].Hosts, Upstream: own, Rules: len(c.Sites[i].Rules)})
	}
	return sites
}

func printVerdict(w io.Writer, v verdict) {
	rules := 0
	for _, s := range v.Sites {
		rules += s.Rules
	}
	fmt.Fprintf(w, "ok: %s, %s\n", count(len(v.Sites), "site"), count(rules, "rule"))
	for _, s := range v.Sites {
		hosts := "every other host"
		if len(v.Sites) == 1 && s.Hosts == nil {
			hosts = "every host"
		}
		if s.Hosts != nil {
			hosts = strings.Join(s.Hosts, " ")
		}
		fmt.Fprintf(w, "  %s -> %s, %s\n", hosts, s.Upstream, count(s.Rules, "rule"))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
