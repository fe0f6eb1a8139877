package breaker

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

// A Fault is what an error of Redis, or of the way to it, means to us.
type Fault struct {
	Cause string // label of cacheproxy_redis_errors_total
	// Answered says that Redis is there and will answer the next question too, so that the breaker has no reason to open.
	Answered bool
	// Passing says that what was refused may well be taken later, when the server has another role or other replicas.
	Passing bool
	// Writes says that it was refused because it writes, as any other write would be now.
	Writes bool
}

// replyFaults are the error replies that mean something of their own, by their first word.
var replyFaults = map[string]Fault{
	"OOM":         {"oom", true, true, true},      // at maxmemory with noeviction: reads go on
	"READONLY":    {"readonly", true, true, true}, // a replica, which a master becomes in a failover
	"MISCONF":     {"reply", true, true, true},    // cannot write to its disk, and takes no writes until it can
	"NOREPLICAS":  {"reply", true, true, true},    // too few replicas listen
	"NOPERM":      {"permission", true, false, false},
	"NOAUTH":      {"auth", false, true, false},
	"WRONGPASS":   {"auth", false, true, false},
	"LOADING":     {"loading", false, true, false},
	"BUSY":        {"busy", false, true, false},
	"MASTERDOWN":  {"cluster", false, true, false},
	"CLUSTERDOWN": {"cluster", false, true, false},
	"TRYAGAIN":    {"cluster", true, true, false},
	"MOVED":       {"cluster", true, true, false}, // by node after node, whose views of a failover differ
	"ASK":         {"cluster", true, true, false},
}

// Classify tells what an error of a command means; err is not nil.
func Classify(err error) Fault {
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
		return Fault{Cause: "tls", Passing: true}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout),
		errors.As(err, &netErr) && netErr.Timeout():
		return Fault{Cause: "timeout", Passing: true}
	case errors.As(err, &opErr) && opErr.Op == "dial", redis.IsMaxClientsError(err):
		return Fault{Cause: "connect", Passing: true}
	case errors.As(err, &reply):
		word, _, _ := strings.Cut(reply.Error(), " ")
		if f, ok := replyFaults[word]; ok {
			return f
		}
		if !strings.HasPrefix(word, "redis:") && word == strings.ToUpper(word) {
			return Fault{Cause: "reply", Answered: true}
		}
	}
	return Fault{Cause: "connection", Passing: true}
}
