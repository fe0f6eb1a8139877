package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by the Makefile; a binary built without it calls itself devel.
var version = "devel"

// binary says what this binary is.
type binary struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Revision string `json:"revision,omitempty"` // of the source, where it was built in a repository
	Time     string `json:"time,omitempty"`     // of that revision, RFC 3339
	Modified bool   `json:"modified,omitempty"` // the source had changes beyond that revision
}

// thisBuild reads what the toolchain recorded in the binary.
func thisBinary() binary {
	b := binary{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String formats it in one line: cacheproxy 0.1.0, go1.26.9 linux/amd64, revision 0123456789ab.
func (b binary) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "cacheproxy %s, %s %s", b.Version, b.Go, b.Platform)
	if b.Revision != "" {
		fmt.Fprintf(&text, ", revision %.12s", b.Revision)
	}
	if b.Modified {
		text.WriteString(" with changes")
	}
	return text.String()
}

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Say what this binary is",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return printJSON(cmd.OutOrStdout(), thisBinary())
			}
			fmt.Fprintln(cmd.OutOrStdout(), thisBinary())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printJSON(w io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return failure{err}
	}
	if _, err := fmt.Fprintf(w, "%s\n", text); err != nil {
		return failure{err}
	}
	return nil
}
