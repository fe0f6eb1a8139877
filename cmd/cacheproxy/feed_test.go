package main

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cacheproxy/admin"
	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/policy"
	"cacheproxy/proxy"
	"cacheproxy/store"
)

// exampleAccess has every attribute that a line may have, and a secret.
func exampleAccess(hit bool) *proxy.Access {
	r := httptest.NewRequest(http.MethodGet, "/page?a=1&token=hunter2", nil)
	r.Host = "shop.example"
	r.Header.Set("User-Agent", "test")
	a := &proxy.Access{
		Request: r, Start: time.Now(), Duration: 1500 * time.Microsecond, Client: netip.MustParseAddr("192.0.2.1"), Status: 200, Bytes: 7,
		Outcome: policy.Outcome{Fwd: policy.FwdURIMiss, Detail: policy.SetCookie}, Site: "default", Rule: 1, Err: errors.New("cut short"),
	}
	if hit {
		a.Outcome, a.Tier = policy.Outcome{Hit: true}, store.TierNear
	}
	return a
}

// kept returns the lines that a feed keeps.
func kept(f *admin.Feed, query string) []string {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/log?follow=false&"+query, nil))
	return slices.DeleteFunc(strings.Split(w.Body.String(), "\n"), func(l string) bool { return l == "" })
}

// The feed has the line of the access log, in JSON whatever the log's format is.
func TestFeedHasTheLinesOfTheLog(t *testing.T) {
	var text strings.Builder
	feed := admin.NewFeed()
	newAccessLog(config.Log{Access: config.Access{Sample: 1}}, newLogger(config.Log{}, &text), feed).request(exampleAccess(false))
	newAccessLog(config.Log{}, newLogger(config.Log{Format: "text"}, io.Discard), feed).request(exampleAccess(false))
	lines := append(kept(feed, ""), strings.TrimSpace(text.String()))
	if len(lines) != 3 {
		t.Fatalf("%q", lines)
	}
	var values [3]map[string]any
	for i, line := range lines {
		if err := json.Unmarshal([]byte(line), &values[i]); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		delete(values[i], "time")
	}
	if !reflect.DeepEqual(values[0], values[2]) || !reflect.DeepEqual(values[1], values[2]) {
		t.Errorf("the feed has\n%s\n%s, the log\n%s", lines[0], lines[1], lines[2])
	}
}

// What log.redact names is in no line, and no filter finds out what it was. A reload puts another access log before the same feed.
func TestFeedIsRedacted(t *testing.T) {
	feed := admin.NewFeed()
	newAccessLog(config.Log{Redact: []string{"token", "User-Agent"}}, nil, feed).request(exampleAccess(false))
	newAccessLog(config.Log{Redact: []string{"a"}}, nil, feed).request(exampleAccess(false))
	lines := kept(feed, "")
	if len(lines) != 2 || !strings.Contains(lines[0], `"target":"/page?a=1&token=REDACTED"`) || !strings.Contains(lines[0], `"user_agent":"REDACTED"`) ||
		!strings.Contains(lines[1], `"target":"/page?a=REDACTED&token=hunter2"`) {
		t.Fatalf("%q", lines)
	}
	if got := kept(feed, "url=*token=hunter2*"); len(got) != 1 || got[0] != lines[1] {
		t.Errorf("a filter for the secret finds %q", got)
	}
	if got := passed(exampleAccess(false), "/page?token=REDACTED"); got.URL != "shop.example/page?token=REDACTED" {
		t.Errorf("those who follow may filter %q", got.URL)
	}
}

// Sampling is the log's; the feed has what is no hit, and hits for those who follow.
func TestWhatTheFeedWants(t *testing.T) {
	for _, tt := range []struct {
		access      config.Access
		feed        *admin.Feed
		hits, other bool
		hook        bool
	}{
		{config.Access{}, nil, false, false, false},
		{config.Access{Sample: 1}, nil, false, true, true},
		{config.Access{Hits: .1}, nil, true, false, true},
		{config.Access{}, admin.NewFeed(), false, true, true},
		{config.Access{Hits: .1}, admin.NewFeed(), true, true, true},
	} {
		l := newAccessLog(config.Log{Access: tt.access}, nil, tt.feed)
		if l.wants(true) != tt.hits || l.wants(false) != tt.other || (l.hook() != nil) != tt.hook {
			t.Errorf("%+v with feed %v: hits %v, others %v, hook %v", tt.access, tt.feed != nil, l.wants(true), l.wants(false), l.hook() != nil)
		}
	}
	feed := admin.NewFeed()
	l := newAccessLog(config.Log{}, nil, feed) // its logger would panic
	l.request(exampleAccess(true))
	if got := kept(feed, ""); len(got) != 0 {
		t.Errorf("a hit is kept: %q", got)
	}
}

// BenchmarkAccess is what a request that is no hit pays for its line, and for being kept.
func BenchmarkAccess(b *testing.B) {
	for _, bb := range []struct {
		name string
		feed *admin.Feed
		c    config.Access
	}{
		{"log", nil, config.Access{Sample: 1}},
		{"feed", admin.NewFeed(), config.Access{}},
		{"both", admin.NewFeed(), config.Access{Sample: 1}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			l := newAccessLog(config.Log{Access: bb.c}, slog.New(slog.NewJSONHandler(io.Discard, nil)), bb.feed)
			a := exampleAccess(false)
			b.ReportAllocs()
			for b.Loop() {
				l.request(a)
			}
		})
	}
}
