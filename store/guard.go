package store

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// guard makes an error of what the client library panics on: it believes the lengths that a reply names, and a reply may name any. Not
// every command runs in a request, where a panic ends no more than that: saves, forgets and probes have goroutines of their own,
// which would take the process with them. The library closes the connection.
//
// It belongs on the client of each single server: a cluster's client runs pipelines in goroutines of its own.
type guard struct{}

// DialHook implements redis.Hook.
func (guard) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (guard) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = panicked(p, cmd)
			}
		}()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (guard) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = panicked(p, cmds...)
			}
		}()
		return next(ctx, cmds)
	}
}

// panicked is the error of all commands that were under way.
func panicked(p any, cmds ...redis.Cmder) error {
	err := fmt.Errorf("store: reply that cannot be read: %v", p)
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
	return err
}

// guarded puts a guard on the client of one server.
func guarded(client *redis.Client) *redis.Client {
	client.AddHook(guard{})
	return client
}
