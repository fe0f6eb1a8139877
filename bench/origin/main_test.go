package main

import (
	"context"
	"testing"
	"time"
)

func TestRefusals(t *testing.T) {
	ctx := context.Background()
	for _, listen := range []string{"", "0.0.0.0:0", ":0", "192.0.2.1:0", "localhost:0", "127.0.0.1"} {
		if err := run(ctx, listen, "origin", 0, 0); err == nil {
			t.Errorf("it listens on %q", listen)
		}
	}
	if err := run(ctx, "127.0.0.1:0", "other", 0, 0); err == nil {
		t.Error("it is something else")
	}
	if err := run(ctx, "127.0.0.1:0", "floor", 0, -1); err == nil {
		t.Error("it has bodies of less than nothing")
	}
}

func TestEnds(t *testing.T) {
	for _, as := range []string{"origin", "floor", "nethttp"} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		if err := run(ctx, "127.0.0.1:0", as, time.Second, 1024); err != nil {
			t.Errorf("%s: %v", as, err)
		}
		cancel()
	}
}
