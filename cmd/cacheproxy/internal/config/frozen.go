package config

import (
	"reflect"
	"slices"
	"strings"
)

// frozen are the keys, with all below them, that a running process cannot change: what it listens on, what it keeps and where, and what
// was built from it once.
var frozen = []string{
	"listen", "server.header_timeout", "server.idle_timeout", "server.body_timeout", "server.write_timeout", "server.max_header",
	"server.max_fields", "server.max_connections", "server.max_connections_per_client", "wire", "instance", "admin", "redis", "breaker",
	"near", "cache.max_fill", "cache.horizon", "events", "log.format",
}

// Keep gives c the frozen values of running, and returns the keys that it would have changed: they need a restart.
func (c *Config) Keep(running *Config) (restart []string) {
	restart = []string{}
	for _, key := range frozen {
		mine, theirs := c.at(key), running.at(key)
		if !reflect.DeepEqual(mine.Interface(), theirs.Interface()) {
			restart = append(restart, key)
			mine.Set(theirs)
		}
	}
	return restart
}

// Changed returns the top-level keys in which c differs from other, in the order of the file.
func (c *Config) Changed(other *Config) []string {
	return slices.DeleteFunc(keysOf(reflect.TypeFor[Config]()), func(key string) bool {
		return reflect.DeepEqual(c.at(key).Interface(), other.at(key).Interface())
	})
}

// at is the field that a key of the file names.
func (c *Config) at(key string) reflect.Value {
	v := structValue(c)
	for name := range strings.SplitSeq(key, ".") {
		v, _ = fieldOf(v, name)
	}
	return v
}
