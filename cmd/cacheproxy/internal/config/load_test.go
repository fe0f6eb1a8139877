package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// load writes text to a file named config.yaml, loads it from its directory and returns the mistakes, one a line.
func load(t *testing.T, text string, environ []string, flags ...Flag) (*Config, string) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("config.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(Options{File: "config.yaml", Environ: environ, Flags: flags})
	if err != nil {
		var mistakes Mistakes
		if !errors.As(err, &mistakes) {
			t.Fatalf("%T: %v", err, err)
		}
		return nil, err.Error()
	}
	return loaded.Config, ""
}

const upstreamLine = "upstream: http://127.0.0.1:3000\n"

func TestMistakes(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "near: {siez: 1MiB}", `config.yaml:2: near.siez: unknown key (did you mean size?)`},
		{"unknown key, nothing near", "near: {abcdefgh: 1}", `config.yaml:2: near.abcdefgh: unknown key (known here: size, max_object, strict, lease)`},
		{"key twice", "near:\n  size: 8MiB\n  size: 9MiB", `config.yaml:4: near.size: is given twice, first on line 3`},
		{"duration", "redis: {timeout: 50}", `config.yaml:2: redis.timeout: "50" has no unit: write 50s for seconds`},
		{"duration", "redis: {timeout: soon}", `config.yaml:2: redis.timeout: "soon" is not a duration: write 300ms, 30s, 5m or 1h30m`},
		{"duration", "redis: {timeout: -1s}", `config.yaml:2: redis.timeout: "-1s" is negative`},
		{"size", "near: {size: lots}", `config.yaml:2: near.size: "lots" is not a size: write bytes, 32KiB, 256MiB or 1GiB`},
		{"bool", "wire: 1", `config.yaml:2: wire: "1" is not true or false`},
		{"int", "breaker: {failures: many}", `config.yaml:2: breaker.failures: "many" is not a whole number`},
		{"too large an int", "breaker: {failures: 2147483648}", `config.yaml:2: breaker.failures: "2147483648" is too large`},
		{"float", "log: {access: {sample: some}}", `config.yaml:2: log.access.sample: "some" is not a number`},
		{"share", "log: {access: {sample: 2}}", `config.yaml:2: log.access.sample: is not a share from 0 to 1 (1 logs all, 0.01 one in a hundred)`},
		{"list", "client: {trusted: 10.0.0.0/8}", `config.yaml:2: client.trusted: is a list: write [a, b] or lines that begin with -`},
		{"map", "near: 5", `config.yaml:2: near: is a map of keys: size, max_object, strict, lease`},
		{"scalar", "instance: [a]", `config.yaml:2: instance: is a single value`},
		{"prefix", "client: {trusted: [10.0.0.1/8]}", `config.yaml:2: client.trusted[0]: "10.0.0.1/8" has bits outside its prefix: write 10.0.0.0/8`},
		{"prefix of PURGE", "client: {purge: [office]}", `config.yaml:2: client.purge[0]: "office" is neither an address nor a prefix such as 10.0.0.0/8`},
		{"tag header", "cache: {tag_headers: [X-Tags, 'a b']}", `config.yaml:2: cache.tag_headers[1]: "a b" is not the name of a field`},
		{"tag header with a meaning", "cache: {tag_headers: [etag]}", `config.yaml:2: cache.tag_headers[0]: Etag has a meaning of its own, and fields of tags are kept from clients`},
		{"tag header of groups", "cache: {tag_headers: [cache-groups]}", `config.yaml:2: cache.tag_headers[0]: Cache-Groups is read as RFC 9875 says, not as tags`},
		{"tag fields", "cache: {tag_fields: drop}", `config.yaml:2: cache.tag_fields: "drop" is not one of strip, keep`},
		{"word", "log: {format: xml}", `config.yaml:2: log.format: "xml" is not one of json, text`},
		{"port alone", "listen: 8080", `config.yaml:2: listen: "8080" is a port alone: write :8080`},
		{"address of a list", "listen:\n  - :8080\n  - nowhere", `config.yaml:4: listen[1]: "nowhere" is not an address: write :8080, 127.0.0.1:8080, [::1]:8080 or unix:/path`},
		{"address twice", "listen: [':80', ':80']", `config.yaml:2: listen[1]: ":80" is listed twice`},
		{"admin address is public", "listen: ':9090'\nadmin: {listen: ':9090'}", `config.yaml:3: admin.listen: ":9090" is also an address of listen`},
		{"near", "near: {size: 1MiB, max_object: 2MiB}", `config.yaml:2: near.max_object: 2MiB is more than near.size, 1MiB`},
		{"zero", "breaker: {failures: 0}", `config.yaml:2: breaker.failures: must be above 0`},
		{"cache name", "cache: {name: my cache}", `config.yaml:2: cache.name: "my cache" cannot stand in a Cache-Status field (letters, digits, - . _)`},
		{"cache name that is no token", "cache: {name: a/b}", `config.yaml:2: cache.name: "a/b" cannot stand in a Cache-Status field (letters, digits, - . _)`},
		{"token file", "admin: {token_file: /does/not/exist}", `config.yaml:2: admin.token_file: /does/not/exist cannot be read: no such file or directory`},
		{"state URL", "redis: {state_url: 'http://a'}", `config.yaml:2: redis.state_url: not a Redis URL: it starts with redis://, rediss://, unix://, redis+cluster://, redis+sentinel://, rediss+cluster:// or rediss+sentinel:// (redis://127.0.0.1:6379)`},
		{"a URL as a duration", "redis: {timeout: 'redis://me:hunter2@a'}", `config.yaml:2: redis.timeout: "redis://...@a" is not a duration: write 300ms, 30s, 5m or 1h30m`},
		{"a URL as a key", "redis: {'redis://me:hunter2@a': 1}", `config.yaml:2: redis.redis://...@a: unknown key (known here: url, state_url, timeout, prefix)`},
		{"redis prefix", "redis: {prefix: '{a}'}", `config.yaml:2: redis.prefix: "{a}" must not be empty or contain { } * ? [ ] ^ \ or spaces (keys are found by pattern and kept together by braces)`},
		{"named upstream", "upstreams: {shop: {members: [{url: 'http://a'}]}}\nsites: [{hosts: [a], upstream: shpo}]", `config.yaml:3: sites[0].upstream: "shpo" is not a name of upstreams (did you mean shop?)`},
		{"upstream of a site without URL", "sites: [{hosts: [a], upstream: {host: b}}]", `config.yaml:2: sites[0].upstream.url: is missing`},
		{"site without hosts", "sites: [{rules: []}]", `config.yaml:2: sites[0].hosts: lists no host (rules for every other host stand at the top level)`},
		{"member", "upstreams: {shop: {members: [{url: ftp://a}]}}", `config.yaml:2: upstreams.shop.members[0].url: scheme "ftp"...`},
		{"no member", "upstreams: {shop: {}}", `config.yaml:2: upstreams.shop.members: lists no member (members: [{url: http://10.0.0.1:3000}])`},
		{"second document", "---\nwire: true", `config.yaml:2: a second document begins here (one file is one document: remove the line ---)`},
		{"syntax", "near: {size: 1MiB", `config.yaml:3: while parsing a flow mapping: did not find expected ',' or '}' (this is not valid YAML)`},
		{"no text", "near: \x00", `config.yaml: control characters are not allowed (value: 0) (this is not valid YAML)`},

		{"events without Redis", "events: [{channel: a, purge: {tags: [b]}}]", `config.yaml:2: events: need a Redis, where they are published (redis: {url: redis://127.0.0.1:6379})`},
		{"event without channel", "redis: {url: redis://a}\nevents: [{purge: {tags: [b]}}]", `config.yaml:3: events[0].channel: is missing`},
		{"event of our own", "redis: {url: redis://a}\nevents: [{channel: 'cp:events:*', purge: {tags: [b]}}]", `config.yaml:3: events[0].channel: "cp:events:" is what this proxy itself publishes on`},
		{"event that purges nothing", "redis: {url: redis://a}\nevents: [{channel: a}]", `config.yaml:3: events[0].purge: wants exactly one of url, pattern, tags, group; 0 are given`},
		{"event that purges too much", "redis: {url: redis://a}\nevents:\n  - {channel: a, purge: {url: '{u}', pattern: '{p}'}}", `config.yaml:4: events[0].purge: wants exactly one of url, pattern, tags, group; 2 are given`},
		{"event's group", "redis: {url: redis://a}\nevents: [{channel: a, purge: {group: g}}]", `config.yaml:3: events[0].purge.group: goes with origin: scheme://host`},
		{"event's placeholder", "redis: {url: redis://a}\nevents: [{channel: a, purge: {tags: [b, 'c-{d']}}]", `config.yaml:3: events[0].purge.tags[1]: "c-{d" has an unpaired brace`},
		{"event's pattern", "redis: {url: redis://a}\nevents: [{channel: a, purge: {pattern: 'https://a/[{x}]*'}}]", `config.yaml:3: events[0].purge.pattern: "https://a/[{x}]*" has a placeholder in brackets`},
		{"event's URL", "redis: {url: redis://a}\nevents: [{channel: a, purge: {url: 'https://'}}]", `config.yaml:3: events[0].purge: ...`},
		{"later: sessions", "sessions: {ttl: 2h}", `config.yaml:2: sessions.ttl: sessions are not available yet in this version (leave it out)`},
		{"later: warm", "warm: {refresh_ahead: {top: 5}}", `config.yaml:2: warm.refresh_ahead.top: warming is not available yet in this version (leave it out)`},
		{"short lease", "near: {strict: true, lease: 1s}", `config.yaml:2: near.lease: must be at least 2s with near.strict (a heartbeat is sent each second)`},
		{"later: wait", "collapse: {wait: 1s}", `config.yaml:2: collapse.wait: waiting for another replica's fetch is not available yet in this version`},
		{"later: members", "upstreams: {a: {members: [{url: 'http://a'}, {url: 'http://b'}]}}", `config.yaml:2: upstreams.a.members: more than one member is not available yet in this version`},
		{"TLS without key", "listen: {address: ':1', tls: {cert: a}}", `config.yaml:2: listen.tls.key: is missing`},
		{"TLS without files", "listen: {address: ':1', tls: [{cert: /none/a, key: b}]}", `config.yaml:2: listen.tls: open /none/a: no such file or directory`},
		{"TLS of another form", "listen: {address: ':1', tls: [{cert: a, key: b}, c]}", `config.yaml:2: listen.tls[1]: is a map with cert and key, or a list of such maps`},
		{"PROXY from nobody", "listen: [':2', {address: ':1', proxy_protocol: true}]", `config.yaml:2: listen[1].proxy_protocol: is read from the peers of client.trusted alone, which names none (client: {trusted: [10.0.0.0/8]})`},
		{"later: rules", "rules:\n  - match: {path: /a}\n    key: {session: [user]}\n    require_session: true", `config.yaml:4: rules[0].key.session: sessions are not available yet in this version
config.yaml:5: rules[0].require_session: sessions are not available yet in this version`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, got := load(t, upstreamLine+test.text, nil); !says(got, test.want) {
				t.Errorf("%s\ngot  %s\nwant %s", test.text, got, test.want)
			}
		})
	}
}

// What package upstream says ends with ... here: its words are its own, the place is ours.
func TestUpstreamMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"": `upstream: nothing says where requests go (cacheproxy serve --upstream http://127.0.0.1:3000)`,
		"sites: [{hosts: [a], upstream: 'http://a'}]":             ``,
		"sites: [{hosts: [a]}]":                                   `config.yaml:1: sites[0].upstream: is missing, and there is none at the top level`,
		"upstream: {}":                                            `config.yaml:1: upstream: nothing says where requests go (cacheproxy serve --upstream http://127.0.0.1:3000)`,
		"upstream: localhost:3000":                                `config.yaml:1: upstream: "localhost:3000" has no scheme: write http://localhost:3000`,
		"upstream: 127.0.0.1:3000":                                `config.yaml:1: upstream: "127.0.0.1:3000" has no scheme: write http://127.0.0.1:3000`,
		"upstream: localhost":                                     `config.yaml:1: upstream: "localhost" is neither a URL nor a name of upstreams (write http://localhost)`,
		"upstream: http://":                                       `config.yaml:1: upstream: "http://" names no host...`,
		"upstream: http://a:pw@b":                                 `config.yaml:1: upstream: user and password...`,
		"upstream: unix:app.sock":                                 `config.yaml:1: upstream: "unix:app.sock"...`,
		"upstream:\n  url: ws://a":                                `config.yaml:2: upstream.url: scheme "ws"...`,
		"upstream: [a]":                                           `config.yaml:1: upstream: is a URL, a name of upstreams, or a map with url`,
		"upstream:\n  url: https://a\n  tls:\n    cert: /nothing": `config.yaml:4: upstream.tls.cert...`,
		"upstream:\n  url: https://a\n  tls:\n    ca: /nothing":   `config.yaml:4: upstream.tls.ca: ...`,
		"upstream: a:hunter2@b:1":                                 `config.yaml:1: upstream: has no scheme: write http:// in front of the host`,
		"upstream: http://a:65536":                                `config.yaml:1: upstream: port 65536...`,
		"upstream:\n  url: http://a\n  host: b c":                 `config.yaml:3: upstream.host: "b c" is not a host...`,
		"upstream:\n  url: http://a\n  tls:\n    ca: /nothing":    `config.yaml:4: upstream.tls: http:// does not use TLS...`,
		"upstream:\n  url: https://a\n  head_timeout: 0":          `config.yaml:3: upstream.head_timeout: must be above 0`,
	} {
		if _, got := load(t, text, nil); !says(got, want) {
			t.Errorf("%s\ngot  %s\nwant %s", text, got, want)
		}
	}
}

// says compares, but for what follows where want ends with three dots.
func says(got, want string) bool {
	if begin, found := strings.CutSuffix(want, "..."); found {
		return strings.HasPrefix(got, begin)
	}
	return got == want
}

// Mistakes of every source come out together, in the order of lines.
func TestAllMistakesAtOnce(t *testing.T) {
	const text = `listen: nowhere
rules:
  - match: {path: /a}
    ttl: 5 minutes
  - match: {path: "no slash"}
    ignore: [no-stor]
near: {size: big}
upstreams:
  shop:
    members: [{url: "http://a:0"}]
    head_timeout: 5
    connect_timeout: 0
    host: a b
    tls:
      ca: /nothing
      cert: /nothing
sites:
  - rules: []
  - hosts: [b]
    upstream: shop
    rules: [{tags: ["{path"]}]
server: {max_header: 8GiB}
`
	_, got := load(t, text, []string{"CACHEPROXY_REDIS_TIMEOUT=soon", "CACHEPROXY_REDIS_ULR=redis://a", "CACHEPROXY_RULES=1"},
		Flag{Name: "--listen", Key: "listen", Value: "8080"})
	wanted := []string{
		"config.yaml:1: listen: ", "config.yaml:4: rules[0].ttl: ", "config.yaml:5: rules[1].match.path: ", "config.yaml:6: rules[1].ignore[0]: ",
		"config.yaml:7: near.size: ", "config.yaml:10: upstreams.shop.members[0].url: port 0", "config.yaml:11: upstreams.shop.head_timeout: ",
		"config.yaml:12: upstreams.shop.connect_timeout: must be above 0", `config.yaml:13: upstreams.shop.host: "a b"`,
		"config.yaml:15: upstreams.shop.tls.ca: ", "config.yaml:16: upstreams.shop.tls.cert: ", "config.yaml:18: sites[0].hosts: ",
		"config.yaml:18: sites[0].upstream: ", "config.yaml:21: sites[1].rules[0].tags[0]: ", "config.yaml:22: server.max_header: is too large (at most 1GiB)", `CACHEPROXY_REDIS_TIMEOUT: "soon" is not`, "CACHEPROXY_REDIS_ULR: no such key (did you mean CACHEPROXY_REDIS_URL?)",
		"CACHEPROXY_RULES: no such key (rules is a list or a map: it goes into the file)", `--listen: "8080" is a port alone`,
	}
	lines := strings.Split(got, "\n")
	for i, want := range wanted {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("line %d is not %q in\n%s", i, want, got)
		}
	}
	if len(lines) != len(wanted) {
		t.Errorf("%d lines, want %d:\n%s", len(lines), len(wanted), got)
	}
}

// --near-size 1MiB needs no second key because of a default of the first.
func TestSmallNearMemory(t *testing.T) {
	for _, size := range []string{"1MiB", "4MiB", "5MiB"} {
		c, mistakes := load(t, upstreamLine, nil, Flag{"--near-size", "near.size", size})
		if mistakes != "" || c.Near.MaxObject != min(c.Near.Size, Default().Near.MaxObject) {
			t.Errorf("near.size %s: %s, %v", size, mistakes, c)
		}
	}
}

// A variable is told as a key of the file is, not in the words of Go.
func TestMistakesInVariables(t *testing.T) {
	for variable, want := range map[string]string{
		"CACHEPROXY_WIRE=maybe":                  `CACHEPROXY_WIRE: "maybe" is not true or false`,
		"CACHEPROXY_BREAKER_FAILURES=many":       `CACHEPROXY_BREAKER_FAILURES: "many" is not a whole number`,
		"CACHEPROXY_BREAKER_FAILURES=1e100":      `CACHEPROXY_BREAKER_FAILURES: "1e100" is not a whole number`,
		"CACHEPROXY_BREAKER_FAILURES=3000000000": `CACHEPROXY_BREAKER_FAILURES: "3000000000" is too large`,
		"CACHEPROXY_LOG_ACCESS_HITS=some":        `CACHEPROXY_LOG_ACCESS_HITS: "some" is not a number`,
		"CACHEPROXY_NEAR_SIZE=lots":              `CACHEPROXY_NEAR_SIZE: "lots" is not a size: write bytes, 32KiB, 256MiB or 1GiB`,
		"CACHEPROXY_DRAIN_DELAY=5":               `CACHEPROXY_DRAIN_DELAY: "5" has no unit: write 5s for seconds`,
	} {
		if _, got := load(t, upstreamLine, []string{variable}); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestPrecedence(t *testing.T) {
	const text = upstreamLine + "redis: {url: 'redis://file', prefix: file}\nnear: {size: 8MiB}\nlisten: [':1', ':2']\n"
	environ := []string{
		"CACHEPROXY_REDIS_URL=redis://environment", "CACHEPROXY_NEAR_SIZE=16MiB", "CACHEPROXY_DRAIN_DELAY=0s", "CACHEPROXY_LOG_ACCESS_HITS=0.5",
		"CACHEPROXY_REDIS_PREFIX=", "CACHEPROXY_SERVICE_HOST=10.0.0.1", "CACHEPROXY_PORT=tcp://10.0.0.1:80", "CACHEPROXY_PORT_80_TCP_ADDR=10.0.0.1",
		"CACHEPROXY_UPSTREAM_HEAD_TIMEOUT=7s", "OTHER=1",
	}
	c, mistakes := load(t, text, environ, Flag{"--redis", "redis.url", "redis://flag"}, Flag{"--admin", "admin.listen", ""})
	if mistakes != "" {
		t.Fatal(mistakes)
	}
	if c.Redis.URL != "redis://flag" || c.Redis.Prefix != "file" || c.Near.Size != 16<<20 || c.Admin.Listen != "" || c.Drain.Delay != 0 ||
		c.Log.Access.Hits != 0.5 || len(c.Listen) != 2 || c.Upstream.HeadTimeout != seconds(7) || c.Upstream.URL != "http://127.0.0.1:3000" {
		t.Errorf("%+v", c)
	}
	c, mistakes = load(t, text, append(environ, "CACHEPROXY_UPSTREAM=http://environment", "CACHEPROXY_LISTEN=:5"))
	if mistakes != "" {
		t.Fatal(mistakes)
	}
	if c.Redis.URL != "redis://environment" || c.Upstream.URL != "http://environment" || len(c.Listen) != 1 || c.Listen[0].Address != ":5" {
		t.Errorf("%+v", c)
	}
}

// A value that validation refuses is reported where it was written last.
func TestMistakeNamesTheLastSource(t *testing.T) {
	const text = upstreamLine + "breaker: {failures: 3}\n"
	_, got := load(t, text, []string{"CACHEPROXY_BREAKER_FAILURES=0"})
	if want := "CACHEPROXY_BREAKER_FAILURES: must be above 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	_, got = load(t, text, []string{"CACHEPROXY_UPSTREAM=localhost:1"}, Flag{"--upstream", "upstream", "ftp://a"})
	if want := `--upstream: scheme "ftp"...`; !says(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPasswordsAreNotRepeated(t *testing.T) {
	for _, url := range []string{"http://:hunter2@host", "redis://user:hunter2@host:port/x", "redis://:hunter2@host:1/x"} {
		_, got := load(t, upstreamLine+"redis: {url: '"+url+"'}", nil)
		if got == "" || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %q", url, got)
		}
	}
}

func TestPrefixInsideKubernetes(t *testing.T) {
	pod := []string{"KUBERNETES_SERVICE_HOST=10.0.0.1"}
	const want = "config.yaml:2: redis.prefix: must be named inside Kubernetes (two services that share a Redis must not share keys: prefix: name-of-the-service)"
	if _, got := load(t, upstreamLine+"redis: {url: 'redis://a'}", pod); got != want {
		t.Errorf("%q", got)
	}
	for text, environ := range map[string][]string{
		"redis: {url: 'redis://a'}":             nil,
		"redis: {url: 'redis://a', prefix: cp}": pod,
		"near: {size: 64MiB}":                   pod,
		"redis: {url: 'redis://b'}":             append(pod, "CACHEPROXY_REDIS_PREFIX=cp"),
	} {
		if _, got := load(t, upstreamLine+text, environ); got != "" {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestNamedUpstreamHasTheLinkOfItsGroup(t *testing.T) {
	c, mistakes := load(t, "upstream: shop\nupstreams: {shop: {members: [{url: 'http://a'}], head_timeout: 5s}}\nsites: [{hosts: [b], upstream: {url: 'h2c://c', host: d}}]\n", nil)
	if mistakes != "" {
		t.Fatal(mistakes)
	}
	address, link, ok := c.Named(c.Upstream)
	if !ok || address != "http://a" || link.HeadTimeout != seconds(5) || link.ConnectTimeout != defaultLink().ConnectTimeout {
		t.Errorf("%s %+v %t", address, link, ok)
	}
	address, link, ok = c.Named(c.Sites[0].Upstream)
	if !ok || address != "h2c://c" || link.Host != "d" || link.HeadTimeout != defaultLink().HeadTimeout {
		t.Errorf("%s %+v %t", address, link, ok)
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, err := Load(Options{File: path})
	if want := path + ": cannot be read: no such file or directory (--config names the file)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAliasesAndEmptyValues(t *testing.T) {
	c, mistakes := load(t, upstreamLine+"near:\nredis: {prefix: }\nrules:\n  - match: &m {path: /a}\n    ttl: 1m\n  - match: *m\n    bypass: true\n", nil)
	if mistakes != "" {
		t.Fatal(mistakes)
	}
	if c.Near != Default().Near || c.Redis.Prefix != "cp" || c.Rules[1].Match.Path != "/a" || *c.Rules[0].TTL != Duration(time.Minute) {
		t.Errorf("%+v", c)
	}
}

// A flag or a variable replaces the URL of a file, and what the file says of how to connect is still found there.
func TestMistakeBesideAReplacedURL(t *testing.T) {
	const text = "upstream:\n  url: http://a\n  tls:\n    ca: /nothing\n"
	for _, test := range []struct {
		environ []string
		flags   []Flag
	}{
		{nil, []Flag{{"--upstream", "upstream", "https://b"}}},
		{[]string{"CACHEPROXY_UPSTREAM=https://b"}, nil},
		{[]string{"CACHEPROXY_UPSTREAM_URL=https://b"}, nil},
	} {
		if _, got := load(t, text, test.environ, test.flags...); !says(got, "config.yaml:4: upstream.tls.ca: ...") {
			t.Errorf("%v: %s", test, got)
		}
	}
}
