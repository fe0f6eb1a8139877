package profile

import (
	"context"
	"net/http"
	"net/http/httptest"
	_ "net/http/pprof" // on http.DefaultServeMux
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// kept has what busy allocates, which would not be allocated otherwise.
var kept []byte

// busy is where the test's own work is found in its profiles.
//
//go:noinline
func busy() {
	for range 1000 {
		kept = make([]byte, 1000)
	}
}

func TestTake(t *testing.T) {
	server := httptest.NewServer(http.DefaultServeMux)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			busy()
		}
	}()
	dir := filepath.Join(t.TempDir(), "new")
	err := Take(t.Context(), server.URL+"/", time.Second, dir, "A test")
	cancel()
	<-ended
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cpu.pprof", "allocs.pprof", "heap.pprof", "block.pprof", "mutex.pprof"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, title := range map[string]string{"cpu.svg": ">A test: processor time<", "allocs.svg": ">A test: bytes allocated<"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(text), title) || !strings.Contains(string(text), "profile.busy") {
			t.Errorf("%s: %v, %.2000s", name, err, text)
		}
	}
}

func TestTakeFromNobody(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	if err := Take(t.Context(), server.URL, time.Second, t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
	if err := Take(t.Context(), server.URL, time.Millisecond, t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("%v", err)
	}
}
