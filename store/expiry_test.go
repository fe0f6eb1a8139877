package store

import (
	"fmt"
	"testing"
	"time"

	"cacheproxy/policy"
	"cacheproxy/redistest"
)

// An entry may be kept until any instant that the encoding holds.
func TestEntriesThatAreKeptForVeryLong(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	for name, until := range map[string]time.Time{
		"68 years":     time.Now().Add(policy.MaxDelta),
		"the last":     time.Unix(0, 1<<63-1),
		"after it":     time.Now().AddDate(5000, 0, 0),
		"a moment off": time.Now().Add(2 * time.Second),
	} {
		d := draft("http://a.example/" + name)
		d.KeepUntil = until
		for _, o := range []Options{farOptions(client), {}} {
			s := newStore(t, o)
			saved(t, s, d)
			saved(t, s, d) // the script reads what it wrote
			if r := s.Lookup(t.Context(), d.Key, nil); r.Entry == nil {
				t.Errorf("%s: %+v", name, r)
			}
		}
		keys := newKeyspace("cp").of(d.Key.URL)
		root, entry := client.PTTL(t.Context(), keys.root).Val(), client.PTTL(t.Context(), keys.entryKey(variantOf("", "", nil))).Val()
		if entry <= 0 || root < entry-time.Second || root > entry+time.Second {
			t.Errorf("%s: the root expires in %v, the entry in %v", name, root, entry)
		}
	}
}

// Whatever stands in a root, it can be saved to, and expires.
func TestSaveScriptAndExpiriesThatCannotBe(t *testing.T) {
	server := redistest.Start(t)
	client := dial(t, server.URL(), DialOptions{Timeout: patience})
	for _, expiry := range []string{"99999999999999999999", "9223372036854775807", "9007199254740993", fmt.Sprintf("%0400d", 9) + "e5", fmt.Sprintf("9%0400d", 9)} {
		s := newStore(t, farOptions(client))
		d := draft("http://a.example/" + expiry)
		root := newKeyspace("cp").of(d.Key.URL).root
		client.HSet(t.Context(), root, "theirs", "0000000000000001 "+expiry+" 5 ")
		saved(t, s, d)
		if r := s.Lookup(t.Context(), d.Key, nil); r.Entry == nil {
			t.Errorf("%.20s: %+v", expiry, r)
		}
		if ttl := client.PTTL(t.Context(), root).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("%.20s: the root expires in %v", expiry, ttl)
		}
	}
}
