package store

import (
	"fmt"
	"runtime"
	"testing"
	"weak"

	"cacheproxy/redistest"
)

// A Redis that takes no writes for a while, after a failover say, is told again what to forget.
func TestForgetIsToldAgainToARedisThatTakesNoWrites(t *testing.T) {
	for _, c := range []struct {
		name        string
		close, open []any
	}{
		{"replica", []any{"replicaof", "127.0.0.1", "1"}, []any{"replicaof", "no", "one"}},
		{"too few replicas", []any{"config", "set", "min-replicas-to-write", "1"}, []any{"config", "set", "min-replicas-to-write", "0"}},
	} {
		for _, kind := range []string{"Forget", "ForgetEntry"} {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				server := redistest.Start(t)
				client := dial(t, server.URL(), DialOptions{Timeout: patience})
				s, m := troubled(t, server.URL(), nil)
				e := saved(t, s, draft("http://a.example/x"))
				if err := client.Do(t.Context(), c.close...).Err(); err != nil {
					t.Fatal(err)
				}
				if kind == "Forget" {
					s.Forget(e.URL())
				} else {
					s.ForgetEntry(e)
				}
				for count(t, m, "redis_errors_total") == 0 && s.far.saver.forgetsNow.Load() > 0 {
					runtime.Gosched()
				}
				if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry != nil {
					t.Errorf("while it is refused: %+v", r)
				}
				if err := client.Do(t.Context(), c.open...).Err(); err != nil {
					t.Fatal(err)
				}
				flush(t, s)
				if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry != nil {
					t.Errorf("afterwards: %+v", r)
				}
			})
		}
	}
}

func TestForgetEntryInAFullRedis(t *testing.T) {
	server := redistest.StartWith(t, redistest.Options{MaxMemory: "3mb", Policy: "noeviction"})
	s, _ := troubled(t, server.URL(), patiently)
	e := saved(t, s, draft("http://a.example/x"))
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	for i := 0; client.Set(t.Context(), fmt.Sprint(i), make([]byte, 100<<10), 0).Err() == nil; i++ {
	}
	s.ForgetEntry(e)
	flush(t, s)
	if r := s.Lookup(t.Context(), e.Key(), nil); r.Entry != nil {
		t.Errorf("%+v", r)
	}
}

// A forget may wait for hours, and there may be many: none keeps its entry in memory.
func TestForgetsThatWaitHoldNoEntries(t *testing.T) {
	server := redistest.Start(t)
	s, _ := troubled(t, server.URL(), func(o *Options) { o.SaveWorkers = 1 })
	server.Stop()
	var entries []weak.Pointer[Entry]
	for i := range 10 {
		e := mustEntry(t, draft(fmt.Sprintf("http://a.example/%d", i)))
		entries = append(entries, weak.Make(e))
		s.ForgetEntry(e)
		s.Forget(e.URL())
	}
	runtime.GC()
	for i, e := range entries {
		if e.Value() != nil {
			t.Errorf("entry %d is still in memory", i)
		}
	}
	server.Restart()
	flush(t, s)
}
