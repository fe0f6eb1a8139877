package store

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// deadlines notes until when each question to Redis may take.
type deadlines struct {
	mu   sync.Mutex
	seen []time.Time // zero: for ever
}

func (d *deadlines) note(ctx context.Context) {
	ends, _ := ctx.Deadline()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen = append(d.seen, ends)
}

func (d *deadlines) DialHook(next redis.DialHook) redis.DialHook { return next }
func (d *deadlines) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { d.note(ctx); return next(ctx, cmd) }
}
func (d *deadlines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { d.note(ctx); return next(ctx, cmds) }
}

// However often a lookup asks, it has its time but once, and never longer than its caller.
func TestLookupHasOneDeadline(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	o := farOptions(client)
	o.NearMaxObject = 4 << 20
	s := newStore(t, o)
	red := header("Color", "red")
	other, large, whole := varied("http://a.example/other", "Color", red), draft("http://a.example/large"), draft("http://a.example/whole")
	saved(t, s, other)
	large.Fill, whole.Body = 1, bytesOf(2, 2<<20)
	uploaded(t, s, large, bytesOf(1, 5<<20))
	saved(t, s, whole)
	ways := map[string]func(*Store, context.Context, policy.Key, http.Header) Result{"lookup": (*Store).Lookup, "peek": (*Store).Peek}
	for name, draft := range map[string]Draft{"another nomination": other, "chunks asked for": large, "chunks read": whole} {
		for way, find := range ways {
			for _, within := range []time.Duration{patience, patience / 2} {
				var d deadlines
				o.Redis = dial(t, server.URL(), DialOptions{Timeout: patience})
				o.Redis.AddHook(&d)
				s := newStore(t, o) // which knows nothing of the URL
				ctx, cancel := t.Context(), func() {}
				if within < patience {
					ctx, cancel = context.WithTimeout(ctx, within)
				}
				start := time.Now()
				r := find(s, ctx, draft.Key, red)
				took := time.Since(start)
				cancel()
				d.mu.Lock()
				if r.Entry == nil || len(d.seen) < 2 {
					t.Fatalf("%s, %s: %+v, asked %d times", name, way, r, len(d.seen))
				}
				for i, ends := range d.seen {
					if !ends.Equal(d.seen[0]) || ends.After(start.Add(within+took)) || ends.Before(start) {
						t.Errorf("%s, %s, within %v: question %d may take until %v after the begin", name, way, within, i, ends.Sub(start))
					}
				}
				d.mu.Unlock()
			}
		}
	}
}
