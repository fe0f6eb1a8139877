package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/invalidation"
	"cacheproxy/metrics"
)

// Options configure a Listener.
type Options struct {
	// Redis is where messages are published, and the log of purges is. Subscriptions have connections apart from its pool.
	Redis redis.UniversalClient
	// Prefix starts all keys, and the channels that this proxy publishes on: those are never listened to.
	Prefix string
	// ID tells this process from all others.
	ID string
	// Rules say what messages purge.
	Rules *Rules
	// Append enters a purge in the log. A purge may be entered again when it returns an error.
	Append func(context.Context, invalidation.Purge) error

	Metrics *metrics.Metrics // nil counts nothing
	Log     *slog.Logger     // nil: slog.Default()
}

// Listener is one replica's part in turning messages into purges. It must be closed.
type Listener struct {
	opt  Options
	desk *desk
	rare *rareLog

	born  time.Time // what pings count from
	after time.Time // all that came later was published after it; zero = not known. Of the goroutine that receives alone, as is the next
	since time.Time // nothing that was published was lost here since

	ctx, deskCtx       context.Context
	cancel, cancelDesk context.CancelFunc
	receiving, working sync.WaitGroup
}

const (
	silence   = 3 * time.Second // without an answer to a ping, after which a subscription is given up
	cutPause  = 250 * time.Millisecond
	ownEvents = ":events:" // behind the prefix, what this proxy publishes
	ownLog    = ":{inv}:"
)

// Listen begins. It does not wait for Redis.
func Listen(o Options) (*Listener, error) {
	if o.Redis == nil || o.Append == nil || o.Rules.Empty() || o.ID == "" {
		return nil, errors.New("events: nothing to listen to, or nobody to tell")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	l := &Listener{opt: o, rare: &rareLog{log: o.Log}, born: time.Now()}
	l.desk = &desk{
		opt: &l.opt, rare: l.rare, queue: make(chan any, queueLength), byKey: map[string]*request{}, now: time.Now,
		lease: lease{client: o.Redis, key: o.Prefix + ":{inv}:events", id: o.ID},
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.deskCtx, l.cancelDesk = context.WithCancel(context.Background())
	l.working.Go(func() { l.desk.run(l.deskCtx) })
	l.receiving.Go(l.listen)
	return l, nil
}

// Close ends the subscription, appends what was received, if this replica leads, and lets another one lead.
func (l *Listener) Close() {
	l.cancel()
	l.receiving.Wait()
	l.cancelDesk()
	l.working.Wait()
}

// listen subscribes, again and again.
func (l *Listener) listen() {
	for l.ctx.Err() == nil {
		began, err := l.subscription()
		if l.ctx.Err() != nil {
			return
		}
		if began {
			l.opt.Metrics.EventCut()
			l.rare.warn("cut", "the subscription to events was cut: what is published until it is back may be missed", "error", err.Error())
			l.hand(cut{})
		} else {
			l.rare.warn("subscribe", "events cannot be subscribed to", "error", err.Error())
		}
		timer := time.NewTimer(cutPause)
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			timer.Stop()
		}
	}
}

// subscription is one connection's life. It reports whether Redis had confirmed all channels.
func (l *Listener) subscription() (began bool, err error) {
	ctx, cancel := context.WithCancel(l.ctx)
	var pinging sync.WaitGroup
	defer pinging.Wait()
	defer cancel()
	defer func() {
		if p := recover(); p != nil { // the client library believes the lengths and types that a reply names
			err = fmt.Errorf("events: a message that cannot be read: %v", p)
		}
	}()
	s := l.opt.Redis.Subscribe(ctx)
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // or a read would wait to its end
	defer stop()
	wanted, err := l.subscribe(ctx, s)
	if err != nil {
		return false, err
	}
	l.after = time.Time{}
	for {
		received, err := s.ReceiveTimeout(ctx, silence)
		if err != nil {
			return began, fmt.Errorf("events: the subscription does not answer: %w", err)
		}
		switch x := received.(type) {
		case *redis.Subscription:
			wanted--
			switch {
			case wanted == 0:
				began, l.since = true, time.Now()
				l.opt.Log.Info("subscribed to events", "channels", len(l.opt.Rules.channels), "patterns", len(l.opt.Rules.patterns))
				pinging.Go(func() { l.ping(ctx, cancel, s) })
			case wanted < 0: // the client library has connected again by itself
				return began, errors.New("events: the connection was lost")
			}
		case *redis.Message:
			l.message(x)
		case *redis.Pong:
			if n, err := strconv.ParseInt(x.Payload, 10, 64); err == nil {
				l.after = l.born.Add(time.Duration(n))
				l.hand(mark{l.after, l.since})
			}
		}
	}
}

// subscribe asks for all channels, and returns how many confirmations are to come.
func (l *Listener) subscribe(ctx context.Context, s *redis.PubSub) (wanted int, err error) {
	channels, patterns := names(l.opt.Rules.channels), names(l.opt.Rules.patterns)
	if len(channels) > 0 {
		err = s.Subscribe(ctx, channels...)
	}
	if len(patterns) > 0 && err == nil {
		err = s.PSubscribe(ctx, patterns...)
	}
	if err != nil {
		err = fmt.Errorf("events: subscribing: %w", err)
	}
	return len(channels) + len(patterns), err
}

// ping sends when it is sent, until ctx ends or that fails.
func (l *Listener) ping(ctx context.Context, cancel context.CancelFunc, s *redis.PubSub) {
	defer cancel()
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if err := s.Ping(ctx, strconv.FormatInt(int64(time.Since(l.born)), 10)); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// hand puts something on the desk, unless too much is there.
func (l *Listener) hand(x any) bool {
	select {
	case l.desk.queue <- x:
		return true
	default:
		return false
	}
}

// message makes requests of a message. A channel that is named and matches patterns too comes once for each of them.
func (l *Listener) message(x *redis.Message) {
	if rest, own := strings.CutPrefix(x.Channel, l.opt.Prefix); own && (strings.HasPrefix(rest, ownEvents) || strings.HasPrefix(rest, ownLog)) {
		return // a pattern such as * would make purges of purges
	}
	rules := l.opt.Rules.channels[x.Channel]
	if x.Pattern != "" {
		rules = l.opt.Rules.patterns[x.Pattern]
	}
	m := &message{channel: x.Channel, payload: x.Payload}
	now := time.Now()
	for _, r := range rules {
		purges, f := r.purges(m, l.opt.Rules.judge)
		if f != nil {
			l.opt.Metrics.Event(f.result)
			l.rare.warn(f.result, "an event purges nothing", "rule", r.name, "channel", fmt.Sprintf("%.100q", x.Channel), "error", f.err.Error(), "hint", "events")
			continue
		}
		if !l.hand(newRequest(purges, l.after, now)) {
			l.since = now
			l.opt.Metrics.Event(dropped)
			l.rare.warn(dropped, "events are dropped: they come faster than purges can be entered in the log", "channel", fmt.Sprintf("%.100q", x.Channel))
		}
	}
}
