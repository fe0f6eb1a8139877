package store

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/bubble"
)

// under counts how many chunks are being read at once, at the most.
type under struct{ now, most atomic.Int64 }

func (u *under) DialHook(next redis.DialHook) redis.DialHook { return next }
func (u *under) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (u *under) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "get" {
			return next(ctx, cmd)
		}
		now := u.now.Add(1)
		defer u.now.Add(-1)
		for most := u.most.Load(); now > most && !u.most.CompareAndSwap(most, now); most = u.most.Load() {
		}
		return next(ctx, cmd)
	}
}

// However many transfers there are, they read few chunks at once: else they would wait for connections until they are taken for failures
// of Redis, and lookups with them.
func TestManyTransfersAtOnce(t *testing.T) {
	s, _, _ := chunkStore(t, nil)
	d := draft("http://a.example/x")
	d.Fill = 1
	body := bytesOf(1, 1<<21)
	uploaded(t, s, d, body)
	e := s.Lookup(t.Context(), d.Key, nil).Entry
	u := new(under)
	s.far.client.AddHook(u)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if got, err := read(t, s, e, 0, 1<<21); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if most := u.most.Load(); most > chunkReads || u.now.Load() != 0 || len(s.far.reads) != 0 {
		t.Errorf("%d chunks were read at once", most)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	for range chunkReads {
		s.far.reads <- struct{}{}
	}
	if _, err := s.Open(gone, e, 0, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves while waiting gets %v", err)
	}
}

// heldCount is a client that answers each question for keys when it is let, saying that all are there.
type heldCount struct {
	*redis.Client
	asked atomic.Int64
	let   chan error
}

func (h *heldCount) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *heldCount) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (h *heldCount) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		h.asked.Add(1)
		err := <-h.let
		cmd.(*redis.IntCmd).SetVal(int64(len(cmd.Args()) - 1))
		return err
	}
}

// Those who want one body at once ask once whether its chunks are there, and whoever leaves, the others have the answer.
func TestManyWantOneBody(t *testing.T) {
	d := draft("http://a.example/x")
	d.Body, d.Chunked, d.Length, d.Fill = nil, true, 1<<21, 1
	e := mustEntry(t, d)
	for _, fails := range []error{nil, errors.New("down")} {
		bubble.Run(t, func(t *testing.T) {
			h := &heldCount{Client: redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}), let: make(chan error)}
			defer h.Close()
			h.AddHook(h)
			s := newStore(t, farOptions(h))
			first, leave := context.WithCancel(t.Context())
			var found atomic.Int64
			var wg sync.WaitGroup
			for i := range 100 {
				ctx := t.Context()
				if i == 0 {
					ctx = first
				}
				wg.Go(func() {
					if r := s.lookupChunked(ctx, e); r.Entry == e {
						found.Add(1)
					}
				})
				synctest.Wait()
			}
			leave()
			h.let <- fails
			wg.Wait()
			if n, m := h.asked.Load(), found.Load(); n != 1 || (m == 100) != (fails == nil) {
				t.Errorf("asked %d times, %d found it", n, m)
			}
		})
	}
}
