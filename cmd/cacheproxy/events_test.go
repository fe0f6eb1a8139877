package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/redistest"
)

// A message that is published with no more than PUBLISH makes a page be forgotten on all replicas, and every purge is published once.
func TestEventsPurgeOnAllReplicas(t *testing.T) {
	t.Run("one Redis", func(t *testing.T) {
		server := redistest.StartSettled(t)
		testEvents(t, server.URL(), server.Client())
	})
	t.Run("another Redis for state", func(t *testing.T) {
		responses, state := redistest.StartSettled(t), redistest.StartSettled(t)
		testEvents(t, responses.URL(), state.Client(), "CACHEPROXY_REDIS_STATE_URL="+state.URL())
	})
	t.Run("cluster", func(t *testing.T) {
		cluster := redistest.StartCluster(t, 3, 0)
		cluster.MasterOf("cp:{inv}:replicas").Settle()
		testEvents(t, cluster.URL(), cluster.Nodes[1].Client())
	})
}

// eventsOnPages tells what TestEventsPurgeOnAllReplicas publishes, and what is published of the purge.
var eventsOnPages = []struct{ channel, payload, begin, end string }{
	{"user:42", `{"user_id":42}`, `"kind":"tag","sequence":`, `"who":"event user:42","tags":["user-42"],"complete":true}`},
	{"page", `{"url":"HTTP://shop.example:80/42"}`, `"kind":"url","sequence":`, `"who":"event page","url":"http://shop.example/42","soft":true,"complete":true}`},
}

const eventRules = `
events:
  - {channel: "user:*", purge: {tags: ["user-{user_id}"]}}
  - {channel: page, purge: {url: "{url}", soft: true}}
`

// listening starts a replica with eventRules.
func listening(t *testing.T, name, upstream, redisURL string, variables ...string) *process {
	t.Helper()
	p := start(t, append([]string{"CACHEPROXY_INSTANCE=" + name, "CACHEPROXY_REDIS_PREFIX=cp", "CACHEPROXY_REDIS_TIMEOUT=10s"}, variables...),
		"--config", writeConfig(t, eventRules), "--upstream", upstream, "--redis", redisURL)
	p.await("subscribed to events")
	return p
}

func testEvents(t *testing.T, url string, c *redis.Client, variables ...string) {
	heard := subscribed(t, c, "cp:events:purge")
	upstream, versions := taggedOrigin(t)
	all := []*process{listening(t, "a", upstream, url, variables...), listening(t, "b", upstream, url, variables...)}
	page := func(p *process, path string) response { return p.askAs("http://shop.example" + path) }
	isHit := func(p *process, path string) bool {
		return hitStatus.MatchString(page(p, path).header.Get("Cache-Status"))
	}
	for _, event := range eventsOnPages {
		for _, p := range all {
			for deadline := time.Now().Add(limit); !isHit(p, "/42") || !isHit(p, "/43"); {
				if time.Now().After(deadline) {
					t.Fatalf("never a hit:\n%s", p.text())
				}
			}
		}
		before := versions.Load()
		if err := c.Publish(t.Context(), event.channel, event.payload).Err(); err != nil {
			t.Fatal(err)
		}
		// What is published of the purge says that all have applied it.
		if text := heard(); !strings.HasPrefix(text, `{"v":1,"type":"purge",`+event.begin) || !strings.HasSuffix(text, event.end) {
			t.Errorf("published: %s\nwant ... %s ... %s", text, event.begin, event.end)
		}
		for _, p := range all {
			if got, err := strconv.ParseInt(page(p, "/42").body, 10, 64); err != nil || got <= before {
				t.Errorf("after %s: version %d, and %d is older", event.channel, got, before)
			}
			if !isHit(p, "/43") {
				t.Errorf("after %s another page is gone", event.channel)
			}
		}
	}
	if err := c.Publish(t.Context(), "user:43", "user 43").Err(); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		p.awaitMetric("cacheproxy_events_total", `"not-json"`)
		p.await("an event purges nothing")
	}
	if status, _, told := all[0].purge("?wait=20s", `{"all": true}`); status != 200 {
		t.Errorf("%d %v", status, told)
	}
	if text := heard(); !strings.Contains(text, `"kind":"all"`) || !strings.Contains(text, `"who":"127.0.0.1"`) {
		t.Errorf("published: %s", text)
	}
	if out, _, _ := all[1].tell("purges"); !strings.Contains(out, "tags user-42  by event user:42") {
		t.Error(out)
	}
}

// taggedOrigin answers /42 with the tag user-42 and a version that no response before it had.
func taggedOrigin(t *testing.T) (url string, versions *atomic.Int64) {
	versions = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "user"+strings.ReplaceAll(r.URL.Path, "/", "-"))
		fmt.Fprint(w, versions.Add(1))
	}))
	t.Cleanup(server.Close)
	return server.URL, versions
}

// When the process that turns events into purges is killed, another one does, and what was published meanwhile is not lost.
func TestEventsWhenTheirLeaderIsKilled(t *testing.T) {
	server := redistest.StartSettled(t)
	c := server.Client()
	upstream, _ := taggedOrigin(t)
	all := []*process{listening(t, "a", upstream, server.URL()), listening(t, "b", upstream, server.URL()), listening(t, "c", upstream, server.URL())}
	holder := func() string {
		var words []string
		await(t, func() bool {
			words = strings.Fields(c.Get(t.Context(), "cp:{inv}:events").Val())
			return len(words) == 3
		}, func() string { return "nobody leads" })
		return words[2]
	}
	first := holder()
	lost := all[first[0]-'a']
	lost.signal(syscall.SIGKILL)
	lost.end()
	if err := c.Publish(t.Context(), "user:42", `{"user_id": 42}`).Err(); err != nil {
		t.Fatal(err)
	}
	other := all[0]
	if other == lost {
		other = all[1]
	}
	var out string
	await(t, func() bool {
		out, _, _ = other.tell("purges")
		return strings.Contains(out, "tags user-42  by event user:42")
	}, func() string { return "not purged: " + out + "\n" + other.text() })
	if holder() == first {
		t.Error("the one that was killed still leads")
	}
}

// subscribed listens to a channel, and returns what waits for the next message.
func subscribed(t *testing.T, c *redis.Client, channel string) func() string {
	t.Helper()
	s := c.Subscribe(t.Context(), channel)
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() string {
		t.Helper()
		for {
			received, err := s.ReceiveTimeout(t.Context(), limit)
			if err != nil {
				t.Fatal(err)
			}
			if m, ok := received.(*redis.Message); ok {
				return m.Payload
			}
		}
	}
}

// An upstream that does not answer any more, and answers again, is told of on the log and to whoever listens; a reload in between changes
// nothing of it.
func TestUpstreamEvents(t *testing.T) {
	server := redistest.StartSettled(t)
	heard := subscribed(t, server.Client(), "cp:events:upstream")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p := start(t, []string{"CACHEPROXY_INSTANCE=a", "CACHEPROXY_REDIS_PREFIX=cp"}, "--upstream", "http://"+address, "--redis", server.URL())
	want := func(state, more string) {
		t.Helper()
		var got map[string]any
		text := heard()
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		instance, _ := got["instance"].(string)
		if got["v"] != 1.0 || got["type"] != "upstream" || got["state"] != state || got["upstream"] != "default" || got["url"] != "http://"+address ||
			!strings.HasPrefix(instance, "a#") || !strings.Contains(text, more) {
			t.Errorf("published: %s", text)
		}
	}
	for range 4 {
		if res := ask(t, p.public+"/page"); res.status != http.StatusBadGateway {
			t.Errorf("status %d", res.status)
		}
	}
	want("down", `"cause":"connection_refused"`)
	p.await("an upstream does not answer")
	p.signal(syscall.SIGHUP)
	p.await("the configuration was reloaded")
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	up := httptest.NewUnstartedServer(http.NotFoundHandler())
	up.Listener.Close()
	up.Listener = again
	up.Start()
	defer up.Close()
	ask(t, p.public+"/page")
	want("up", `"time":"2`)
	p.await("an upstream answers again")
}

// Events without a Redis are a mistake.
func TestEventsNeedARedis(t *testing.T) {
	file := writeConfig(t, "upstream: http://127.0.0.1:1\nevents: [{channel: a, purge: {tags: [b]}}]\n")
	p := launch(t, nil, "serve", "--config", file)
	if code := p.end(); code != exitUsage || !strings.Contains(p.text(), "events: need a Redis") {
		t.Errorf("exit code %d: %s", code, p.text())
	}
}
