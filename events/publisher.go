package events

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/metrics"
)

// What a Publisher publishes: the last part of the channel, and the words of a label.
const (
	AboutPurges    = "purge"
	AboutUpstreams = "upstream"
)

// What becomes of it: the words of the other label.
const (
	sent   = "ok"
	failed = "error"
)

// Publisher publishes what applications may want to know, on channels PREFIX:events:purge and PREFIX:events:upstream, in the background: whoever
// has something to tell never waits. A nil Publisher tells nobody. It must be closed.
type Publisher struct {
	redis   redis.UniversalClient
	prefix  string
	metrics *metrics.Metrics
	rare    *rareLog
	queue   chan outgoing
	working sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
}

type outgoing struct {
	about string
	text  []byte
}

const (
	outgoingLength  = 256
	publishPatience = time.Second
)

// NewPublisher makes a publisher; prefix is that of all keys. A nil m counts nothing.
func NewPublisher(client redis.UniversalClient, prefix string, m *metrics.Metrics, log *slog.Logger) *Publisher {
	p := &Publisher{redis: client, prefix: prefix, metrics: m, rare: &rareLog{log: log}, queue: make(chan outgoing, outgoingLength)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.working.Go(p.run)
	return p
}

// Publish publishes an event, which must be a JSON object with a member v, the version of its form. It returns at once, and may be called by
// anybody, also after Close.
func (p *Publisher) Publish(about string, event any) {
	if p == nil {
		return
	}
	text, err := json.Marshal(event)
	if err != nil {
		p.failed(about, err)
		return
	}
	select {
	case p.queue <- outgoing{about, text}:
	default:
		p.metrics.EventSent(about, dropped)
	}
}

// Close publishes what waits, within a short time.
func (p *Publisher) Close() {
	if p == nil {
		return
	}
	p.cancel()
	p.working.Wait()
}

func (p *Publisher) run() {
	for {
		select {
		case o := <-p.queue:
			p.publish(context.Background(), o)
		case <-p.ctx.Done():
			ctx, cancel := context.WithTimeout(context.Background(), publishPatience)
			defer cancel()
			for len(p.queue) > 0 {
				p.publish(ctx, <-p.queue)
			}
			return
		}
	}
}

func (p *Publisher) publish(ctx context.Context, o outgoing) {
	ctx, cancel := context.WithTimeout(ctx, publishPatience)
	defer cancel()
	if err := p.redis.Publish(ctx, p.prefix+ownEvents+o.about, o.text).Err(); err != nil {
		p.failed(o.about, err)
		return
	}
	p.metrics.EventSent(o.about, sent)
}

func (p *Publisher) failed(about string, err error) {
	p.metrics.EventSent(about, failed)
	p.rare.warn(about, "an event could not be published", "about", about, "error", err.Error())
}
