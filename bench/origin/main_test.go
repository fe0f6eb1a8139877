package main

import (
	"context"
	"testing"
	"time"
)

func TestRefusals(t *testing.T) {
	for name, o := range map[string]options{
		"something else":       {listen: "127.0.0.1:0", as: "other"},
		"bodies below nothing": {listen: "127.0.0.1:0", as: "floor", size: -1},
		"TLS of the origin":    {listen: "127.0.0.1:0", as: "origin", listenTLS: "127.0.0.1:0"},
		"no certificate":       {listen: "127.0.0.1:0", as: "nethttp", listenTLS: "127.0.0.1:0"},
	} {
		if err := o.run(t.Context()); err == nil {
			t.Errorf("%s is not refused", name)
		}
	}
	for _, listen := range []string{"", "0.0.0.0:0", ":0", "192.0.2.1:0", "localhost:0", "127.0.0.1"} {
		if err := (&options{listen: listen, as: "origin"}).run(t.Context()); err == nil {
			t.Errorf("it listens on %q", listen)
		}
	}
}

func TestEnds(t *testing.T) {
	for _, as := range []string{"origin", "floor", "nethttp"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := (&options{listen: "127.0.0.1:0", as: as, slow: time.Second, size: 1024}).run(ctx); err != nil {
			t.Errorf("%s: %v", as, err)
		}
		cancel()
	}
}
