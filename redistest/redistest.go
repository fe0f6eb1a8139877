// Package redistest runs real redis-server processes for tests, and puts trouble in front of them.
//
// A fake of Redis agrees with whoever wrote it. So tests of anything that speaks Redis start the real server:
//
//	server := redistest.Start(t)                                   // memory only, a free loopback port, a unix socket
//	server := redistest.Start(t, "--maxmemory", "20mb")            // further redis-server arguments
//	server := redistest.StartWith(t, redistest.Options{TLS: true}) // TLS, an ACL user, limits
//	client := server.Client()
//
//	cluster := redistest.StartCluster(t, 3, 1)                     // three masters with a replica each
//	trio := redistest.StartSentinel(t, 1)                          // a master, a replica, three sentinels
//
// A server can be killed, restarted on its port with or without its data, and paused (SIGSTOP), which is what a machine that
// swaps or a fork of a large Redis looks like to its clients: connected and silent. A Fault is a TCP proxy that delays, holds,
// garbles, halves or cuts what passes.
//
// Nothing outlives its test. Every process is ended by its own pid in t.Cleanup, which also runs when the test fails or
// panics; should the test binary itself die (a panic elsewhere, a time limit), the kernel ends the servers on Linux. All
// goroutines are waited for.
//
// Where the redis-server binary is missing, tests are skipped with a message, or fail if CI or CACHEPROXY_REQUIRE_REDIS is set
// in the environment: a green run in CI has run them.
//
// The methods of Server and Fault may end the test (t.Fatal), so call them from the test's own goroutine.
package redistest

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Options say how a server differs from a plain one; the zero value is a plain one.
type Options struct {
	// TLS makes the port speak only TLS, with a certificate for 127.0.0.1 and localhost from a CA made for this server
	// (Server.CAFile, Server.TLSConfig). The unix socket stays plain.
	TLS bool
	// ClientCerts makes a TLS server refuse clients without a certificate of its CA (Server.ClientCertFile, ClientKeyFile).
	ClientCerts bool

	// User, when set, is an ACL user with Password and Rules; the default user then needs a password too (Server.Admin has it).
	User, Password string
	// Rules are the user's ACL rules. Empty means what an operator should grant: all keys and channels, and every
	// command but the administrative and dangerous ones (no CONFIG, KEYS, FLUSHALL), with INFO.
	Rules string

	// MaxMemory ("20mb") and Policy ("noeviction", "allkeys-lru") bound memory; empty means no bound.
	MaxMemory, Policy string

	// Args are further redis-server arguments: "--name", "value", ...
	Args []string

	watches int // the port of the master that this server, a sentinel, watches; 0 = it is no sentinel
}

// Server is one redis-server process, or what is left of it between Kill and Restart.
type Server struct {
	t        testing.TB
	options  Options
	binary   string
	dir      string // configuration, data, certificates and socket
	port     int
	adminKey string // the default user's password; empty unless Options.User is set
	tls      *tls.Config
	process  *process // nil while stopped
	clients  []*redis.Client
}

// Start runs a server with further redis-server arguments and returns when it accepts connections.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return StartWith(t, Options{Args: args})
}

// StartWith runs a server with options and returns when it accepts connections.
func StartWith(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, options: o, binary: binary(t)}
	// Not t.TempDir: with a long test name the socket's path would exceed the 108 bytes of sun_path.
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	s.dir = dir
	t.Cleanup(s.cleanup)
	if err := os.Mkdir(s.dataDir(), 0o700); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	if o.User != "" {
		s.adminKey = "admin-" + strconv.FormatUint(rand.Uint64(), 36)
	}
	if o.TLS {
		s.tls = s.writeCertificates()
	}
	// Between choosing a port and Redis's bind somebody else may take it, so a few are tried.
	for range 5 {
		s.port = freePort(t)
		if err = s.start(); err == nil {
			return s
		}
	}
	t.Fatalf("redistest: redis-server does not start: %v", err)
	return nil
}

// binary finds redis-server, or ends the test as the package comment says.
func binary(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" || os.Getenv("CACHEPROXY_REQUIRE_REDIS") != "" {
		t.Fatalf("redistest: no redis-server in PATH, and CI or CACHEPROXY_REQUIRE_REDIS demands it: %v", err)
	}
	t.Skipf("redistest: no redis-server in PATH, so nothing that speaks Redis is tested here (install it, version 7 or later)")
	return ""
}

// freePort returns a loopback port that nobody uses, for as long as the test runs: a UDP socket of the same number, on which nobody speaks, keeps
// those away who come for one by this function, in this process or another. It is taken from below the range from which kernels pick the
// ports of outgoing connections and of listeners on port 0 (32768 and up on Linux), so that nobody else moves in while a server or
// a fault proxy is down and means to come back; and below 55536, because Redis Cluster's bus listens on port + 10000.
func freePort(t testing.TB) int {
	t.Helper()
	const low, high = 20000, 32000
	for range 100 {
		port := low + rand.IntN(high-low)
		place, err := net.ListenPacket("udp", loopback(port))
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			place.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { place.Close() })
		return port
	}
	t.Fatalf("redistest: no free port between %d and %d", low, high)
	return 0
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (s *Server) dataDir() string { return filepath.Join(s.dir, "data") }

// Addr is the server's TCP address, 127.0.0.1:port; it stays the same over restarts.
func (s *Server) Addr() string { return loopback(s.port) }

// Socket is the path of the server's unix socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "s") }

// Pid is the process's id, 0 while the server is stopped.
func (s *Server) Pid() int {
	if s.process == nil {
		return 0
	}
	return s.process.pid()
}

// URL is the server's URL over TCP, with the user's credentials: redis:// or, with TLS, rediss://.
func (s *Server) URL() string { return s.urlAt(s.Addr()) }

// UnixURL is the server's URL over its unix socket: unix://[user:password@]/path.
func (s *Server) UnixURL() string {
	u := url.URL{Scheme: "unix", User: s.userinfo(), Path: s.Socket()}
	return u.String()
}

func (s *Server) urlAt(addr string) string {
	u := url.URL{Scheme: "redis", User: s.userinfo(), Host: addr}
	if s.tls != nil {
		u.Scheme = "rediss"
	}
	return u.String()
}

func (s *Server) userinfo() *url.Userinfo {
	if s.options.User == "" {
		return nil
	}
	return url.UserPassword(s.options.User, s.options.Password)
}

// TLSConfig trusts the server's CA; nil without TLS. It is the caller's.
func (s *Server) TLSConfig() *tls.Config { return s.tls.Clone() }

// CAFile is the path of the server's CA certificate in PEM; it exists only with TLS.
func (s *Server) CAFile() string { return filepath.Join(s.dir, "ca.pem") }

// ClientCertFile is the path of a certificate in PEM that the server accepts of clients; it exists only with TLS.
func (s *Server) ClientCertFile() string { return filepath.Join(s.dir, "client.pem") }

// ClientKeyFile is the path of that certificate's key in PEM.
func (s *Server) ClientKeyFile() string { return filepath.Join(s.dir, "client.key") }

// Client returns a new client as the configured user, closed when the test ends.
func (s *Server) Client() *redis.Client { return s.client(s.options.User, s.options.Password) }

// Admin returns a new client as the default user, who may do everything: for tests that look at keys or break things while
// the code under test runs as Options.User.
func (s *Server) Admin() *redis.Client { return s.client("", s.adminKey) }

func (s *Server) client(user, password string) *redis.Client {
	c := redis.NewClient(&redis.Options{
		Addr: s.Addr(), Username: user, Password: password, TLSConfig: s.TLSConfig(),
		ContextTimeoutEnabled: true,
		DisableIdentity:       true, // no CLIENT SETINFO: one round trip less for each connection
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled, // a managed service's feature, unknown to redis-server
		},
	})
	s.clients = append(s.clients, c)
	return c
}

// Log returns what the server wrote to its log since it was last started.
func (s *Server) Log() string {
	if s.process == nil {
		return ""
	}
	return s.process.log()
}

// writeConfig writes the configuration file of the server as it is to start now.
func (s *Server) writeConfig() (path string, err error) {
	var c strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&c, format+"\n", args...) }
	line("bind 127.0.0.1")
	line("unixsocket %q", s.Socket())
	line("dir %q", s.dataDir())
	line(`logfile ""`)
	line("daemonize no")
	// Saved on SIGTERM when anything changed, so that Restart finds it; the hour is longer than any test.
	line("save 3600 1")
	if s.tls == nil {
		line("port %d", s.port)
	} else {
		line("port 0")
		line("tls-port %d", s.port)
		line("tls-cert-file %q", filepath.Join(s.dir, "server.pem"))
		line("tls-key-file %q", filepath.Join(s.dir, "server.key"))
		line("tls-ca-cert-file %q", s.CAFile())
		if s.options.ClientCerts {
			line("tls-auth-clients yes")
		} else {
			line("tls-auth-clients no")
		}
	}
	if s.options.User != "" {
		rules := s.options.Rules
		if rules == "" {
			rules = "~* &* +@all -@admin -@dangerous +info"
		}
		line("requirepass %s", s.adminKey)
		line("user %s on >%s %s", s.options.User, s.options.Password, rules)
	}
	if s.options.MaxMemory != "" {
		line("maxmemory %s", s.options.MaxMemory)
	}
	if s.options.Policy != "" {
		line("maxmemory-policy %s", s.options.Policy)
	}
	path = filepath.Join(s.dir, "redis.conf")
	return path, os.WriteFile(path, []byte(c.String()), 0o600)
}
