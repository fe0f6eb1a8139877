package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// README.md marks its recipes with comments that nobody sees:
//
//	<!-- run: NAME -->        the block of code that follows belongs to recipe NAME: commands, each after "$ ", and all that they print
//	<!-- file: NAME FILE -->  the block that follows is the file FILE of that recipe
//	<!-- needs: NAME WHAT --> recipe NAME wants WHAT to be there; recipeNeeds says what there is
//
// A block is fenced, or indented by four spaces. A command goes on on the next line after a backslash. Blocks of one name are one recipe, in
// their order.

// recipe is what README.md says under one name.
type recipe struct {
	name  string
	files map[string]string
	steps []recipeStep
	needs []string
}

// recipeStep is one command and what it prints.
type recipeStep struct {
	line    int // of README.md, from 1
	command string
	prints  []string
}

var recipeMarker = regexp.MustCompile(`^<!-- (run|file|needs): (\S+)(?: (\S+))? -->$`)

// readRecipes reads all recipes of a file, in their order.
func readRecipes(t *testing.T, path string) []*recipe {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	recipes, err := parseRecipes(string(text))
	if err != nil {
		t.Fatalf("%s:%v", path, err)
	}
	return recipes
}

func parseRecipes(text string) ([]*recipe, error) {
	lines := strings.Split(text, "\n")
	var all []*recipe
	named := map[string]*recipe{}
	for i := 0; i < len(lines); i++ {
		m := recipeMarker.FindStringSubmatch(lines[i])
		if m == nil {
			if block, first, _ := blockAt(lines, i); len(block) > 0 && strings.HasPrefix(block[0], "$ ") {
				return nil, fmt.Errorf("%d: commands that no recipe runs: put <!-- run: NAME --> before them", first+1)
			}
			continue
		}
		r := named[m[2]]
		if r == nil {
			r = &recipe{name: m[2], files: map[string]string{}}
			named[m[2]] = r
			all = append(all, r)
		}
		if m[1] == "needs" {
			r.needs = append(r.needs, m[3])
			continue
		}
		block, first, next := blockAt(lines, i+1)
		if len(block) == 0 {
			return nil, fmt.Errorf("%d: no block of code follows", i+1)
		}
		if m[1] == "file" {
			r.files[m[3]] = strings.Join(block, "\n") + "\n"
		} else if err := r.addSteps(block, first); err != nil {
			return nil, err
		}
		i = next - 1
	}
	return all, nil
}

// blockAt returns the block of code that begins at line i or behind empty lines from there, the index of its first line, and of the first
// behind it.
func blockAt(lines []string, i int) (block []string, first, next int) {
	for i < len(lines) && lines[i] == "" {
		i++
	}
	if i == len(lines) {
		return nil, i, i
	}
	if strings.HasPrefix(lines[i], "```") {
		for first = i + 1; first+len(block) < len(lines) && lines[first+len(block)] != "```"; {
			block = append(block, lines[first+len(block)])
		}
		return block, first, first + len(block) + 1
	}
	for first, next = i, i; i < len(lines) && (lines[i] == "" || strings.HasPrefix(lines[i], codeIndent)); i++ {
		block = append(block, strings.TrimPrefix(lines[i], codeIndent))
		if lines[i] != "" {
			next = i + 1 // empty lines belong to it where more of it follows
		}
	}
	return block[:next-first], first, next
}

func (r *recipe) addSteps(block []string, first int) error {
	for i := 0; i < len(block); i++ {
		command, isCommand := strings.CutPrefix(block[i], "$ ")
		switch {
		case isCommand:
			s := recipeStep{line: first + i + 1, command: command}
			for strings.HasSuffix(s.command, `\`) && i+1 < len(block) {
				i++
				s.command += "\n" + block[i]
			}
			r.steps = append(r.steps, s)
		case len(r.steps) == 0 || i == 0:
			return fmt.Errorf("%d: a recipe begins with a command, after \"$ \"", first+i+1)
		default:
			last := &r.steps[len(r.steps)-1]
			last.prints = append(last.prints, block[i])
		}
	}
	return nil
}

func TestParseRecipes(t *testing.T) {
	recipes, err := parseRecipes("<!-- file: a x.yaml -->\n```yaml\nlisten: x\n```\n\n<!-- run: a -->\n\n    $ one \\\n      more\n    said\n\n    more\n    $ two\n\ntext\n\n    not run\n")
	if err != nil || len(recipes) != 1 {
		t.Fatal(recipes, err)
	}
	r := recipes[0]
	if r.files["x.yaml"] != "listen: x\n" || len(r.steps) != 2 || r.steps[0].command != "one \\\n  more" || r.steps[0].line != 8 ||
		len(r.steps[0].prints) != 3 || r.steps[1].command != "two" || r.steps[1].prints != nil {
		t.Errorf("%+v", r)
	}
	for _, wrong := range []string{"    $ never run\n", "```\n$ never run\n```\n", "<!-- run: a -->\ntext\n", "<!-- run: a -->\n\n    said\n"} {
		if _, err := parseRecipes(wrong); err == nil {
			t.Errorf("taken: %q", wrong)
		}
	}
}
