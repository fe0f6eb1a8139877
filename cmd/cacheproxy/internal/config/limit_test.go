package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"cacheproxy/limiter"
)

// Each mistake is told once, with its file, line and key, and nothing that follows from it.
func TestLimitMistakes(t *testing.T) {
	const whole = "name: a, limit: 100, window: 1m"
	for _, test := range []struct{ name, limit, want string }{
		{"nothing wrong", whole, ""},

		{"no name", "limit: 1, window: 1m", `name: is missing: rules name limits by it`},
		{"empty name", "name: '', limit: 1, window: 1m", `name: is missing: rules name limits by it`},
		{"name with a space", "name: per client, limit: 1, window: 1m", `name: "per client" is not a name of at most 64 letters, digits, - and _`},

		{"no limit", "name: a, window: 1m", `limit: must be at least 1: it is how many requests a window admits`},
		{"zero", "name: a, limit: 0, window: 1m", `limit: must be at least 1: it is how many requests a window admits`},
		{"negative", "name: a, limit: -5, window: 1m", `limit: must be at least 1: it is how many requests a window admits`},
		{"overflow", "name: a, limit: 99999999999999999999, window: 1m", `limit: "99999999999999999999" is too large`},
		{"overflow downwards", "name: a, limit: -99999999999999999999, window: 1m", `limit: "-99999999999999999999" is too small`},
		{"the most that there is", "name: a, limit: 9223372036854775807, window: 1m", `limit: is more than can be counted in such a window: at most 2251799813685248`},
		{"too much in a year", "name: a, limit: 200000, window: 8784h, algorithm: sliding", `limit: is more than can be counted in such a window: at most 142418`},
		{"too much at once", "name: a, limit: 1, window: 8784h, algorithm: gcra, burst: 200000", `burst: is more than can be counted in such a window: at most 142418`},
		{"a share", "name: a, limit: 1.5, window: 1m", `limit: "1.5" is not a whole number`},
		{"a word", "name: a, limit: many, window: 1m", `limit: "many" is not a whole number`},
		{"a list", "name: a, limit: [1], window: 1m", `limit: is a single value`},

		{"no window", "name: a, limit: 1", `window: is missing, or 0: write 1s, 1m or 1h`},
		{"no window, sliding", "name: a, limit: 1, algorithm: sliding", `window: is missing, or 0: write 1s, 1m or 1h`},
		{"a window of nothing", "name: a, limit: 1, window: 0", `window: is missing, or 0: write 1s, 1m or 1h`},
		{"window without unit", "name: a, limit: 1, window: 60", `window: "60" has no unit: write 60s for seconds`},
		{"window in days", "name: a, limit: 1, window: 1d", `window: "1d" is not a duration: write 300ms, 30s, 5m or 1h30m`},
		{"negative window", "name: a, limit: 1, window: -1m", `window: "-1m" is negative`},
		{"window too short", "name: a, limit: 1, window: 100ns, algorithm: gcra", `window: is out of range: 10ms to 8784h, which are 366 days`},
		{"window too long", "name: a, limit: 1, window: 8785h", `window: is out of range: 10ms to 8784h, which are 366 days`},

		{"part of the key", whole + ", key: [cliemt]", `key[0]: unknown "cliemt" (known: client, host, method, rule, api_key, header.NAME, cookie.NAME)`},
		{"kind of the part", whole + ", key: [client, headers.X-Tier]", `key[1]: unknown "headers.X-Tier" (known: client, host, method, rule, api_key, header.NAME, cookie.NAME)`},
		{"placeholder", whole + ", key: ['{client}']", `key[0]: unknown "{client}" (known: client, host, method, rule, api_key, header.NAME, cookie.NAME)`},
		{"field without name", whole + ", key: [header.]", `key[0]: "header." names no field: write header.NAME`},
		{"field that is none", whole + ", key: [header.X Tier]", `key[0]: "header.X Tier" names no field: write header.NAME`},
		{"cookie without name", whole + ", key: [cookie]", `key[0]: "cookie" names no cookie: write cookie.NAME`},
		{"host as a field", whole + ", key: [header.host]", `key[0]: "header.host": write host`},
		{"session", whole + ", key: [session.user]", `key[0]: "session.user": sessions are not available yet in this version`},
		{"part twice", whole + ", key: [client, client]", `key[1]: client is listed twice`},
		{"no part", whole + ", key: []", `key: names nothing: [client] counts by address`},
		{"key as a word", whole + ", key: client", `key: is a list: write [a, b] or lines that begin with -`},

		{"algorithm", whole + ", algorithm: leaky", `algorithm: "leaky" is not one of fixed, sliding, gcra`},
		{"no algorithm", whole + ", algorithm: ''", `algorithm: is empty`},
		{"accuracy", whole + ", accuracy: full", `accuracy: "full" is not one of leased, exact`},
		{"on_outage", whole + ", on_outage: Open", `on_outage: "Open" is not one of local, divided, open, closed`},
		{"burst of fixed", whole + ", burst: 5", `burst: is for algorithm gcra alone`},
		{"negative burst", whole + ", algorithm: gcra, burst: -1", `burst: is negative`},
		{"overflow of burst", whole + ", algorithm: gcra, burst: 99999999999999999999", `burst: "99999999999999999999" is too large`},
		{"shadow", whole + ", shadow: 1", `shadow: "1" is not true or false`},
		{"status", whole + ", status: 200", `status: 200 is no status of a refusal: 400 to 599, mostly 429`},
		{"no status", whole + ", status: 0", `status: must be above 0`},
		{"fields", whole + ", fields: [ratelimit, rate-limit]", `fields[1]: "rate-limit" is not one of ratelimit, x-ratelimit`},
		{"max_clients", whole + ", max_clients: -1", `max_clients: must be above 0`},

		{"cost of what", whole + ", cost: {hits: 1}", `cost.hits: is neither hit, miss or error, nor a method in capitals`},
		{"cost of a method in small letters", whole + ", cost: {post: 1}", `cost.post: is neither hit, miss or error, nor a method in capitals`},
		{"negative cost", whole + ", cost: {hit: -1}", `cost.hit: is negative`},
		{"overflow of a cost", whole + ", cost: {hit: 99999999999999999999}", `cost.hit: "99999999999999999999" is too large`},
		{"cost of nothing", whole + ", cost: {hit: 0, miss: 0, error: 0}", `cost: is 0 for every request, so that nothing is limited`},
		{"method for nothing", whole + ", cost: {GET: 0}", `cost.GET: is 0: a rule with match.method leaves a method out of a limit`},
		{"cost larger than the limit", whole + ", cost: {miss: 101}", `cost: is up to 101 for one request, and a client never has more than 100`},
		{"costs larger than the limit", whole + ", cost: {miss: 11, POST: 10}", `cost: is up to 110 for one request, and a client never has more than 100`},
		{"cost larger than the burst", whole + ", algorithm: gcra, burst: 5, cost: {POST: 6}", `cost: is up to 6 for one request, and a client never has more than 5`},

		{"exempt host", whole + ", exempt: {clients: [10.0.0.1, office]}", `exempt.clients[1]: "office" is neither an address nor a prefix such as 10.0.0.0/8`},
		{"exempt prefix", whole + ", exempt: {clients: [10.0.0.1/8]}", `exempt.clients[0]: "10.0.0.1/8" has bits outside its prefix: write 10.0.0.0/8`},
		{"exempt list", whole + ", exempt: {clients: [[10.0.0.1]]}", `exempt.clients[0]: is a single value`},
		{"exempt key", whole + ", exempt: {keys: [a, '']}", `exempt.keys[1]: is empty`},
		{"exempt as a list", whole + ", exempt: [10.0.0.1]", `exempt: is a map of keys: clients, keys`},

		{"unknown key", whole + ", algoritm: gcra", `algoritm: unknown key (did you mean algorithm?)`},
		{"unknown key of exempt", whole + ", exempt: {client: []}", `exempt.client: unknown key (did you mean clients?)`},
		{"key twice", whole + ", limit: 5", `limit: is given twice, first on line 2`},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := test.want
			if want != "" {
				want = "config.yaml:2: limits[0]." + want
			}
			if _, got := load(t, upstreamLine+"limits: [{"+test.limit+"}]", nil); got != want {
				t.Errorf("%s\ngot  %s\nwant %s", test.limit, got, want)
			}
		})
	}
}

// What is wrong with more than one limit, and with the rules that name them.
func TestLimitNames(t *testing.T) {
	const known = "limits:\n  - {name: per-client, limit: 100, window: 1m}\n  - {name: per-key, limit: 9, window: 1m}\n"
	var nine, all strings.Builder
	for i := range 9 {
		fmt.Fprintf(&nine, "  - {name: l%d, limit: 1, window: 1m}\n", i)
		fmt.Fprintf(&all, "l%d, ", i)
	}
	for _, test := range []struct{ name, text, want string }{
		{"known", known + "rules: [{limit: [per-client, per-key]}]", ""},
		{"none named", known + "rules: [{limit: []}]", ""},
		{"name twice", "limits:\n  - {name: a, limit: 1, window: 1m}\n  - {name: b, limit: 1, window: 1m}\n  - {name: a, limit: 2, window: 1m}",
			`config.yaml:5: limits[2].name: "a" is also the name of limits[0]`},
		{"unknown, but near", known + "rules:\n  - match: {path: /a}\n    limit:\n      - per-client\n      - per-clint",
			`config.yaml:9: rules[0].limit[1]: "per-clint" is not a name of limits (did you mean per-client?)`},
		{"unknown", known + "rules: [{limit: [x]}]", `config.yaml:5: rules[0].limit[0]: "x" is not a name of limits (known here: per-client, per-key)`},
		{"unknown, there are none", "rules: [{limit: [per-client]}]",
			`config.yaml:2: rules[0].limit[0]: "per-client" is not a name of limits, of which there are none (limits: [{name: per-client, limit: 100, window: 1m}])`},
		{"unknown in a site", known + "sites:\n  - hosts: [a]\n    rules:\n      - {}\n      - {}\n      - limit: [per-kei]",
			`config.yaml:10: sites[0].rules[2].limit[0]: "per-kei" is not a name of limits (did you mean per-key?)`},
		{"listed twice", known + "rules: [{limit: [per-key, per-client, per-key]}]", `config.yaml:5: rules[0].limit[2]: "per-key" is listed twice`},
		{"empty", known + "rules: [{limit: ['']}]", `config.yaml:5: rules[0].limit[0]: is empty`},
		{"too many", "limits:\n" + nine.String() + "rules: [{limit: [" + all.String() + "]}]",
			`config.yaml:12: rules[0].limit: names 9 limits, and a request can be held to 8`},
		{"of a response", known + "rules: [{match: {status: [200]}, limit: [per-key]}]",
			`config.yaml:5: rules[0].limit: cannot depend on match.status or match.content_type: limits are asked before there is a response`},

		// Whoever misspelt a limit has not misspelt the rules.
		{"limits that are a map", "limits: {name: a, limit: 1, window: 1m}\nrules: [{limit: [a]}]", `config.yaml:2: limits: is a list: write [a, b] or lines that begin with -`},
		{"a limit that is a word", "limits: [a]\nrules: [{limit: [a]}]",
			`config.yaml:2: limits[0]: is a map of keys: name, key, limit, window, algorithm, accuracy, on_outage, burst, shadow, status, cost, fields, exempt, max_clients`},
		{"a limit without name", "limits: [{limit: 1, window: 1m}]\nrules: [{limit: [a]}]", `config.yaml:2: limits[0].name: is missing: rules name limits by it`},

		// Each on its line.
		{"several", "limits:\n  - name: a\n    limit: 0\n    key:\n      - client\n      - hosts\n    window: 1\n    exempt:\n      clients:\n        - 10.0.0.300\n",
			`config.yaml:4: limits[0].limit: must be at least 1: it is how many requests a window admits
config.yaml:7: limits[0].key[1]: unknown "hosts" (known: client, host, method, rule, api_key, header.NAME, cookie.NAME)
config.yaml:8: limits[0].window: "1" has no unit: write 1s for seconds
config.yaml:11: limits[0].exempt.clients[0]: "10.0.0.300" is neither an address nor a prefix such as 10.0.0.0/8`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, got := load(t, upstreamLine+test.text, nil); got != test.want {
				t.Errorf("%s\ngot  %s\nwant %s", test.text, got, test.want)
			}
		})
	}
}

func TestLimitSpecs(t *testing.T) {
	const text = upstreamLine + `
client: {ipv6_prefix: 56}
limits:
  - {name: plain, limit: 9007199254, window: 1h}
  - name: all
    key: [client, header.X-Tier]
    limit: 100
    window: 1m30s
    algorithm: gcra
    accuracy: exact
    on_outage: divided
    burst: 20
    shadow: true
    status: 503
    cost: {hit: 0, POST: 5}
    fields: [x-ratelimit]
    exempt: {clients: [10.0.0.7, 192.168.0.0/16, "2001:db8::/56"], keys: [10.0.0.1, gold]}
    max_clients: 5
  - {name: quiet, limit: 1, window: 10ms, fields: [], cost: {}, exempt: {clients: [], keys: []}}
`
	loaded, err := Load(Options{File: writeFile(t, text)})
	if err != nil {
		t.Fatal(err)
	}
	client, draft := []string{"client"}, []string{"ratelimit"}
	want := []limiter.Spec{
		{
			Name: "plain", Key: client, Limit: 9007199254, Window: time.Hour, Algorithm: limiter.Fixed, Accuracy: limiter.Leased, OnOutage: limiter.Local,
			Status: 429, Fields: draft, MaxClients: 100_000,
		},
		{
			Name: "all", Key: []string{"client", "header.X-Tier"}, Limit: 100, Window: 90 * time.Second,
			Algorithm: limiter.GCRA, Accuracy: limiter.Exact, OnOutage: limiter.Divided, Burst: 20, Shadow: true, Status: 503,
			Cost: map[string]int64{"hit": 0, "POST": 5}, Fields: []string{"x-ratelimit"},
			ExemptClients: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("2001:db8::/56")},
			ExemptKeys:    []string{"10.0.0.1", "gold"}, MaxClients: 5,
		},
		{
			Name: "quiet", Key: client, Limit: 1, Window: 10 * time.Millisecond, Algorithm: limiter.Fixed, Accuracy: limiter.Leased, OnOutage: limiter.Local,
			Status: 429, Fields: []string{}, MaxClients: 100_000,
		},
	}
	if !reflect.DeepEqual(loaded.Limits, want) {
		t.Errorf("got\n%+v\nwant\n%+v", loaded.Limits, want)
	}
	if again := loaded.Config.LimitSpecs(); !reflect.DeepEqual(again, want) {
		t.Errorf("LimitSpecs differs from Loaded.Limits:\n%+v", again)
	}
}
