package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"cacheproxy/metrics"
	"cacheproxy/upstream"
)

// Named returns the upstream's URL and link: its own, or those of the group that it names. ok is false when it names nothing.
// A group has one member.
func (c *Config) Named(u Upstream) (address string, link Link, ok bool) {
	if u.URL != "" || u.Name == "" {
		return u.URL, u.Link, u.URL != ""
	}
	group, ok := c.Upstreams[u.Name]
	if !ok || len(group.Members) == 0 {
		return "", Link{}, false
	}
	return group.Members[0].URL, group.Link, true
}

// Options returns what upstream.New builds: an upstream of that name at that address, over this link.
func (l Link) Options(name, address string, m *metrics.Metrics) upstream.Options {
	return upstream.Options{
		Name: name, URL: address, Host: l.Host,
		ConnectTimeout: l.ConnectTimeout.Std(), HeadTimeout: l.HeadTimeout.Std(), IdleTimeout: l.IdleTimeout.Std(),
		TLS: upstream.TLSOptions{
			CA: l.TLS.CA, Cert: l.TLS.Cert, Key: l.TLS.Key,
			ServerName: l.TLS.ServerName, InsecureSkipVerify: l.TLS.InsecureSkipVerify,
		},
		Metrics: m,
	}
}

// UnmarshalText takes the form that environment and flags have: a URL or a name. What a file said about the link stays.
func (u *Upstream) UnmarshalText(text []byte) error {
	u.Name, u.URL = "", ""
	if looksLikeURL(string(text)) {
		u.URL = string(text)
		return nil
	}
	u.Name = string(text)
	return nil
}

func (u *Upstream) decodeNode(d *decoder, n *yaml.Node, path string) {
	n = d.visit(n, path)
	switch n.Kind {
	case yaml.ScalarNode:
		_ = u.UnmarshalText([]byte(n.Value))
	case yaml.MappingNode:
		d.mapping(n, structValue(u), path)
	default:
		d.report.at(path, n.Line, "is a URL, a name of upstreams, or a map with url", "")
	}
}

// Set says whether u names anything.
func (u *Upstream) Set() bool { return u.URL != "" || u.Name != "" }

func (u *Upstream) setDefaults() { u.Link = defaultLink() }
func (s *Site) setDefaults()     { s.Upstream.setDefaults() }
func (g *Group) setDefaults()    { g.Link = defaultLink() }
func (m *Member) setDefaults()   { m.Weight = 1 }

// looksLikeURL tells a URL, also a broken one, from a name.
func looksLikeURL(s string) bool { return strings.ContainsAny(s, ":/") }

// check returns all that is wrong with talking to address over l: the keys below the upstream's own, "url" for the address itself.
// upstream.New is the judge, so that what passes here starts; it stops at the first mistake, so it is asked about each part alone. A
// message repeats no user information.
func (l Link) check(address string) Mistakes {
	found := Link{}.judge(address)
	parts := []Link{{Host: l.Host}}
	secure := "https://localhost"
	if len(found) == 0 && !strings.HasPrefix(strings.ToLower(address), "https:") {
		secure = address // and any tls is a mistake
		parts = append(parts, Link{TLS: l.TLS})
	} else {
		parts = append(parts, Link{TLS: UpstreamTLS{CA: l.TLS.CA}}, Link{TLS: UpstreamTLS{Cert: l.TLS.Cert, Key: l.TLS.Key}})
	}
	for _, part := range parts {
		found = append(found, part.judge(secure)...)
	}
	return found
}

// judge is the first mistake that upstream.New finds, if any.
func (l Link) judge(address string) Mistakes {
	if !strings.HasPrefix(address, "unix:") && !strings.Contains(address, "://") {
		if strings.Contains(address, "@") { // a password, perhaps
			return Mistakes{{Key: "url", Message: "has no scheme: write http:// in front of the host"}}
		}
		return Mistakes{{Key: "url", Message: fmt.Sprintf("%q has no scheme: write http://%s", address, address)}}
	}
	built, err := upstream.New(l.Options("", address, nil))
	if err == nil {
		built.Close()
		return nil
	}
	text := strings.TrimPrefix(err.Error(), "upstream default: ")
	key, message, _ := strings.Cut(text, ": ")
	switch {
	case key == "url" || key == "host" || key == "tls" || key == "tls.ca":
		return Mistakes{{Key: key, Message: message}}
	case key == "tls.cert, tls.key":
		return Mistakes{{Key: "tls", Message: message}}
	case strings.HasPrefix(key, "tls"): // one without the other
		return Mistakes{{Key: "tls.cert", Message: text}}
	default:
		return Mistakes{{Message: text}}
	}
}
