package body

import (
	"bytes"
	"testing"
)

func TestPathsAreWhatTheyName(t *testing.T) {
	for _, r := range []Resource{{Hit, 1024, 17}, {Pass, 0, 0}, {Slow, MaxSize, 1<<64 - 1}} {
		got, err := Parse(r.Path())
		if err != nil || got != r {
			t.Errorf("%s: %v, %v", r.Path(), got, err)
		}
	}
	for _, bad := range []string{"", "/", "hit/1/1", "/hit/1", "/hit/1/", "/hit/-1/1", "/hit/4194305/1", "/hit/1/-1", "/hit/1/1/1", "/other/1/1", "/hit/1/1?q"} {
		if r, err := Parse(bad); err == nil {
			t.Errorf("%q is taken for %v", bad, r)
		}
	}
}

func TestBodies(t *testing.T) {
	seen := map[string]Resource{}
	for _, size := range []int{0, 1, 14, 15, 16, 1024, MaxSize} {
		for id := range uint64(4) {
			r := Resource{Hit, size, id}
			got := r.AppendBody([]byte("before"))[len("before"):]
			if len(got) != size {
				t.Errorf("%s has %d bytes", r.Path(), len(got))
			}
			if want := r.Path() + "\n"; size > len(want) && !bytes.HasPrefix(got, []byte(want)) {
				t.Errorf("%s begins with %q", r.Path(), got[:len(want)])
			}
			if !bytes.Equal(got, r.AppendBody(nil)) {
				t.Errorf("%s is another one each time", r.Path())
			}
			if was, double := seen[string(got)]; double && size > 20 {
				t.Errorf("%s is the same as %s", r.Path(), was.Path())
			}
			seen[string(got)] = r
		}
	}
}
