package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cacheproxy/cmd/cacheproxy/internal/config"
)

// settings are the flags that set keys of the configuration, by the key that each sets.
var settings = []struct{ name, key, usage string }{
	{"listen", "listen", "`address` to serve on: host:port, :port or unix:/path (default :8080)"},
	{"upstream", "upstream", "`URL` that requests go to: http, https, h2c or unix:/path"},
	{"redis", "redis.url", "`URL` of the Redis that keeps responses: redis://, rediss:// with TLS, unix://, redis+cluster://, redis+sentinel://"},
	{"admin", "admin.listen", "`address` of the operator's listener (default 127.0.0.1:9090; \"\" = none)"},
	{"near-size", "near.size", "`size` of the memory for responses (default 256MiB)"},
	{"log-format", "log.format", "`format`, json or text (default json)"},
}

// addSettings gives a command --config and the flags of settings.
func addSettings(cmd *cobra.Command) {
	cmd.Flags().String("config", "", "YAML `file` with the configuration; none is needed")
	for _, s := range settings {
		cmd.Flags().String(s.name, "", s.usage)
	}
}

// load reads the configuration that the flags of cmd, the environment and the file describe.
func load(cmd *cobra.Command, more ...config.Flag) (*config.Loaded, error) {
	options := config.Options{Environ: os.Environ(), Flags: more}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name == "config" {
			options.File = f.Value.String()
		}
		for _, s := range settings {
			if s.name == f.Name {
				options.Flags = append(options.Flags, config.Flag{Name: "--" + s.name, Key: s.key, Value: f.Value.String()})
			}
		}
	})
	return config.Load(options)
}
