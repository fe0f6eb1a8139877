package config

import (
	"fmt"
	"reflect"
	"sort"
)

// The keys of this file belong to features that this version does not have. They are decoded, so that their spelling and types
// are checked and their defaults pass, and refused by later when they ask for something.

// Sessions is how clients are recognised.
type Sessions struct {
	Cookie    string   `yaml:"cookie" env:"COOKIE"`
	TTL       Duration `yaml:"ttl" env:"TTL"`
	MaxAge    Duration `yaml:"max_age" env:"MAX_AGE"`
	UserField string   `yaml:"user_field" env:"USER_FIELD"`
}

// Warm is fetching ahead of the asker.
type Warm struct {
	Workers      int          `yaml:"workers" env:"WORKERS"`
	Rate         int          `yaml:"rate" env:"RATE"`
	RefreshAhead RefreshAhead `yaml:"refresh_ahead" envPrefix:"REFRESH_AHEAD_"`
}

// RefreshAhead keeps the most asked responses fresh.
type RefreshAhead struct {
	Top    int `yaml:"top" env:"TOP"`
	Budget int `yaml:"budget" env:"BUDGET"`
}

const notYet = "not available yet in this version"

// later reports every key that asks for a feature which this version does not have.
func (r *report) later(c *Config) {
	r.laterIf(c.Collapse.Wait != Default().Collapse.Wait, "collapse.wait", "waiting for another replica's fetch is")
	r.laterChanged("sessions", "sessions are", c.Sessions, Default().Sessions)
	r.laterChanged("warm", "warming is", c.Warm, Default().Warm)
	for _, name := range sortedNames(c.Upstreams) {
		r.laterIf(len(c.Upstreams[name].Members) > 1, "upstreams."+name+".members", "more than one member is")
	}
	r.laterRules("rules", c.Rules)
	for i := range c.Sites {
		r.laterRules(fmt.Sprintf("sites[%d].rules", i), c.Sites[i].Rules)
	}
}

func (r *report) laterRules(path string, rules []Rule) {
	for i := range rules {
		at := fmt.Sprintf("%s[%d]", path, i)
		r.laterIf(rules[i].RequireSession, at+".require_session", "sessions are")
		r.laterIf(len(rules[i].Key.Session) > 0, at+".key.session", "sessions are")
	}
}

func (r *report) laterIf(asked bool, path, what string) {
	if asked {
		r.add(path, what+" "+notYet)
	}
}

// laterChanged reports the scalars of the struct given that differ from those of the struct def.
func (r *report) laterChanged(path, what string, given, def any) {
	for _, leaf := range leavesOf(reflect.TypeOf(given)) {
		if !reflect.DeepEqual(leaf.in(reflect.ValueOf(given)).Interface(), leaf.in(reflect.ValueOf(def)).Interface()) {
			r.addHint(path+"."+leaf.path, what+" "+notYet, "leave it out")
		}
	}
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
