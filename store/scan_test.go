package store

import (
	"fmt"
	"testing"

	"cacheproxy/policy"
)

// A scan, ten times what near memory holds and each asked for once, does not flush what is asked for again and again.
func TestScanDoesNotFlush(t *testing.T) {
	const hot, scan, every = 500, 40_000, 5 // a hot one is asked for between so many of the scan
	s := newStore(t, Options{NearSize: 4 << 20})
	get := func(url string) (hit bool) {
		d := draft(url)
		d.Body = make([]byte, 1<<10)
		if s.Lookup(t.Context(), policy.Key{URL: url}, nil).Entry != nil {
			return true
		}
		s.Save(mustEntry(t, d))
		return false
	}
	hotURL := func(i int) string { return fmt.Sprintf("http://a.example/hot/%d", i%hot) }
	for i := range 5 * hot {
		get(hotURL(i))
	}
	hits, asked := 0, 0
	for i := range scan {
		get(fmt.Sprintf("http://a.example/scan/%d", i))
		if i%every == 0 {
			asked++
			if get(hotURL(asked)) {
				hits++
			}
		}
	}
	if held := s.near.cache.EstimatedSize(); held > scan/10 {
		t.Fatalf("near memory holds %d, too much of the scan for this test", held)
	}
	ratio := float64(hits) / float64(asked)
	t.Logf("%.1f %% of the hot ones were hits", 100*ratio)
	if ratio < 0.9 {
		t.Errorf("only %.1f %% of the hot ones were hits during a scan", 100*ratio)
	}
}
