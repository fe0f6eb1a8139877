package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"cacheproxy/invalidation"
	"cacheproxy/store"
)

// purgeRig is a rig whose store obeys a log of purges in the process.
func purgeRig(t *testing.T, origin http.HandlerFunc) (*rig, func(invalidation.Purge)) {
	t.Helper()
	clock := newClock()
	follower, err := invalidation.Start(invalidation.Options{Instance: "a", Log: slog.New(slog.DiscardHandler), Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = follower.Close(context.Background()) })
	r := newRig(t, origin, func(o *Options) {
		_ = o.Store.Close(t.Context())
		o.Now = clock.now
		o.Purge = func(ctx context.Context, p invalidation.Purge) (*invalidation.Receipt, error) {
			return follower.Purge(ctx, p, time.Second)
		}
		if o.Store, err = store.New(store.Options{NearSize: 32 << 20, Now: o.Now, Follower: follower}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = o.Store.Close(context.Background()) })
	})
	r.clock = clock
	return r, func(p invalidation.Purge) {
		t.Helper()
		if receipt, err := follower.Purge(t.Context(), p, time.Second); err != nil || !receipt.Complete() {
			t.Fatalf("%+v, %v", receipt, err)
		}
	}
}

func TestPurgedResponsesAreFetchedAgain(t *testing.T) {
	r, purge := purgeRig(t, cacheable)
	r.get("/a")
	r.get("/b")
	purge(invalidation.Purge{Kind: invalidation.KindURL, Selector: r.proxy.URL + "/a"})
	if got := r.get("/a").Header.Get("Cache-Status"); got != "cacheproxy; fwd=uri-miss; ttl=60; stored" {
		t.Errorf("%s", got)
	}
	if got := r.get("/b").Header.Get("Cache-Status"); got != "cacheproxy; hit; ttl=60" {
		t.Errorf("%s", got)
	}
	purge(invalidation.Purge{Kind: invalidation.KindPattern, Selector: "*/a", Soft: true})
	if got := r.get("/a").Header.Get("Cache-Status"); got == "cacheproxy; hit; ttl=60" {
		t.Errorf("after a soft purge: %s", got)
	}
}

// Who comes after a purge is not answered by a fetch that began before it, though what the purge asks of it, a tag, is known only from the
// response; nor where that is not known from its head either.
func TestJoiningAFetchOfBeforeAPurge(t *testing.T) {
	for name, p := range map[string]invalidation.Purge{
		"tag":           {Kind: invalidation.KindTag, Tags: []string{"x"}},
		"size":          {Kind: invalidation.KindAll, Filters: invalidation.Filters{MinSize: 1000}},
		"size, at most": {Kind: invalidation.KindAll, Filters: invalidation.Filters{MaxSize: 4000}},
	} {
		t.Run(name, func(t *testing.T) {
			arrived, answer := make(chan struct{}, 10), make(chan struct{})
			r, purge := purgeRig(t, func(w http.ResponseWriter, _ *http.Request) {
				arrived <- struct{}{}
				<-answer
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Surrogate-Key", "x")
				w.(http.Flusher).Flush() // no length is known
				_, _ = w.Write(make([]byte, 3000))
			})
			ended := make(chan struct{}, 2)
			ask := func() { r.get("/a"); ended <- struct{}{} }
			go ask()
			<-arrived
			purge(p)
			go ask()
			r.awaitWaiters(2)
			close(answer)
			<-ended
			<-ended
			r.wantHits(2)
		})
	}
}

// What a 304 says of the tags does not take a stored response out of the reach of a purge that came while it was asked for.
func TestFreshenedOutOfAPurge(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		for _, soft := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, soft %v", method, soft), func(t *testing.T) {
				var purgeNow func()
				r, purge := purgeRig(t, func(w http.ResponseWriter, req *http.Request) {
					w.Header().Set("Etag", `"1"`)
					w.Header().Set("Cache-Control", "max-age=60")
					w.Header().Set("Surrogate-Key", "old")
					if purgeNow != nil {
						purgeNow()
						purgeNow = nil
						w.Header().Set("Surrogate-Key", "new")
						if req.Header.Get("If-None-Match") != "" {
							w.WriteHeader(http.StatusNotModified)
						}
						return
					}
				})
				r.get("/a")
				r.clock.advance(61 * time.Second)
				purgeNow = func() { purge(invalidation.Purge{Kind: invalidation.KindTag, Tags: []string{"old"}, Soft: soft}) }
				r.do(method, "/a", nil).is(t, 200, "")
				if got := r.get("/a").Header.Get("Cache-Status"); strings.HasPrefix(got, "cacheproxy; hit") {
					t.Errorf("what was purged is served: %s", got)
				}
			})
		}
	}
}

// The response to a POST that may answer a GET is not stored past what others have purged since it was sent; its own purge does not hinder it.
func TestPostOfBeforeAPurge(t *testing.T) {
	for name, p := range map[string]*invalidation.Purge{
		"nothing purged": nil,
		"another URL":    {Kind: invalidation.KindURL, Selector: "http://other.example/"},
		"a tag of it":    {Kind: invalidation.KindTag, Tags: []string{"x"}},
		"all of it":      {Kind: invalidation.KindPattern, Selector: "*/a"},
	} {
		t.Run(name, func(t *testing.T) {
			var purge func(invalidation.Purge)
			var r *rig
			r, purge = purgeRig(t, func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Content-Location", "/a")
				w.Header().Set("Surrogate-Key", "x")
				if p != nil && req.Method == http.MethodPost {
					purge(*p)
				}
				_, _ = w.Write([]byte(req.Method))
			})
			r.do("POST", "/a", strings.NewReader("x")).is(t, 200, "POST")
			want := "POST"
			if p != nil && p.Kind != invalidation.KindURL {
				want = "GET"
			}
			r.get("/a").is(t, 200, want)
		})
	}
}

// awaitWaiters waits until so many requests wait for one fetch.
func (r *rig) awaitWaiters(n int) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		waiting := 0
		r.h.fills.mu.Lock()
		for _, f := range r.h.fills.byKey {
			f.mu.Lock()
			waiting = max(waiting, f.waiters)
			f.mu.Unlock()
		}
		r.h.fills.mu.Unlock()
		if waiting >= n {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("%d requests wait", waiting)
		}
	}
}
