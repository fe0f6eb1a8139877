package events

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
	"cacheproxy/redistest"
	"cacheproxy/store"
)

// A master is lost, and the sentinels name another: every replica notices, even where the old one is only silent, subscribes there, and one of them
// leads; what is published from then on purges. The old one comes back, and nobody listens to it.
func TestFailoverBySentinel(t *testing.T) {
	for name, how := range map[string]struct{ lose, back func(*redistest.Server) }{
		"killed":  {(*redistest.Server).Kill, (*redistest.Server).Restart},
		"stopped": {(*redistest.Server).Pause, (*redistest.Server).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sentinel := redistest.StartSentinel(t, 1)
			old := sentinel.Master()
			all := make([]*replica, 3)
			for i := range all {
				id := fmt.Sprint("r", i)
				all[i] = listen(t, dialed(t, sentinel.URL()), id, compiled(t, userRule), appendTo(following(t, sentinel.URL(), id)))
			}
			f := following(t, sentinel.URL(), "looks-on")
			c := old.Admin()
			awaitLeader(t, c, all)
			publish(t, c, "user:0", `{"id": "before"}`)
			await(t, "purged before", func() bool { return slices.Contains(purged(t, f), "user-before") })

			how.lose(old)
			lost := time.Now()
			master := sentinel.Nodes[1]
			await(t, "failed over", func() bool { return role(t, master) == "master" })
			for _, r := range all {
				await(t, "subscribed again", func() bool { return r.log.count("subscribed to events") > 1 })
				if count(t, r.metrics, "cacheproxy_event_cuts_total") == 0 {
					t.Error("the cut was not counted")
				}
			}
			t.Logf("all listen again after %v", time.Since(lost).Round(time.Millisecond))
			wantPurged(t, master, f, "after")

			how.back(old)
			await(t, "left alone", func() bool {
				n, err := old.Admin().PubSubNumPat(t.Context()).Result()
				return err == nil && n == 0
			})
			wantPurged(t, master, f, "at the end")
		})
	}
}

// wantPurged publishes on a server, and wants the log to have it.
func wantPurged(t *testing.T, on *redistest.Server, f *invalidation.Follower, when string) {
	t.Helper()
	for i := range 20 {
		publish(t, on.Admin(), "user:x", fmt.Sprintf(`{"id": "%s %d"}`, when, i))
	}
	await(t, "purged "+when, func() bool {
		list, _ := f.History(t.Context(), 1000, 0)
		for i := range 20 {
			if !slices.ContainsFunc(list, func(r *invalidation.Event) bool { return slices.Contains(r.Tags, fmt.Sprintf("user-%s %d", when, i)) }) {
				return false
			}
		}
		return true
	})
}

// role is what a server says that it is; "" where it does not answer.
func role(t *testing.T, s *redistest.Server) string {
	t.Helper()
	fields, err := s.Admin().Do(t.Context(), "ROLE").Slice()
	if err != nil {
		return ""
	}
	return fmt.Sprint(fields[0])
}

// dialed is a client as the proxy makes them.
func dialed(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	c, err := store.Dial(url, store.DialOptions{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// following is follower by way of sentinels.
func following(t *testing.T, url, id string) *invalidation.Follower {
	t.Helper()
	return followerOf(t, dialed(t, url), dialed(t, url), id)
}
