package redistest

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// through returns a client that speaks through f and never retries. Its pool is large enough that the few failed dials of a
// test do not make it fail fast: after as many as its size it asks only once a second whether the server is back.
func through(t *testing.T, f *Fault) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(f.URL())
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.DialerRetries, o.PoolSize, o.ContextTimeoutEnabled = -1, 1, 100, true
	c := redis.NewClient(o)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestFaultPasses(t *testing.T) {
	s := Start(t)
	c := through(t, s.Fault())
	mustSet(t, c, "k", string(make([]byte, 1<<20)))
	wantGet(t, c, "k", string(make([]byte, 1<<20)))
}

func TestFaultDelay(t *testing.T) {
	f := Start(t).Fault()
	c := through(t, f)
	mustSet(t, c, "k", "v")
	const d = 30 * time.Millisecond
	f.Delay(d)
	began := time.Now()
	wantGet(t, c, "k", "v")
	if took := time.Since(began); took < d {
		t.Errorf("took %v, want at least %v", took, d)
	}
	// A delay longer than the test ends with Heal.
	f.Delay(time.Hour)
	done := make(chan error, 1)
	go func() { done <- c.Get(context.Background(), "k").Err() }()
	f.Heal()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestFaultHold(t *testing.T) {
	s := Start(t)
	f := s.Fault()
	c := through(t, f)
	mustSet(t, c, "k", "v")
	f.Hold()
	if err := c.Get(within(t, 50*time.Millisecond), "k").Err(); !timedOut(err) {
		t.Errorf("answered while held: %v", err)
	}
	f.Heal()
	wantGet(t, c, "k", "v")
}

func TestFaultGarbage(t *testing.T) {
	f := Start(t).Fault()
	c := through(t, f)
	mustSet(t, c, "k", "v")
	f.Garbage()
	if err := c.Get(within(t, 5*time.Second), "k").Err(); err == nil || timedOut(err) {
		t.Errorf("garbage was read as %v", err)
	}
	f.Heal()
	wantGet(t, c, "k", "v")
}

func TestFaultHalve(t *testing.T) {
	f := Start(t).Fault()
	c := through(t, f)
	mustSet(t, c, "k", "v")
	f.Halve()
	if err := c.Get(within(t, 5*time.Second), "k").Err(); err == nil || timedOut(err) {
		t.Errorf("half a reply was read as %v", err)
	}
	f.Heal()
	wantGet(t, c, "k", "v")
}

func TestFaultCut(t *testing.T) {
	f := Start(t).Fault()
	c := through(t, f)
	mustSet(t, c, "k", "v")
	for range 2 {
		f.Cut()
		if err := c.Get(t.Context(), "k").Err(); err == nil {
			t.Error("answered while cut")
		}
		if err := c.Get(t.Context(), "k").Err(); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v, want refused", err)
		}
		f.Heal()
		wantGet(t, c, "k", "v")
	}
}

// A child that was forked before a listener was closed keeps it open until it executes its program.
func TestFaultWaitsForItsAddress(t *testing.T) {
	s := Start(t)
	f := s.Fault()
	c := through(t, f)
	f.Cut()
	child, err := net.Listen("tcp", f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { child.Close() })
	f.Heal()
	mustSet(t, c, "k", "v")
}

func TestFaultOutlivesTheServer(t *testing.T) {
	s := Start(t)
	f := s.Fault()
	c := through(t, f)
	mustSet(t, c, "k", "v")
	s.Stop()
	if err := c.Get(t.Context(), "k").Err(); err == nil {
		t.Error("answered without a server")
	}
	if err := c.Get(t.Context(), "k").Err(); err == nil {
		t.Error("answered without a server")
	}
	s.Restart()
	wantGet(t, c, "k", "v")
}

func TestFaultEndsWhileHeld(t *testing.T) {
	t.Run("inner", func(t *testing.T) {
		f := Start(t).Fault()
		c := through(t, f)
		mustSet(t, c, "k", "v")
		f.Hold()
		c.Get(within(t, 20*time.Millisecond), "k")
	}) // goleak sees the rest
}

func TestFaultOfAnythingElse(t *testing.T) {
	if f := NewFault(t, Start(t).Addr()); f.URL() != "" {
		t.Errorf("URL %q of an unknown server", f.URL())
	}
}
