package main

import (
	"net/http"
	"strings"
	"time"

	"cacheproxy/admin"
	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/proxy"
)

// operatorServer serves package admin. Its requests are small and its answers short, so its limits are no keys.
func (s *server) operatorServer(c *config.Config) (*http.Server, error) {
	self := thisBinary()
	handler, err := admin.New(admin.Options{
		Listen:    c.Admin.Listen,
		TokenFile: c.Admin.TokenFile,
		Metrics:   s.metrics,
		Ready:     s.problems,
		Notes:     s.notes,
		Handle:    s.operatorRoutes,
		Version:   admin.VersionInfo{Version: self.Version, Commit: self.Revision, Go: self.Go, Instance: c.InstanceName()},
	})
	if err != nil {
		return nil, failure{err}
	}
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          s.public.ErrorLog,
	}, nil
}

// operatorRoutes registers what operators ask for; admin guards all of it.
func (s *server) operatorRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/reload", s.reloadRoute)
	mux.Handle("GET /v1/log", s.feed)
	mux.Handle("POST /v1/explain", admin.Explain(s.explain))
	admin.Profiles(mux)
	admin.Purging(mux, admin.PurgingOptions{
		Follower: s.follower, Store: s.store, Log: s.log,
		Redacted: func(name string) bool { return s.current.Load().redact[name] },
		ShownURL: s.shownURL,
	})
	admin.Limits(mux, admin.LimitsOptions{
		Limiter: s.limiter, Shared: s.state != nil, Log: s.log,
		Redacted: func(name string) bool { return s.current.Load().redact[name] },
	})
}

// shownURL is a URL without what log.redact names at this moment. It is called for each of many, and needs nothing of the snapshot that ends
// with it. Before there is a snapshot it is a URL without its query.
func (s *server) shownURL(url string) string {
	if snap := s.current.Load(); snap != nil {
		return snap.redact.url(url)
	}
	url, _, _ = strings.Cut(url, "?")
	return url
}

// explain has the snapshot of the moment explain a request.
func (s *server) explain(r *http.Request) proxy.Explanation {
	snap := s.acquire()
	defer snap.release()
	return snap.proxy.Explain(r)
}

// problems says why this process should not be sent requests. A Redis that does not answer is no reason: near memory and the
// upstream serve on, and taking every replica out at once would make a slow day an outage.
func (s *server) problems() []admin.Problem {
	if s.draining.Load() {
		return []admin.Problem{{Name: "drain", Detail: "this process is ending"}}
	}
	return nil
}
