package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
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
				var l lookup
				ctx, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				err := g.do(ctx, &l)
				if err == nil {
					err = l.failed
				}
				ends <- err
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
		if err := g.leave(gone, batch[0]); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if rest := <-batch[1].turn; rest != nil || g.inFlight() != 0 {
			t.Errorf("%v, %d in flight", rest, g.inFlight())
		}
	})
}

// A Redis that stops answering takes no lookup more time than it has, the one that sends for others included.
func TestGatheredLookupsEndInTime(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		const timeout = 50 * time.Millisecond
		h := newHeld()
		defer h.Close()
		g := newGatherer(h)
		var wg sync.WaitGroup
		for range gatherFrom + 2*gatherMost {
			wg.Go(func() {
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				var l lookup
				err := g.do(ctx, &l)
				if err == nil {
					err = l.failed
				}
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

func (g *gatherer) inFlight() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flights
}
