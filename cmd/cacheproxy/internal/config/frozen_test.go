package config

import (
	"reflect"
	"slices"
	"testing"
)

func TestKeepWhatCannotChange(t *testing.T) {
	running, next := Default(), Default()
	next.Listen = Listeners{{Address: ":1"}}
	next.Server.MaxHeader, next.Server.MaxBody = 1<<20, 5
	next.Near.Size = 1 << 30
	next.Log.Format, next.Log.Redact = "text", []string{"a"}
	next.Cache.Name = "other"
	next.Events = []Event{{Channel: "a"}}
	if got, want := next.Keep(running), []string{"listen", "server.max_header", "near", "events", "log.format"}; !slices.Equal(got, want) {
		t.Errorf("restart for %v, want %v", got, want)
	}
	if got, want := next.Changed(running), []string{"server", "cache", "log"}; !slices.Equal(got, want) {
		t.Errorf("changed %v, want %v", got, want)
	}
	if next.Server.MaxBody != 5 || next.Server.MaxHeader != running.Server.MaxHeader || !reflect.DeepEqual(next.Listen, running.Listen) {
		t.Errorf("%+v", next.Server)
	}
}

// Every frozen key is one.
func TestFrozenKeysExist(t *testing.T) {
	for _, key := range frozen {
		if !Default().at(key).IsValid() {
			t.Errorf("%s is no key", key)
		}
	}
}
