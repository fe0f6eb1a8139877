package demo

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func ask(t *testing.T, o *Origin, path string, fields ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://demo.example"+path, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	o.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	var b strings.Builder
	if _, err := io.Copy(&b, r.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPagesSayWhatTheIndexSays(t *testing.T) {
	var waited []time.Duration
	o := New(Options{
		Now:  func() time.Time { return time.Date(2026, 1, 2, 12, 34, 56, 0, time.UTC) },
		Wait: func(_ context.Context, d time.Duration) bool { waited = append(waited, d); return len(waited) == 1 },
	})
	index := body(t, ask(t, o, "/"))
	for _, p := range pages {
		if !strings.Contains(index, `href="`+p.Path+`"`) {
			t.Errorf("the index does not link to %s", p.Path)
		}
		response := ask(t, o, p.Path)
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", p.Path, response.StatusCode)
		}
		name, value, _ := strings.Cut(strings.Split(p.Says, ", ETag")[0], ": ")
		value, _, _ = strings.Cut(value, ", Vary")
		value, _, _ = strings.Cut(value, ", Surrogate-Key")
		value, _, _ = strings.Cut(value, ", Set-Cookie")
		if got := response.Header.Get(name); !strings.HasPrefix(got, value) {
			t.Errorf("%s: %s is %q, the index says %q", p.Path, name, got, value)
		}
	}
	if want := []time.Duration{2 * time.Second, time.Second}; len(waited) != 2 || waited[0] != want[0] || waited[1] != want[1] {
		t.Errorf("waited %v, want %v", waited, want)
	}
}

func TestCounterCountsRequestsThatReachedTheOrigin(t *testing.T) {
	o := New(Options{})
	ask(t, o, "/clock")
	ask(t, o, "/clock")
	var hits map[string]int
	if err := json.Unmarshal([]byte(body(t, ask(t, o, "/counter"))), &hits); err != nil {
		t.Fatal(err)
	}
	if hits["/clock"] != 2 || hits["/counter"] != 1 {
		t.Errorf("counted %v", hits)
	}
}

func TestLogoIsValidated(t *testing.T) {
	o := New(Options{})
	tag := ask(t, o, "/logo").Header.Get("ETag")
	if got := ask(t, o, "/logo", "If-None-Match", tag); got.StatusCode != http.StatusNotModified {
		t.Errorf("status %d for its own ETag", got.StatusCode)
	}
}

func TestVaryGreetsByLanguage(t *testing.T) {
	o := New(Options{})
	for language, want := range map[string]string{"": "Good day.", "fr-CH": "Bonjour.", "DE": "Guten Tag.", "tlh": "Good day."} {
		if got := body(t, ask(t, o, "/vary", "Accept-Language", language)); !strings.HasPrefix(got, want) {
			t.Errorf("Accept-Language %q: %q", language, got)
		}
	}
}

func TestFlakyFailsEverySecondTime(t *testing.T) {
	o := New(Options{})
	for i, want := range []int{200, 503, 200, 503} {
		if got := ask(t, o, "/flaky"); got.StatusCode != want {
			t.Errorf("answer %d: status %d, want %d", i+1, got.StatusCode, want)
		}
	}
}

func TestWaitEndsWithTheClient(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if wait(ctx, time.Hour) {
		t.Error("waited for a client that had left")
	}
	if !wait(t.Context(), 0) {
		t.Error("did not wait")
	}
}
