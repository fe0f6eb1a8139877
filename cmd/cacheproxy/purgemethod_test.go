package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// What the configuration says of purging and of tags is what the running process does.
func TestPurgeAndTagsAsConfigured(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("X-Tags", "a, b")
		w.Header().Set("Surrogate-Key", "c")
		w.Header().Set("Cache-Groups", `"g"`)
	}))
	t.Cleanup(origin.Close)
	for _, c := range []struct {
		name, config string
		status       int    // of a PURGE
		again        bool   // the response is fetched again after it
		sent         string // fields of tags
	}{
		{"default", "", 405, false, "map[X-Tags:[a, b]]"},
		{"named", "client: {purge: ['::1', 127.0.0.0/8]}\ncache: {tag_headers: [x-tags]}\n", 200, true, "map[Surrogate-Key:[c]]"},
		{"kept", "client: {purge: [192.0.2.0/24]}\ncache: {tag_fields: keep}\n", 405, false, "map[Cache-Groups:[\"g\"] Surrogate-Key:[c] X-Tags:[a, b]]"},
		{"no tags", "cache: {tag_headers: []}\n", 405, false, "map[Surrogate-Key:[c] X-Tags:[a, b]]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(file, []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
			p := start(t, nil, "--upstream", origin.URL, "--config", file)
			ask(t, p.public+"/a")
			hit := ask(t, p.public+"/a")
			sent := http.Header{}
			for _, name := range []string{"X-Tags", "Surrogate-Key", "Cache-Groups"} {
				if v := hit.header[name]; v != nil {
					sent[name] = v
				}
			}
			if got := fmt.Sprint(sent); got != c.sent || !hitStatus.MatchString(hit.header.Get("Cache-Status")) {
				t.Errorf("%s: %s, want %s", hit.header.Get("Cache-Status"), got, c.sent)
			}
			if got := purge(t, p.public+"/a"); got != c.status {
				t.Errorf("PURGE: %d, want %d", got, c.status)
			}
			if again := !hitStatus.MatchString(ask(t, p.public+"/a").header.Get("Cache-Status")); again != c.again {
				t.Errorf("fetched again: %t, want %t", again, c.again)
			}
		})
	}
}

// purge sends a PURGE and returns the status.
func purge(t *testing.T, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "PURGE", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}
