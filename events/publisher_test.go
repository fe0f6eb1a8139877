package events

import (
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/metrics"
	"cacheproxy/redistest"
)

func TestPublish(t *testing.T) {
	server := redistest.StartSettled(t)
	c := client(t, server.URL())
	heard := c.PSubscribe(t.Context(), "cp:events:*")
	defer heard.Close()
	if _, err := heard.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := metrics.New()
	p := NewPublisher(c, "cp", m, slog.New(slog.DiscardHandler))
	p.Publish(AboutPurges, map[string]any{"v": 1})
	p.Publish(AboutUpstreams, map[string]any{"v": 1, "state": "up"})
	for _, want := range [][2]string{{"cp:events:purge", `{"v":1}`}, {"cp:events:upstream", `{"state":"up","v":1}`}} {
		x, err := heard.ReceiveTimeout(t.Context(), limit)
		if message, ok := x.(*redis.Message); err != nil || !ok || message.Channel != want[0] || message.Payload != want[1] {
			t.Errorf("%v, %v, want %v", x, err, want)
		}
	}
	p.Close()
	if n := count(t, m, "cacheproxy_events_sent_total", sent); n != 2 {
		t.Errorf("%d were published", n)
	}
	var none *Publisher
	none.Publish(AboutPurges, 1)
	none.Close()
}

// Whatever Redis does, who publishes does not wait, and every event is counted.
func TestPublishWithoutRedis(t *testing.T) {
	server := redistest.StartSettled(t)
	way := server.Fault()
	m := metrics.New()
	p := NewPublisher(client(t, way.URL()), "cp", m, slog.New(slog.DiscardHandler))
	way.Hold()
	const many = outgoingLength + 50
	begin := time.Now()
	for range many {
		p.Publish(AboutPurges, map[string]any{"v": 1})
	}
	if took := time.Since(begin); took > publishPatience/2 {
		t.Errorf("it took %v", took)
	}
	if n := count(t, m, "cacheproxy_events_sent_total", AboutPurges, dropped); n < many-outgoingLength-1 {
		t.Errorf("%d were dropped", n)
	}
	way.Cut() // all that is left fails at once
	await(t, "counted", func() bool { return count(t, m, "cacheproxy_events_sent_total") == many })
	if count(t, m, "cacheproxy_events_sent_total", failed) == 0 {
		t.Error("no failure was counted")
	}
	way.Heal()
	tried := many
	await(t, "back", func() bool {
		p.Publish(AboutPurges, map[string]any{"v": 1})
		tried++
		await(t, "counted", func() bool { return count(t, m, "cacheproxy_events_sent_total") == tried })
		return count(t, m, "cacheproxy_events_sent_total", sent) > 0
	})
	p.Close()
	p.Publish(AboutPurges, func() {})
	if n := count(t, m, "cacheproxy_events_sent_total"); n != tried+1 {
		t.Errorf("%d were counted", n)
	}
}
