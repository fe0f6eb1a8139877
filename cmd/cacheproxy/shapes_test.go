package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A shape is what an attacker, or an upstream gone wrong, sends, and what must come of it. testdata/shapes/README.md has the format.
type shape struct {
	class, name string
	line        int // in its file
	sends       []byte
	answers     [][]byte // of the upstream to its requests, one after the other; what they do not cover is echoed
	closes      bool     // the upstream closes its connection after the last answer
	unfinished  bool     // nothing follows on the connection, and it ends
	trusted     bool     // the client is client.trusted
	methods     []string // of the requests, where responses are framed by it

	responses []string // as the client reads them
	requests  []string // as the upstream does
	stored    []string // cache URLs
	has, not  []string // field lines that reach the upstream, and beginnings of such that do not
}

const shapeFiles = "testdata/shapes/*.txt"

// readShapes reads all files of shapes.
func readShapes(t testing.TB) (all []*shape) {
	t.Helper()
	files, err := filepath.Glob(shapeFiles)
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var s *shape
		for i, line := range strings.Split(string(text), "\n") {
			name, begins := strings.CutPrefix(line, "= ")
			switch {
			case line == "" || strings.HasPrefix(line, "#"):
			case begins:
				s = &shape{class: strings.TrimSuffix(filepath.Base(file), ".txt"), name: name, line: i + 1}
				all = append(all, s)
			default:
				if err := s.read(line); err != nil {
					t.Fatalf("%s:%d: %v", file, i+1, err)
				}
			}
		}
	}
	return all
}

// read reads one line of a shape.
func (s *shape) read(line string) error {
	mark, text, _ := strings.Cut(line, " ")
	switch mark {
	case ">":
		s.sends = append(s.sends, spelled(text)...)
	case ">>": // N and a line, in which %d is the number of the repetition
		count, text, _ := strings.Cut(text, " ")
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		for i := range n {
			s.sends = append(s.sends, spelled(strings.ReplaceAll(text, "%d", strconv.Itoa(i)))...)
		}
	case "<":
		if len(s.answers) == 0 {
			s.answers = append(s.answers, nil)
		}
		last := &s.answers[len(s.answers)-1]
		*last = append(*last, spelled(text)...)
	case "@":
		return s.option(text)
	case "->":
		s.responses = append(s.responses, text)
	case "=>":
		s.requests = append(s.requests, text)
	case "*":
		s.stored = append(s.stored, text)
	case "+":
		s.has = append(s.has, text)
	case "-":
		s.not = append(s.not, text)
	default:
		return fmt.Errorf("no mark: %s", line)
	}
	return nil
}

func (s *shape) option(text string) error {
	words := strings.Fields(text)
	switch words[0] {
	case "then": // another answer
		s.answers = append(s.answers, nil)
	case "closes":
		s.closes = true
	case "unfinished":
		s.unfinished = true
	case "trusted":
		s.trusted = true
	case "methods":
		s.methods = words[1:]
	default:
		return fmt.Errorf("no option: %s", text)
	}
	return nil
}

// spelled is the line that text spells: \r \n \t \0 \\ and \xHH stand for bytes, \*N(text) for text N times, and \c at the end for no
// CRLF.
func spelled(text string) []byte {
	text, open := strings.CutSuffix(text, `\c`)
	var b []byte
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b = append(b, text[i])
			continue
		}
		i++
		switch text[i] {
		case 'r':
			b = append(b, '\r')
		case 'n':
			b = append(b, '\n')
		case 't':
			b = append(b, '\t')
		case '0':
			b = append(b, 0)
		case 'x':
			n, _ := strconv.ParseUint(text[i+1:i+3], 16, 8)
			b = append(b, byte(n))
			i += 2
		case '*':
			begin := i + strings.IndexByte(text[i:], '(')
			end := begin + strings.IndexByte(text[begin:], ')')
			n, _ := strconv.Atoi(text[i+1 : begin])
			b = append(b, bytes.Repeat(spelled(text[begin+1:end]+`\c`), n)...)
			i = end
		default:
			b = append(b, text[i])
		}
	}
	if !open {
		b = append(b, '\r', '\n')
	}
	return b
}

// rewriteShapes writes what came of each shape into its file, in place of what was expected.
func rewriteShapes(t *testing.T, pattern string, came map[string]*outcome) {
	t.Helper()
	files, _ := filepath.Glob(pattern)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		class := strings.TrimSuffix(filepath.Base(file), ".txt")
		var out, tail []string
		flush := func() {
			for len(out) > 0 && tail != nil && out[len(out)-1] == "" {
				out = out[:len(out)-1]
			}
			if tail != nil {
				out = append(append(out, tail...), "")
			}
			tail = nil
		}
		for _, line := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
			if name, begins := strings.CutPrefix(line, "= "); begins {
				flush()
				if o := came[class+"/"+name]; o != nil {
					tail = o.lines()
				}
			}
			if strings.HasPrefix(line, "-> ") || strings.HasPrefix(line, "=> ") || strings.HasPrefix(line, "* ") {
				continue
			}
			if tail != nil && (strings.HasPrefix(line, "+ ") || strings.HasPrefix(line, "- ")) {
				tail = append(tail, line)
				continue
			}
			out = append(out, line)
		}
		flush()
		text = []byte(strings.TrimRight(strings.Join(out, "\n"), "\n") + "\n")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
