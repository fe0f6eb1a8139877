package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// crashEnv marks the child process of TestServersDieWithTheTestBinary.
const crashEnv = "REDISTEST_CRASH"

func TestMain(m *testing.M) {
	if os.Getenv(crashEnv) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// within returns a context that ends long before the test's own limit.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// timedOut reports whether err is a deadline's, the context's own or the one it set on the connection.
func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

func mustSet(t *testing.T, c *redis.Client, key, value string) {
	t.Helper()
	if err := c.Set(t.Context(), key, value, 0).Err(); err != nil {
		t.Fatalf("SET %s: %v", key, err)
	}
}

func wantGet(t *testing.T, c *redis.Client, key, want string) {
	t.Helper()
	got, err := c.Get(t.Context(), key).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatalf("GET %s: %v", key, err)
	}
	if got != want {
		t.Fatalf("GET %s = %q, want %q", key, got, want)
	}
}

func TestURLs(t *testing.T) {
	s := Start(t)
	for _, u := range []string{s.URL(), s.UnixURL()} {
		o, err := redis.ParseURL(u)
		if err != nil {
			t.Fatalf("%s: %v", u, err)
		}
		c := redis.NewClient(o)
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Errorf("%s: %v", u, err)
		}
		c.Close()
	}
}

func TestTLS(t *testing.T) {
	s := StartWith(t, Options{TLS: true})
	mustSet(t, s.Client(), "k", "v")
	if !strings.HasPrefix(s.URL(), "rediss://") {
		t.Errorf("URL %s", s.URL())
	}
	if _, err := os.Stat(s.CAFile()); err != nil {
		t.Error(err)
	}
	if conn, err := tls.Dial("tcp", s.Addr(), &tls.Config{}); err == nil {
		conn.Close()
		t.Error("the server's certificate is trusted without its CA")
	}
	plain := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
	defer plain.Close()
	if err := plain.Ping(t.Context()).Err(); err == nil {
		t.Error("the TLS port answers without TLS")
	}
}

func TestACLUser(t *testing.T) {
	s := StartWith(t, Options{User: "app", Password: "p:w/@"})
	mustSet(t, s.Client(), "k", "v")
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	if o.Username != "app" || o.Password != "p:w/@" {
		t.Errorf("URL has user %q, password %q", o.Username, o.Password)
	}
	if err := s.Client().Keys(t.Context(), "*").Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("KEYS as the user: %v, want NOPERM", err)
	}
	if keys := s.Admin().Keys(t.Context(), "*").Val(); len(keys) != 1 {
		t.Errorf("KEYS as admin: %v", keys)
	}
	anonymous := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
	defer anonymous.Close()
	if err := anonymous.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("PING without a password: %v, want NOAUTH", err)
	}
}

func TestMemoryBound(t *testing.T) {
	s := StartWith(t, Options{MaxMemory: "3mb", Policy: "noeviction"})
	c := s.Client()
	var err error
	for i := 0; i < 64 && err == nil; i++ {
		err = c.Append(t.Context(), "big", strings.Repeat("x", 64<<10)).Err()
	}
	if err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("4 MiB in a server bound to 3: %v, want OOM", err)
	}
}

func TestArgs(t *testing.T) {
	s := Start(t, "--maxmemory-policy", "allkeys-lfu")
	if got := s.Client().ConfigGet(t.Context(), "maxmemory-policy").Val()["maxmemory-policy"]; got != "allkeys-lfu" {
		t.Errorf("policy %q", got)
	}
}

func TestLifecycle(t *testing.T) {
	s := Start(t)
	c, addr := s.Client(), s.Addr()
	mustSet(t, c, "k", "v")

	s.Restart()
	wantGet(t, c, "k", "v")
	if s.Addr() != addr {
		t.Errorf("the address changed from %s to %s", addr, s.Addr())
	}

	mustSet(t, c, "lost", "v")
	s.Kill()
	if s.Pid() != 0 || s.Log() != "" {
		t.Error("a killed server has a process")
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("a killed server accepts connections")
	}
	s.Kill() // of a dead one: nothing
	s.Stop()
	s.Restart()
	wantGet(t, c, "k", "v")
	wantGet(t, c, "lost", "")

	s.RestartEmpty()
	wantGet(t, c, "k", "")
	if s.Log() == "" {
		t.Error("no log")
	}
}

func TestPause(t *testing.T) {
	s := Start(t)
	c := s.Client()
	mustSet(t, c, "k", "v")
	for range 2 {
		s.Pause()
		if err := c.Get(within(t, 50*time.Millisecond), "k").Err(); !timedOut(err) {
			t.Errorf("a paused server answered: %v", err)
		}
		s.Resume()
		wantGet(t, c, "k", "v")
	}
	s.Pause()
	s.Stop() // must not hang on a paused server
}

// fatalTB records how a test would have ended instead of ending it.
type fatalTB struct {
	testing.TB
	said chan string
}

func (f fatalTB) Helper() {}
func (f fatalTB) Fatalf(string, ...any) {
	f.said <- "fatal"
	runtime.Goexit()
}
func (f fatalTB) Skipf(string, ...any) {
	f.said <- "skip"
	runtime.Goexit()
}

func TestMissingBinary(t *testing.T) {
	for _, tt := range []struct{ ci, require, want string }{
		{"", "", "skip"},
		{"true", "", "fatal"},
		{"", "1", "fatal"},
	} {
		t.Setenv("PATH", t.TempDir())
		t.Setenv("CI", tt.ci)
		t.Setenv("CACHEPROXY_REQUIRE_REDIS", tt.require)
		tb := fatalTB{t, make(chan string, 1)}
		go Start(tb)
		if got := <-tb.said; got != tt.want {
			t.Errorf("CI=%q CACHEPROXY_REQUIRE_REDIS=%q: %s, want %s", tt.ci, tt.require, got, tt.want)
		}
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	_, err := startProcess(binary(t), "--no-such-setting", "1")
	if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("error %v does not show the server's own words", err)
	}
	if _, err := startProcess("/nonexistent/redis-server"); err == nil {
		t.Error("a missing binary started")
	}
}

func TestCleanupEndsTheServer(t *testing.T) {
	var pid int
	t.Run("inner", func(t *testing.T) {
		s := Start(t)
		s.Pause() // not even this keeps it
		pid = s.Pid()
	})
	if pid == 0 { // no redis-server here
		t.Skip("the inner test was skipped: no redis-server in PATH")
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("signal 0 to pid %d: %v, want no such process", pid, err)
	}
}

// A port that was given out is given to nobody else, also while nothing listens on it.
func TestPortsAreKept(t *testing.T) {
	seen := make(map[int]bool)
	for range 500 {
		port := freePort(t)
		if seen[port] {
			t.Fatalf("%d twice", port)
		}
		seen[port] = true
	}
}
