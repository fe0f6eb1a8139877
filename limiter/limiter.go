// Package limiter decides who may ask how often. Replicas that share a Redis share their limits: a client has one, wherever it asks.
//
// A limit (Spec) says how many tokens a client has in a window; a request costs some, mostly one. Who is a client is said by the limit's key:
// an address, a field, a cookie, or several of them. What is counted, and how, is in arithmetic.go, which is one specification with two
// implementations: in Go, for what a process counts by itself, and in Lua, for what Redis counts.
//
// A decision goes through these steps, and ends with the first that knows:
//
//	exempt   networks and keys that are not limited                                         key.go
//	refused  Redis said no, and when it will say yes: until then it is not asked again      entry.go
//	lease    tokens that this process has taken ahead, where accuracy is leased              entry.go
//	redis    one script for each limit, all of a request in one pipeline                     redis.go
//	outage   what the limit says is done while Redis does not answer                         outage.go
//
// The two accuracies differ in how often Redis is asked, not in who decides. Exact asks for every request that is not known to be refused.
// Leased takes tokens for more than one request, of which the number grows while they are used up and shrinks as the limit nears its end; a
// window of a fixed limit still never admits more than the limit, because tokens carry their window, and end with it by a time measured from
// before they were asked for. Of sliding and gcra, whose windows have no end, it may admit what is leased out at that moment beyond the limit.
// Tokens not used for a second are given back.
//
// What a process knows of its clients is bounded (Spec.MaxClients). When it is full, clients that come in addition share one count, so that
// a flood of new keys makes nobody's count be forgotten.
//
// Without Redis each process counts for itself.
package limiter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/breaker"
	"cacheproxy/metrics"
)

// Options configures a Limiter. Every zero value means what its comment says.
type Options struct {
	// Limits are those of Limiter.Middleware, and of Limiter.Current. None means that nothing is limited.
	Limits []Spec

	// Redis keeps the counts that replicas share; nil means that this process counts alone. The Limiter does not close it. It must have
	// ContextTimeoutEnabled, so that Timeout holds, and MaxRetries -1, because a script that ran must not be run again. Its user needs
	// scripts, and for resets Pub/Sub.
	Redis redis.UniversalClient
	// Prefix starts all keys in Redis; "" means "cp". Two services never share one.
	Prefix string
	// Timeout bounds what a request waits for Redis, for all its limits together. Default 50 ms.
	Timeout time.Duration
	// Breaker says when to stop asking a Redis that does not answer.
	Breaker breaker.Options
	// Replicas is how many processes share the limits, as far as is known; it is asked while Redis does not answer, for limits whose outage
	// is Divided. Nil, or less than 1, means 1.
	Replicas func() int

	// Client is who sent a request that comes through Middleware; nil means the address of the connection.
	// A proxy's X-Forwarded-For is worth nothing here unless this function knows whom to believe.
	Client func(*http.Request) netip.Addr
	// IPv6Prefix is how many bits of an IPv6 address make one client, for Middleware; default 64.
	IPv6Prefix int

	Metrics *metrics.Metrics // nil: nothing is counted
	Log     *slog.Logger     // nil: slog.Default()
	// Now is the clock, of which only differences are looked at; nil means time.Now.
	Now func() time.Time
}

// Limiter keeps the counts of a process. It is safe for concurrent use, and must be closed.
type Limiter struct {
	opt     Options
	shared  *shared // nil without Redis
	started time.Time
	current atomic.Pointer[Limits]
	log     quietly

	mu     sync.Mutex
	closed bool
	stop   chan struct{}
	work   sync.WaitGroup
}

// Limits are those of one configuration. They are not changed, and may be used by any goroutine until the Limiter is closed.
type Limits struct {
	limiter *Limiter
	all     []*limit
}

// New makes a Limiter. It connects to nothing yet; a Redis that does not answer is an outage, and no error.
func New(o Options) (*Limiter, error) {
	if o.Prefix == "" {
		o.Prefix = "cp"
	}
	if o.IPv6Prefix == 0 {
		o.IPv6Prefix = 64
	}
	if o.Timeout == 0 {
		o.Timeout = 50 * time.Millisecond
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := checkClient(o.Redis); err != nil {
		return nil, err
	}
	l := &Limiter{opt: o, started: o.Now(), stop: make(chan struct{}), log: quietly{log: o.Log}}
	first, err := l.Compile(o.Limits)
	if err != nil {
		return nil, err
	}
	l.current.Store(first)
	if o.Redis != nil {
		l.shared = newShared(l)
		l.work.Go(l.shared.listen)
	}
	l.work.Go(l.tend)
	return l, nil
}

// checkClient refuses a client that would break what is promised.
func checkClient(client redis.UniversalClient) error {
	ends, retries := true, 0
	switch c := client.(type) {
	case *redis.Client:
		ends, retries = c.Options().ContextTimeoutEnabled, c.Options().MaxRetries
	case *redis.ClusterClient:
		ends = c.Options().ContextTimeoutEnabled // the nodes' clients do not retry by default
	}
	switch {
	case !ends:
		return errors.New("limiter: Options.Redis needs ContextTimeoutEnabled: without it a request would wait longer than Options.Timeout")
	case retries > 0:
		return errors.New("limiter: Options.Redis needs MaxRetries: -1: what was counted and not answered must not be counted again")
	}
	return nil
}

// Compile makes the limits of another configuration, without using them: see Adopt. Those that count as they do now keep their counts. The
// error has all mistakes.
func (l *Limiter) Compile(specs []Spec) (*Limits, error) {
	if mistakes := Check(specs); len(mistakes) > 0 {
		all := make([]error, len(mistakes))
		for i := range mistakes {
			all[i] = fmt.Errorf("limiter: limits%s", mistakes[i].Error())
		}
		return nil, errors.Join(all...)
	}
	made := &Limits{limiter: l, all: make([]*limit, len(specs))}
	for i := range specs {
		made.all[i] = newLimit(l, &specs[i])
		if before := l.Current().find(specs[i].Name); before != nil && before.countsAs(made.all[i]) {
			made.all[i].table, made.all[i].busy = before.table, before.busy
		}
	}
	return made, nil
}

// Adopt makes limits of Compile the ones that are shown and tended. Those before them, which requests under way may still ask, are left to
// the collector; what they have leased is given back.
func (l *Limiter) Adopt(next *Limits) {
	before := l.current.Swap(next)
	for _, was := range before.all {
		if now := next.find(was.spec.Name); now == nil || now.table != was.table {
			l.surrender(was)
		}
	}
}

// Current returns the limits in use.
func (l *Limiter) Current() *Limits { return l.current.Load() }

// find returns the limit of that name, nil where there is none.
func (ls *Limits) find(name string) *limit {
	if ls == nil {
		return nil
	}
	for _, one := range ls.all {
		if one.spec.Name == name {
			return one
		}
	}
	return nil
}

// Close gives back what is leased, as long as ctx lasts, and ends the background work. No Reserve may be under way.
func (l *Limiter) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.stop)
	l.mu.Unlock()
	if l.shared != nil {
		l.shared.stopListening()
	}
	l.work.Wait()
	if l.shared == nil {
		return nil
	}
	defer l.shared.end()
	for _, one := range l.Current().all {
		l.giveBack(ctx, one)
		l.shared.tellBusy(ctx, one)
	}
	l.shared.breaker.Close()
	return nil
}

// now is the time in microseconds, from 1 when the Limiter was made. A clock that is set does not change it.
func (l *Limiter) now() int64 { return l.opt.Now().Sub(l.started).Microseconds() + 1 }

// quietly logs what may happen for every request, a few times a minute.
type quietly struct {
	log  *slog.Logger
	last atomic.Int64 // when something was said, in seconds
}

const quietFor = 10 * time.Second

func (q *quietly) warn(now time.Time, msg string, arguments ...any) {
	last := q.last.Load()
	if now.Unix()-last >= int64(quietFor/time.Second) && q.last.CompareAndSwap(last, now.Unix()) {
		q.log.Warn(msg, arguments...)
	}
}
