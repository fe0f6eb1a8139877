package main

import (
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	own, children, err := parseStat("1234 (a name) with) S 1 2 3 4 5 6 7 8 9 10 250 50 30 20 20 0 1 0 100 0 0\n")
	if err != nil || own != (usage{2500 * time.Millisecond, 500 * time.Millisecond, 3 * time.Second}) || children != (usage{300 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond}) {
		t.Errorf("%v and %v, %v", own, children, err)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2 3", "1 (x) S 1 2 3 4 5 6 7 8 9 10 a 1 1 1 1 1"} {
		if own, _, err := parseStat(bad); err == nil {
			t.Errorf("%q is read as %v", bad, own)
		}
	}
}

// ownTime is the processor time of this process.
func ownTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What /proc says of a process that works is about the time it has worked, its ended children's included.
func TestUsedIsWhatWasUsed(t *testing.T) {
	pids := []int{os.Getpid()}
	before, err := used(pids)
	if err != nil {
		t.Fatal(err)
	}
	own := ownTime()
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	after, err := used(pids)
	if err != nil {
		t.Fatal(err)
	}
	if exact, ok := processClock(pids[0]); !ok || exact <= 0 {
		t.Errorf("the clock of this process: %v, %t", exact, ok)
	}
	child := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	own = ownTime() - own
	if got := after.sub(before).All; got < child-2*tick || got > child+own+3*tick {
		t.Errorf("%v were used: %v by a child, %v by this process", got, child, own)
	}
	if n, err := resident(pids); err != nil || n < 1<<20 || n > 4<<30 {
		t.Errorf("%d bytes are resident, %v", n, err)
	}
}

func TestParseWrk(t *testing.T) {
	out := "Running 1s test @ http://x\n" +
		`{"requests":3,"bytes":300,"microseconds":1500000,"errors":{"connect":0,"read":1,"write":0,"status":0,"timeout":0},"latency":[[100,2],[5000,1]]}` + "\nmore\n"
	r, err := parseWrk([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 3 || r.Bytes != 300 || r.Elapsed != 1500*time.Millisecond || len(r.Errors) != 1 || r.Errors["read"] != 1 ||
		r.Latency.TotalCount() != 3 || r.Latency.ValueAtQuantile(50) != 100 {
		t.Errorf("%+v", r)
	}
	if _, err := parseWrk([]byte("unable to connect")); err == nil {
		t.Error("what is no report is read as one")
	}
}

const h2summary = `starting benchmark...
Application protocol: h2

finished in 2.00s, 39990.00 req/s, 41.13MB/s
requests: 80000 total, 80160 started, 79980 done, 79900 succeeded, 80 failed, 20 errored, 0 timeout
status codes: 79900 2xx, 0 3xx, 80 4xx, 0 5xx
traffic: 82.26MB (86254120) total, 2.30MB (2412000) headers (space savings 95.00%), 78.11MB (81907200) data
`

func TestParseH2load(t *testing.T) {
	r, err := parseH2load([]byte(h2summary), strings.NewReader("1000\t200\t150\n1000\t200\t250\n1200\t-1\t0\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 79900 || r.Bytes != 86254120 || r.Elapsed != 2*time.Second || r.Errors["failed"] != 80 || r.Errors["errored"] != 20 || r.Errors["status"] != 80 ||
		r.Latency.TotalCount() != 2 {
		t.Errorf("%+v", r)
	}
	for name, bad := range map[string]string{"no summary": "connection refused", "HTTP/1.1": strings.Replace(h2summary, "protocol: h2", "protocol: http/1.1", 1)} {
		if _, err := parseH2load([]byte(bad), strings.NewReader("")); err == nil {
			t.Errorf("%s is taken for HTTP/2", name)
		}
	}
}

func rounds(cpu ...float64) (all []round) {
	for i, f := range cpu {
		one := round{Number: i + 1, Requests: 1, User: f}
		if f < 0 {
			one.Void = "it was wrong"
		}
		all = append(all, one)
	}
	return all
}

// without is a spread without how sure it is.
func (s spread) without() spread {
	s.Doubt = 0
	return s
}

// Ratios are made within a round, and of rounds that count.
func TestRatio(t *testing.T) {
	a, b := &row{Rounds: rounds(10, 40, -1, 33)}, &row{Rounds: rounds(5, 20, 1, 11)}
	if s, ok := ratio(a, b, (*round).cpu); !ok || s.without() != (spread{2, 2, 3, false, 0}) || s.Doubt != 2*uncertainty([]float64{2, 2, 3}) {
		t.Errorf("%v, %t", s, ok)
	}
	if s, ok := (&row{Rounds: rounds(5, -1, -1)}).over((*round).cpu); ok {
		t.Errorf("one round of three is told as %v", s)
	}
	if s, ok := a.over((*round).cpu); !ok || s != (spread{33, 10, 40, false, 0}) {
		t.Errorf("%v, %t", s, ok)
	}
	a.Rounds[0].Pace, b.Rounds[0].Pace = []float64{50, 50}, []float64{60, 50}
	if s, ok := ratio(a, b, (*round).cpu); !ok || s.without() != (spread{2, 2, 3, true, 0}) {
		t.Errorf("two rounds in which the machine was even are told as %v, %t", s, ok)
	}
	if got := (spread{2, 2, 3, true, 0}).marked(twoDigits) + " " + (spread{2, 2, 3, false, 0}).marked(twoDigits); got != "2.00‡ 2.00" {
		t.Error(got)
	}
	if s, ok := (&row{Rounds: rounds(1, 2)}).over((*round).cpu); !ok || s.Median != 1.5 || !s.Unsure {
		t.Errorf("%v, %t", s, ok)
	}
	quiet := &row{Rounds: rounds(10, 100, 10, 10, 12)}
	quiet.Rounds[1].Slowed = 2 * sluggish
	if s, ok := quiet.over((*round).cpu); !ok || s != (spread{10, 10, 12, false, 0}) {
		t.Errorf("with a disturbed round among others: %v, %t", s, ok)
	}
	other := &row{Rounds: rounds(5, 5, 5, 5, 5)[:4]}
	quiet.Rounds[1].Pace, other.Rounds[1].Pace = []float64{100, 50}, []float64{50, 50}
	if s, ok := ratio(quiet, other, (*round).cpu); !ok || s != (spread{2, 2, 2, false, 0}) {
		t.Errorf("the ratio with a disturbed round among others: %v, %t", s, ok)
	}
	if s, ok := ratio(&row{Rounds: rounds(10, 20, 30)[1:]}, &row{Rounds: rounds(1, 2, 3, 4)}, (*round).cpu); !ok || s.without() != (spread{10, 10, 10, true, 0}) {
		t.Errorf("who was not in all rounds: %v, %t", s, ok)
	}
	none := &row{Rounds: rounds(-1)}
	if _, ok := ratio(none, b, (*round).cpu); ok || none.void() != "it was wrong" {
		t.Error("what does not count is compared")
	}
}

// Every reason for which a measurement does not count.
func TestJudge(t *testing.T) {
	hits := func(n int64) *int64 { return &n }
	hit, miss := scenario{body: "hit", size: 1024, keys: 1}, scenario{body: "hit", size: 1024, unique: true}
	mixed := scenario{body: "hit", size: 1024, keys: 100, rates: []float64{1}}
	cond := scenario{body: "hit", size: 1024, keys: 1, validate: true}
	good := func() (round, run, sight) {
		return round{Hits: hits(1000)}, run{Requests: 990, Bytes: 990 * 1300}, sight{checked: 10}
	}
	for name, c := range map[string]struct {
		sc     *scenario
		change func(*round, *run, *sight)
		want   string
	}{
		"good":          {&hit, func(*round, *run, *sight) {}, ""},
		"no counter":    {&hit, func(x *round, _ *run, _ *sight) { x.Hits = nil }, ""},
		"few errors":    {&hit, func(_ *round, s *run, _ *sight) { s.Requests, s.Errors = 5000, map[string]int64{"read": 5} }, "by its own counter only 1000 of 5010"},
		"errors":        {&hit, func(_ *round, s *run, _ *sight) { s.Errors = map[string]int64{"read": 1} }, "1 of 990 requests ended with an error (read)"},
		"unconnected":   {&hit, func(_ *round, s *run, _ *sight) { s.Requests, s.Errors = 1_000_000, map[string]int64{"connect": 1} }, "(connect)"},
		"too many":      {&mixed, func(x *round, _ *run, _ *sight) { x.Upstream = 200 }, "of which a tenth are no hits"},
		"a tenth":       {&mixed, func(x *round, _ *run, _ *sight) { x.Upstream = 110 }, ""},
		"nothing":       {&hit, func(_ *round, s *run, _ *sight) { s.Requests = 0 }, "answered nothing"},
		"wrong":         {&hit, func(_ *round, _ *run, seen *sight) { seen.wrong, seen.fault = 1, "x" }, "1 of 10 responses"},
		"not looked at": {&hit, func(_ *round, _ *run, seen *sight) { seen.checked = 0 }, "no response could be compared"},
		"fetched":       {&hit, func(x *round, _ *run, _ *sight) { x.Upstream = 11 }, "its upstream was asked 11 times"},
		"not hits":      {&hit, func(x *round, _ *run, _ *sight) { x.Hits = hits(980) }, "only 980 of 1000"},
		"in full":       {&cond, func(*round, *run, *sight) {}, "not with 304"},
		"304":           {&cond, func(_ *round, s *run, _ *sight) { s.Bytes = 1024 }, ""},
		"not missed":    {&miss, func(x *round, _ *run, _ *sight) { x.Upstream = 900 }, "only 900 times"},
		"missed":        {&miss, func(x *round, _ *run, _ *sight) { x.Upstream = 1000 }, ""},
	} {
		x, sent, seen := good()
		c.change(&x, &sent, &seen)
		if got := c.sc.judge(&x, &sent, &seen); got != c.want && (c.want == "" || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestNumbersAreLegible(t *testing.T) {
	for f, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.4: "1,234,567", -1234: "-1,234"} {
		if got := thousands(f); got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
	if got := microseconds(4.256) + " " + microseconds(42.56) + " " + microseconds(4256); got != "4.26 42.6 4,256" {
		t.Error(got)
	}
	if got := (spread{2, 1, 3, true, 0}).markedSpan(thousands) + ", " + span(spread{2, 1, 3, true, 0}, thousands) + ", " + span(spread{2, 2, 2, false, 0}, thousands); got != "2‡ (1 to 3), 2 (1 to 3), 2" {
		t.Error(got)
	}
	if got := (spread{2, 1, 3, true, 0.2}).markedSpan(twoDigits) + ", " + (spread{2, 2, 2, false, 1}).markedSpan(twoDigits) + ", " + (spread{2, 2, 2, true, math.Inf(1)}).markedSpan(twoDigits) + ", " + (spread{2, 2, 2, false, 0.001}).markedSpan(twoDigits); got != "2.00‡ ± 0.40 (1.00 to 3.00), 2.00 ± 2.00, 2.00‡, 2.00" {
		t.Error(got)
	}
}

// Who answers less than is offered does not keep up, nor does who has clients queueing.
func TestSaturated(t *testing.T) {
	for name, c := range map[string]struct {
		x    round
		want bool
	}{
		"in time":      {round{RPS: 1000, Latency: latency{P50: 200}}, false},
		"too little":   {round{RPS: 900, Latency: latency{P50: 200}}, true},
		"a long line":  {round{RPS: 1000, Latency: latency{P50: 177_000}}, true},
		"few were due": {round{RPS: 900, Due: 900, Latency: latency{P50: 200}}, false},
	} {
		r := &row{Offered: 1000, Rounds: []round{c.x, c.x, c.x}}
		if got := r.saturated(); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// What is sampled says how the exact sum is divided, and never makes a part of it less than nothing.
func TestSplit(t *testing.T) {
	before, after := usage{User: 10, System: 20, All: 33}, usage{User: 20, System: 50, All: 73}
	if user, system := after.sub(before).split(); user != 10 || system != 30 {
		t.Errorf("%v, %v", user, system)
	}
	if user, system := (usage{All: 5}).split(); user != 0 || system != 5 {
		t.Errorf("%v, %v", user, system)
	}
}

func TestCurve(t *testing.T) {
	h := newHistogram()
	for i := range int64(10_000) {
		if err := h.RecordValue(i + 1); err != nil {
			t.Fatal(err)
		}
	}
	points := (&round{HDR: encoded(h)}).curve()
	for _, p := range points {
		if want := p[0] * 100; math.Abs(p[1]-want) > 0.002*want+2 {
			t.Errorf("%v %% is %v, want about %v", p[0], p[1], want)
		}
	}
	if last := points[len(points)-1]; last[0] < 99.9 || !slices.IsSortedFunc(points, func(a, b [2]float64) int { return int(math.Copysign(1, a[0]-b[0])) }) {
		t.Errorf("it ends at %v", last)
	}
}

func TestListsOfProcessors(t *testing.T) {
	for list, want := range map[string][4]bool{"0": {true}, "0-1\n": {true, true}, "1,3": {1: true, 3: true}, "": {}, "2-": {}} {
		for p, is := range want {
			if listed(list, string(rune('0'+p))) != is {
				t.Errorf("%q and %d", list, p)
			}
		}
	}
	for siblings, want := range map[string]string{"": "0,1,2", "3": "0,1,2", "1,3\n": "0,2", "2-3": "0,1", "0-3": "0,1,2"} {
		if got := besides([]string{"0", "1", "2", "3"}, "3", siblings); got != want {
			t.Errorf("beside 3 of 4, with siblings %q: %s", siblings, got)
		}
	}
	if got := besides([]string{"0", "1"}, "1", "0-1\n"); got != "0" {
		t.Errorf("of two threads of one core %q is for the rest", got)
	}
	server, rest := processors()
	if (server == "") != (rest == "") || server != "" && listed(rest, server) {
		t.Errorf("the server is on %q, and the rest on %q", server, rest)
	}
}

// A process that binds itself elsewhere is brought back.
func TestHold(t *testing.T) {
	server, rest := processors()
	if server == "" {
		t.Skip("one processor")
	}
	cmd := exec.Command("taskset", "-c", strings.Split(rest, ",")[0], "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	pids := []int{cmd.Process.Pid}
	if err := hold(pids, server); err != nil {
		t.Fatal(err)
	}
	set, err := cpuSet(server)
	if n := strays(pids, set); err != nil || len(n) > 0 {
		t.Errorf("%v are elsewhere, %v", n, err)
	}
	other, err := cpuSet(rest)
	if n := strays(pids, other); err != nil || len(n) != 1 {
		t.Errorf("%v are not on %s, %v", n, rest, err)
	}
}

// Files that processes have mapped are theirs already, and files with holes take what is in them.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/full", make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(dir+"/full", 1<<30); err != nil {
		t.Fatal(err)
	}
	if n := kept(dir, []int{os.Getpid()}); n < 8192 || n > 1<<20 {
		t.Errorf("%d bytes", n)
	}
	f, err := os.Open(dir + "/full")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mapped, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	if n := kept(dir, []int{os.Getpid()}); n != 0 {
		t.Errorf("%d bytes of what is mapped, which is resident", n)
	}
	if err := unix.Munmap(mapped); err != nil {
		t.Error(err)
	}
}

// Two contests agree where the ratios to ours do, whatever the figures are.
func TestCompare(t *testing.T) {
	a := &results{Begun: time.Now(), Scenarios: []outcome{{Name: "hit", Rows: []row{{Contestant: ours, Rounds: rounds(10)}, {Contestant: "x", Rounds: rounds(20)}, {Contestant: "y", Rounds: rounds(5)}}}}}
	b := &results{Scenarios: []outcome{{Name: "hit", Rows: []row{{Contestant: ours, Rounds: rounds(100)}, {Contestant: "x", Rounds: rounds(210)}, {Contestant: "y", Rounds: rounds(60)}}}}}
	var out strings.Builder
	if err := compare(&out, a, b); err == nil {
		t.Error("it is no failure that they do not agree")
	}
	if got := out.String(); !strings.Contains(got, "1 of 2 ratios agree within 10 %; of the others 0 may be chance; 0 are of one") || !strings.Contains(got, "  0.50   0.60  apart\n") {
		t.Error(got)
	}
	a.Scenarios[0].Rows[2].Rounds, a.Scenarios[0].Rows[1].Rounds = rounds(6.1), nil
	out.Reset()
	if err := compare(&out, a, b); err == nil || !strings.Contains(out.String(), "1 of 1 ratios agree within 10 %; of the others 0 may be chance; 1 are of one") {
		t.Errorf("%v, %s", err, out.String())
	}
	b.Scenarios[0].Rows[1].Rounds = nil
	if err := compare(&out, a, b); err != nil {
		t.Errorf("what is in neither: %v", err)
	}
	if err := compare(&out, a, a); err == nil || !strings.Contains(err.Error(), "both are the contest of") {
		t.Errorf("one contest with itself: %v", err)
	}
	// Rounds between 20 and 30 to 10 make a ratio of 2.5 that may as well be 2.8; rounds that are all alike do not.
	for _, test := range []struct {
		rounds []float64
		want   string
	}{{[]float64{20, 25, 30, 22, 27}, "2.80  apart, may be chance\n"}, {[]float64{25, 25, 25.1, 25, 25}, "2.80  apart\n"}} {
		a.Scenarios[0].Rows = []row{{Contestant: ours, Rounds: rounds(10, 10, 10, 10, 10)}, {Contestant: "x", Rounds: rounds(test.rounds...)}}
		b.Scenarios[0].Rows = []row{{Contestant: ours, Rounds: rounds(10, 10, 10, 10, 10)}, {Contestant: "x", Rounds: rounds(28, 28, 28.1, 28, 27.9)}}
		out.Reset()
		if err := compare(&out, a, b); err == nil || !strings.Contains(out.String(), test.want) {
			t.Errorf("of %v: %v, %s", test.rounds, err, out.String())
		}
	}
	for _, x := range []*results{a, b} {
		if compare(&out, x, &results{}) == nil || compare(&out, &results{}, x) == nil {
			t.Error("it is no failure that there is nothing to compare")
		}
	}
}
