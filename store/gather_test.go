package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/bubble"
	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// Many lookups at once each get their own answer, hits and misses alike, and take fewer pipelines than there are lookups.
func TestGatheredLookups(t *testing.T) {
	const urls, askers, rounds = 40, 64, 50
	server := redistest.Start(t)
	s := newStore(t, farOptions(dial(t, server.URL(), DialOptions{Timeout: patience})))
	for i := range urls {
		d := draft(fmt.Sprint("http://a.example/", i))
		d.Body = fmt.Appendf(nil, "body %d", i)
		saved(t, s, d)
	}
	var wg sync.WaitGroup
	for a := range askers {
		wg.Go(func() {
			for round := range rounds {
				i := (a*31 + round*7) % (2 * urls)
				r := s.Lookup(t.Context(), policy.Key{URL: fmt.Sprint("http://a.example/", i)}, nil)
				switch {
				case r.Reason != policy.None:
					t.Errorf("%d: %+v", i, r)
				case i >= urls && r.Entry != nil, i < urls && (r.Entry == nil || string(r.Entry.Body()) != fmt.Sprintf("body %d", i)):
					t.Errorf("%d: another answer: %+v", i, r)
				}
			}
		})
	}
	wg.Wait()
	if g := s.far.gather; g.flights != 0 || len(g.waiting) != 0 {
		t.Errorf("%d pipelines and %d lookups are left", g.flights, len(g.waiting))
	}
}

// held is a client whose pipelines wait until they are let go.
type held struct {
	*redis.Client
	sent chan int   // how many lookups a pipeline has
	let  chan error // how it ends
}

func newHeld() *held {
	h := &held{Client: redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}), sent: make(chan int, 100), let: make(chan error)}
	h.AddHook(h)
	return h
}

func (h *held) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (h *held) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h *held) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.sent <- len(cmds) / 2
		select {
		case err := <-h.let:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// The first lookups go at once, each alone; those that come while they are under way go together when one of them ends, whoever of them has
// left, and an error of the connection is everybody's.
func TestGathering(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		h := newHeld()
		defer h.Close()
		g := newGatherer(h)
		ends := make(chan error, 100)
		ask := func(ctx context.Context) {
			go func() {
				ends <- g.ask(ctx, time.Minute)
			}()
			synctest.Wait()
		}
		for range gatherFrom {
			ask(t.Context())
			if n := <-h.sent; n != 1 {
				t.Errorf("%d lookups go together though nothing is gained", n)
			}
		}
		leaving, leave := context.WithCancel(t.Context())
		ask(leaving)
		for range gatherMost + 2 {
			ask(t.Context())
		}
		leave()
		synctest.Wait()
		if err := <-ends; !errors.Is(err, context.Canceled) {
			t.Errorf("who leaves gets %v", err)
		}
		broken := errors.New("broken")
		h.let <- nil
		if n := <-h.sent; n != gatherMost {
			t.Errorf("%d lookups go together", n)
		}
		for range gatherFrom - 1 { // the others that went alone; who waits longest is let first
			h.let <- nil
		}
		if n := <-h.sent; n != 2 {
			t.Errorf("then %d lookups go together", n)
		}
		h.let <- broken
		synctest.Wait()
		failed := 0
		for len(ends) > 0 {
			if errors.Is(<-ends, broken) {
				failed++
			}
		}
		if failed != gatherMost {
			t.Errorf("%d of %d are told that their pipeline failed", failed, gatherMost)
		}
		for g.inFlight() > 0 {
			h.let <- nil
			synctest.Wait()
		}
	})
}

// Who leaves when it is its turn to send for others sends all the same.
func TestLeaderLeaves(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		h := newHeld()
		defer h.Close()
		g := newGatherer(h)
		ends := time.Now().Add(time.Minute)
		batch := []*lookup{{turn: make(chan []*lookup, 1), ends: ends}, {turn: make(chan []*lookup, 1), ends: ends}}
		batch[0].turn <- batch
		g.flights = 1
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		go func() { <-h.sent; h.let <- nil }()
		g.leave(gone, batch[0])
		if rest := <-batch[1].turn; rest != nil || g.inFlight() != 0 {
			t.Errorf("%v, %d in flight", rest, g.inFlight())
		}
	})
}

// A lookup waits for its turn as long as it may and no longer, or as long as its caller may, whatever those did that waited before it.
func TestWaitingEndsInTime(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		h := newHeld()
		defer h.Close()
		g := newGatherer(h)
		var wg sync.WaitGroup
		occupy := func() {
			for range gatherFrom {
				wg.Go(func() { _ = g.ask(t.Context(), time.Hour) })
			}
			synctest.Wait()
		}
		free := func(pipelines int) {
			for range pipelines {
				h.let <- nil
			}
		}
		occupy()
		ends := func(ctx context.Context, timeout, want time.Duration, reason error) {
			t.Helper()
			began := time.Now()
			if err := g.ask(ctx, timeout); !errors.Is(err, reason) || time.Since(began) != want {
				t.Errorf("ends with %v after %v, wanted %v after %v", err, time.Since(began), reason, want)
			}
		}
		for range 3 {
			ends(t.Context(), 10*time.Millisecond, 10*time.Millisecond, context.DeadlineExceeded)
			ends(t.Context(), 30*time.Millisecond, 30*time.Millisecond, context.DeadlineExceeded)
			ends(t.Context(), -time.Millisecond, 0, context.DeadlineExceeded)

			sooner, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			ends(sooner, 10*time.Millisecond, 5*time.Millisecond, context.DeadlineExceeded)
			cancel()
			leaving, leave := context.WithCancel(t.Context())
			time.AfterFunc(7*time.Millisecond, leave)
			ends(leaving, 10*time.Millisecond, 7*time.Millisecond, context.Canceled)

			go func() { // and one whose turn comes
				time.Sleep(time.Millisecond)
				free(1)
				time.Sleep(time.Millisecond)
				free(gatherFrom)
			}()
			ends(t.Context(), 10*time.Millisecond, 2*time.Millisecond, nil)
			occupy()
		}
		free(gatherFrom)
		wg.Wait()
	})
}

// Who leaves while it is being sent for leaves nothing behind that is told to somebody else as his answer.
func TestNobodyGetsTheAnswerOfOneWhoLeft(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		h := newHeld()
		defer h.Close()
		g := newGatherer(h)
		var answered, left atomic.Int64
		ask := func(ctx context.Context, timeout time.Duration) {
			go func() {
				if g.ask(ctx, timeout) == nil {
					answered.Add(1)
				} else {
					left.Add(1)
				}
			}()
			synctest.Wait()
		}
		for range gatherFrom {
			ask(t.Context(), time.Hour)
		}
		leaving, leave := context.WithCancel(t.Context())
		for range gatherMost - 1 {
			ask(leaving, time.Minute)
		}
		ask(t.Context(), time.Hour) // has the most time, and sends for them
		h.let <- nil
		synctest.Wait()
		leave()
		synctest.Wait()
		for range gatherMost {
			ask(t.Context(), time.Hour)
		}
		if n := left.Load(); n != gatherMost-1 || answered.Load() != 1 {
			t.Fatalf("%d have left, %d are answered", n, answered.Load())
		}
		for _, want := range []int64{2, 3, 4, 5, 5 + gatherMost} { // who asked alone, who was left to send alone, the others
			h.let <- nil
			synctest.Wait()
			if n := answered.Load(); n != want {
				t.Errorf("%d are answered, wanted %d", n, want)
			}
		}
	})
}

// A Redis that stops answering takes no lookup more time than it or its caller has, the one that sends for others included.
func TestGatheredLookupsEndInTime(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		const timeout = 50 * time.Millisecond
		h := newHeld()
		defer h.Close()
		g := newGatherer(h)
		var wg sync.WaitGroup
		for i := range gatherFrom + 2*gatherMost {
			wg.Go(func() {
				began := time.Now()
				ctx, own := t.Context(), timeout
				if i%3 == 0 {
					limited, cancel := context.WithTimeout(ctx, timeout)
					defer cancel()
					ctx, own = limited, time.Hour
				}
				err := g.ask(ctx, own)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("ends with %v", err)
				}
				if took := time.Since(began); took > timeout {
					t.Errorf("took %v", took)
				}
			})
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if g.inFlight() != 0 {
			t.Errorf("%d in flight", g.inFlight())
		}
	})
}

// ask returns how a lookup ends that has so much time.
func (g *gatherer) ask(ctx context.Context, timeout time.Duration) error {
	got, err := g.do(ctx, "root", "entry", time.Now().Add(timeout))
	if err == nil {
		err = got.failed
	}
	return err
}

func (g *gatherer) inFlight() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flights
}
