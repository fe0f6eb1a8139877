package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cacheproxy/policy"
	"cacheproxy/store"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		playRole(role)
		return
	}
	goleak.VerifyTestMain(m)
}

// clock is a time that only the test moves.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ns.Store(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// rig is a cache in front of an origin, both real HTTP servers on loopback.
type rig struct {
	t      testing.TB
	clock  *clock
	origin *httptest.Server
	proxy  *httptest.Server
	h      *Handler
	hits   atomic.Int64 // requests that reached the origin
	client *http.Client

	mu   sync.Mutex
	seen []*http.Request
	logs []Access
}

// toServer is a round tripper that sends everything to one server.
type toServer struct {
	url *url.URL
	rt  http.RoundTripper
}

func (s toServer) RoundTrip(r *http.Request) (*http.Response, error) {
	out := *r
	u := *r.URL
	u.Scheme, u.Host = s.url.Scheme, s.url.Host
	out.URL = &u
	return s.rt.RoundTrip(&out)
}

// newRig starts origin and proxy; change may alter the options.
func newRig(t testing.TB, origin http.HandlerFunc, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, clock: newClock()}
	r.origin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.hits.Add(1)
		r.mu.Lock()
		r.seen = append(r.seen, req.Clone(context.Background()))
		r.mu.Unlock()
		origin(w, req)
	}))
	u, _ := url.Parse(r.origin.URL)
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	s, err := store.New(store.Options{NearSize: 32 << 20, Now: r.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Next: toServer{u, transport}, Store: s, Now: r.clock.now, Log: slog.New(slog.DiscardHandler),
		AccessLog: func(a *Access) { r.mu.Lock(); r.logs = append(r.logs, *a); r.mu.Unlock() },
	}
	for _, f := range change {
		f(&o)
	}
	r.h, err = New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.proxy = httptest.NewServer(r.h)
	r.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1000},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.proxy.Close()
		if err := r.h.Close(context.Background()); err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
		r.origin.CloseClientConnections()
		r.origin.Close()
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// withRules is an option: the rules of the default site.
func withRules(t testing.TB, rules ...policy.RuleSpec) func(*Options) {
	sites, errs := policy.CompileSites([]policy.SiteSpec{{Rules: rules}})
	for _, err := range errs {
		t.Fatal(err)
	}
	return func(o *Options) { o.Sites = sites }
}

// reply is a response that has been read.
type reply struct {
	*http.Response
	body string
}

// do sends a request through the proxy; fields are "Name: value".
func (r *rig) do(method, target string, body io.Reader, fields ...string) reply {
	r.t.Helper()
	res, err := r.try(method, target, body, fields...)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, target, err)
	}
	return res
}

func (r *rig) try(method, target string, body io.Reader, fields ...string) (reply, error) {
	req, err := http.NewRequest(method, r.proxy.URL+target, body)
	if err != nil {
		return reply{}, err
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return reply{res, string(b)}, err
}

func (r *rig) get(target string, fields ...string) reply {
	r.t.Helper()
	return r.do(http.MethodGet, target, nil, fields...)
}

// status asserts the Cache-Status member.
func (a reply) status(t testing.TB, want string) reply {
	t.Helper()
	if got := a.Header.Get("Cache-Status"); got != want {
		t.Errorf("Cache-Status: %s, want %s", got, want)
	}
	return a
}

func (a reply) is(t testing.TB, code int, body string) reply {
	t.Helper()
	if a.StatusCode != code || a.body != body {
		t.Errorf("got %d %q, want %d %q", a.StatusCode, a.body, code, body)
	}
	return a
}

func (r *rig) lastSeen() *http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) == 0 {
		r.t.Fatal("nothing has reached the origin")
	}
	return r.seen[len(r.seen)-1]
}

// wantHits asserts how many requests have reached the origin.
func (r *rig) wantHits(n int64) {
	r.t.Helper()
	if got := r.hits.Load(); got != n {
		r.t.Errorf("%d requests reached the origin, want %d", got, n)
	}
}

// raw sends bytes over a connection of its own and returns all that comes back until the other side closes.
func (r *rig) raw(request string) string {
	r.t.Helper()
	c, err := net.Dial("tcp", r.proxy.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		r.t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		r.t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}
