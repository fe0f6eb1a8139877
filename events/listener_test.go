package events

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
	"cacheproxy/redistest"
)

// Every replica receives an event and one appends it. Only where the lead passes from one to another meanwhile may it be more than once.
func TestOneRecordForEachEvent(t *testing.T) {
	server := redistest.StartSettled(t)
	all, f := fleet(t, func(int) string { return server.URL() }, server.URL(), 4)
	c := client(t, server.URL())
	awaitLeader(t, c, all)
	sent := 0
	settle := func() {
		await(t, "settled", func() bool {
			return !slices.ContainsFunc(all, func(r *replica) bool { return r.done(t) < sent })
		})
	}
	leads := func() (n int) {
		for _, r := range all {
			n += r.log.count("turning events into purges")
		}
		return n
	}
	publish(t, c, "user:0", `{"id": "first"}`) // from now on all know since when they have listened
	sent++
	settle()
	for range 5 {
		before, begin := leads(), len(purged(t, f))
		var want []string
		for range 100 {
			sent++
			want = append(want, fmt.Sprint("user-", sent))
			publish(t, c, fmt.Sprint("user:", sent), fmt.Sprintf(`{"id": %d}`, sent))
		}
		settle()
		got := purged(t, f)[begin:]
		if leads() == before {
			if !slices.Equal(got, want) {
				t.Errorf("purged %v\nwant   %v", got, want)
			}
			return
		}
		for _, tag := range want { // the machine had other things to do than to renew a lease
			if !slices.Contains(got, tag) {
				t.Errorf("%s was not purged", tag)
			}
		}
	}
	t.Error("nobody kept the lead")
}

// When the leader is cut off, stopped or gone, another one appends what was published since, and what it has not appended.
func TestLeaderThatIsLost(t *testing.T) {
	server := redistest.StartSettled(t)
	for name, lose := range map[string]func(*redistest.Fault){"cut off": (*redistest.Fault).Cut, "held up": (*redistest.Fault).Hold} {
		t.Run(name, func(t *testing.T) {
			c := client(t, server.URL())
			ways := make([]*redistest.Fault, 4)
			for i := range ways {
				ways[i] = server.Fault()
			}
			all, f := fleet(t, func(i int) string { return ways[i].URL() }, server.URL(), len(ways))
			way := ways[slices.Index(all, awaitLeader(t, c, all))]
			lose(way)
			defer way.Heal() // so that its end is not waited for
			begin := time.Now()
			for i := range 20 {
				publish(t, c, "user:x", fmt.Sprintf(`{"id": "%s %d"}`, name, i))
			}
			await(t, "purged by another", func() bool {
				tags := purged(t, f)
				for i := range 20 {
					if !slices.Contains(tags, fmt.Sprintf("user-%s %d", name, i)) {
						return false
					}
				}
				return true
			})
			t.Logf("after %v", time.Since(begin))
		})
	}
}

// A leader whose log does not take its purges does not keep the others from it.
func TestLeaderThatCannotAppend(t *testing.T) {
	server := redistest.StartSettled(t)
	c := client(t, server.URL())
	var failing atomic.Pointer[replica]
	var mu sync.Mutex
	var got []string
	all := make([]*replica, 3)
	for i := range all {
		all[i] = listen(t, c, fmt.Sprint("r", i), compiled(t, userRule), func(_ context.Context, p invalidation.Purge) error {
			mu.Lock()
			defer mu.Unlock()
			if failing.Load() == all[i] {
				return errors.New("no log")
			}
			got = append(got, p.Tags...)
			return nil
		})
	}
	leader := awaitLeader(t, c, all)
	failing.Store(leader)
	publish(t, c, "user:1", `{"id": 1}`)
	await(t, "purged", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(got, "user-1")
	})
	if leader.log.count("could not be entered in the log") == 0 {
		t.Error("the failure is not told")
	}
	failing.Store(nil)
	for _, r := range all {
		await(t, "settled", func() bool { return r.done(t) == 1 })
	}
}

// Whatever is published, it is counted, and what comes after it purges.
func TestBadMessagesAreCounted(t *testing.T) {
	server := redistest.StartSettled(t)
	c := client(t, server.URL())
	r := listen(t, c, "a", compiled(t, userRule), appendTo(follower(t, server.URL(), "a")))
	awaitLeader(t, c, []*replica{r})
	bad := map[string]any{
		notJSON: "\x00\xff{", missingField: `{}`, badValue: `{"id": [true]}`, tooLong: strings.Repeat("x", maxPayload+1),
		refused: fmt.Sprintf(`{"id": "%s"}`, strings.Repeat("x", 300)),
	}
	for range 3 {
		for _, payload := range bad {
			publish(t, c, "user:1", payload)
		}
	}
	publish(t, c, "user:1", `{"id": 1}`)
	await(t, "purged", func() bool { return r.counted(t, appended) == 1 })
	for result := range bad {
		if n := r.counted(t, result); n != 3 {
			t.Errorf("%s: %d", result, n)
		}
	}
	if n := r.log.count("an event purges nothing"); n != len(bad) {
		t.Errorf("%d lines on the log: one for each kind of trouble is enough", n)
	}
	if n := r.log.count("rule=events[0]"); n != len(bad) {
		t.Errorf("%d lines name the rule", n)
	}
	if r.log.count("xxx") > 0 {
		t.Error("the log shows what was published")
	}
}

// A subscription that is cut, or does not answer, is noticed, counted and begun again.
func TestSubscriptionThatIsCut(t *testing.T) {
	server := redistest.StartSettled(t)
	c := client(t, server.URL())
	for name, break_ := range map[string]func(*redistest.Fault){
		"cut": (*redistest.Fault).Cut, "held": (*redistest.Fault).Hold, "garbage": (*redistest.Fault).Garbage, "half": (*redistest.Fault).Halve,
	} {
		t.Run(name, func(t *testing.T) {
			way := server.Fault()
			r := listen(t, client(t, way.URL()), name, compiled(t, userRule), func(context.Context, invalidation.Purge) error { return nil })
			awaitLeader(t, c, []*replica{r})
			break_(way)
			await(t, "noticed", func() bool { return count(t, r.metrics, "cacheproxy_event_cuts_total") == 1 })
			way.Heal()
			await(t, "back", func() bool { return r.log.count("subscribed to events") == 2 })
			publish(t, c, "user:1", `{"id": 1}`)
			await(t, "purged", func() bool { return r.counted(t, appended) == 1 })
			if r.log.count("the subscription to events was cut") != 1 {
				t.Error("it is not told")
			}
		})
	}
}

// Equal events that wait are one purge; what is too much is dropped, counted, and appended by another replica.
func TestBurst(t *testing.T) {
	server := redistest.StartSettled(t)
	c := client(t, server.URL())
	begun, gate := make(chan struct{}, queueLength*4), make(chan struct{})
	r := listen(t, c, "a", compiled(t, userRule), func(context.Context, invalidation.Purge) error {
		begun <- struct{}{}
		<-gate
		return nil
	})
	awaitLeader(t, c, []*replica{r})
	publish(t, c, "user:1", `{"id": 1}`)
	<-begun
	for range 50 {
		publish(t, c, "user:2", `{"id": 2}`)
	}
	await(t, "received", func() bool { return len(r.desk.queue) >= 50 })
	var mu sync.Mutex
	got := map[string]bool{}
	other := listen(t, c, "b", compiled(t, userRule), func(_ context.Context, p invalidation.Purge) error {
		mu.Lock()
		defer mu.Unlock()
		got[p.Tags[0]] = true
		return nil
	})
	await(t, "subscribed", func() bool { return other.log.count("subscribed to events") == 1 })
	const many = queueLength + 100
	for i := range many {
		publish(t, c, "user:3", fmt.Sprintf(`{"id": "x%d"}`, i))
	}
	await(t, "full", func() bool { return r.counted(t, dropped) >= many+50-queueLength })
	await(t, "purged by another", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == many
	})
	close(gate)
	await(t, "merged", func() bool { return r.counted(t, merged) == 49 })
}

// Our own events make no purges, or a pattern that matches all channels would make purges of purges.
func TestOwnEventsAreNotHeard(t *testing.T) {
	server := redistest.StartSettled(t)
	c := client(t, server.URL())
	r := listen(t, c, "a", compiled(t, Spec{Channel: "*", Tags: []string{"{channel}"}}), appendTo(follower(t, server.URL(), "a")))
	awaitLeader(t, c, []*replica{r})
	for _, channel := range []string{"cp:events:purge", "cp:{inv}:log", "cp:events", "last"} {
		publish(t, c, channel, "{}")
	}
	await(t, "purged", func() bool { return r.counted(t, appended) == 2 })
	if n := r.done(t); n != 2 {
		t.Errorf("%d messages were heard", n)
	}
}

// A channel may have several rules, and match patterns besides; each rule makes its own purge, once.
func TestRulesOfOneChannel(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, 0)
	o := &redis.ClusterOptions{DisableIdentity: true, ContextTimeoutEnabled: true}
	for _, node := range cluster.Nodes {
		o.Addrs = append(o.Addrs, node.Addr())
	}
	c := redis.NewClusterClient(o)
	defer c.Close()
	rules := compiled(t,
		Spec{Channel: "user:42", Tags: []string{"one"}}, Spec{Channel: "user:42", Tags: []string{"two-{id}"}},
		Spec{Channel: "user:*", Tags: []string{"three"}}, Spec{Channel: "u*", Tags: []string{"four"}})
	var mu sync.Mutex
	got := map[string]int{}
	r := listen(t, c, "a", rules, func(_ context.Context, p invalidation.Purge) error {
		mu.Lock()
		defer mu.Unlock()
		got[p.Tags[0]]++
		return nil
	})
	awaitLeader(t, c, []*replica{r})
	want := map[string]int{}
	for i, node := range cluster.Nodes { // whichever node it is published on
		id := heardFrom(t, node.Admin(), r, 10*i)
		want[fmt.Sprintf("two-%d", id)] = 1
	}
	for _, tag := range []string{"one", "three", "four"} {
		want[tag] = len(cluster.Nodes)
	}
	await(t, "purged", func() bool { return r.counted(t, appended) >= 4*len(cluster.Nodes) })
	mu.Lock()
	defer mu.Unlock()
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// heardFrom publishes on a node of a cluster until something of it is purged, and returns the id that was. Nodes lose what is published while
// the link between them is made anew: that happens just after they have met, and where one is slow for half of their timeout.
func heardFrom(t *testing.T, node *redis.Client, r *replica, firstID int) (id int) {
	t.Helper()
	before := r.counted(t, appended)
	for id = firstID; id < firstID+10; id++ {
		publish(t, node, "user:42", fmt.Sprintf(`{"id": %d}`, id))
		for end := time.Now().Add(limit / 10); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			if r.counted(t, appended) == before+4 {
				return id
			}
		}
		if n := r.counted(t, appended); n != before {
			t.Fatalf("%d purges were made of one message", n-before)
		}
		t.Logf("what %s was told did not arrive", node)
	}
	t.Fatal("not purged")
	return 0
}

// One that ends lets another one lead at once, and loses nothing of what it has.
func TestLeaderThatEnds(t *testing.T) {
	server := redistest.StartSettled(t)
	c := client(t, server.URL())
	all, f := fleet(t, func(int) string { return server.URL() }, server.URL(), 2)
	leader := awaitLeader(t, c, all)
	other := all[1-slices.Index(all, leader)]
	publish(t, c, "user:1", `{"id": 1}`)
	await(t, "received", func() bool { return slices.Contains(purged(t, f), "user-1") })
	leader.Close()
	if c.Exists(t.Context(), "cp:{inv}:events").Val() != 0 && awaitLeader(t, c, all) != other {
		t.Error("it has not given the lease back")
	}
	publish(t, c, "user:2", `{"id": 2}`)
	await(t, "purged by the other", func() bool { return slices.Contains(purged(t, f), "user-2") })
}
