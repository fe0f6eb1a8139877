package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Links within the repository lead somewhere, and tables are tables, in README.md and docs/.

func TestPages(t *testing.T) {
	pages, err := filepath.Glob(docsDir + "/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatal(pages, err)
	}
	for _, page := range append(pages, "../../README.md", "../../CHANGELOG.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, wrong := range checkMarkdown(page, string(text)) {
			t.Errorf("%s: %s", page, wrong)
		}
	}
}

var (
	inlineCode  = regexp.MustCompile("`[^`]*`")
	linkTarget  = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	headingLine = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	noAnchor    = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)
)

const codeIndent = "    "

// proseOf is a page without its code, line by line, so that lines keep their numbers.
func proseOf(text string) []string {
	all := strings.Split(text, "\n")
	fence := ""
	for i, line := range all {
		switch {
		case fence == "" && strings.HasPrefix(strings.TrimSpace(line), "```"):
			fence, all[i] = "```", ""
		case fence != "":
			if strings.TrimSpace(line) == fence {
				fence = ""
			}
			all[i] = ""
		case strings.HasPrefix(line, codeIndent) && (i == 0 || all[i-1] == ""):
			all[i] = ""
		}
	}
	return all
}

// checkMarkdown says what is wrong with a page.
func checkMarkdown(page, text string) []string {
	var wrong []string
	all := proseOf(text)
	columns := 0 // of the table under way; 0 = none
	for i, line := range all {
		for _, m := range linkTarget.FindAllStringSubmatch(inlineCode.ReplaceAllString(line, ""), -1) {
			if why := checkLink(page, m[1]); why != "" {
				wrong = append(wrong, fmt.Sprintf("line %d: %s: %s", i+1, m[1], why))
			}
		}
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		switch n := tableCells(line); {
		case columns == 0 && (i+1 == len(all) || strings.Trim(all[i+1], "|-: ") != "" || tableCells(all[i+1]) != n):
			wrong = append(wrong, fmt.Sprintf("line %d: a table begins with a head and a line of dashes", i+1))
			columns = n
		case columns == 0:
			columns = n
		case n != columns:
			wrong = append(wrong, fmt.Sprintf("line %d: %d cells in a table of %d columns", i+1, n, columns))
		}
	}
	return wrong
}

// tableCells counts the cells of a line of a table: a bar divides them, also within code, unless a backslash is before it.
func tableCells(line string) int {
	return strings.Count(strings.ReplaceAll(strings.TrimSpace(line), `\|`, ""), "|") - 1
}

// checkLink says why a link leads nowhere.
func checkLink(page, target string) string {
	if strings.Contains(target, "://") {
		return "" // elsewhere
	}
	file, anchor, _ := strings.Cut(target, "#")
	path := page
	if file != "" {
		path = filepath.Join(filepath.Dir(page), file)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "there is no such file"
	}
	if anchor == "" || info.IsDir() {
		return ""
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if !anchors(string(text))[anchor] {
		return "there is no such heading"
	}
	return ""
}

// anchors are what the headings of a page are called in links to them.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range headingLine.FindAllStringSubmatch(strings.Join(proseOf(text), "\n"), -1) {
		name := strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
		unique := name
		for n := 1; all[unique]; n++ {
			unique = fmt.Sprintf("%s-%d", name, n)
		}
		all[unique] = true
	}
	return all
}

func TestCheckMarkdown(t *testing.T) {
	for text, wrong := range map[string]int{
		"# A b, c\n[x](#a-b-c) [y](main.go) [z](https://example.com/nowhere)": 0,
		"[x](#nowhere)":                             1,
		"[x](nowhere.md) and `[y](nowhere.md)`":     1,
		"text\n\n    [x](nowhere.md)\n":             0,
		"```\n[x](nowhere.md)\n```\n":               0,
		"| a | b |\n|---|---|\n| 1 | `x\\|y` |\n":   0,
		"| a | b |\n|---|---|\n| 1 | `x|y` |\n":     1,
		"| a | b |\n| 1 | 2 |\n":                    1,
		"| a |\n|---|\n| 1 |\n\n| a |\n|---|---|\n": 1,
	} {
		dir := t.TempDir()
		page := filepath.Join(dir, "page.md")
		for name, content := range map[string]string{"page.md": text, "main.go": ""} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := checkMarkdown(page, text); len(got) < wrong || wrong == 0 && len(got) > 0 {
			t.Errorf("%q: %q", text, got)
		}
	}
}
