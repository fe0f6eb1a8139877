package store

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// commands counts by name what a client is told to do.
type commands struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *commands) count(cmds ...redis.Cmder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	if name := cmds[0].Name(); name != "info" && name != "set" { // the janitor's
		c.n["trips"]++
	}
	for _, cmd := range cmds {
		c.n[cmd.Name()]++
	}
}

// taken returns what was counted of a command since it was last asked.
func (c *commands) taken(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n[name]
	delete(c.n, name)
	return n
}

func (c *commands) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.count(cmd); return next(ctx, cmd) }
}
func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.count(cmds...); return next(ctx, cmds) }
}
