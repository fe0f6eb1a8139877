package admin

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func profiled(t *testing.T, o Options) http.Handler {
	t.Helper()
	o.Handle = Profiles
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestProfiles(t *testing.T) {
	h := profiled(t, Options{Listen: "127.0.0.1:9090"})
	list := getPath(h, "/debug/pprof/")
	if got, want := list.Body.String(), "allocs\nblock\ngoroutine\nheap\nmutex\nprofile\nthreadcreate\ntrace\n"; got != want || list.Code != 200 {
		t.Errorf("%d %q, want %q", list.Code, got, want)
	}
	for name := range strings.Lines(list.Body.String()) {
		name = strings.TrimSpace(name)
		w := getPath(h, "/debug/pprof/"+name+"?seconds=1")
		form := []byte{0x1f, 0x8b} // gzip
		if name == "trace" {
			form = []byte("go 1.")
		}
		if w.Code != 200 || !bytes.HasPrefix(w.Body.Bytes(), form) {
			t.Errorf("%s: %d %.60q", name, w.Code, w.Body)
		}
	}
	for path, want := range map[string]int{
		"/debug/pprof/profile?seconds=0": 400, "/debug/pprof/profile?seconds=61": 400, "/debug/pprof/block?seconds=1.5": 400, "/debug/pprof/allocs?seconds=3600": 400,
		"/debug/pprof/cmdline": 404, "/debug/pprof/heap/x": 404,
	} {
		if p := wantProblem(t, getPath(h, path)); p.Status != want {
			t.Errorf("%s: %d, want %d", path, p.Status, want)
		}
	}
}

// Two profiles at once would each have the other's work in them.
func TestOneProfileAtATime(t *testing.T) {
	h := profiled(t, Options{Listen: "127.0.0.1:9090"})
	var all sync.WaitGroup
	first := make(chan *httptest.ResponseRecorder, 2)
	for range 2 {
		all.Go(func() { first <- getPath(h, "/debug/pprof/mutex?seconds=1") })
	}
	all.Wait()
	a, b := <-first, <-first
	if a.Code+b.Code != 200+409 {
		t.Errorf("%d and %d", a.Code, b.Code)
	}
	for end := time.Now().Add(20 * time.Second); getPath(h, "/debug/pprof/block?seconds=1").Code != 200; {
		if time.Now().After(end) {
			t.Fatal("none can be taken any more")
		}
	}
}

// What a process does is nothing for everybody.
func TestProfilesAreGuarded(t *testing.T) {
	h := profiled(t, Options{Listen: "0.0.0.0:9090"})
	if w := getPath(h, "/debug/pprof/heap"); w.Code != 403 {
		t.Errorf("%d without a token", w.Code)
	}
}
