package store

import (
	"strings"
	"testing"

	"cacheproxy/redistest"
)

func TestInspect(t *testing.T) {
	bounded := redistest.Start(t, "--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru")
	facts, err := Inspect(t.Context(), dial(t, bounded.URL(), DialOptions{}))
	if err != nil || facts.MaxMemory != 20<<20 || facts.Policy != "allkeys-lru" || !strings.Contains(facts.Version, " ") {
		t.Errorf("%+v, %v", facts, err)
	}
	if facts, err = Inspect(t.Context(), dial(t, bounded.URL()+"/999", DialOptions{})); err == nil || !strings.Contains(err.Error(), "DB index") {
		t.Errorf("a database that is not there: %+v, %v", facts, err)
	}
	limited := redistest.StartWith(t, redistest.Options{User: "app", Password: "p", Rules: "~cp:* +get"})
	if facts, err = Inspect(t.Context(), dial(t, limited.URL(), DialOptions{})); err != nil || facts != (Facts{}) {
		t.Errorf("a user who may not ask: %+v, %v", facts, err)
	}
	limited.Kill()
	if _, err = Inspect(t.Context(), dial(t, limited.URL(), DialOptions{})); err == nil {
		t.Error("a Redis that is down is not")
	}
}
