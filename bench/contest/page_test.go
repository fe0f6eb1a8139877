package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// keptResults are those in the repository.
func keptResults(t *testing.T) (*results, string) {
	t.Helper()
	dir := filepath.Join("..", "results")
	r, err := readResults(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r, dir
}

// The page of results, its pictures and the part of README.md are what results.json makes of them: no figure is typed.
func TestPagesAreMadeOfResults(t *testing.T) {
	r, dir := keptResults(t)
	var page bytes.Buffer
	if err := (&markdown{w: &page, r: r}).page(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "README.md")); err != nil || !bytes.Equal(got, page.Bytes()) {
		t.Errorf("bench/results/README.md is not what results.json says: make bench-page writes it anew (%v)", err)
	}
	for _, p := range pictures {
		f := p.draw(r)
		if f == nil {
			continue
		}
		text, err := f.SVG()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, p.name+".svg")); err != nil || !bytes.Equal(got, text) {
			t.Errorf("bench/results/%s.svg is not what results.json says: make bench-page draws it anew (%v)", p.name, err)
		}
	}
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	replaced, err := withPart(string(readme), r)
	if err != nil {
		t.Fatal(err)
	}
	if replaced != string(readme) {
		t.Error("README.md is not what bench/results/results.json says: make bench-page writes it anew")
	}
	if r.Quick {
		t.Error("these are the results of a quick contest, which are not to be quoted")
	}
}

// madeUp is a contest of three, one of which lacks something, one is wrong, and one did not come.
func madeUp() *results {
	h := newHistogram()
	for us := range int64(1000) {
		_ = h.RecordValue(us + 1)
	}
	hdr := encoded(h)
	some := func(cpu float64) []round {
		return []round{
			{Number: 1, Requests: 1000, Seconds: 1, RPS: 1000, User: cpu / 2, System: cpu / 2, Latency: latency{P50: 100, P99: 2000, P999: 3000}, Memory: 10 << 20, HDR: hdr},
			{Number: 2, Requests: 1100, Seconds: 1, RPS: 1100, User: cpu, System: cpu, Latency: latency{P50: 100, P99: 2000, P999: 3000}, Memory: 10 << 20, Generator: 0.99, HDR: hdr},
			{Number: 3, Requests: 1200, Seconds: 1, RPS: 1200, User: 2 * cpu, System: 2 * cpu, Latency: latency{P50: 100, P99: 2000, P999: 3000}, Memory: 10 << 20, Generator: 0.99},
		}
	}
	return &results{
		Begun: time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC), Each: 2, Machine: machine{CPU: "A processor", Processors: 2, Server: "1", Rest: "0"},
		Contestants: []participant{{Name: ours, Version: "1"}, {Name: "nginx", Version: "2"}, {Name: "squid", Absent: "not installed"}},
		Scenarios: []outcome{
			{Name: "hit-1k-c64", Title: "hit, 1 KB", AskedBy: "wrk", Hits: true, Rows: []row{{Contestant: ours, Rounds: some(10)}, {Contestant: "nginx", Rounds: some(5)}}},
			{Name: "hit-64k", Title: "hit, 64 KB", Hits: true, Rows: []row{{Contestant: ours, Rounds: some(1000)}, {Contestant: "nginx", Rounds: rounds(-1, -1)}}},
			{Name: "mixed", Title: "mixed", Rows: []row{
				{Contestant: ours, Offered: 1000, Rounds: some(1)}, {Contestant: ours, Offered: 1100, Rounds: some(2)}, {Contestant: "nginx", Offered: 1000, Lacks: "it has no such thing"},
			}},
			{Name: "log-hit", Title: "log", Hits: true, Rows: []row{{Contestant: ours, Rounds: some(10)}, {Contestant: ours, Variant: "access log", Rounds: some(20)}}},
		},
	}
}

// What the page says of results that are made up: medians, spans, ratios, who is absent, lacks something or was wrong.
func TestPage(t *testing.T) {
	var b bytes.Buffer
	if err := (&markdown{w: &b, r: madeUp()}).page(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Absent: squid (not installed).", "\n\nAsked by wrk.\n\n",
		"| cacheproxy | 20.0 | 2,000 |", "| nginx | 10.0 | - |",
		"| nginx | 1,100 (1,000 to 1,200)† | 1 % | 10.0 (5.00 to 20.0) | 5.00 + 5.00 | 0.50 | 0.10 | 2.00 | 3.00 | 10 MiB | 3 |",
		"Not measured: nginx: it was wrong.", "Not measured: nginx at 1,000: it has no such thing.",
		"1,100 (1,000 to 1,200) of 1,100", "| 3 | 2.00 |\n", "| nginx | 0.50 | - |",
		"![latency of mixed traffic at fixed rates, by contestant](mixed.svg)",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}
}

// Everything can be drawn that can be measured: figures far apart, one contestant alone, none.
func TestPictures(t *testing.T) {
	drawn := 0
	for _, p := range pictures {
		for name, r := range map[string]*results{"made up": madeUp(), "nothing": {}} {
			f := p.draw(r)
			if f == nil {
				continue
			}
			if name == "nothing" {
				t.Errorf("%s is drawn of nothing", p.name)
			}
			text, err := f.SVG()
			if err != nil || !bytes.Contains(text, []byte(ours)) {
				t.Errorf("%s: %v", p.name, err)
			}
			drawn++
		}
	}
	if drawn < 3 {
		t.Errorf("%d pictures are drawn", drawn)
	}
}

func TestReadmeHasAPlace(t *testing.T) {
	for _, page := range []string{"", "x", pageBegin, pageEnd + pageBegin} {
		if _, err := withPart(page, madeUp()); err == nil {
			t.Errorf("%q has a place for results", page)
		}
	}
	got, err := withPart("before\n"+pageBegin+"old\n"+pageEnd+"after\n", madeUp())
	if err != nil || !strings.HasPrefix(got, "before\n"+pageBegin) || !strings.HasSuffix(got, pageEnd+"after\n") || strings.Contains(got, "old") {
		t.Errorf("%v, %s", err, got)
	}
}

// A contest says how long it will take before it begins, and how long the rest will while it does.
func TestProgress(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(0, 0)
	p := &progress{out: &b, begun: now, total: 100 * time.Second, now: func() time.Time { return now }}
	p.begin("first")
	p.add(50 * time.Second)
	now = now.Add(75 * time.Second) // half as long again as estimated
	p.begin("second")
	if got, want := b.String(), "  0 %  1m40s left  first\n 50 %  1m15s left  second\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	b.Reset()
	p.terminal = true
	p.begin("third")
	p.end()
	if got := b.String(); !strings.Contains(got, "[###############...............]  50 %") || !strings.HasSuffix(got, "\r\033[K") {
		t.Errorf("%q", got)
	}
}

// A full contest has less than 40 minutes, and a quick one less than 5, with everybody there.
func TestEstimates(t *testing.T) {
	for name, c := range map[string]struct {
		pace pace
		most time.Duration
	}{"full": {full, 33 * time.Minute}, "quick": {short, 4*time.Minute + 30*time.Second}} {
		contest := &contest{pace: c.pace, who: contestants}
		if d := contest.estimate(c.pace.of(stages)); d > c.most || d < time.Minute {
			t.Errorf("%s: %v", name, d)
		}
	}
}

// What is another thing in each contest is not in the configurations that are kept.
func TestAnonymous(t *testing.T) {
	e := &entry{s: setup{
		Program: "/tmp/contest1/cacheproxy", Dir: "/tmp/contest1/cacheproxy2345678", CacheDir: "/dev/shm/contest9/cache", CertFile: "/tmp/contest1/cert.pem",
		LogFile: "/dev/shm/contest9/cacheproxy2345678.log", Port: 40001, TLSPort: 40002, AdminPort: 40003, OriginPort: 40004, RedisPort: 40005,
	}}
	got := string(e.anonymous([]byte("/tmp/contest1/cacheproxy serve --config /tmp/contest1/cacheproxy2345678/a.yaml --listen :40001 --log cacheproxy2345678.log >>/dev/shm/contest9/cacheproxy2345678.log")))
	if want := "cacheproxy serve --config DIR/a.yaml --listen :PORT --log LOGFILE >>LOGFILE"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Who asks for more rounds gives them time.
func TestMoreRounds(t *testing.T) {
	for rounds, want := range map[int]time.Duration{0: full.longest, 2: full.longest, 20: 4 * full.longest} {
		p, all, _, err := (&options{rounds: rounds}).choose()
		if err != nil || p.longest != want || rounds > 0 && p.rounds != rounds {
			t.Errorf("%d rounds: %+v, %v", rounds, p, err)
		}
		if d := (&contest{pace: p, who: contestants}).estimate(all); d > p.longest {
			t.Errorf("%d rounds: estimated %v, of %v", rounds, d, p.longest)
		}
	}
}

// Names of scenarios are what flags, tables and pictures go by.
func TestScenarios(t *testing.T) {
	seen := map[string]bool{}
	for _, st := range stages {
		for _, sc := range st.scenarios {
			if seen[sc.name] {
				t.Errorf("%s is there twice", sc.name)
			}
			seen[sc.name] = true
		}
	}
	for _, c := range summaryColumns {
		if !seen[c.scenario] {
			t.Errorf("the short table has %s, which is no scenario", c.scenario)
		}
	}
	if _, err := named([]string{"hit-1k-c64", "x"}); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("%v", err)
	}
}

// Tables say who asks, and whether it sleeps: where it would take the server's or the origin's processor it does.
func TestAskedBy(t *testing.T) {
	pinned, shared := &contest{lab: &lab{}}, &contest{lab: &lab{}}
	pinned.lab.server = "1"
	for name, want := range map[string][2]string{
		"hit-1k-c1": {"wrk", "wrk"}, "http2-hit": {"h2load", "h2load"}, "miss": {"loadgen", "loadgen"}, "stampede": {"loadgen", "loadgen"},
		"hit-1k-c64": {"loadgen, which never sleeps", "loadgen"}, "mixed": {"loadgen, which is awake when a request is due", "loadgen"},
	} {
		of, err := named([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		sc := &of[0].scenarios[0]
		if got := [2]string{pinned.askedBy(sc), shared.askedBy(sc)}; got != want {
			t.Errorf("%s is asked by %q, want %q", name, got, want)
		}
	}
}

// Who is measured in Redis is there and nowhere else, and nobody is listed there for what it lacks; stages name contestants that there are.
func TestWhoTakesPart(t *testing.T) {
	c := &contest{who: contestants}
	for _, st := range stages {
		for _, name := range st.only {
			if contestantNamed(name) == nil {
				t.Errorf("stage %s: there is no contestant %q", st.name, name)
			}
		}
		var there []string
		for _, e := range c.entries(&st) {
			there = append(there, e.c.name)
			if st.name == "redis" && e.lacks != "" {
				t.Errorf("stage redis has %s, which lacks it: %s", e.c.name, e.lacks)
			}
		}
		if slices.Contains(there, nginxLua.name) != (st.name == "redis") {
			t.Errorf("stage %s has %v", st.name, there)
		}
	}
}
