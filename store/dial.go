package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// DialOptions are the settings of a Redis client.
type DialOptions struct {
	// Timeout is what a request waits for Redis at most (`redis.timeout`). Default 50 ms. It bounds waiting for a
	// free connection; reading and writing have more, since saves take longer, and lookups bring their own deadline.
	Timeout time.Duration
	// PoolSize is the number of connections kept, for each node of a cluster. Default 10 for each CPU.
	PoolSize int
	// TLS, when set, is used in place of what the URL's parameters say, with a rediss URL.
	TLS *tls.Config
	// ConfigKey names the URL in errors. Default "redis.url".
	ConfigKey string
}

const (
	clusterReload   = time.Second // the default of a minute would keep us on a dead master for so long
	clusterRedirect = 3
)

// Dial makes the client for a Redis URL (see ParseURL). It connects to nothing yet: a Redis that does not answer now may do
// so later. Errors name the configuration key and never show the password.
//
// Dial silences the client library's own logger, which is one for the whole process and writes a line for each failure: the
// store counts failures, and logs when they begin and end.
//
// No command is retried by the client: a request has no time for it, and a breaker behind it wants to see failures.
func Dial(url string, o DialOptions) (redis.UniversalClient, error) {
	silence()
	setDefault(&o.Timeout, 50*time.Millisecond)
	if o.ConfigKey == "" {
		o.ConfigKey = "redis.url"
	}
	t, err := ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("store: `%s`: %w", o.ConfigKey, err)
	}
	if t.TLS && o.TLS == nil {
		if o.TLS, err = t.tlsConfig(); err != nil {
			return nil, fmt.Errorf("store: `%s`: %w", o.ConfigKey, err)
		}
	}
	if !t.TLS {
		o.TLS = nil
	}
	switch t.Mode {
	case Cluster:
		return redis.NewClusterClient(clusterOptions(t, o)), nil
	case Sentinel:
		return guarded(redis.NewFailoverClient(failoverOptions(t, o))), nil
	default:
		return guarded(redis.NewClient(options(t, o))), nil
	}
}

var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// ioTimeout bounds one read or write on a connection, or setting it up.
func ioTimeout(o DialOptions) time.Duration { return max(4*o.Timeout, 200*time.Millisecond) }

// quiet keeps the client from announcing itself and from asking for maintenance notifications: round trips that a
// user with few rights may not even make.
func quiet() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func options(t Target, o DialOptions) *redis.Options {
	return &redis.Options{
		Network: t.Network, Addr: t.Addrs[0], DB: t.DB,
		Username: t.Username, Password: t.Password, TLSConfig: o.TLS,
		ContextTimeoutEnabled: true,
		DialTimeout:           ioTimeout(o), ReadTimeout: ioTimeout(o), WriteTimeout: ioTimeout(o), PoolTimeout: o.Timeout,
		MaxRetries: -1, DialerRetries: 1,
		PoolSize: o.PoolSize, PipelinePoolSize: -1,
		DisableIdentity: true, MaintNotificationsConfig: quiet(),
	}
}

func clusterOptions(t Target, o DialOptions) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs:     t.Addrs,
		NewClient: func(node *redis.Options) *redis.Client { return guarded(redis.NewClient(node)) },
		Username:  t.Username, Password: t.Password, TLSConfig: o.TLS,
		ContextTimeoutEnabled: true,
		DialTimeout:           ioTimeout(o), ReadTimeout: ioTimeout(o), WriteTimeout: ioTimeout(o), PoolTimeout: o.Timeout,
		MaxRetries: -1, DialerRetries: 1, MaxRedirects: clusterRedirect,
		MinRetryBackoff: -1, MaxRetryBackoff: -1, // after a dead node's refusal nothing is gained by waiting
		ClusterStateReloadInterval: clusterReload,
		PoolSize:                   o.PoolSize, PipelinePoolSize: -1,
		DisableIdentity: true, MaintNotificationsConfig: quiet(),
	}
}

func failoverOptions(t Target, o DialOptions) *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName: t.Master, SentinelAddrs: t.Addrs, DB: t.DB,
		Username: t.Username, Password: t.Password, TLSConfig: o.TLS,
		ContextTimeoutEnabled: true,
		DialTimeout:           ioTimeout(o), ReadTimeout: ioTimeout(o), WriteTimeout: ioTimeout(o), PoolTimeout: o.Timeout,
		MaxRetries: -1, DialerRetries: 1,
		PoolSize: o.PoolSize, PipelinePoolSize: -1,
		DisableIdentity: true,
	}
}

// tlsConfig reads the files that the URL names.
func (t Target) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.Server}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("parameter ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("parameter ca: no certificate in this file")
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("parameters cert and key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
