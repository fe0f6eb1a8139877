package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"time"

	"cacheproxy/cmd/cacheproxy/internal/config"
)

// What was cut because of a second signal did not take longer than drain.timeout, and only what did is said to have.
func TestWhyRequestsWereCut(t *testing.T) {
	for _, test := range []struct {
		name    string
		timeout time.Duration
		second  bool
	}{{"time is over", time.Millisecond, false}, {"second signal", limit, true}} {
		t.Run(test.name, func(t *testing.T) {
			arrived := make(chan struct{})
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(arrived)
				<-r.Context().Done()
			}))
			t.Cleanup(upstream.Close)
			loaded, err := config.Load(config.Options{Flags: []config.Flag{
				{Key: "upstream", Value: upstream.URL}, {Key: "listen", Value: "127.0.0.1:0"}, {Key: "admin.listen", Value: ""},
			}})
			if err != nil {
				t.Fatal(err)
			}
			loaded.Config.Log.Access = config.Access{}
			var text strings.Builder
			s, err := newServer(loaded, nil, newLogger(loaded.Config.Log, &text))
			if err != nil {
				t.Fatal(err)
			}
			s.run()
			transport := &http.Transport{DisableKeepAlives: true}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if r, err := (&http.Client{Transport: transport}).Get("http://" + address(s.listeners[0])); err == nil {
					r.Body.Close()
				}
			}()
			<-arrived
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if test.second {
				cancel()
			}
			_ = s.drain(ctx, 0, test.timeout)
			<-ended
			if said := strings.Contains(text.String(), "had not ended in time"); said == test.second {
				t.Errorf("the log says:\n%s", text.String())
			}
		})
	}
}

// While the process serves on during drain.delay, each response ends its connection, by Connection: close or GOAWAY: clients move before
// connections are closed on them.
func TestDrainingEndsConnections(t *testing.T) {
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			url, _ := origin(t)
			p := start(t, []string{"CACHEPROXY_DRAIN_DELAY=1h"}, "--upstream", url)
			client := &http.Client{Transport: transportOf(h2, false), Timeout: limit}
			defer client.CloseIdleConnections()
			reused := func() (reused bool) {
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.public+"/page", nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("%d, %v", res.StatusCode, err)
				}
				return reused
			}
			reused()
			if !reused() {
				t.Fatal("before: the connection is not kept")
			}
			p.signal(syscall.SIGTERM)
			p.await("ending: requests in flight may finish")
			if !reused() { // the response to this one tells
				t.Error("the connection was closed without a word")
			}
			for end := time.Now().Add(limit); reused(); { // GOAWAY may be read a moment after the response
				if time.Now().After(end) {
					t.Fatal("the connection is kept while the process drains")
				}
			}
		})
	}
}
