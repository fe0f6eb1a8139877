package config

import (
	"fmt"
	"slices"
	"strings"

	"cacheproxy/limiter"
)

// Limit is how often a client may ask, where a rule names it.
type Limit struct {
	Name       string           `yaml:"name"`
	Key        []string         `yaml:"key"`    // whose requests are counted together
	Limit      int64            `yaml:"limit"`  // tokens in a window
	Window     Duration         `yaml:"window"` // 10ms to 366 days
	Algorithm  string           `yaml:"algorithm"`
	Accuracy   string           `yaml:"accuracy"`
	OnOutage   string           `yaml:"on_outage"`
	Burst      int64            `yaml:"burst"` // tokens, of gcra; 0 = Limit
	Shadow     bool             `yaml:"shadow"`
	Status     int              `yaml:"status"`
	Cost       map[string]int64 `yaml:"cost"`   // tokens, by outcome or method; what is not named is 1
	Fields     []string         `yaml:"fields"` // sent to clients; empty = none
	Exempt     Exempt           `yaml:"exempt"`
	MaxClients int              `yaml:"max_clients"` // told apart at once by a process
}

// Exempt is who is not limited.
type Exempt struct {
	Clients []string `yaml:"clients"` // addresses and prefixes
	Keys    []string `yaml:"keys"`
}

// The defaults are the limiter's, written out: they are shown to the user.
func (l *Limit) setDefaults() {
	l.Key = []string{"client"}
	l.Algorithm = string(limiter.Fixed) // the cheapest to count and the easiest to explain
	l.Accuracy = string(limiter.Leased) // most requests need not wait for Redis
	l.OnOutage = string(limiter.Local)  // a Redis that is gone neither opens the door nor shuts it
	l.Status = 429                      // RFC 6585 section 4
	l.Fields = []string{limiter.RateLimit}
	l.MaxClients = 100_000 // a flood of addresses takes some tens of MiB, and no more
}

// LimitSpecs returns what limiter.New takes. An exempt client that cannot be read is left out: Load has refused it.
func (c *Config) LimitSpecs() []limiter.Spec {
	specs := make([]limiter.Spec, len(c.Limits))
	for i := range c.Limits {
		l := &c.Limits[i]
		specs[i] = limiter.Spec{
			Name: l.Name, Key: l.Key, Limit: l.Limit, Window: l.Window.Std(),
			Algorithm: limiter.Algorithm(l.Algorithm), Accuracy: limiter.Accuracy(l.Accuracy), OnOutage: limiter.Outage(l.OnOutage),
			Burst: l.Burst, Shadow: l.Shadow, Status: l.Status, Fields: l.Fields, MaxClients: l.MaxClients,
		}
		// A limit keeps its counts when it is compiled again only if it is the same: an empty list or map is as good as none.
		s := &specs[i]
		if len(l.Cost) > 0 {
			s.Cost = l.Cost
		}
		s.Secret = c.Log.Redact
		if len(l.Exempt.Keys) > 0 {
			s.ExemptKeys = l.Exempt.Keys
		}
		for _, text := range l.Exempt.Clients {
			if prefix, err := ParsePrefix(text); err == nil {
				s.ExemptClients = append(s.ExemptClients, prefix)
			}
		}
	}
	return specs
}

// compileLimits turns limits into what the limiter takes, reporting each mistake where it was written: first those of the limits, then
// those of the rules that name them.
func (r *report) compileLimits(c *Config) []limiter.Spec {
	for i := range c.Limits {
		if at := fmt.Sprintf("limits[%d]", i); !r.misread(at) {
			r.checkLimit(at, &c.Limits[i])
		}
	}
	specs := c.LimitSpecs()
	for _, m := range limiter.Check(specs) {
		element, _, _ := strings.Cut("limits"+m.Path, ".")
		if path := "limits" + m.Path; !r.has(path) && !r.misread(element) {
			r.add(path, m.Err.Error())
		}
	}
	r.checkLimitNames(c)
	return specs
}

// checkLimit reports what limiter.Check does not see: what is written out and the limiter takes for its default, and exempt clients.
func (r *report) checkLimit(at string, l *Limit) {
	for _, word := range [][2]string{{"algorithm", l.Algorithm}, {"accuracy", l.Accuracy}, {"on_outage", l.OnOutage}} {
		if path := at + "." + word[0]; word[1] == "" && !r.has(path) {
			r.add(path, "is empty")
		}
	}
	r.above(at+".status", int64(l.Status), 0, "")
	r.above(at+".max_clients", int64(l.MaxClients), 0, "")
	for i, text := range l.Exempt.Clients {
		path := fmt.Sprintf("%s.exempt.clients[%d]", at, i)
		if _, err := ParsePrefix(text); err != nil && !r.has(path) {
			r.add(path, err.Error())
		}
	}
}

// checkLimitNames reports rules that name limits which are not there. It stays quiet where a limit, or its name, could not be read.
func (r *report) checkLimitNames(c *Config) {
	if r.misread("limits") {
		return
	}
	names := make([]string, len(c.Limits))
	for i := range c.Limits {
		if names[i] = c.Limits[i].Name; names[i] == "" {
			return
		}
	}
	r.checkRuleLimits("rules", c.Rules, names)
	for i := range c.Sites {
		r.checkRuleLimits(fmt.Sprintf("sites[%d].rules", i), c.Sites[i].Rules, names)
	}
}

func (r *report) checkRuleLimits(path string, rules []Rule, known []string) {
	for i := range rules {
		at, named := fmt.Sprintf("%s[%d].limit", path, i), rules[i].Limit
		for j, name := range named {
			element := fmt.Sprintf("%s[%d]", at, j)
			switch {
			case r.has(element):
			case slices.Contains(named[:j], name):
				r.add(element, fmt.Sprintf("%q is listed twice", name))
			case slices.Contains(known, name):
			case len(known) == 0:
				r.addHint(element, fmt.Sprintf("%q is not a name of limits, of which there are none", name),
					fmt.Sprintf("limits: [{name: %s, limit: 100, window: 1m}]", name))
			default:
				r.addHint(element, fmt.Sprintf("%q is not a name of limits", name), hint(name, known))
			}
		}
		if len(named) > limiter.MaxLimits {
			r.add(at, fmt.Sprintf("names %d limits, and a request can be held to %d", len(named), limiter.MaxLimits))
		}
	}
}
