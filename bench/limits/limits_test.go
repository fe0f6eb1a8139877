package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cacheproxy/limiter"
)

const pages = "../../docs"

// The pictures of docs/limits are what the program draws now.
func TestPictures(t *testing.T) {
	all, err := pictures()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(pages + "/limits/*")
	if err != nil || len(files) != len(all) {
		t.Errorf("there are %q, %v, for %d pictures", files, err, len(all))
	}
	for name, p := range all {
		drawn, err := p.SVG()
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(filepath.Join(pages, "limits", name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(drawn, kept) {
			t.Errorf("%s.svg is not what the code draws: run make plots, and look at it", name)
		}
	}
}

// No span of time has more than docs/limits.md says, and the worst that it says can come.
func TestBounds(t *testing.T) {
	// The client that gets most of a sliding limit: it is silent until just before a window ends, and goes on.
	last := []phase{{window - 100*time.Millisecond, window, 1000}, {window, length, 30}}
	for _, test := range []struct {
		name     string
		a        admission
		spans    func(span time.Duration) int // what a span of at most a window may have
		at, most int                          // the most that some window has: between these
	}{
		{"fixed", admission{limiter.Spec{Algorithm: limiter.Fixed}, traffic}, func(time.Duration) int { return 2 * limit }, 199, 2 * limit},
		{"sliding", admission{limiter.Spec{Algorithm: limiter.Sliding}, traffic}, even(limit), limit, 2 * limit},
		{"sliding, at the end", admission{limiter.Spec{Algorithm: limiter.Sliding}, last}, even(limit), 195, 2 * limit},
		{"gcra", admission{limiter.Spec{Algorithm: limiter.GCRA, Burst: burst}, traffic}, even(burst), limit + burst - 1, limit + burst},
		{"gcra, all at once", admission{limiter.Spec{Algorithm: limiter.GCRA}, last}, even(limit), 195, 2 * limit},
	} {
		c, err := test.a.run()
		if err != nil {
			t.Fatal(err)
		}
		most := 0
		for i, first := range c.all {
			n := 0
			for _, one := range c.all[i:] {
				span := one.at - first.at
				if span >= window {
					break
				}
				if one.admitted {
					n++
				}
				if n > test.spans(span) {
					t.Fatalf("%s: %d from %s to %s", test.name, n, first.at, one.at)
				}
			}
			most = max(most, n)
		}
		if most < test.at || most > test.most {
			t.Errorf("%s: the most in a window was %d, sought %d to %d", test.name, most, test.at, test.most)
		}
	}
}

// even is so many at once, and the limit evenly beside them.
func even(atOnce int) func(time.Duration) int {
	return func(span time.Duration) int { return atOnce + int(limit*span/window) }
}

// Leases make no more admitted, hold no more than is said, and ask less.
func TestLeases(t *testing.T) {
	s, err := share()
	if err != nil {
		t.Fatal(err)
	}
	for accuracy, all := range s {
		admitted := 0
		for n, one := range all {
			if one.admitted {
				admitted++
			}
			if out := sharedLimit - admitted - one.left; out < 0 || out > replicas*sharedLimit/20 || accuracy == limiter.Exact && out != 0 {
				t.Fatalf("%s: after %d requests %d tokens are leased out", accuracy, n+1, out)
			}
		}
		if admitted != sharedLimit {
			t.Errorf("%s: %d admitted", accuracy, admitted)
		}
	}
	if leased, exact := s.asked(limiter.Leased), s.asked(limiter.Exact); exact < sharedLimit || leased > exact/4 {
		t.Errorf("asked %d times, and %d for exact", leased, exact)
	}
}
