package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"cacheproxy/admin"
	"cacheproxy/invalidation"
	"cacheproxy/redistest"
)

// What a purge would match is shown before, what it has matched after, and what is stored before and after.
func TestPurgeTellsWhatItMatches(t *testing.T) {
	server := redistest.StartSettled(t)
	patient := "CACHEPROXY_REDIS_TIMEOUT=10s"
	a, b := replica(t, "a", server.URL(), patient), replica(t, "b", server.URL(), patient)
	for i := range 3 {
		a.askAs(fmt.Sprint("http://shop.example/page/", i))
	}
	stored := func() int { return len(server.Admin().Keys(t.Context(), "cp:e:{http://shop.example/page/*").Val()) }
	for deadline := time.Now().Add(limit); stored() < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not stored")
		}
	}
	says := func(p *process, code int, want []string, arguments ...string) string {
		t.Helper()
		out, prose, got := p.tell(arguments...)
		for _, text := range want {
			if !regexp.MustCompile(text).MatchString(out + prose) {
				t.Errorf("%q: no %q in\n%s%s", arguments, text, out, prose)
			}
		}
		if got != code {
			t.Errorf("%q: exit code %d\n%s%s", arguments, got, out, prose)
		}
		return out
	}
	says(b, exitFine, []string{`(?m)^variant +\w{32}$`, `(?m)^near +not there$`, `(?m)^redis +200, `}, "entries", "shop.example/page/1")
	says(a, exitFine, []string{`(?m)^near +200, `, `fetched as of purge \d+`}, "entries", "http://shop.example/page/1")
	says(a, exitFine, []string{`(?m)^stored +nothing\n +something is stored of http://shop.example$`}, "entries", "http://other.example/")
	says(b, exitFine, []string{`(?m)^matches +3 stored responses in Redis, `, ` {10}http://shop.example/page/0\n`, `(?m)^purged +nothing`}, "purge", "shop.example/page*", "--dry-run")
	says(b, exitFailed, []string{`409 Conflict: the purge would match 3 of what is stored, and max is 2: nothing was purged`}, "purge", "shop.example/page*", "--max", "2")
	if n := stored(); n != 3 {
		t.Errorf("%d are left of a purge that was not", n)
	}
	out := says(b, exitFine, []string{`(?m)^sequence +\d+$`, `(?m)^applied +by all, 2 of 2$`, `(?m)^matched +3 stored responses, `, `(?m)^swept +all of it$`},
		"purge", "shop.example/page*", "--max", "3", "--watch", "--wait", "20s")
	sequence := regexp.MustCompile(`sequence +(\d+)`).FindStringSubmatch(out)[1]
	number, _ := strconv.ParseUint(sequence, 10, 64)
	next := strconv.FormatUint(number+1, 10)
	if n := stored(); n != 0 {
		t.Errorf("%d are left", n)
	}
	says(a, exitFine, []string{`(?m)^near +200, .*\n +served to nobody: a purge forbids it$`}, "entries", "http://shop.example/page/1")
	says(a, exitFine, []string{`(?m)^matched +nothing that is stored\n +nothing at all is stored$`}, "purge", "--tag", "nowhere", "--wait", "20s")
	says(a, exitFine, []string{sequence + `  .*  pattern shop.example/page\*  by 127.0.0.1 cacheproxy purge.*: 3 swept, `}, "purges")
	says(a, exitFine, []string{`there are more: --before \d+`}, "purges", "-n", "1")
	says(a, exitFine, []string{sequence}, "purges", "-n", "1", "--before", next)
	says(a, exitFine, []string{`(?m)^matched +3 stored responses, `, `(?m)^swept +all of it$`}, "purges", sequence, "--watch")
	says(a, exitFailed, []string{`409 Conflict: purge ` + sequence + ` is swept already`}, "purges", sequence, "--cancel")
	says(a, exitFailed, []string{`404 Not Found`}, "purges", "1")

	var preview admin.Preview
	if err := json.Unmarshal([]byte(says(a, exitFine, nil, "purge", "--all", "--dry-run", "--json")), &preview); err != nil || !preview.DryRun || preview.Counted != "redis" {
		t.Errorf("%v: %+v", err, preview)
	}
	server.Pause()
	says(a, exitFailed, []string{`503 Service Unavailable: what the purge would match .* nothing was purged`}, "purge", "shop.example/page*", "--dry-run", "--wait", "500ms")
	says(a, exitFine, []string{`(?m)^redis +could not be asked: `, `(?m)^near +200, `}, "entries", "http://shop.example/page/1")
	server.Resume()
}

func TestWhatIsWrongWithThePurgeCommand(t *testing.T) {
	for arguments, want := range map[string]string{
		"purge http://a.example/ --max x":           `--max: "x" is no number of stored responses`,
		"purge http://a.example/ --max -1":          `--max: "-1" is no number`,
		"purge http://a.example/ --dry-run --watch": "with --dry-run there is nothing to --watch",
		"purges --watch":                            "give its sequence",
		"purges --cancel":                           "give its sequence",
		"purges 1 --cancel --watch":                 "for one purge",
		"purges 1 --before 2":                       "for one purge",
		"purges x":                                  `"x" is no sequence`,
		"purges --before x":                         `"x" is no sequence`,
		"purges 1 2":                                "one sequence at the most",
		"entries":                                   "entries needs one URL",
		"entries a b":                               "entries needs one URL",
	} {
		var out, prose bytes.Buffer
		if code := run(strings.Fields(arguments), &out, &prose); code != exitUsage || !strings.Contains(prose.String(), want) || out.Len() > 0 {
			t.Errorf("%s: exit code %d: %s", arguments, code, prose.String())
		}
	}
}

// Another server may answer 200 to anything.
func TestPurgesOfAnotherServer(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	defer other.Close()
	for _, arguments := range [][]string{{"purges", "1"}, {"purges", "1", "--watch"}, {"purges", "1", "--json"}} {
		var out, prose bytes.Buffer
		if code := run(append(arguments, "--admin", other.URL), &out, &prose); code != exitFailed || !strings.Contains(prose.String(), "answers something else than a receipt") || out.Len() > 0 {
			t.Errorf("%q: exit code %d: %s%s", arguments, code, &out, &prose)
		}
	}
}

// A bar fits on its line, whatever that is; where there is no terminal there are lines now and then.
func TestProgressOfASweep(t *testing.T) {
	o := &admin.Outcome{Swept: 1234, Bytes: 1 << 20, Sweep: admin.Sweep{State: invalidation.SweepRunning, Walked: 500, Of: 1000}}
	p := &progress{width: 80}
	if got := p.bar(o); got != "["+strings.Repeat("=", 19)+strings.Repeat(" ", 19)+"]  50% of 1,000 keys, 1,234 swept, 1 MiB" {
		t.Errorf("%q", got)
	}
	for width := 2; width < 200; width++ {
		p := &progress{width: width}
		for _, one := range []*admin.Outcome{nil, o, {Sweep: admin.Sweep{State: invalidation.SweepQueued}}, {Sweep: admin.Sweep{State: invalidation.SweepRunning}}} {
			if got := p.bar(one); len(got) >= width {
				t.Errorf("%d: %q", width, got)
			}
		}
	}
	for walked, want := range map[int64]string{2000: "100%", math.MaxInt64: "100%", -1: "  0%", math.MinInt64: "  0%", 999: " 99%", 290: " 29%"} {
		one := &admin.Outcome{Sweep: admin.Sweep{State: invalidation.SweepRunning, Walked: walked, Of: 1000}}
		if got := p.bar(one); !strings.Contains(got, "] "+want) || len(got) >= p.width {
			t.Errorf("walked %d: %q", walked, got)
		}
		if got := progressText(&one.Sweep); !strings.HasPrefix(got, strings.TrimSpace(want)) {
			t.Errorf("walked %d: %q", walked, got)
		}
	}
	if one := (&admin.Outcome{Sweep: admin.Sweep{Walked: math.MaxInt64, Of: math.MaxInt64}}); !strings.Contains((&progress{width: 200}).bar(one), "=] 100%") {
		t.Error("no full bar")
	}
	var out bytes.Buffer
	p = newProgress(&out)
	for range 3 {
		p.show(o)
	}
	p.end()
	if got := out.String(); got != "sweeping 50% of about 1,000 keys: 1,234 responses swept, 1 MiB\n" {
		t.Errorf("%q", got)
	}
}

func TestSelectionOfSeveralURLs(t *testing.T) {
	urls := []string{"a", "b", "c"}
	if got := selection(&admin.Purge{URLs: urls}); got != "URLs a, b, c" {
		t.Errorf("%q", got)
	}
	if got := selection(&admin.Purge{URLs: append(urls, "d", "e"), Soft: true}); got != "soft, URLs a, b, c and 2 more" {
		t.Errorf("%q", got)
	}
}

func TestWhatCameOfAPurge(t *testing.T) {
	for _, tt := range []struct {
		outcome     admin.Outcome
		line, sheet string
	}{
		{admin.Outcome{Sweep: admin.Sweep{State: invalidation.SweepQueued}}, "not swept yet", "swept     not yet; nobody serves it meanwhile\n"},
		{
			admin.Outcome{Matched: 5, Swept: 4, Bytes: 1, Sample: []string{"http://a.example/\x1b[2J"}, Sweep: admin.Sweep{State: invalidation.SweepRunning, By: "a#1", Walked: 1, Of: 4}},
			"sweeping 25% of about 4 keys, 4 swept",
			"matched   5 stored responses so far, 1 byte of body\n          http://a.example/\\x1b[2J\nswept     4, 25% of about 4 keys; nobody serves the rest meanwhile\n          a#1 is at it\n",
		},
		{
			admin.Outcome{Matched: 1, Swept: 1, Bytes: 2048, Sweep: admin.Sweep{State: invalidation.SweepCancelled, Who: "me"}}, "cancelled, 1 swept",
			"matched   1 stored response so far, 2 KiB of body\nswept     1, then cancelled by me\n          nobody serves the rest, which is swept when the purge need not be remembered any more\n",
		},
		{admin.Outcome{Sweep: admin.Sweep{State: invalidation.SweepOnce}}, "matched nothing", "matched   nothing that is stored\n"},
		{
			admin.Outcome{Matched: 1000, Swept: 999, Sweep: admin.Sweep{State: invalidation.SweepTwice}}, "999 swept, 0 bytes",
			"matched   1,000 stored responses, 0 bytes of body\nswept     999; the others were gone by then\n",
		},
		{
			admin.Outcome{Matched: 2, Swept: 2, Sweep: admin.Sweep{State: invalidation.SweepOnce, Merged: 7}}, "swept together with 7",
			"matched   2 stored responses, 0 bytes of body\nswept     all of it\n          together with purge 7, which is of the same\n",
		},
	} {
		var out bytes.Buffer
		s := &sheet{printer{w: &out}}
		if s.matched(&admin.Receipt{Receipt: &invalidation.Receipt{}, Complete: true, Outcome: &tt.outcome}); out.String() != tt.sheet {
			t.Errorf("%q, want %q", out.String(), tt.sheet)
		}
		if got := outcomeText(&tt.outcome); got != tt.line {
			t.Errorf("%q, want %q", got, tt.line)
		}
	}
	for _, state := range []invalidation.SweepState{invalidation.SweepQueued, invalidation.SweepRunning, invalidation.SweepCancelled} {
		var out bytes.Buffer
		s := &sheet{printer{w: &out}}
		s.matched(&admin.Receipt{Receipt: &invalidation.Receipt{}, Outcome: &admin.Outcome{Sweep: admin.Sweep{State: state}}})
		if !strings.Contains(out.String(), "nobody who has applied the purge serves") { // the others may
			t.Errorf("%q", out.String())
		}
	}
	var out bytes.Buffer
	s := &sheet{printer{w: &out}}
	s.matched(&admin.Receipt{Receipt: &invalidation.Receipt{Applied: []string{"a"}}, Detail: "why"})
	if got := out.String(); got != "swept     not known\n          why\n" {
		t.Errorf("%q", got)
	}
}
