package main

import (
	"slices"
	"time"

	"cacheproxy/bench/body"
)

// A scenario is what all contestants of its stage are asked, one after the other, round by round.
type scenario struct {
	name, title string
	kind        kind
	quick       bool // part of the short contest

	// What is asked. Keys are warmed up before the first round, unless they are none of the cache's.
	body        body.Kind
	size        int
	keys        uint64  // how many resources; 1: always the same
	zipf        float64 // exponent of how often each is asked for; 0: all alike
	unique      bool    // each request asks for another one
	validate    bool    // with If-None-Match: 304 is the right answer, which wrk does not understand where it tells the length of what it does not send
	connections int
	rates       []float64 // requests a second of an open loop, each measured; with a mix of hits, misses and what is not stored
	longer      int       // times as long as others; where those that are on their way at the end would be many of all
}

// kind is how it is measured.
type kind string

const (
	byWrk      kind = "wrk"
	byH2load   kind = "h2load"
	byLoadgen  kind = "loadgen"  // for what the others cannot do: among it, not to sleep while it waits (load.Spec.Spin)
	byStampede kind = "stampede" // all at once for what nobody has
	byRestart  kind = "restart"  // stopped and started, and asked at once
)

// hits reports whether every response should come from the cache.
func (s *scenario) hits() bool {
	return s.body == body.Hit && !s.unique && len(s.rates) == 0 && s.kind != byStampede && s.kind != byRestart
}

// A stage is what is running at the same time: contestants as they are configured, in turn without and with features.
type stage struct {
	name      string
	variants  [][]feature
	only      []string // contestants; nil: all who can
	tls       bool     // they are asked over TLS
	scenarios []scenario
	memory    int64 // bytes that have to be available to those that keep everything
	turns     bool  // a round of each scenario, and then the next: a bad time of a minute is in one round of many, not in all rounds of one
}

const (
	kib = 1 << 10
	mib = 1 << 20
	// many is how many keys the Zipf scenarios have.
	many, million = 100_000, 1_000_000
)

var stages = []stage{
	{name: "base", variants: [][]feature{nil}, turns: true, scenarios: []scenario{
		{name: "hit-1k-c1", title: "hit, 1 KB, 1 connection", kind: byWrk, body: body.Hit, size: kib, keys: 1, connections: 1},
		{name: "hit-1k-c16", title: "hit, 1 KB, 16 connections", kind: byLoadgen, body: body.Hit, size: kib, keys: 1, connections: 16},
		{name: "hit-1k-c64", title: "hit, 1 KB, 64 connections", kind: byLoadgen, quick: true, body: body.Hit, size: kib, keys: 1, connections: 64},
		{name: "hit-1k-c256", title: "hit, 1 KB, 256 connections", kind: byLoadgen, body: body.Hit, size: kib, keys: 1, connections: 256},
		{name: "hit-1k-c1024", title: "hit, 1 KB, 1,024 connections", kind: byLoadgen, body: body.Hit, size: kib, keys: 1, connections: 1024, longer: 2},
		{name: "wrk-1k-c64", title: "hit, 1 KB, 64 connections, asked by wrk", kind: byWrk, body: body.Hit, size: kib, keys: 1, connections: 64},
		{name: "hit-16k", title: "hit, 16 KB, 64 connections", kind: byLoadgen, body: body.Hit, size: 16 * kib, keys: 1, connections: 64},
		{name: "hit-64k", title: "hit, 64 KB, 64 connections", kind: byLoadgen, quick: true, body: body.Hit, size: 64 * kib, keys: 1, connections: 64},
		{name: "hit-1m", title: "hit, 1 MB, 64 connections", kind: byLoadgen, body: body.Hit, size: mib, keys: 1, connections: 64, longer: 2},
		{name: "wrk-1m", title: "hit, 1 MB, 64 connections, asked by wrk", kind: byWrk, body: body.Hit, size: mib, keys: 1, connections: 64, longer: 5},
		{name: "not-modified", title: "304 to If-None-Match, 64 connections", kind: byLoadgen, quick: true, body: body.Hit, size: kib, keys: 1, validate: true, connections: 64},
	}},
	{name: "keys", variants: [][]feature{nil}, scenarios: []scenario{
		{name: "zipf-100k", title: "hit, 1 KB, Zipf over 100,000 keys", kind: byLoadgen, body: body.Hit, size: kib, keys: many, zipf: 1, connections: 64, longer: 4},
		{name: "pass", title: "passed through, 1 KB, nothing stored", kind: byWrk, quick: true, body: body.Pass, size: kib, keys: 1, connections: 64},
		{name: "miss", title: "miss, 1 KB, stored", kind: byLoadgen, quick: true, body: body.Hit, size: kib, unique: true, connections: 64, longer: 3},
		{name: "stampede", title: "1,000 requests at once for a cold key, upstream takes 1 s", kind: byStampede, body: body.Slow, size: kib, connections: 1000},
	}},
	{name: "tls", variants: [][]feature{{overTLS}}, tls: true, scenarios: []scenario{
		{name: "tls-hit", title: "hit over TLS, 1 KB, 64 connections", kind: byWrk, body: body.Hit, size: kib, keys: 1, connections: 64},
	}},
	{name: "http2", variants: [][]feature{{overTLS, overHTTP2}}, tls: true, scenarios: []scenario{
		{name: "http2-hit", title: "hit over HTTP/2, 1 KB, 16 connections of 10 streams", kind: byH2load, body: body.Hit, size: kib, keys: 1, connections: 16},
	}},
	{name: "log", variants: [][]feature{nil, {accessLog}}, scenarios: []scenario{
		{name: "log-hit", title: "hit, 1 KB, 64 connections, access log off and on", kind: byLoadgen, body: body.Hit, size: kib, keys: 1, connections: 64, longer: 2},
	}},
	{name: "limit", variants: [][]feature{nil, {limiting}}, only: []string{"cacheproxy", "nginx", "haproxy"}, scenarios: []scenario{
		{name: "limit-hit", title: "hit, 1 KB, 64 connections, limits off and on", kind: byLoadgen, body: body.Hit, size: kib, keys: 1, connections: 64},
	}},
	{name: "redis", variants: [][]feature{{inRedis}}, only: []string{"cacheproxy", "nginx+lua"}, scenarios: []scenario{
		{name: "redis-hit", title: "hit in Redis, 1 KB, 64 connections", kind: byWrk, body: body.Hit, size: kib, keys: 1, connections: 64},
	}},
	{name: "mixed", variants: [][]feature{nil}, only: []string{"cacheproxy", "nginx", "varnish"}, scenarios: []scenario{
		{name: "mixed", title: "open loop: 90 % hits (Zipf over 100,000), 5 % misses, 5 % passed through", kind: byLoadgen,
			body: body.Hit, size: kib, keys: many, zipf: 1, connections: 256, longer: 5,
			rates: []float64{1_000, 5_000, 10_000, 15_000, 20_000, 25_000, 30_000}},
	}},
	{name: "million", variants: [][]feature{nil}, memory: 7 << 30, only: []string{"cacheproxy", "varnish"}, scenarios: []scenario{
		{name: "zipf-1m", title: "hit, 1 KB, Zipf over 1,000,000 keys", kind: byLoadgen, body: body.Hit, size: kib, keys: million, zipf: 1, connections: 64, longer: 5},
	}},
	{name: "restart", variants: [][]feature{nil, {surviving}}, only: []string{"cacheproxy", "nginx", "varnish"}, scenarios: []scenario{
		{name: "restart", title: "restarted, cold and warm: the first seconds of hits, Zipf over 100,000 keys", kind: byRestart, body: body.Hit, size: kib, keys: many, zipf: 1, connections: 64, longer: 5},
	}},
}

// pace is how long what takes.
type pace struct {
	each    time.Duration // one measurement
	rounds  int
	quick   bool
	longest time.Duration // what all of it may take, where some is waited for or done again
}

var (
	full  = pace{each: 400 * time.Millisecond, rounds: 5, longest: 34 * time.Minute}
	short = pace{each: 400 * time.Millisecond, rounds: 5, quick: true, longest: 270 * time.Second}
)

// of are the stages and scenarios that are measured at this pace.
func (p pace) of(all []stage) (chosen []stage) {
	for _, st := range all {
		st.scenarios = slices.DeleteFunc(slices.Clone(st.scenarios), func(sc scenario) bool { return p.quick && !sc.quick })
		if len(st.scenarios) > 0 {
			chosen = append(chosen, st)
		}
	}
	return chosen
}
