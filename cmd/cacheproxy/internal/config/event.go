package config

import (
	"fmt"
	"strings"

	"cacheproxy/admin"
	"cacheproxy/events"
	"cacheproxy/invalidation"
)

// Event is a rule that makes purges of the messages of a Redis channel.
type Event struct {
	Channel string     `yaml:"channel"`
	Purge   EventPurge `yaml:"purge"`
}

// EventPurge is what an Event purges: templates, but for Soft.
type EventPurge struct {
	URL     string   `yaml:"url"`
	Pattern string   `yaml:"pattern"`
	Tags    []string `yaml:"tags"`
	Group   string   `yaml:"group"`
	Origin  string   `yaml:"origin"`
	Soft    bool     `yaml:"soft"`
}

// compileEvents turns events into what listens to them, reporting each mistake where its rule was written.
func (r *report) compileEvents(c *Config) *events.Rules {
	if len(c.Events) > 0 && c.Redis.URL == "" && c.Redis.StateURL == "" && !r.offline {
		r.addHint("events", "need a Redis, where they are published", "redis: {url: redis://127.0.0.1:6379}")
	}
	specs := make([]events.Spec, len(c.Events))
	for i := range c.Events {
		e := &c.Events[i]
		specs[i] = events.Spec{
			Channel: e.Channel, URL: e.Purge.URL, Pattern: e.Purge.Pattern, Tags: e.Purge.Tags, Group: e.Purge.Group, Origin: e.Purge.Origin, Soft: e.Purge.Soft,
		}
		if own := c.Redis.Prefix + ":events:"; strings.HasPrefix(e.Channel, own) {
			r.add(fmt.Sprintf("events[%d].channel", i), fmt.Sprintf("%q is what this proxy itself publishes on", own))
		}
	}
	rules, mistakes := events.Compile(specs, judgeEvent)
	for _, m := range mistakes {
		if path := "events" + m.Path; !r.has(path) {
			r.add(path, m.Err.Error())
		}
	}
	return rules
}

// judgeEvent holds what a message asks for to what POST /v1/purge takes.
func judgeEvent(s events.Selection) (invalidation.Purge, error) {
	p := admin.Purge{URL: s.URL, Pattern: s.Pattern, Tags: s.Tags, Group: s.Group, Origin: s.Origin, Soft: s.Soft}
	return p.Record()
}
