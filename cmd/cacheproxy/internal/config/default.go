package config

import (
	"time"

	"cacheproxy/policy"
)

// Default returns the configuration of a process that was told nothing. config.example.yaml shows the same values, and a test
// compares the two.
func Default() *Config {
	return &Config{
		Listen: Listeners{{Address: ":8080"}}, // unprivileged, and what people try first
		Server: Server{
			HeaderTimeout: seconds(10), // a head is a few packets; slower is an attack
			IdleTimeout:   seconds(75), // longer than the 60 s that balancers keep idle connections
			BodyTimeout:   seconds(60), // a phone that changes its network is back by then
			WriteTimeout:  seconds(60), // the same
			MaxHeader:     32 << 10,    // four times what browsers send with full cookies
			MaxFields:     256,         // ten times what browsers send
			MaxBody:       0,           // uploads stream through: the upstream knows its own bound
		},
		Drain: Drain{
			Delay:   seconds(5),  // an endpoint is out of every kube-proxy within a few seconds
			Timeout: seconds(25), // with the delay, inside the 30 s that Kubernetes grants
		},
		Wire:     true,
		Admin:    Admin{Listen: "127.0.0.1:9090"}, // loopback: needs no token
		Upstream: Upstream{Link: defaultLink()},
		Redis:    Redis{Timeout: milliseconds(50), Prefix: "cp"}, // a Redis slower than that helps nobody
		Breaker:  Breaker{Failures: 5, Cooldown: seconds(1)},
		Near:     Near{Size: 256 << 20, MaxObject: 4 << 20, Lease: seconds(5)},
		Client:   Client{Header: "X-Forwarded-For", IPv6Prefix: 64}, // /64 is one household
		Cache: Cache{
			MaxObject:   64 << 20,
			MaxFill:     seconds(60), // also the least time for which purges must be remembered
			Keep:        Duration(time.Hour),
			Heuristic:   true,
			Name:        "cacheproxy",
			StatusField: "always",
			TagHeaders:  policy.DefaultTagFields(),
			TagFields:   "strip", // they tell how a site is made
		},
		Collapse: Collapse{Memory: 256 << 20, Wait: seconds(3)},
		Sessions: Sessions{Cookie: "session", TTL: Duration(time.Hour), MaxAge: Duration(24 * time.Hour), UserField: "user"},
		Warm:     Warm{Workers: 4, Rate: 50, RefreshAhead: RefreshAhead{Top: 1000, Budget: 20}},
		Log:      Log{Format: "json", Access: Access{Sample: 1, Hits: 0}}, // hits are many and all alike
	}
}

// defaultLink is used for the top-level upstream, and for each site's and each group's.
func defaultLink() Link {
	return Link{
		ConnectTimeout: seconds(3),  // one retransmitted SYN, and a bit
		HeadTimeout:    seconds(60), // slow pages are what a cache is for
		IdleTimeout:    seconds(90), // event streams send a comment more often than that
	}
}

func seconds(n int64) Duration      { return Duration(n) * Duration(time.Second) }
func milliseconds(n int64) Duration { return Duration(n) * Duration(time.Millisecond) }
