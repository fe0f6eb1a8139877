package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/metrics"
	"cacheproxy/redistest"
	"cacheproxy/store"
)

// pages is an upstream of which every page may be kept.
type pages struct{}

func (pages) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: 4,
		Header: http.Header{"Cache-Control": {"max-age=600"}}, Body: io.NopCloser(strings.NewReader("page")),
	}, nil
}

// member is one of several replicas on one Redis.
type member struct {
	*Handler
	follower *invalidation.Follower
	metrics  *metrics.Metrics
	records  atomic.Int64
}

func newMember(t testing.TB, server *redistest.Server, name string) *member {
	t.Helper()
	const patience = 5 * time.Second // this is not about timeouts
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	o := store.DialOptions{Timeout: patience}
	client, err := store.Dial(server.URL(), o)
	fail(err)
	waiting, err := store.Dial(server.URL(), o)
	fail(err)
	m := &member{metrics: metrics.New()}
	log := slog.New(slog.DiscardHandler)
	m.follower, err = invalidation.Start(invalidation.Options{Instance: name, Prefix: "cp", Redis: client, Waiting: waiting, Timeout: patience, Log: log})
	fail(err)
	s, err := store.New(store.Options{NearSize: 64 << 20, Redis: client, Prefix: "cp", Timeout: patience, Follower: m.follower, Log: log})
	fail(err)
	m.follower.Sweep(s)
	m.Handler, err = New(Options{Next: pages{}, Store: s, Metrics: m.metrics, Log: log, PurgeWait: patience, Purge: func(ctx context.Context, p invalidation.Purge) (*invalidation.Receipt, error) {
		m.records.Add(1)
		return m.follower.Purge(ctx, p, patience)
	}})
	fail(err)
	t.Cleanup(func() {
		ctx := context.Background()
		_, _, _, _ = m.Close(ctx), s.Close(ctx), m.follower.Close(ctx), client.Close()
	})
	if !m.follower.AwaitRegistered(t.Context()) {
		t.Fatal("not registered")
	}
	return m
}

// all sends a request for each of n URLs, from 64 clients, and returns how many were answered from what is stored.
func (m *member) all(t testing.TB, method string, n int) (hits int64) {
	var next, answered atomic.Int64
	var clients sync.WaitGroup
	for range 64 {
		clients.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				w := httptest.NewRecorder()
				m.ServeHTTP(w, httptest.NewRequest(method, fmt.Sprintf("http://shop.example/products/%d", i), nil))
				if w.Code != http.StatusOK {
					t.Errorf("%d", w.Code)
				}
				if strings.HasPrefix(w.Header().Get("Cache-Status"), "cacheproxy; hit") {
					answered.Add(1)
				}
			}
		})
	}
	clients.Wait()
	return answered.Load()
}

// However many URLs are changed, a few records say so, and every one of them is forgotten on another replica when its request is answered.
func TestRFC9111Section4_4ManyURLs(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 2_000
	}
	server := redistest.StartSettled(t)
	here, there := newMember(t, server, "here"), newMember(t, server, "there")
	if there.all(t, "GET", n); there.all(t, "GET", n) != int64(n) {
		t.Fatal("not stored")
	}
	begin := time.Now()
	here.all(t, "POST", n)
	took, records := time.Since(begin), here.records.Load()
	counts := counted(t, here.metrics)
	if hits := there.all(t, "GET", n); hits != 0 {
		t.Errorf("%d are served still", hits)
	}
	most := int64(took/pace) + int64(n/invalidation.MaxURLs) + 1 // a record for each pace, and those that are full
	if counts["purges_total ok unsafe"] != float64(n) || records > min(most, int64(n)/2) {
		t.Errorf("%d records, %v", records, counts)
	}
	t.Logf("%d POSTs to as many URLs in %v: %d records, %.0f URLs each, all entered and confirmed", n, took.Round(time.Millisecond), records, float64(n)/float64(records))
}
