package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// terminal is what a command knows of where its output goes. The zero value is a file or a pipe: no colours, no size.
type terminal struct {
	colours       bool
	width, height int // 0 = unknown
}

// terminalOf looks at the writer of a command. NO_COLOR (https://no-color.org) and TERM=dumb keep a terminal from colours.
func terminalOf(w io.Writer) terminal {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return terminal{}
	}
	width, height, err := term.GetSize(int(file.Fd()))
	if err != nil {
		width, height = 0, 0
	}
	return terminal{colours: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", width: width, height: height}
}

// colour is the parameter of a terminal's SGR sequence.
type colour string

const (
	plain  colour = ""
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	cyan   colour = "36"
	dim    colour = "2"
)

func (t terminal) paint(c colour, text string) string {
	if !t.colours || c == plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// printable escapes what a terminal may take for something else than text: what strangers send must not move its cursor.
func printable(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return text
	}
	var safe strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			safe.WriteRune(r)
		} else {
			quoted := strconv.QuoteRune(r)
			safe.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return safe.String()
}
