package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A fault is what an error of Redis, or of the way to it, means to us.
type fault struct {
	cause string // label of cacheproxy_redis_errors_total
	// answered says that Redis is there and will answer the next question too, so that the breaker has no reason to open.
	answered bool
}

// replyFaults are the error replies that mean something of their own, by their first word.
var replyFaults = map[string]fault{
	"OOM":         {"oom", true}, // at maxmemory with noeviction: reads go on
	"READONLY":    {"readonly", true},
	"NOPERM":      {"permission", true},
	"NOAUTH":      {"auth", false},
	"WRONGPASS":   {"auth", false},
	"LOADING":     {"loading", false},
	"BUSY":        {"busy", false},
	"MASTERDOWN":  {"cluster", false},
	"CLUSTERDOWN": {"cluster", false},
	"TRYAGAIN":    {"cluster", true},
}

func classify(err error) fault {
	var (
		reply    redis.Error
		netErr   net.Error
		opErr    *net.OpError
		tlsErr   *tls.CertificateVerificationError
		rootErr  x509.UnknownAuthorityError
		alertErr tls.AlertError
	)
	switch {
	case errors.As(err, &tlsErr), errors.As(err, &rootErr), errors.As(err, &alertErr):
		return fault{cause: "tls"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout),
		errors.As(err, &netErr) && netErr.Timeout():
		return fault{cause: "timeout"}
	case errors.As(err, &opErr) && opErr.Op == "dial":
		return fault{cause: "connect"}
	case errors.As(err, &reply):
		word, _, _ := strings.Cut(reply.Error(), " ")
		if f, ok := replyFaults[word]; ok {
			return f
		}
		if !strings.HasPrefix(word, "redis:") && word == strings.ToUpper(word) {
			return fault{cause: "reply", answered: true}
		}
	}
	return fault{cause: "connection"}
}
