package store

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// A scriptCall is one of many runs of a script.
type scriptCall struct {
	keys []string
	args []any
}

// runScripts runs a script many times in one pipeline, and a second one where servers do not know it yet. The replies are in the order of
// the calls; the error is that of the first that failed.
func runScripts(ctx context.Context, client redis.UniversalClient, script *redis.Script, calls []scriptCall) ([]*redis.Cmd, error) {
	if len(calls) == 0 {
		return nil, nil
	}
	replies := make([]*redis.Cmd, len(calls))
	pipe := client.Pipeline()
	for i, c := range calls {
		replies[i] = script.EvalSha(ctx, pipe, c.keys, c.args...)
	}
	_, err := pipe.Exec(ctx) // which may fail without saying so of its commands
	again := client.Pipeline()
	for i, c := range calls {
		if redis.HasErrorPrefix(replies[i].Err(), "NOSCRIPT") {
			replies[i] = script.Eval(ctx, again, c.keys, c.args...)
		}
	}
	if again.Len() > 0 {
		_, err = again.Exec(ctx)
	}
	for _, reply := range replies {
		if reply.Err() != nil {
			return replies, reply.Err()
		}
	}
	return replies, err
}

// eachMaster does something with each server that holds keys.
func eachMaster(ctx context.Context, client redis.UniversalClient, do func(context.Context, *redis.Client) error) error {
	switch c := client.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, do)
	case *redis.Client:
		return do(ctx, c)
	default:
		return fmt.Errorf("store: a client of an unknown kind: %T", client)
	}
}
