//go:build consistency

package consistency

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cacheproxy/redistest"
)

// stageOptions say what a stage is like.
type stageOptions struct {
	out      string // rules that are taken out, by commas
	strict   bool
	apart    bool          // the log has a Redis of its own
	horizon  time.Duration // default 4 s
	patient  bool          // nobody gives up on Redis: redis.timeout is 5 s
	replicas int           // default 2
}

// lease is that of strict replicas: the least there may be.
const lease = 2 * time.Second

// stage is some replicas on a Redis, with an origin behind them.
type stage struct {
	t        testing.TB
	o        stageOptions
	redis    *redistest.Server
	log      *redistest.Server // the one of the log; the same unless apart
	admin    *redis.Client     // of redis
	logAdmin *redis.Client
	origin   *origin
	replicas []*replica
	config   string
}

const rules = `rules:
  - match: {path: /behind/**}
    stale_while_revalidate: 1h
`

func newStage(t testing.TB, o stageOptions, redisOptions redistest.Options) *stage {
	t.Helper()
	if o.horizon == 0 {
		o.horizon = 4 * time.Second
	}
	x := &stage{t: t, o: o, redis: redistest.StartWith(t, redisOptions), origin: newOrigin(t.(*testing.T))}
	x.redis.Settle()
	x.admin = x.redis.Admin()
	x.log, x.logAdmin = x.redis, x.admin
	if o.apart {
		x.log = redistest.StartSettled(t)
		x.logAdmin = x.log.Admin()
	}
	x.config = filepath.Join(t.TempDir(), "cacheproxy.yaml")
	if err := os.WriteFile(x.config, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	for range max(o.replicas, 2) {
		x.add()
	}
	t.Cleanup(func() {
		if t.Failed() {
			x.dump()
		}
	})
	for _, r := range x.replicas {
		r.start()
	}
	for _, r := range x.replicas {
		r.followed()
	}
	return x
}

// dump tells what Redis has of the log.
func (x *stage) dump() {
	ctx, key := context.Background(), "cp:{inv}:"
	x.t.Logf("log %v\nswept %v\nsweeps %v\nreplicas %v\nworkers %v", x.logAdmin.XRange(ctx, key+"log", "-", "+").Val(), x.logAdmin.HGetAll(ctx, key+"swept").Val(),
		x.logAdmin.LRange(ctx, key+"sweeps", 0, -1).Val(), x.logAdmin.HGetAll(ctx, key+"replicas").Val(), x.logAdmin.SMembers(ctx, key+"workers").Val())
}

// add makes one more replica, which is not started.
func (x *stage) add() *replica {
	timeout := "100ms"
	if x.o.patient {
		timeout = "5s"
	}
	r := &replica{t: x.t, name: fmt.Sprint("r", len(x.replicas)), config: x.config, fault: x.redis.Fault()}
	r.env = []string{
		"CACHEPROXY_INSTANCE=" + r.name, "CACHEPROXY_UPSTREAM=" + x.origin.URL,
		"CACHEPROXY_REDIS_URL=" + r.fault.URL(), "CACHEPROXY_REDIS_TIMEOUT=" + timeout, "CACHEPROXY_REDIS_PREFIX=cp",
		"CACHEPROXY_CACHE_HORIZON=" + x.o.horizon.String(), "CACHEPROXY_CACHE_MAX_FILL=2s", "CACHEPROXY_NEAR_SIZE=16MiB", "CACHEPROXY_NEAR_MAX_OBJECT=4MiB",
		"CACHEPROXY_NEAR_STRICT=" + strconv.FormatBool(x.o.strict), "CACHEPROXY_NEAR_LEASE=" + lease.String(),
		"CACHEPROXY_LOG_ACCESS_SAMPLE=0", "CACHEPROXY_DRAIN_DELAY=0s", "CACHEPROXY_DRAIN_TIMEOUT=2s", "CACHEPROXY_BREAKER_COOLDOWN=100ms",
		"GOMAXPROCS=2",
	}
	r.state = r.fault
	if x.o.apart {
		r.state = x.log.Fault()
		r.env = append(r.env, "CACHEPROXY_REDIS_STATE_URL="+r.state.URL())
	}
	if x.o.out != "" {
		r.env = append(r.env, "TAKEN_OUT="+x.o.out)
	}
	x.replicas = append(x.replicas, r)
	x.t.Cleanup(func() {
		if x.t.Failed() {
			x.t.Logf("%s:\n%s", r.name, r.text())
		}
		if r.process != nil {
			r.kill()
		}
	})
	return r
}

// until waits for a condition.
func (x *stage) until(what string, is func() bool) {
	x.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			x.t.Fatalf("not %s", what)
		}
	}
}

// get asks a replica for a page, on a connection of its own.
func (x *stage) get(r *replica, path string, fields ...string) seen {
	x.t.Helper()
	c := conn{address: r.address()}
	defer c.close()
	s, err := c.get(path, fields...)
	if err != nil {
		x.t.Fatalf("%s of %s: %v\n%s", path, r.name, err, r.text())
	}
	return s
}

// ask is get that somebody else does meanwhile.
func (x *stage) ask(r *replica, path string) <-chan seen {
	done := make(chan seen, 1)
	c := &conn{address: r.address()}
	if err := c.send(path); err != nil {
		x.t.Fatal(err)
	}
	go func() {
		defer c.close()
		s, err := c.receive()
		if err != nil {
			s.said = err.Error()
		}
		done <- s
	}()
	return done
}

// stored asks a replica for a page, and waits until Redis keeps it for good.
func (x *stage) stored(r *replica, path string) {
	x.t.Helper()
	x.get(r, path)
	x.until(path+" stored for good", func() bool {
		for _, key := range x.entries(path) {
			if x.admin.PTTL(x.t.Context(), key).Val() > time.Hour {
				return true
			}
		}
		return false
	})
}

// entries are the keys of what is stored of a page.
func (x *stage) entries(path string) []string {
	return x.admin.Keys(x.t.Context(), "cp:e:{http://"+host+path+"}:*").Val()
}

// receipt is what a purge was answered.
type receipt struct {
	status   int
	Sequence uint64
	Applied  []string
	Lagging  []string
	Silent   []string
	Fenced   []string
}

// has reports whether a replica is among some ids.
func has(ids []string, r *replica) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return strings.HasPrefix(id, r.name+"#") })
}

var operators = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}

// post asks a replica to purge.
func post(ctx context.Context, r *replica, wait time.Duration, selection map[string]any) (got receipt, err error) {
	text, _ := json.Marshal(selection)
	r.mu.Lock()
	url := "http://" + r.operator + "/v1/purge?wait=" + wait.String()
	r.mu.Unlock()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return got, err
	}
	request.Header.Set("Content-Type", "application/json")
	res, err := operators.Do(request)
	if err != nil {
		return got, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return got, err
	}
	got.status = res.StatusCode
	if res.StatusCode/100 != 2 {
		return got, fmt.Errorf("%d %s", res.StatusCode, body)
	}
	return got, json.Unmarshal(body, &got)
}

// purge asks a replica to purge, and wants this of the receipt. One that was refused since Redis did not answer in time, which on a machine with
// much else to do is soon, promised nothing, and is asked for again.
func (x *stage) purge(r *replica, status int, selection map[string]any) receipt {
	x.t.Helper()
	wait := 15 * time.Second
	if status == http.StatusAccepted {
		wait = time.Second
	}
	var got receipt
	var err error
	x.until("purged", func() bool {
		got, err = post(x.t.Context(), r, wait, selection)
		return got.status != http.StatusServiceUnavailable
	})
	if err != nil || got.status != status {
		x.t.Fatalf("the purge is answered %+v, %v", got, err)
	}
	return got
}

// pageURL is a page's cache URL.
func pageURL(path string) string { return "http://" + host + path }

func urlOf(path string) map[string]any { return map[string]any{"url": pageURL(path)} }

// raise makes a new version of a page.
func (x *stage) raise(path string) int64 { return x.origin.version(path).Add(1) }

// over waits until a record, behind which another one stands, is out of the log, and until the replicas that look at it have forgotten it: for
// as long as four times their looking for what is to be forgotten takes. Should that not suffice, a rule's absence may go unseen, but nothing
// is seen that is not there.
func (x *stage) over(r receipt) {
	x.t.Helper()
	x.until("out of the log", func() bool { return !x.inLog(r) })
	time.Sleep(4 * (time.Second + x.o.horizon/8))
}

func (x *stage) inLog(r receipt) bool {
	id := strconv.FormatUint(r.Sequence, 10) + "-0"
	return len(x.logAdmin.XRange(x.t.Context(), "cp:{inv}:log", id, id).Val()) > 0
}

// watch asks a replica again and again for what it has stored of a page, and for nothing else, until that is older than it may be, which it
// tells, or until the end.
func (x *stage) watch(r *replica, path string, least int64, end func() bool) (violation string) {
	x.t.Helper()
	c := conn{address: r.address()}
	defer c.close()
	for {
		last := end()
		s, err := c.get(path, "Cache-Control: only-if-cached")
		if err != nil {
			x.t.Fatal(err)
		}
		if violation := x.older(r, &s, least); violation != "" {
			return violation
		}
		if last {
			return ""
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// older tells of a page that is older than it may be. No other answer than a page is: it has no version.
func (x *stage) older(r *replica, s *seen, least int64) (violation string) {
	if s.status == http.StatusOK && s.version < least {
		return fmt.Sprintf("%s answers %s, although %d was promised", r.name, s, least)
	}
	return ""
}

// after is the end of a watch.
func after(d time.Duration) func() bool {
	at := time.Now().Add(d)
	return func() bool { return time.Now().After(at) }
}

// waiters is how many wait for the fetches of others at a replica.
func (x *stage) waiters(r *replica) float64 {
	x.t.Helper()
	res, err := operators.Get("http://" + r.operator + "/metrics")
	if err != nil {
		x.t.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		x.t.Fatal(err)
	}
	return metric(page, "cacheproxy_fill_waiters")
}

func sha1Hex(text []byte) string {
	sum := sha1.Sum(text)
	return hex.EncodeToString(sum[:])
}
