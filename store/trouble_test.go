package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cacheproxy/internal/breaker"
	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// In these tests Redis is dead, silent, slow or full. What a request may wait is the timeout; slack is what a busy machine
// may add before a test calls it too long.
const (
	shortTimeout = 150 * time.Millisecond
	slack        = time.Second
)

// troubled makes a store whose lookups all ask Redis at url, and its metrics.
func troubled(t *testing.T, url string, change func(*Options)) (*Store, *metrics.Metrics) {
	t.Helper()
	m := metrics.New()
	o := farOptions(nil)
	o.Timeout = shortTimeout
	o.Metrics = m
	o.Breaker = breaker.Options{Failures: 3, Cooldown: 20 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	o.Redis = dial(t, url, DialOptions{Timeout: o.Timeout})
	return newStore(t, o), m
}

// patiently is a change for tests in which no timeout is to come first.
func patiently(o *Options) { o.Timeout = patience }

// failUntilOpen looks up until the breaker opens, and holds each lookup to the timeout.
func failUntilOpen(t *testing.T, s *Store) {
	t.Helper()
	key := policy.Key{URL: "http://a.example/x"}
	for i := range 3 {
		start := time.Now()
		r := s.Lookup(t.Context(), key, nil)
		if took := time.Since(start); took > shortTimeout+slack {
			t.Errorf("lookup %d took %v", i, took)
		}
		if r.Entry != nil || r.Reason != policy.StoreUnavailable {
			t.Errorf("lookup %d: %+v", i, r)
		}
	}
}

func awaitClosed(t *testing.T, s *Store) {
	t.Helper()
	select {
	case <-s.far.breaker.WhenClosed():
	case <-time.After(patience):
		t.Fatal("the breaker did not close")
	}
}

func TestRedisInTrouble(t *testing.T) {
	for _, c := range []struct {
		name         string
		break_, heal func(*redistest.Server, *redistest.Fault)
		causes       []string // under which the failures may be counted
	}{
		{"dead", func(s *redistest.Server, _ *redistest.Fault) { s.Kill() },
			func(s *redistest.Server, _ *redistest.Fault) { s.Restart() }, []string{"connection", "connect", "timeout"}},
		{"refused", func(_ *redistest.Server, f *redistest.Fault) { f.Cut() },
			func(_ *redistest.Server, f *redistest.Fault) { f.Heal() }, []string{"connect", "connection"}},
		{"stopped", func(s *redistest.Server, _ *redistest.Fault) { s.Pause() },
			func(s *redistest.Server, _ *redistest.Fault) { s.Resume() }, []string{"timeout"}},
		{"silent", func(_ *redistest.Server, f *redistest.Fault) { f.Hold() },
			func(_ *redistest.Server, f *redistest.Fault) { f.Heal() }, []string{"timeout"}},
		{"slow", func(_ *redistest.Server, f *redistest.Fault) { f.Delay(10 * time.Second) },
			func(_ *redistest.Server, f *redistest.Fault) { f.Heal() }, []string{"timeout"}},
		{"garbled", func(_ *redistest.Server, f *redistest.Fault) { f.Garbage() },
			func(_ *redistest.Server, f *redistest.Fault) { f.Heal() }, []string{"connection", "timeout"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := redistest.Start(t)
			fault := server.Fault()
			s, m := troubled(t, fault.URL(), func(o *Options) { o.Breaker.Cooldown = time.Hour })
			e := saved(t, s, draft("http://a.example/y"))

			c.break_(server, fault)
			failUntilOpen(t, s)
			if s.far.breaker.Allow() {
				t.Error("the breaker did not open")
			}
			if got := count(t, m, "breaker_state", "target", "redis"); got != breaker.Open {
				t.Errorf("breaker_state is %v", got)
			}
			var counted float64
			for _, cause := range c.causes {
				counted += count(t, m, "redis_errors_total", "cause", cause)
			}
			if counted != 3 {
				t.Errorf("%v errors counted under %v", counted, c.causes)
			}
			asked := count(t, m, "redis_seconds", "op", "lookup")
			if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry != nil || r.Reason != policy.StoreUnavailable {
				t.Errorf("breaker open: %+v", r)
			}
			if r := s.Save(e); r != policy.StoreUnavailable {
				t.Errorf("breaker open: Save says %q", r)
			}
			if now := count(t, m, "redis_seconds", "op", "lookup"); now != asked {
				t.Error("asked although the breaker is open")
			}
			if got := count(t, m, "saves_total", "result", savedError); got != 1 {
				t.Errorf("%v saves counted as error", got)
			}
			c.heal(server, fault)
		})
	}
}

func TestRedisComesBack(t *testing.T) {
	for _, c := range []struct {
		name         string
		break_, heal func(*redistest.Server, *redistest.Fault)
	}{
		{"restarted", func(s *redistest.Server, _ *redistest.Fault) { s.Stop() },
			func(s *redistest.Server, _ *redistest.Fault) { s.Restart() }},
		{"resumed", func(s *redistest.Server, _ *redistest.Fault) { s.Pause() },
			func(s *redistest.Server, _ *redistest.Fault) { s.Resume() }},
		{"healed", func(_ *redistest.Server, f *redistest.Fault) { f.Cut() },
			func(_ *redistest.Server, f *redistest.Fault) { f.Heal() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := redistest.Start(t, "--appendonly", "yes")
			fault := server.Fault()
			s, m := troubled(t, fault.URL(), nil)
			e := saved(t, s, draft("http://a.example/y"))
			gone := saved(t, s, draft("http://a.example/gone"))
			if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry == nil {
				t.Fatalf("before: %+v", r)
			}
			c.break_(server, fault)
			failUntilOpen(t, s)
			s.Forget(gone.URL()) // waits for Redis to come back
			if r := s.Lookup(t.Context(), gone.Key(), nil); r.Entry != nil {
				t.Errorf("forgotten: %+v", r)
			}
			c.heal(server, fault)
			awaitClosed(t, s)
			flush(t, s)
			if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry == nil {
				t.Errorf("after: %+v", r)
			}
			if got := count(t, m, "breaker_state", "target", "redis"); got != breaker.Closed {
				t.Errorf("breaker_state is %v", got)
			}
			other := newStore(t, farOptions(dial(t, server.URL(), DialOptions{Timeout: patience})))
			if r := other.Lookup(t.Context(), gone.Key(), nil); r.Entry != nil {
				t.Errorf("forgotten while Redis was away: %+v", r)
			}
		})
	}
}

func TestRedisDeadAtStart(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	s, _ := troubled(t, server.URL(), nil)
	failUntilOpen(t, s)
	server.Restart()
	awaitClosed(t, s)
	e := saved(t, s, draft("http://a.example/x"))
	if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry == nil {
		t.Errorf("%+v", r)
	}
}

// Near memory goes on without Redis, and what it takes counts as stored.
func TestNearGoesOnWithoutRedis(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	s, _ := troubled(t, server.URL(), func(o *Options) { o.NearMaxObject = 0 })
	failUntilOpen(t, s)
	e := mustEntry(t, draft("http://a.example/x"))
	if r := s.Save(e); r != policy.None {
		t.Error(r)
	}
	if r := s.Lookup(t.Context(), e.Key(), nil); r.Tier != TierNear {
		t.Errorf("%+v", r)
	}
}

func TestRedisFull(t *testing.T) {
	server := redistest.StartWith(t, redistest.Options{MaxMemory: "3mb", Policy: "noeviction"})
	s, m := troubled(t, server.URL(), func(o *Options) {
		o.Timeout = patience
		o.SaveBytes = 1 << 30
	})
	s.far.saver.pauseTime = time.Hour
	kept := saved(t, s, draft("http://a.example/kept"))
	d := draft("")
	d.Body = make([]byte, 512<<10)
	reason := policy.None
	for i := 0; reason == policy.None && i < 50; i++ {
		d.Key.URL = fmt.Sprintf("http://a.example/%d", i)
		reason = s.Save(mustEntry(t, d))
		flush(t, s)
	}
	if reason != policy.StoreFull {
		t.Errorf("saving goes on: %q", reason)
	}
	if count(t, m, "redis_errors_total", "cause", "oom") != 1 {
		t.Error("saving did not pause after the first refusal")
	}
	if count(t, m, "saves_total", "result", savedError) != 2 {
		t.Error("the refused save and the one after it are not counted as error")
	}
	if r := s.Lookup(t.Context(), kept.Key(), nil); r.Entry == nil || !s.far.breaker.Allow() {
		t.Errorf("a full Redis no longer answers: %+v", r)
	}
	s.Forget(kept.URL())
	flush(t, s)
	if r := s.Lookup(t.Context(), kept.Key(), nil); r.Entry != nil {
		t.Errorf("a full Redis no longer forgets: %+v", r)
	}
}

func TestSavesThatWait(t *testing.T) {
	server := redistest.Start(t)
	d := draft("http://a.example/0")
	d.Body = make([]byte, 100<<10)
	one := mustEntry(t, d)
	s, m := troubled(t, server.URL(), func(o *Options) {
		o.SaveWorkers = 1
		o.SaveBytes = 3 * (one.Size() + taskOverhead)
		o.SaveWait = time.Nanosecond
		o.Timeout = patience
	})
	server.Pause()
	s.Forget("http://a.example/other") // holds the worker until Redis goes on
	reasons := make(map[policy.Reason]int)
	for i := range 5 {
		d.Key.URL = fmt.Sprintf("http://a.example/%d", i)
		reasons[s.Save(mustEntry(t, d))]++
	}
	if reasons[policy.None] != 3 || reasons[policy.StoreFull] != 2 {
		t.Errorf("%v", reasons)
	}
	server.Resume()
	flush(t, s)
	for result, want := range map[string]float64{savedDroppedFull: 2, savedDroppedSlow: 3, savedOK: 0, savedError: 0} {
		if got := count(t, m, "saves_total", "result", result); got != want {
			t.Errorf("%s counted %v times, want %v", result, got, want)
		}
	}
	if got := s.far.saver.bytes.Load(); got != 0 {
		t.Errorf("%d bytes are still held against the bound", got)
	}
}

// A forget cancels the saves queued before it, and is followed by those after it.
func TestForgetIsOrderedWithQueuedSaves(t *testing.T) {
	server := redistest.Start(t)
	s, m := troubled(t, server.URL(), func(o *Options) {
		o.SaveWorkers = 1
		o.Timeout = patience
	})
	before, after := draft("http://a.example/x"), draft("http://a.example/x")
	before.Body, after.Body = []byte("before"), []byte("after")
	server.Pause()
	s.Save(mustEntry(t, draft("http://a.example/first"))) // holds the worker
	s.Save(mustEntry(t, before))
	s.Forget(before.Key.URL)
	s.Forget(before.Key.URL) // would do nothing
	if got := s.far.saver.forgetsNow.Load(); got != 1 {
		t.Errorf("%d forgets wait", got)
	}
	s.Save(mustEntry(t, after))
	server.Resume()
	flush(t, s)
	if r := s.Lookup(t.Context(), after.Key, nil); r.Entry == nil || !bytes.Equal(r.Entry.Body(), after.Body) {
		t.Errorf("%+v", r)
	}
	if got := count(t, m, "saves_total", "result", savedRefused); got != 1 {
		t.Errorf("refused counted %v times", got)
	}
	if got := s.far.saver.forgetsNow.Load(); got != 0 {
		t.Errorf("%d forgets wait", got)
	}
}

func TestCloseGivesUpWhenItsContextEnds(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: shortTimeout})
	o := farOptions(client)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	s.Forget("http://a.example/x") // would wait for ever
	ctx, cancel := context.WithTimeout(context.Background(), shortTimeout)
	defer cancel()
	if err := s.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Flush: %v", err)
	}
	if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("second Close: %v", err)
	}
	e := mustEntry(t, draft("http://a.example/x"))
	if r := s.Save(e); r != policy.StoreUnavailable {
		t.Errorf("Save after Close: %q", r)
	}
	if r := s.Lookup(t.Context(), e.Key(), nil); r.Reason != policy.StoreUnavailable {
		t.Errorf("Lookup after Close: %+v", r)
	}
	s.Forget(e.URL())
	if err := s.Flush(context.Background()); err != nil {
		t.Errorf("Flush after Close: %v", err)
	}
}

func TestCloseSavesWhatWaits(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	s, err := New(farOptions(client))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		s.Save(mustEntry(t, draft(fmt.Sprintf("http://a.example/%d", i))))
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := client.DBSize(t.Context()).Val(); n != 40 {
		t.Errorf("%d keys", n)
	}
}

// A client that leaves says nothing about Redis.
func TestCancelledLookupsAreNoFailures(t *testing.T) {
	server := redistest.Start(t)
	s, m := troubled(t, server.URL(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if r := s.Lookup(ctx, policy.Key{URL: "http://a.example/x"}, nil); r.Reason != policy.StoreUnavailable {
			t.Errorf("%+v", r)
		}
	}
	if !s.far.breaker.Allow() || count(t, m, "redis_errors_total") != 0 {
		t.Error("counted as failures of Redis")
	}
}

func TestComplaintsAreRare(t *testing.T) {
	var out strings.Builder
	c := complaints{log: slog.New(slog.NewTextHandler(&out, nil))}
	for range 100 {
		c.say("again")
	}
	if got := strings.Count(out.String(), "again"); got != 1 {
		t.Errorf("logged %d times", got)
	}
}

// A Redis that takes no writes is not asked to write with every response, and reads go on.
func TestRedisTakesNoWrites(t *testing.T) {
	for _, c := range []struct {
		name, cause string
		order       []any
	}{
		{"too few replicas", "reply", []any{"CONFIG", "SET", "min-replicas-to-write", "1"}},
		{"became a replica", "readonly", []any{"REPLICAOF", "127.0.0.1", "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := redistest.Start(t)
			s, m := troubled(t, server.URL(), patiently)
			s.far.saver.pauseTime = time.Hour
			kept := saved(t, s, draft("http://a.example/kept"))
			if err := server.Admin().Do(t.Context(), c.order...).Err(); err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				d := draft(fmt.Sprintf("http://a.example/%d", i))
				want := policy.StoreUnavailable
				if i == 0 {
					want = policy.None // is queued, and refused
				}
				if why := s.Save(mustEntry(t, d)); why != want {
					t.Errorf("save %d: %v", i, why)
				}
				flush(t, s)
			}
			if n := count(t, m, "redis_errors_total", "cause", c.cause); n != 1 {
				t.Errorf("asked to write %v times", n)
			}
			if r := s.Lookup(t.Context(), kept.Key(), nil); r.Entry == nil {
				t.Errorf("reads: %+v", r)
			}
		})
	}
}
