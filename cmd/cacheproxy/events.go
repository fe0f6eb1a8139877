package main

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/admin"
	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/events"
	"cacheproxy/invalidation"
	"cacheproxy/store"
	"cacheproxy/upstream"
)

// eventing is how the process and applications tell each other what happens: over the Redis for state. All of it is nil without Redis.
type eventing struct {
	client    redis.UniversalClient
	rules     *events.Rules
	listener  *events.Listener // nil without rules
	publisher *events.Publisher
	asking    chan struct{} // as many as may ask at once who has applied a purge that is to be published
}

const (
	// askersAtOnce and askerPatience bound what is asked for what is published: a purge whose asker did not wait is mostly applied by all a
	// millisecond later.
	askersAtOnce  = 8
	askerPatience = time.Second
)

// eventConnections are for the lease of who listens and for what is published; the subscription has one apart.
const eventConnections = 3

// openEvents makes what publishes. It connects to nothing yet.
func (s *server) openEvents(c *config.Config) (err error) {
	if s.state == nil {
		return nil
	}
	key, url := stateRedis(c)
	if s.events.client, err = dialRedis(c, key, url, store.DialOptions{Timeout: logPatience, PoolSize: eventConnections}); err != nil {
		return err
	}
	s.events.asking = make(chan struct{}, askersAtOnce)
	s.events.publisher = events.NewPublisher(s.events.client, c.Redis.Prefix, s.metrics, s.log)
	return nil
}

// listenToEvents begins to make purges of what applications publish, where there are rules for it.
func (s *server) listenToEvents() {
	c := s.current.Load().config
	if s.events.client == nil || s.events.rules.Empty() {
		return
	}
	// It can only miss what is here for certain.
	s.events.listener, _ = events.Listen(events.Options{
		Redis: s.events.client, Prefix: c.Redis.Prefix, ID: s.follower.ID(), Rules: s.events.rules, Metrics: s.metrics, Log: s.log,
		Append: func(ctx context.Context, p invalidation.Purge) error {
			receipt, err := s.follower.Purge(ctx, p, 0)
			if receipt != nil { // it is appended; who has applied it is nobody's question
				return nil
			}
			return err
		},
	})
}

// stopListening makes purges of what was received, while the log can still be reached.
func (s *server) stopListening() {
	if s.events.listener != nil {
		s.events.listener.Close()
	}
}

func (s *server) closeEvents() {
	for range cap(s.events.asking) {
		s.events.asking <- struct{}{} // none of them asks any more
	}
	s.events.publisher.Close()
	if s.events.client != nil {
		_ = s.events.client.Close() // of a client that nobody uses
	}
}

// purgeEvent is what is published of a purge: what GET /v1/purges shows of it, and more.
type purgeEvent struct {
	Version int               `json:"v"`
	Type    string            `json:"type"`
	Kind    invalidation.Kind `json:"kind"`
	admin.Logged
	// Complete says that every registered replica had applied it, or was fenced, when this was published.
	Complete bool `json:"complete"`
}

// purged is for invalidation.Options.
func (s *server) purged(r *invalidation.Record, complete bool) {
	publish := func(complete bool) {
		s.events.publisher.Publish(events.AboutPurges, purgeEvent{1, events.AboutPurges, r.Kind, admin.LoggedOf(r), complete})
	}
	if complete {
		publish(true)
		return
	}
	select {
	case s.events.asking <- struct{}{}:
	default:
		publish(false)
		return
	}
	go func() { // closeEvents waits for it
		defer func() { <-s.events.asking }()
		ctx, cancel := context.WithTimeout(context.Background(), askerPatience)
		defer cancel()
		receipt, err := s.follower.Receipt(ctx, r.Position())
		publish(err == nil && receipt.Complete())
	}()
}

// upstreamEvent is what is published when a server does not answer any more, or answers again.
type upstreamEvent struct {
	Version  int       `json:"v"`
	Type     string    `json:"type"`
	State    string    `json:"state"` // up or down
	Upstream string    `json:"upstream"`
	URL      string    `json:"url"`
	Cause    string    `json:"cause,omitempty"` // of the last failure: a proxy error type of RFC 9209
	Instance string    `json:"instance"`        // of the replica that saw it
	Time     time.Time `json:"time"`
}

// upstreamChanged tells that a server is down or up, as this replica sees it.
func (s *server) upstreamChanged(name, url string, up bool, cause upstream.Cause) {
	told := upstreamEvent{
		Version: 1, Type: events.AboutUpstreams, State: "down", Upstream: name, URL: url, Cause: cause.String(), Instance: s.follower.ID(), Time: time.Now().UTC(),
	}
	if up {
		told.State = "up"
		s.log.Info("an upstream answers again", "upstream", name, "url", url)
	} else {
		s.log.Warn("an upstream does not answer", "upstream", name, "url", url, "cause", told.Cause)
	}
	s.events.publisher.Publish(events.AboutUpstreams, told)
}

// healths are those of the servers of upstreams, which outlive the configurations that name them.
type healths struct {
	changed func(name, url string, up bool, cause upstream.Cause)

	mu  sync.Mutex
	all map[[2]string]*upstream.Health
}

func (h *healths) of(name, url string) *upstream.Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := [2]string{name, url}
	if h.all[key] == nil {
		if h.all == nil {
			h.all = map[[2]string]*upstream.Health{}
		}
		h.all[key] = &upstream.Health{Changed: func(up bool, cause upstream.Cause) { h.changed(name, url, up, cause) }}
	}
	return h.all[key]
}
