package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"cacheproxy/limiter"
)

// The figures on the page are those of the pictures.
func TestFigures(t *testing.T) {
	all, most, steady := "| admitted of 200 in 4 s |", "| the most in any 10 s |", "| admitted of 30 a second, at last |"
	for _, a := range admissions {
		c, err := a.run()
		if err != nil {
			t.Fatal(err)
		}
		_, n := c.between(traffic[1].from, traffic[1].to)
		all += fmt.Sprintf(" %d |", n)
		highest := 0
		for at := window; at <= length; at += bin {
			_, n := c.between(at-window, at)
			highest = max(highest, n)
		}
		most += fmt.Sprintf(" %d |", highest)
		_, n = c.between(length-window, length)
		steady += fmt.Sprintf(" %d in 10 s |", n)
	}
	s, err := share()
	if err != nil {
		t.Fatal(err)
	}
	said(t, fmt.Sprintf("asked Redis %d times with `exact`, %d times with `leased`", s.asked(limiter.Exact), s.asked(limiter.Leased)))
	said(t, all)
	said(t, most)
	said(t, steady)
}

// said checks that docs/limits.md has a text.
func said(t *testing.T, text string) {
	t.Helper()
	all, err := os.ReadFile(pages + "/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(all), text) {
		t.Errorf("docs/limits.md does not say: %s", text)
	}
}
