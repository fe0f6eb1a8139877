package store

import (
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"

	"cacheproxy/policy"
)

// What a response takes in memory beside its own head and body is small, and what near memory thinks it takes is what it takes.
func TestMemoryOfAnEntry(t *testing.T) {
	const n = 100_000
	s := newStore(t, Options{NearSize: 1 << 30})
	now := time.Now()
	body := make([]byte, 1536)
	before := liveHeap()
	head, bodies := 0, 0
	for i := range n {
		d := Draft{
			Key: policy.Key{URL: fmt.Sprintf("http://shop.example/catalogue/products/%07d", i)}, Status: 200,
			Header: http.Header{
				"Cache-Control": {"public, max-age=3600"}, "Content-Length": {"1024"}, "Content-Type": {"text/html; charset=utf-8"},
				"Date": {"Sun, 06 Nov 1994 08:49:37 GMT"}, "Etag": {`"abcdef0123456789"`}, "Last-Modified": {"Sun, 06 Nov 1994 08:49:37 GMT"},
			},
			Body:      body[:512+i%1024], // a kilobyte on average, so that no size class is luckier than another
			Freshness: policy.Freshness{Born: now, Lifetime: time.Hour}, ResponseTime: now, KeepUntil: now.Add(time.Hour),
		}
		e := mustEntry(t, d)
		head, bodies = head+len(e.fields()), bodies+len(d.Body)
		s.Save(e)
	}
	s.near.cache.CleanUp()
	took := int64(liveHeap() - before)
	if s.near.cache.EstimatedSize() != n {
		t.Fatalf("%d entries", s.near.cache.EstimatedSize())
	}
	beside := float64(took-int64(head+bodies)) / n
	weighed := float64(s.near.cache.WeightedSize()) / float64(took)
	t.Logf("%.0f bytes an entry beside head and body, %.3f of them weighed", beside, weighed)
	if beside > 445 {
		t.Errorf("an entry takes %.0f bytes beside head and body", beside)
	}
	if weighed < 0.97 || weighed > 1.06 {
		t.Errorf("near memory counts %.3f of the memory it takes", weighed)
	}
}

// liveHeap is the memory of what is reachable, in bytes.
func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
