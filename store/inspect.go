package store

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"cacheproxy/internal/breaker"
)

// Facts are what a Redis says of itself that decides how well it serves as a store. Fields are empty where the user may not ask.
type Facts struct {
	// Version is the server's name and version: "redis 7.0.15", "valkey 8.0.1". In a cluster the lowest.
	Version string
	// MaxMemory is how many bytes the data may take; 0 = no bound. In a cluster that of all masters.
	MaxMemory int64
	// Policy is the eviction policy: what happens at MaxMemory. Where the masters of a cluster differ, all of them, with a plus between.
	Policy string
}

// Inspect asks a Redis, in a cluster each of its masters, for its facts. The error says why it does not answer; a Redis that answers
// that the user may not ask is there, and no error.
func Inspect(ctx context.Context, client redis.UniversalClient) (Facts, error) {
	var (
		mu       sync.Mutex
		facts    Facts
		policies []string
	)
	ask := func(ctx context.Context, node *redis.Client) error {
		info, err := node.Info(ctx).Result() // not by section: servers before 7.0 take one at a time
		switch {
		case err == nil:
		case breaker.Classify(err).Cause == "permission":
			return nil
		case breaker.Classify(err).Answered: // it has no INFO, or refuses all: a database that is not there is told at every command
			return node.Ping(ctx).Err()
		default:
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		version := "redis " + infoField(info, "redis_version")
		if v := infoField(info, "valkey_version"); v != "" {
			version = "valkey " + v
		}
		if facts.Version == "" || version < facts.Version {
			facts.Version = version
		}
		max, _ := strconv.ParseInt(infoField(info, "maxmemory"), 10, 64)
		facts.MaxMemory += max
		policies = append(policies, infoField(info, "maxmemory_policy"))
		return nil
	}
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, ask)
	case *redis.Client:
		err = ask(ctx, c)
	}
	slices.Sort(policies)
	facts.Policy = strings.Join(slices.Compact(policies), "+")
	return facts, err
}

// infoField is the value of one line of INFO, "" where there is none.
func infoField(info, name string) string {
	_, after, _ := strings.Cut("\n"+info, "\n"+name+":")
	value, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(value)
}
