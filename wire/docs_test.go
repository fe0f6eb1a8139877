package wire

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The page that says what is refused has every fault, as it is. To write it anew: UPDATE=1 go test ./wire -run Page
func TestPageOfFaults(t *testing.T) {
	const file, mark, end = "../docs/security.md", "<!-- faults -->\n", "<!-- end of faults -->\n"
	var table strings.Builder
	table.WriteString("\n| name | status | what |\n|---|---|---|\n")
	for _, f := range Faults() {
		fmt.Fprintf(&table, "| `%s` | %d | %s |\n", f.Name, f.Status, f.Detail)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), mark)
	if !found {
		t.Fatalf("%s has no %s", file, mark)
	}
	_, after, found := strings.Cut(rest, end)
	if !found {
		t.Fatalf("%s has no %s", file, end)
	}
	want := before + mark + table.String() + "\n" + end + after
	if string(text) == want {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s does not have the faults as they are:\n%s", file, table.String())
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
