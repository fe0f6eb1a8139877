package events

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
	"cacheproxy/metrics"
)

// limit bounds every wait of these tests; nothing comes near it unless something hangs.
const limit = 60 * time.Second

// results are all that becomes of a message.
var results = []string{appended, merged, left, notJSON, missingField, badValue, tooLong, refused, dropped}

// log keeps what a listener says.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// replica is a listener and what surrounds it.
type replica struct {
	*Listener
	metrics *metrics.Metrics
	log     *logged
}

func (r *replica) counted(t *testing.T, result string) int {
	t.Helper()
	return count(t, r.metrics, "cacheproxy_events_total", result)
}

// done is how many messages the replica is done with.
func (r *replica) done(t *testing.T) (n int) {
	t.Helper()
	for _, result := range results {
		n += r.counted(t, result)
	}
	return n
}

// count sums what a metric says of what has all these label values.
func count(t *testing.T, m *metrics.Metrics, name string, labels ...string) int {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, one := range f.GetMetric() {
			var values []string
			for _, l := range one.GetLabel() {
				values = append(values, l.GetValue())
			}
			if f.GetName() == name && !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(values, l) }) {
				sum += one.GetCounter().GetValue()
			}
		}
	}
	return int(sum)
}

func client(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.DialerRetries, o.DialTimeout, o.DisableIdentity, o.ContextTimeoutEnabled = -1, 1, time.Second, true, true
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// listen starts a listener that appends by a function.
func listen(t *testing.T, c redis.UniversalClient, id string, rules *Rules, add func(context.Context, invalidation.Purge) error) *replica {
	t.Helper()
	r := &replica{metrics: metrics.New(), log: &logged{}}
	var err error
	r.Listener, err = Listen(Options{
		Redis: c, Prefix: "cp", ID: id, Rules: rules, Append: add, Metrics: r.metrics, Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// follower starts a follower of the log, which appends.
func follower(t *testing.T, url, id string) *invalidation.Follower {
	t.Helper()
	return followerOf(t, client(t, url), client(t, url), id)
}

func followerOf(t *testing.T, c, waiting redis.UniversalClient, id string) *invalidation.Follower {
	t.Helper()
	f, err := invalidation.Start(invalidation.Options{
		Redis: c, Waiting: waiting, Prefix: "cp", Instance: id, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		_ = f.Close(ctx) // some tests have no Redis at the end
	})
	await(t, "registered", f.Registered)
	return f
}

func appendTo(f *invalidation.Follower) func(context.Context, invalidation.Purge) error {
	return func(ctx context.Context, p invalidation.Purge) error {
		_, err := f.Purge(ctx, p, 0)
		return err
	}
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s", what)
		}
	}
}

func publish(t *testing.T, c redis.UniversalClient, channel string, payload any) {
	t.Helper()
	if err := c.Publish(t.Context(), channel, payload).Err(); err != nil {
		t.Fatal(err)
	}
}

// awaitLeader waits until all are subscribed to patterns and one leads, and returns which.
func awaitLeader(t *testing.T, c redis.UniversalClient, all []*replica) *replica {
	t.Helper()
	var leader *replica
	await(t, "led", func() bool {
		lease, _ := c.Get(t.Context(), "cp:{inv}:events").Result()
		for _, r := range all {
			if r.log.count("subscribed to events") == 0 {
				return false
			}
			if strings.HasSuffix(lease, " "+r.opt.ID) {
				leader = r
			}
		}
		return leader != nil
	})
	return leader
}

var userRule = Spec{Channel: "user:*", Tags: []string{"user-{id}"}}

// purged are the tags in the log, in the order of the log.
func purged(t *testing.T, f *invalidation.Follower) (tags []string) {
	t.Helper()
	list, err := f.History(t.Context(), 10_000, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range slices.Backward(list) {
		tags = append(tags, r.Tags...)
	}
	return tags
}

// fleet starts so many replicas on one Redis, each by a way of its own.
func fleet(t *testing.T, way func(i int) string, direct string, n int) ([]*replica, *invalidation.Follower) {
	t.Helper()
	all := make([]*replica, n)
	for i := range all {
		id := fmt.Sprint("r", i)
		f := follower(t, way(i), id)
		all[i] = listen(t, client(t, way(i)), id, compiled(t, userRule), appendTo(f))
	}
	return all, follower(t, direct, "looks-on")
}
