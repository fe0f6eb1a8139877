package main

import (
	"net"
	"net/http"
	"time"

	"cacheproxy/cmd/cacheproxy/internal/config"
)

func (s *server) operatorServer(c *config.Config, l net.Listener) (*http.Server, error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.Handler())
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.draining.Load() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
		}
	})
	return &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, nil
}
