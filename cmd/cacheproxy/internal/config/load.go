package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"cacheproxy/events"
	"cacheproxy/limiter"
	"cacheproxy/policy"
)

// Flag is one flag that the user gave.
type Flag struct {
	Name  string // as typed: --redis
	Key   string // the key that it sets: redis.url
	Value string
}

// Options are the sources of a configuration; all may be empty.
type Options struct {
	File    string   // path of the YAML file; "" = none
	Environ []string // as os.Environ returns it
	Flags   []Flag
	// Offline is for what only looks at messages: what the place provides where the configuration is served is not asked for then,
	// which are upstreams, the files of secrets and certificates, and names in a Redis that is shared.
	Offline bool
}

// Loaded is a configuration without mistakes, and what was compiled while checking it.
type Loaded struct {
	Config *Config
	Sites  *policy.Sites
	Events *events.Rules
	Limits []limiter.Spec
}

// Load reads all sources and checks the result. The error is Mistakes and lists all of them; nothing is started or connected.
func Load(o Options) (*Loaded, error) {
	r := &report{file: o.File, origins: map[string]origin{}}
	c := Default()
	if o.File != "" {
		text, err := os.ReadFile(o.File)
		if err != nil {
			return nil, Mistakes{{File: o.File, Message: readError(err), Hint: "--config names the file"}}
		}
		(&decoder{report: r}).decode(text, c)
	}
	r.offline = o.Offline
	r.kubernetes = !o.Offline && slices.ContainsFunc(o.Environ, func(v string) bool { return strings.HasPrefix(v, "KUBERNETES_SERVICE_HOST=") })
	r.environment(o.Environ, c)
	r.flags(o.Flags, c)
	if r.unread {
		return nil, r.sorted()
	}
	r.fit(c)
	r.check(c)
	r.later(c)
	sites, listened, limits := r.compile(c), r.compileEvents(c), r.compileLimits(c)
	if len(r.mistakes) > 0 {
		return nil, r.sorted()
	}
	return &Loaded{Config: c, Sites: sites, Events: listened, Limits: limits}, nil
}

// fit lowers a default that another value, which the user gave, leaves no room for: what nobody wrote is nobody's mistake.
func (r *report) fit(c *Config) {
	if _, written := r.origins["near.max_object"]; !written {
		c.Near.MaxObject = min(c.Near.MaxObject, c.Near.Size)
	}
}

func readError(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return "cannot be read: " + err.Error()
}

// flags lays flags over c. An empty value empties the key, where it is a string.
func (r *report) flags(flags []Flag, c *Config) {
	for _, f := range flags {
		if f.Value != "" {
			r.scalar(c, f.Key, f.Name, f.Value)
			continue
		}
		for _, l := range leavesOf(reflect.TypeFor[Config]()) {
			if field := l.in(structValue(c)); l.path == f.Key && field.Kind() == reflect.String {
				field.SetString("")
				r.set(f.Key, f.Name)
			} else if l.path == f.Key {
				r.source(f.Name, f.Key, "needs a value", "")
			}
		}
	}
}

// compile turns rules into what the proxy runs on, reporting each mistake where its rule was written. policy counts the sites
// that have hosts, as SiteSpecs lists them; a site without hosts was reported by check and would shift the count, so it gets one.
func (r *report) compile(c *Config) *policy.Sites {
	specs := c.SiteSpecs()
	for i := range c.Sites {
		if len(c.Sites[i].Hosts) == 0 {
			specs[i+1].Hosts = []string{fmt.Sprintf("site-%d.invalid", i)}
		}
	}
	sites, mistakes := policy.CompileSites(specs)
	for _, m := range mistakes {
		if !r.has(m.Path) {
			r.add(m.Path, m.Err.Error())
		}
	}
	return sites
}

// Targets are the targeted fields (RFC 9213) that this cache obeys, the most specific first.
func Targets() []string { return []string{"Cacheproxy-Cache-Control", "Cdn-Cache-Control"} }

// InstanceName returns the name of this process among its replicas: instance, or host name and admin address.
func (c *Config) InstanceName() string {
	if c.Instance != "" {
		return c.Instance
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%s", host, c.Admin.Listen)
}
