package limiter

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/breaker"
	"cacheproxy/redistest"
)

// patience is long enough for a Redis that has nothing the matter, whatever else the machine does.
const patience = 10 * time.Second

// asks counts the round trips of a client that have scripts in them, and those scripts.
type asks struct{ trips, scripts atomic.Int64 }

func (a *asks) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *asks) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		a.count(cmd)
		return next(ctx, cmd)
	}
}

func (a *asks) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		a.count(cmds...)
		return next(ctx, cmds)
	}
}

func (a *asks) count(cmds ...redis.Cmder) {
	n := int64(0)
	for _, cmd := range cmds {
		if cmd.Name() == "evalsha" || cmd.Name() == "eval" {
			n++
		}
	}
	if n > 0 {
		a.trips.Add(1)
		a.scripts.Add(n)
	}
}

// replica is one Limiter, and what it has asked.
type replica struct {
	*Limiter
	asked *asks
}

// dial makes a client as store.Dial does, which may not be imported here.
func dial(t testing.TB, address string, timeout time.Duration) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: address, ContextTimeoutEnabled: true, DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: timeout,
		MaxRetries: -1, DialerRetries: 1, PoolSize: 20,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	t.Cleanup(func() { client.Close() })
	return client
}

// newReplica makes a Limiter over the Redis at address, "" for none.
func newReplica(t testing.TB, address string, change func(*Options), specs ...Spec) *replica {
	t.Helper()
	r := &replica{asked: new(asks)}
	o := Options{Limits: specs, Timeout: patience, Log: quiet, Breaker: breaker.Options{Cooldown: 50 * time.Millisecond}}
	if address != "" {
		client := dial(t, address, patience)
		client.AddHook(r.asked)
		o.Redis = client
	}
	if change != nil {
		change(&o)
	}
	var err error
	if r.Limiter, err = New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// fleet is some replicas on one Redis, whose clocks are minutes apart.
func fleet(t testing.TB, n int, address string, specs ...Spec) []*replica {
	t.Helper()
	all := make([]*replica, n)
	for i := range all {
		skew := time.Duration(i*7-11) * time.Minute
		all[i] = newReplica(t, address, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(skew) } }, specs...)
	}
	return all
}

// from is a request of a client.
func from(client string) *Asker {
	return &Asker{Request: httptest.NewRequest(http.MethodGet, "http://shop.example/", nil), Client: netip.MustParseAddr(client)}
}

// reserve asks all limits of a replica.
func (r *replica) reserve(t testing.TB, a *Asker) *Reservation {
	t.Helper()
	set, err := r.Current().All()
	if err != nil {
		t.Fatal(err)
	}
	held := new(Reservation)
	set.Reserve(context.Background(), a, held)
	return held
}

// admits reports whether a request of a client is admitted.
func (r *replica) admits(t testing.TB, client string) bool {
	t.Helper()
	return !r.reserve(t, from(client)).Refused()
}

// admitted counts how many of n requests of a client, one after the other, are admitted.
func (r *replica) admitted(t testing.TB, client string, n int) (count int) {
	t.Helper()
	for range n {
		if r.admits(t, client) {
			count++
		}
	}
	return count
}

// await waits until something is so.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s", what)
		}
	}
}

// server starts a Redis that keeps nothing on disk.
func server(t testing.TB) *redistest.Server {
	t.Helper()
	return redistest.Start(t, "--save", "", "--appendonly", "no")
}

func clusterClient(t testing.TB, nodes []*redistest.Server) *redis.ClusterClient {
	t.Helper()
	var addrs []string
	for _, node := range nodes {
		addrs = append(addrs, node.Addr())
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { client.Close() })
	return client
}

func wantFields(t testing.TB, r *Reservation, want map[string]string) {
	t.Helper()
	h := http.Header{}
	r.SetFields(h)
	got := map[string]string{}
	for name := range h {
		got[name] = h.Get(name)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("fields %v, want %v", got, want)
	}
}
