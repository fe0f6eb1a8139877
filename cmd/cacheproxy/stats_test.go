package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cacheproxy/cmd/cacheproxy/internal/stats"
)

// A process that serves is told of, in lines and in JSON.
func TestStats(t *testing.T) {
	url, _ := origin(t)
	p := start(t, nil, "--upstream", url)
	table := p.askOperator(nil, "stats", "--interval", "100ms")
	if groups, names := table.line(), table.line(); !strings.HasPrefix(groups, "         requests ") || !strings.HasPrefix(names, "    time  req/s hit% ") {
		t.Errorf("headings %q and %q", groups, names)
	}
	objects := p.askOperator(nil, "stats", "--interval", "100ms", "--json")
	sum := func(until float64) (hits float64) {
		for hits < until {
			var i stats.Interval
			text := objects.line()
			if err := json.Unmarshal([]byte(text), &i); err != nil {
				t.Fatalf("%v: %s\n%s", err, text, objects.text())
			}
			hits += i.Outcomes["hit"] * i.Seconds
			if i.Restarted || i.Goroutines == 0 || i.Seconds < .05 || i.Outcomes["hit"] > 0 && (i.HitRatio == nil || i.P99 == nil || *i.NearRatio != *i.HitRatio) {
				t.Errorf("%s", text)
			}
		}
		return hits
	}
	objects.line() // its first reading is over
	for range 5 {
		ask(t, p.public+"/page")
	}
	if hits := sum(3.9); hits > 4.1 {
		t.Errorf("%v hits were counted of 4", hits)
	}
	for _, a := range []*asker{table, objects} {
		a.signal(2)
		if _, code := a.rest(); code != exitFine {
			t.Errorf("exit code %d:\n%s", code, a.text())
		}
	}
}

// exposed is a process of which only /metrics matters: each answer is that of the next step, the last one's is repeated.
func exposed(t *testing.T, steps ...string) (address string) {
	t.Helper()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // or else a client asks again by itself
		step := steps[min(int(asked.Add(1)), len(steps))-1]
		if step == "gone" {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, step)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func counted(began, requests int) string {
	return fmt.Sprintf("process_start_time_seconds %d\ncacheproxy_requests_total{outcome=\"hit\",tier=\"near\"} %d\n", began, requests)
}

// A process that is gone for a while and comes back is waited for, and both are said.
func TestStatsOverARestart(t *testing.T) {
	address := exposed(t, counted(100, 50), "gone", "gone", counted(200, 7), counted(200, 9))
	var out, notes bytes.Buffer
	code := run([]string{"stats", "--admin", address, "--interval", "100ms", "-n", "4", "--json"}, &out, &notes)
	host := strings.TrimPrefix(address, "http://")
	if got := strings.Split(notes.String(), "\n"); code != exitFine || len(got) != 3 || !strings.HasPrefix(got[0], host+": ") ||
		got[1] != host+": the process restarted: the next line is what it did since" {
		t.Errorf("exit code %d, %q", code, got)
	}
	var counts []string
	for line := range strings.Lines(out.String()) {
		var i stats.Interval
		if err := json.Unmarshal([]byte(line), &i); err != nil {
			t.Fatal(err)
		}
		counts = append(counts, fmt.Sprintf("%v %.0f", i.Restarted, i.Requests*i.Seconds))
	}
	if got := strings.Join(counts, ", "); got != "true 7, false 2" {
		t.Errorf("counted %s", got)
	}
}

func TestStatsOfAProcessThatIsGone(t *testing.T) {
	for _, tt := range []struct{ steps, want string }{
		{counted(100, 50) + "|gone", "is cacheproxy serve running there"},
		{"<html>", "text format parsing error"},
	} {
		var out, notes bytes.Buffer
		code := run([]string{"stats", "--admin", exposed(t, strings.Split(tt.steps, "|")...), "--interval", "100ms", "-n", "2"}, &out, &notes)
		if code != exitFailed || !strings.Contains(notes.String(), tt.want) || out.Len() != 0 {
			t.Errorf("exit code %d, %q, %q", code, out.String(), notes.String())
		}
	}
}

func TestStatsTable(t *testing.T) {
	half, fast, cpu := .999, .00025, 150.
	i := &stats.Interval{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local), Requests: 12345, HitRatio: &half, NearRatio: &half, P50: &fast, Breakers: map[string]string{"a": "closed", "b": "half-open"},
		NearBytes: 3 << 20, Saves: map[string]float64{"ok": 1, "near-only": 2, "error": 4, "dropped-full": 8, "refused": 16}, CPU: &cpu,
	}
	var out strings.Builder
	table := statsTable{out: &out, columns: statsColumns, screen: 2}
	for range 3 {
		if err := table.print(i); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 8 || lines[0] != lines[4] || lines[1] != lines[5] || lines[2] != lines[6] {
		t.Fatalf("the headings are not repeated:\n%s", out.String())
	}
	const want = "03:04:05    12k   99    99      -     0     0     0  250µs      -      0      -      -     0      0     0 half-open    3M       0     0     3    12      0      0      0  150     -"
	if lines[2] != want {
		t.Errorf("got\n%s\n%s\n%s\nwant\n%s", lines[0], lines[1], lines[2], want)
	}
	names, groups := lines[1], lines[0]
	for _, group := range []string{"requests", "upstream", "redis", "near", "saves", "clients", "process"} {
		if at := strings.Index(groups, group); at < 1 || names[at-1] != ' ' {
			t.Errorf("%s begins in the middle of a column:\n%s\n%s", group, groups, names)
		}
	}
}

// On a terminal the columns that do not fit are left out.
func TestColumnsThatFit(t *testing.T) {
	for _, tt := range []struct{ width, columns int }{{0, len(statsColumns)}, {8, 1}, {14, 1}, {15, 2}, {1000, len(statsColumns)}} {
		if got := len(fitting(statsColumns, tt.width)); got != tt.columns {
			t.Errorf("%d columns fit into %d, want %d", got, tt.width, tt.columns)
		}
	}
}
