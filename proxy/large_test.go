package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/policy"
	"cacheproxy/redistest"
	"cacheproxy/store"
)

// large is a body for which near memory in these tests is too small, and Redis keeps in chunks.
var large = func() string {
	b := make([]byte, 3<<20+17)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = 'a' + byte(r.UintN(26))
	}
	return string(b)
}()

// newLargeRig is a rig whose store has a Redis, and near memory for small entries alone. The tier is filled when saved has returned.
func newLargeRig(t *testing.T, origin http.HandlerFunc, change ...func(*Options)) (r *rig, client redis.UniversalClient, saved func()) {
	t.Helper()
	server := redistest.Start(t)
	const patience = 5 * time.Second // these tests are not about timeouts
	client, err := store.Dial(server.URL(), store.DialOptions{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(store.Options{NearSize: 16 << 20, NearMaxObject: 1 << 20, Redis: client, Prefix: "cp", Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()); _ = client.Close() })
	change = append([]func(*Options){func(o *Options) {
		_ = o.Store.Close(context.Background())
		o.Store, o.Now = s, time.Now
	}}, change...)
	r = newRig(t, origin, change...)
	return r, client, func() {
		t.Helper()
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func serveLarge(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=600")
	w.Header().Set("Etag", `"v1"`)
	w.Header().Set("Content-Type", "text/plain")
	if r.URL.Path != "/chunked" {
		w.Header().Set("Content-Length", fmt.Sprint(len(large)))
	}
	_, _ = io.WriteString(w, large)
}

func TestLargeBodyIsStoredAndServedInChunks(t *testing.T) {
	for _, path := range []string{"/known", "/chunked"} {
		t.Run(path, func(t *testing.T) {
			r, _, saved := newLargeRig(t, serveLarge)
			r.get(path).is(t, 200, large)
			saved()
			hit := r.get(path)
			if hit.is(t, 200, large); !strings.HasPrefix(hit.Header.Get("Cache-Status"), "cacheproxy; hit") || hit.ContentLength != int64(len(large)) {
				t.Errorf("%v", hit.Header)
			}
			r.do("HEAD", path, nil).is(t, 200, "")
			r.get(path, `If-None-Match: "v1"`).is(t, 304, "")
			const at = 256<<10 - 5
			for field, want := range map[string]string{
				"bytes=0-0":                               large[:1],
				fmt.Sprintf("bytes=%d-%d", at, at+9):      large[at : at+10],
				fmt.Sprintf("bytes=%d-", len(large)-3):    large[len(large)-3:],
				"bytes=-1048576":                          large[len(large)-1<<20:],
				fmt.Sprintf("bytes=0-%d", len(large)-1):   large,
				fmt.Sprintf("bytes=100-%d", len(large)*2): large[100:],
			} {
				if got := r.get(path, "Range: "+field); got.StatusCode != 206 || got.body != want {
					t.Errorf("%s: %d, %d bytes", field, got.StatusCode, len(got.body))
				}
			}
			multi := r.get(path, fmt.Sprintf("Range: bytes=0-9,%d-%d,-5", at, at+9))
			for _, part := range []string{large[:10], large[at : at+10], large[len(large)-5:]} {
				if !strings.Contains(multi.body, "\r\n\r\n"+part+"\r\n--") {
					t.Errorf("multipart %d %v\n%s", multi.StatusCode, multi.Header, multi.body)
				}
			}
			r.get(path, fmt.Sprintf("Range: bytes=%d-", len(large))).is(t, 416, "")
			r.wantHits(1)
			if held := r.h.fills.memory.Load(); held != 0 {
				t.Errorf("%d bytes are held", held)
			}
		})
	}
}

// What goes alone is uploaded too.
func TestLargeBodyThatIsNotCollapsed(t *testing.T) {
	no := false
	for _, path := range []string{"/known", "/chunked"} {
		r, _, saved := newLargeRig(t, serveLarge, withRules(t, policy.RuleSpec{Collapse: &no}))
		r.get(path).is(t, 200, large)
		saved()
		if got := r.get(path).is(t, 200, large); !strings.HasPrefix(got.Header.Get("Cache-Status"), "cacheproxy; hit") {
			t.Errorf("%v", got.Header)
		}
		r.wantHits(1)
		if held := r.h.fills.memory.Load(); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
	}
}

// Redis compresses what a rule says, unless the origin has done so already.
func TestRuleCompresses(t *testing.T) {
	r, client, saved := newLargeRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		if r.URL.Path == "/coded" {
			w.Header().Set("Content-Encoding", "x-none")
		}
		_, _ = io.WriteString(w, strings.Repeat("again ", 10_000))
	}, withRules(t, policy.RuleSpec{Compress: "s2"}))
	for path, shorter := range map[string]bool{"/plain": true, "/coded": false} {
		r.get(path)
		saved()
		key := client.Keys(t.Context(), "cp:e:*"+path+"*").Val()
		if len(key) != 1 || (client.StrLen(t.Context(), key[0]).Val() < 30_000) != shorter {
			t.Errorf("%s: %q, %d bytes", path, key, client.StrLen(t.Context(), key[0]).Val())
		}
	}
}

// One request for all who ask before the head, though the body is never held as a whole.
func TestStampedeOnALargeBody(t *testing.T) {
	release := make(chan struct{})
	r, _, saved := newLargeRig(t, func(w http.ResponseWriter, req *http.Request) {
		<-release
		serveLarge(w, req)
	})
	const askers = 20
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			if got, err := r.try("GET", "/", nil); err != nil || got.body != large {
				t.Errorf("%d bytes, %v", len(got.body), err)
			}
		})
	}
	r.awaitWaiters(askers)
	close(release)
	wg.Wait()
	r.wantHits(1)
	saved()
	r.get("/").is(t, 200, large)
}

func TestLargeBodyOverTheRulesLimit(t *testing.T) {
	for _, path := range []string{"/known", "/chunked"} {
		r, client, saved := newLargeRig(t, serveLarge, func(o *Options) { o.Cache.MaxObject = 2 << 20 })
		r.get(path).is(t, 200, large)
		saved()
		r.get(path).is(t, 200, large)
		r.wantHits(2)
		if n := len(client.Keys(t.Context(), "cp:[ev]:*").Val()); n != 0 {
			t.Errorf("%s: %d keys", path, n)
		}
	}
}

// While Redis takes no writes, nobody is told that a body which only Redis can hold is stored.
func TestLargeBodyWhileRedisIsFull(t *testing.T) {
	r, client, saved := newLargeRig(t, serveLarge)
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	const told = "cacheproxy; fwd=uri-miss; detail=store-unavailable"
	for i, fields := range [][]string{nil, {"Range: bytes=5-9"}} { // shared, and alone
		for n := 0; ; n++ { // that it takes none is found out by a save, and looked at again a second later
			a := r.get(fmt.Sprintf("/%d/%d", i, n), fields...)
			a.is(t, 200, large)
			if a.Header.Get("Cache-Status") == told {
				break
			}
			if saved(); n == 100 {
				a.status(t, told)
				break
			}
		}
	}
}

// A stored body of which a chunk is gone is fetched again, or, where it has begun to be sent, cut.
func TestLargeBodyThatVanishes(t *testing.T) {
	r, client, saved := newLargeRig(t, serveLarge)
	chunks := func() []string {
		keys := client.Keys(t.Context(), "cp:b:*").Val()
		if len(keys) < 13 {
			t.Fatalf("%d chunks", len(keys))
		}
		return keys
	}
	r.get("/")
	saved()
	if err := client.Del(t.Context(), chunks()[5]).Err(); err != nil {
		t.Fatal(err)
	}
	r.get("/").is(t, 200, large).status(t, "cacheproxy; fwd=uri-miss; ttl=600; stored")
	r.wantHits(2)
	saved()
	r.get("/").is(t, 200, large)
	r.wantHits(2)

	res := r.open("/")
	defer res.Body.Close()
	first := make([]byte, 1000)
	if _, err := io.ReadFull(res.Body, first); err != nil {
		t.Fatal(err)
	}
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(res.Body)
	if whole := len(first)+len(rest) == len(large); whole != (err == nil) || !bytes.HasPrefix([]byte(large), append(first, rest...)) {
		t.Errorf("%d bytes, ended with %v", len(first)+len(rest), err)
	}
	r.get("/").is(t, 200, large)
	r.wantHits(3)
}

// A client who leaves a window while nobody pulls gives its memory back.
func TestWindowOfAClientWhoLeavesIsFreed(t *testing.T) {
	onStage(t, func(s *stage) {
		a := &asker{block: make(chan struct{})}
		s.asking(a, "/")
		c := <-s.calls
		body := c.answer(200, "Cache-Control: max-age=600")
		begin(body, "x")
		go func() { _, _ = body.Write(make([]byte, 1<<20)) }()
		synctest.Wait() // the client reads nothing any more, so nobody pulls
		go func() {
			<-c.Context().Done()
			_ = body.CloseWithError(io.ErrClosedPipe)
		}()
		a.left()
		close(a.block)
		<-a.done
		synctest.Wait()
		if held := s.h.fills.memory.Load(); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
	}, small)
}
