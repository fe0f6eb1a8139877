package config

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"

	"cacheproxy/policy"
	"cacheproxy/store"
)

// check reports values that are well written and make no sense. Where a value could not even be read, it stays quiet.
func (r *report) check(c *Config) {
	r.checkServing(c)
	if !r.offline {
		r.checkUpstreams(c)
	}
	r.checkTiers(c)
	r.checkCaching(c)
	r.checkClients(c)
	r.checkLog(c)
}

func (r *report) checkServing(c *Config) {
	if len(c.Listen) == 0 && !r.has("listen") {
		r.addHint("listen", "names no address", "the default is :8080")
	}
	seen := map[string]bool{}
	for i, l := range c.Listen {
		if seen[l.Address] && l.Address != "" {
			r.add(c.Listen.path(i), fmt.Sprintf("%q is listed twice", l.Address))
		}
		seen[l.Address] = true
	}
	r.checkListeners(c)
	r.above("server.header_timeout", int64(c.Server.HeaderTimeout), 0, "a head must arrive some time")
	r.above("server.idle_timeout", int64(c.Server.IdleTimeout), 0, "")
	r.above("server.body_timeout", int64(c.Server.BodyTimeout), 0, "")
	r.above("server.write_timeout", int64(c.Server.WriteTimeout), 0, "")
	r.above("server.max_fields", int64(c.Server.MaxFields), 0, "")
	r.above("server.max_header", int64(c.Server.MaxHeader), 1023, "at least 1KiB")
	if c.Server.MaxHeader > 1<<30 { // HTTP/2 announces it in 32 bits
		r.addHint("server.max_header", "is too large", "at most 1GiB")
	}
	r.above("server.max_connections", int64(c.Server.MaxConnections), -1, "0 is no bound")
	r.above("server.max_connections_per_client", int64(c.Server.MaxConnectionsPerClient), -1, "0 is no bound")
	if c.Admin.Listen != "" {
		if err := checkAddress(c.Admin.Listen); err != nil && !r.has("admin.listen") {
			r.add("admin.listen", err.Error())
		}
		if seen[c.Admin.Listen] && !strings.HasSuffix(c.Admin.Listen, ":0") {
			r.add("admin.listen", fmt.Sprintf("%q is also an address of listen", c.Admin.Listen))
		}
	}
	if c.Admin.TokenFile != "" && !r.offline {
		token, err := os.ReadFile(c.Admin.TokenFile)
		switch {
		case err != nil:
			r.add("admin.token_file", fmt.Sprintf("%s %s", c.Admin.TokenFile, readError(err)))
		case strings.TrimSpace(string(token)) == "":
			r.add("admin.token_file", c.Admin.TokenFile+" is empty")
		}
	}
}

// above reports a number that is not above bound; hint may say why.
func (r *report) above(path string, value, bound int64, hint string) {
	if value > bound || r.has(path) {
		return
	}
	what := "is too small"
	if bound == 0 {
		what = "must be above 0"
	}
	r.addHint(path, what, hint)
}

func (r *report) checkUpstreams(c *Config) {
	for _, name := range sortedNames(c.Upstreams) {
		path := "upstreams." + name
		if looksLikeURL(name) || name == "" {
			r.add(path, "a name has no : and no /")
		}
		group := c.Upstreams[name]
		if len(group.Members) == 0 && !r.has(path) {
			r.addHint(path+".members", "lists no member", "members: [{url: http://10.0.0.1:3000}]")
		}
		for i, m := range group.Members {
			at := fmt.Sprintf("%s.members[%d]", path, i)
			r.checkLink(at+".url", path, m.URL, group.Link)
			r.above(at+".weight", int64(m.Weight), 0, "")
		}
	}
	r.checkUpstream("upstream", c.Upstream, c)
	for i := range c.Sites {
		path := fmt.Sprintf("sites[%d]", i)
		if len(c.Sites[i].Hosts) == 0 && !r.has(path+".hosts") {
			r.addHint(path+".hosts", "lists no host", "rules for every other host stand at the top level")
		}
		path += ".upstream"
		r.checkUpstream(path, c.Sites[i].Upstream, c)
		_, written := r.origins[path]
		switch own := c.Sites[i].Upstream.Set(); {
		case own || r.has(path):
		case written:
			r.add(path+".url", "is missing")
		case !c.Upstream.Set():
			r.add(path, "is missing, and there is none at the top level")
		}
	}
	if !c.Upstream.Set() && len(c.Sites) == 0 && !r.has("upstream") {
		r.addHint("upstream", "nothing says where requests go", "cacheproxy serve --upstream http://127.0.0.1:3000")
	}
}

func (r *report) checkUpstream(path string, u Upstream, c *Config) {
	switch {
	case u.URL != "":
		at := path
		if _, written := r.origins[path+".url"]; written {
			at = path + ".url"
		}
		r.checkLink(at, path, u.URL, u.Link)
	case u.Name != "":
		if _, known := c.Upstreams[u.Name]; known {
			return
		}
		names := sortedNames(c.Upstreams)
		if len(names) == 0 {
			r.addHint(path, fmt.Sprintf("%q is neither a URL nor a name of upstreams", u.Name), "write http://"+u.Name)
			return
		}
		r.addHint(path, fmt.Sprintf("%q is not a name of upstreams", u.Name), hint(u.Name, names))
	}
}

// checkLink checks the upstream at address, written at the path at, whose other keys are below path.
func (r *report) checkLink(at, path, address string, l Link) {
	if address == "" {
		if !r.has(at) {
			r.add(at, "is missing")
		}
		return
	}
	r.above(path+".connect_timeout", int64(l.ConnectTimeout), 0, "")
	r.above(path+".head_timeout", int64(l.HeadTimeout), 0, "")
	r.above(path+".idle_timeout", int64(l.IdleTimeout), 0, "")
	unread := r.has(path+".tls.cert") || r.has(path+".tls.key")
	for _, m := range l.check(address) {
		switch {
		case m.Key == "url":
			r.add(at, m.Message)
		case unread && strings.HasPrefix(m.Key, "tls") && m.Key != "tls.ca": // half of a pair
		default:
			r.add(strings.TrimSuffix(path+"."+m.Key, "."), m.Message)
		}
	}
}

// checkRedis asks store.Dial about a URL, so that what passes here starts.
func (r *report) checkRedis(key, url string) {
	if url == "" || r.has(key) {
		return
	}
	client, err := store.Dial(url, store.DialOptions{ConfigKey: key})
	if err != nil {
		r.addHint(key, strings.TrimPrefix(err.Error(), "store: `"+key+"`: "), "redis://127.0.0.1:6379")
		return
	}
	client.Close() // nothing was connected: Dial only reads the URL and the files it names
}

func (r *report) checkTiers(c *Config) {
	r.checkRedis("redis.url", c.Redis.URL)
	r.checkRedis("redis.state_url", c.Redis.StateURL)
	r.above("redis.timeout", int64(c.Redis.Timeout), 0, "")
	if c.Redis.Prefix == "" || strings.ContainsAny(c.Redis.Prefix, "{}*?[]^\\ \t\r\n") {
		r.addHint("redis.prefix", fmt.Sprintf("%q must not be empty or contain { } * ? [ ] ^ \\ or spaces", c.Redis.Prefix),
			"keys are found by pattern and kept together by braces")
	}
	if _, named := r.origins["redis.prefix"]; c.Redis.URL+c.Redis.StateURL != "" && r.kubernetes && !named {
		r.addHint("redis.prefix", "must be named inside Kubernetes", "two services that share a Redis must not share keys: prefix: name-of-the-service")
	}
	r.above("breaker.failures", int64(c.Breaker.Failures), 0, "")
	r.above("breaker.cooldown", int64(c.Breaker.Cooldown), 0, "")
	r.above("near.size", int64(c.Near.Size), 1<<20-1, "at least 1MiB")
	r.above("near.max_object", int64(c.Near.MaxObject), 0, "")
	if c.Near.MaxObject > c.Near.Size {
		r.add("near.max_object", fmt.Sprintf("%s is more than near.size, %s", c.Near.MaxObject, c.Near.Size))
	}
	r.above("near.lease", int64(c.Near.Lease), 0, "")
	if c.Near.Strict && c.Near.Lease < seconds(2) && !r.has("near.lease") {
		r.addHint("near.lease", "must be at least 2s with near.strict", "a heartbeat is sent each second")
	}
}

// token is what RFC 9110 section 5.6.2 calls one, for Via, and RFC 8941 section 3.3.4 can carry: Cache-Status members begin with it.
var token = regexp.MustCompile(`^[A-Za-z*][A-Za-z0-9!#$%&'*+.^_|~` + "`" + `-]*$`)

func (r *report) checkCaching(c *Config) {
	r.above("cache.max_object", int64(c.Cache.MaxObject), 0, "")
	r.above("cache.max_fill", int64(c.Cache.MaxFill), 0, "")
	if c.Cache.Horizon != 0 && c.Cache.Horizon < seconds(2) && !r.has("cache.horizon") {
		r.addHint("cache.horizon", "must be 0 or at least 2s", "heartbeats come each second, and what is fetched must be saved well before purges are forgotten")
	}
	r.above("collapse.memory", int64(c.Collapse.Memory), 0, "")
	if !token.MatchString(c.Cache.Name) {
		r.addHint("cache.name", fmt.Sprintf("%q cannot stand in a Cache-Status field", c.Cache.Name), "letters, digits, - . _")
	}
	r.oneOf("cache.status_field", c.Cache.StatusField, "always", "trusted", "never")
	r.oneOf("cache.tag_fields", c.Cache.TagFields, "strip", "keep")
	for i, name := range c.Cache.TagHeaders {
		if err := policy.CheckTagField(name); err != nil {
			r.add(fmt.Sprintf("cache.tag_headers[%d]", i), err.Error())
		}
	}
}

func (r *report) checkClients(c *Config) {
	for key, list := range map[string][]string{"client.trusted": c.Client.Trusted, "client.purge": c.Client.Purge} {
		for i, text := range list {
			if _, err := ParsePrefix(text); err != nil {
				r.add(fmt.Sprintf("%s[%d]", key, i), err.Error())
			}
		}
	}
	r.oneOf("client.header", c.Client.Header, "X-Forwarded-For", "Forwarded")
	if c.Client.IPv6Prefix < 1 || c.Client.IPv6Prefix > 128 {
		r.add("client.ipv6_prefix", "must be from 1 to 128")
	}
}

// ParsePrefix reads an address or a prefix: 10.0.0.0/8, 127.0.0.1, ::1, fd00::/8.
func ParsePrefix(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8", text)
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits outside its prefix: write %s", text, prefix.Masked())
	}
	return prefix, nil
}

func (r *report) checkLog(c *Config) {
	r.oneOf("log.format", c.Log.Format, "json", "text")
	for path, share := range map[string]float64{"log.access.sample": c.Log.Access.Sample, "log.access.hits": c.Log.Access.Hits} {
		if !(share >= 0 && share <= 1) {
			r.addHint(path, "is not a share from 0 to 1", "1 logs all, 0.01 one in a hundred")
		}
	}
}

func (r *report) oneOf(path, value string, words ...string) {
	if !slices.Contains(words, value) && !r.has(path) {
		r.add(path, fmt.Sprintf("%q is not one of %s", value, strings.Join(words, ", ")))
	}
}
