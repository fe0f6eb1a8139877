package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"cacheproxy/admin"
	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/invalidation"
	"cacheproxy/limiter"
	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/proxy"
	"cacheproxy/store"
	"cacheproxy/upstream"
)

// snapshot is one configuration and everything built from it. It is immutable: a request reads the pointer to the current one
// once and is served by it to its end, also when another has taken its place meanwhile.
type snapshot struct {
	generation uint64 // 1 for the first
	config     *config.Config
	proxy      *proxy.Handler
	front      http.Handler // proxy behind the bounds of server
	redact     redaction    // what log.redact names
	upstreams  []*upstream.Upstream
	limits     *limiter.Limits

	users   atomic.Int64 // requests that it serves, upgraded connections among them
	retired atomic.Bool  // another one has taken its place
	unused  chan struct{}
	once    sync.Once // closes unused
}

// release ends one use.
func (s *snapshot) release() {
	if s.users.Add(-1) == 0 && s.retired.Load() {
		s.once.Do(func() { close(s.unused) })
	}
}

// retire says that nobody new will use it; unused is closed when those who do have ended.
func (s *snapshot) retire() {
	s.retired.Store(true)
	if s.users.Load() == 0 {
		s.once.Do(func() { close(s.unused) })
	}
}

// parts outlive snapshots.
type parts struct {
	log      *slog.Logger
	metrics  *metrics.Metrics
	store    *store.Store
	follower *invalidation.Follower // of the log of purges
	doubts   *proxy.Doubts          // what unsafe requests have made doubtful and the log has not taken yet
	limiter  *limiter.Limiter
	feed     *admin.Feed // who follows the requests; nil without admin.listen
	health   *healths    // of the upstreams
}

// build turns a loaded configuration into a snapshot. It connects to nothing.
func build(loaded *config.Loaded, generation uint64, p parts) (*snapshot, error) {
	c := loaded.Config
	s := &snapshot{generation: generation, config: c, redact: newRedaction(c.Log.Redact), unused: make(chan struct{})}
	next, routes, err := s.route(p.metrics, p.health)
	if err != nil {
		return nil, err
	}
	options, err := proxyOptions(loaded)
	if err != nil {
		return nil, err
	}
	options.Next = next
	options.Route = func(site *policy.Site) http.RoundTripper {
		if site.Index < 1 || site.Index > len(routes) {
			return nil
		}
		return routes[site.Index-1] // the default site comes first: config.SiteSpecs
	}
	options.Store, options.Metrics, options.Log = p.store, p.metrics, p.log
	options.Purge, options.Doubts = purger(p.follower), p.doubts
	if s.limits, err = p.limiter.Compile(loaded.Limits); err != nil {
		return nil, err
	}
	options.Limits = s.limits
	access := newAccessLog(c.Log, p.log, p.feed)
	options.AccessLog, options.Logs = access.hook(), access.wants
	if s.proxy, err = proxy.New(options); err != nil {
		return nil, err
	}
	s.front = s.proxy
	if bytes := int64(c.Server.MaxBody); bytes > 0 {
		s.front = newBodyLimit(s.proxy, bytes, p.metrics, access.hook())
	}
	return s, nil
}

// proxyOptions is the part of the configuration that decides on requests and responses, wherever they come from.
func proxyOptions(loaded *config.Loaded) (proxy.Options, error) {
	c := loaded.Config
	trusted, err := prefixes(c.Client.Trusted)
	if err != nil {
		return proxy.Options{}, err
	}
	purge, err := prefixes(c.Client.Purge)
	if err != nil {
		return proxy.Options{}, err
	}
	return proxy.Options{
		Sites:  loaded.Sites,
		Client: proxy.ClientOptions{Trusted: trusted, Header: c.Client.Header, IPv6Prefix: c.Client.IPv6Prefix, Purge: purge},
		Cache: proxy.CacheOptions{
			Name:        c.Cache.Name,
			StatusField: proxy.StatusField(c.Cache.StatusField),
			MaxObject:   int64(c.Cache.MaxObject),
			MaxFill:     c.Cache.MaxFill.Std(),
			Keep:        orNone(c.Cache.Keep.Std()),
			NoHeuristic: !c.Cache.Heuristic,
			TagHeaders:  append([]string{}, c.Cache.TagHeaders...), // an empty list reads none
			TagFields:   proxy.TagPolicy(c.Cache.TagFields),
		},
		Collapse:  proxy.CollapseOptions{Memory: int64(c.Collapse.Memory)},
		Malformed: malformed,
		PurgeWait: c.Redis.Timeout.Std(),
	}, nil
}

// orNone replaces zero, which the options of proxy take for their default, by what is less than any time that a response has a use
// for: policy.Freshness.Retention takes the longest of them.
func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// route builds the upstreams: the one of the default site, and for each other site its own or nil for the same.
func (s *snapshot) route(m *metrics.Metrics, health *healths) (next http.RoundTripper, routes []http.RoundTripper, err error) {
	groups := map[string]*upstream.Upstream{}
	open := func(name string, u config.Upstream) (*upstream.Upstream, error) {
		if u.URL == "" && groups[u.Name] != nil {
			return groups[u.Name], nil
		}
		address, link, _ := s.config.Named(u)
		if u.URL == "" {
			name = u.Name
		}
		options := link.Options(name, address, m)
		options.Health = health.of(name, address)
		built, err := upstream.New(options)
		if err != nil {
			return nil, err
		}
		s.upstreams = append(s.upstreams, built)
		if u.URL == "" {
			groups[u.Name] = built
		}
		return built, nil
	}
	next = misdirected{}
	if s.config.Upstream.Set() {
		if next, err = open("default", s.config.Upstream); err != nil {
			return nil, nil, err
		}
	}
	routes = make([]http.RoundTripper, len(s.config.Sites))
	for i := range s.config.Sites {
		site := &s.config.Sites[i]
		if !site.Upstream.Set() {
			continue
		}
		if routes[i], err = open(site.Hosts[0], site.Upstream); err != nil {
			return nil, nil, err
		}
	}
	return next, routes, nil
}

// close ends what belongs to this snapshot alone, when no request is under way in it but upgraded ones.
func (s *snapshot) close(ctx context.Context) error {
	err := s.proxy.Close(ctx)
	for _, u := range s.upstreams {
		u.Close()
	}
	return err
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		var err error
		if list[i], err = config.ParsePrefix(text); err != nil {
			return nil, err
		}
	}
	return list, nil
}
