package invalidation

import (
	"sync"
	"testing"
	"time"

	"cacheproxy/redistest"
)

// Whoever wants to know of purges is told once of each, by the replica that appended it, and whether all had applied it.
func TestPurgedIsTold(t *testing.T) {
	server := redistest.StartSettled(t)
	type told struct {
		seq      Seq
		complete bool
	}
	var mu sync.Mutex
	var got []told
	all := newFleet(t, server.URL, 2, func(o *Options) {
		o.Purged = func(r *Record, complete bool) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, told{r.Seq, complete})
		}
	})
	first := purge(t, all[0], Purge{Kind: KindAll}, limit)
	all[1].cancel() // as if it were stopped: it does not leave
	all[1].working.Wait()
	second := purge(t, all[0], Purge{Kind: KindAll}, 20*time.Millisecond)
	if _, err := all[0].Purge(t.Context(), Purge{Kind: "none"}, 0); err == nil {
		t.Error("a purge of nothing")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 2 || got[0] != (told{first.Sequence, true}) || got[1] != (told{second.Sequence, false}) {
		t.Errorf("told %+v of %v and %v", got, first.Sequence, second.Sequence)
	}
}
