package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// docs/commands.md and the man pages are made of the commands themselves.

var (
	updatePages = flag.Bool("update", false, "write docs/commands.md and docs/metrics.md anew")
	manDir      = flag.String("man", "", "write the man pages to this directory")
)

const docsDir = "../../docs"

// comparePage compares a page of docs with what it is to be, and writes it with -update.
func comparePage(t *testing.T, page, got string) {
	t.Helper()
	file := filepath.Join(docsDir, page)
	if *updatePages {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	lines := strings.Split(string(want), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(lines) || line != lines[i] {
			t.Fatalf("docs/%s is not what the code says: run make docs\nline %d is to be:\n%s", page, i+1, line)
		}
	}
	t.Fatalf("docs/%s is not what the code says, and ends too late: run make docs", page)
}

const commandsIntro = `# Commands

<!-- Made by "make docs" from the commands. Do not edit. -->

Data goes to standard output, prose and logs to standard error. Exit codes: 0 all went well, 1 something failed, 2 the command line or the
configuration is wrong. ` + "`make man`" + ` makes man pages of the same in bin/man.
`

// documented is the tree of commands as a user has it.
func documented() *cobra.Command {
	root := newRoot()
	root.InitDefaultCompletionCmd("completion")
	return root
}

func TestCommandsPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(commandsIntro)
	describeCommand(&b, documented())
	comparePage(t, "commands.md", strings.ReplaceAll(b.String(), "\n\n\n", "\n\n"))
}

// describeCommand writes the section of a command and those below it. The shells of completion are told in one.
func describeCommand(b *strings.Builder, c *cobra.Command) {
	c.InitDefaultHelpFlag()
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n", c.CommandPath(), c.Short)
	if long := strings.TrimSpace(c.Long); long != "" && c.HasParent() {
		fmt.Fprintf(b, "%s\n\n", long)
	}
	if c.Runnable() && c.HasParent() {
		fmt.Fprintf(b, "    %s\n\n", c.UseLine())
	}
	if c.Example != "" {
		fmt.Fprintf(b, "Examples:\n\n%s\n\n", indented(c.Example))
	}
	if flags := strings.TrimRight(c.NonInheritedFlags().FlagUsagesWrapped(110), "\n"); flags != "" && c.HasParent() {
		fmt.Fprintf(b, "Flags:\n\n%s\n\n", indented(flags))
	}
	if c.Name() == "completion" {
		b.WriteString("Shells:\n\n")
		for _, shell := range c.Commands() {
			fmt.Fprintf(b, "    %s\n", shell.CommandPath())
		}
		return
	}
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() {
			describeCommand(b, below)
		}
	}
}

// indented makes lines a block of code.
func indented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if line = strings.TrimRight(line, " "); line != "" {
			line = "    " + strings.TrimPrefix(line, "  ")
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

// TestManPages makes the man pages, with -man where they are wanted.
func TestManPages(t *testing.T) {
	dir := *manDir
	if dir == "" {
		dir = t.TempDir()
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root := documented()
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "1", Source: "cacheproxy " + version, Manual: "cacheproxy"} // of the date in SOURCE_DATE_EPOCH
	if err := doc.GenManTree(root, header, dir); err != nil {
		t.Fatal(err)
	}
	for _, c := range append(root.Commands(), root) {
		if c.Name() == "help" {
			continue
		}
		page, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(page), c.Short) {
			t.Errorf("the page of %s does not say %q", c.CommandPath(), c.Short)
		}
	}
}
