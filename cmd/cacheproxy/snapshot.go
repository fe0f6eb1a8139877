package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"cacheproxy/cmd/cacheproxy/internal/config"
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
	upstreams  []*upstream.Upstream
}

// parts outlive snapshots.
type parts struct {
	log     *slog.Logger
	metrics *metrics.Metrics
	store   *store.Store
}

// build turns a loaded configuration into a snapshot. It connects to nothing.
func build(loaded *config.Loaded, generation uint64, p parts) (*snapshot, error) {
	c := loaded.Config
	s := &snapshot{generation: generation, config: c}
	next, routes, err := s.route(p.metrics)
	if err != nil {
		return nil, err
	}
	trusted, err := prefixes(c.Client.Trusted)
	if err != nil {
		return nil, err
	}
	s.proxy, err = proxy.New(proxy.Options{
		Next: next,
		Route: func(site *policy.Site) http.RoundTripper {
			if site.Index < 1 || site.Index > len(routes) {
				return nil
			}
			return routes[site.Index-1] // the default site comes first: config.SiteSpecs
		},
		Store:  p.store,
		Sites:  loaded.Sites,
		Client: proxy.ClientOptions{Trusted: trusted, Header: c.Client.Header, IPv6Prefix: c.Client.IPv6Prefix},
		Cache: proxy.CacheOptions{
			Name:        c.Cache.Name,
			StatusField: proxy.StatusField(c.Cache.StatusField),
			MaxObject:   int64(c.Cache.MaxObject),
			MaxFill:     c.Cache.MaxFill.Std(),
			Keep:        orLeast(c.Cache.Keep.Std()),
			NoHeuristic: !c.Cache.Heuristic,
		},
		Collapse:  proxy.CollapseOptions{Memory: int64(c.Collapse.Memory)},
		Metrics:   p.metrics,
		Log:       p.log,
		AccessLog: newAccessLog(c.Log, p.log).hook(),
	})
	if err != nil {
		return nil, err
	}
	s.front = limitBody(s.proxy, int64(c.Server.MaxBody))
	return s, nil
}

// orLeast replaces zero by the least there is: the options of proxy take zero for their default.
func orLeast(d time.Duration) time.Duration { return max(d, 1) }

// route builds the upstreams: the one of the default site, and for each other site its own or nil for the same.
func (s *snapshot) route(m *metrics.Metrics) (next http.RoundTripper, routes []http.RoundTripper, err error) {
	groups := map[string]*upstream.Upstream{}
	open := func(name string, u config.Upstream) (*upstream.Upstream, error) {
		if u.URL == "" && groups[u.Name] != nil {
			return groups[u.Name], nil
		}
		address, link, _ := s.config.Named(u)
		if u.URL == "" {
			name = u.Name
		}
		built, err := upstream.New(link.Options(name, address, m))
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

// misdirected answers for hosts that no site names, where no upstream is configured for the others: RFC 9110 section 15.5.20.
type misdirected struct{}

func (misdirected) RoundTrip(r *http.Request) (*http.Response, error) {
	const text = "this server does not answer for that host\n"
	if r.Body != nil {
		r.Body.Close()
	}
	return &http.Response{
		StatusCode: http.StatusMisdirectedRequest, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "Cache-Control": {"no-store"}},
		Body:          io.NopCloser(bytes.NewReader([]byte(text))),
		ContentLength: int64(len(text)),
		Request:       r,
	}, nil
}

// limitBody refuses request bodies longer than bytes; 0 is no bound. Where the length is declared nothing is read; where it is
// not, reading fails at the bound and the proxy answers 413 then.
func limitBody(next http.Handler, bytes int64) http.Handler {
	if bytes == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > bytes {
			w.Header().Set("Connection", "close") // the body is not read
			http.Error(w, fmt.Sprintf("the request body is longer than %d bytes", bytes), http.StatusRequestEntityTooLarge)
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(w, r.Body, bytes)
		}
		next.ServeHTTP(w, r)
	})
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
