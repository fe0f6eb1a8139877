//go:build consistency

package consistency

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	duration = flag.Duration("for", 90*time.Second, "how long purges, reads and faults go on in any order")
	seed     = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of that order, as far as processes let it be repeated")
	prebuilt = flag.String("binary", "", "test this binary instead of one built from the sources")
)

// root is the repository.
const root = "../../../.."

// built is where binaries are while the tests run.
var built string

func TestMain(m *testing.M) {
	flag.Parse()
	code := 1
	if dir, err := os.MkdirTemp("", "consistency"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		built = dir
		code = m.Run()
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// shipped is the binary as it is.
var shipped = sync.OnceValues(func() (string, error) {
	if *prebuilt != "" {
		return filepath.Abs(*prebuilt)
	}
	return build("cacheproxy", "")
})

// crippled is one in which the variable TAKEN_OUT names rules that do not hold. The sources know nothing of it: go build -overlay replaces
// them by copies.
var crippled = sync.OnceValues(func() (string, error) {
	overlay := map[string]string{}
	add := func(file, text string) error {
		from, err := filepath.Abs(filepath.Join(root, file))
		if err != nil {
			return err
		}
		to := filepath.Join(built, strings.ReplaceAll(file, "/", "-"))
		overlay[from] = to
		return os.WriteFile(to, []byte(text), 0o600)
	}
	texts := map[string]string{}
	for _, e := range edits {
		text, read := texts[e.file]
		if !read {
			bytes, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return "", err
			}
			text = string(bytes)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return "", fmt.Errorf("the rule %q is not to be found: %s has this %d times:\n%s", e.rule, e.file, n, e.old)
		}
		texts[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	for _, name := range []string{"invalidation", "store", "proxy"} {
		texts[name+"/takenout.go"] = strings.Replace(takenOut, "NAME", name, 1)
	}
	for file, text := range texts {
		if err := add(file, text); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return "", err
	}
	file := filepath.Join(built, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", err
	}
	return build("crippled", file)
})

// takenOut tells whether a rule holds.
const takenOut = `package NAME

import (
	"os"
	"slices"
	"strings"
)

var rulesTakenOut = strings.Split(os.Getenv("TAKEN_OUT"), ",")

func takenOut(rule string) bool { return slices.Contains(rulesTakenOut, rule) }
`

func build(name, overlay string) (string, error) {
	out := filepath.Join(built, name)
	arguments := []string{"build", "-o", out}
	if overlay != "" {
		arguments = append(arguments, "-overlay", overlay)
	}
	command := exec.Command("go", append(arguments, "./cmd/cacheproxy")...)
	command.Dir = root
	if text, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(command.Args[1:], " "), err, text)
	}
	return filepath.Abs(out)
}
