package stats

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// began is when the process of testdata began.
var began = time.Unix(1_700_000_000, 0)

// read reads a file of testdata as if after so many seconds.
func read(t *testing.T, name string, after float64) *Sample {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(text), after)
}

func parse(t *testing.T, text string, after float64) *Sample {
	t.Helper()
	s, err := Read(strings.NewReader(text), began.Add(time.Duration(after*float64(time.Second))))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every number of an interval, from two expositions ten seconds apart.
func TestBetween(t *testing.T) {
	i := Between(read(t, "first.txt", 100), read(t, "second.txt", 110))
	got, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/interval.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(got)) != strings.TrimSpace(string(want)) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A process that began anew has counted what it counted since then, in the time since then.
func TestRestart(t *testing.T) {
	const again = "process_start_time_seconds 1.700000108e+09\ncacheproxy_requests_total{outcome=\"hit\",tier=\"near\"} 5000\n"
	i := Between(read(t, "first.txt", 100), parse(t, again, 110))
	if !i.Restarted || i.Seconds != 2 || i.Requests != 2500 || *i.HitRatio != 1 {
		t.Errorf("%+v", i)
	}
	// Where it does not say when it began, a count that went back does, and the time is the whole interval.
	i = Between(parse(t, `cacheproxy_requests_total{outcome="hit",tier="near"} 100`+"\n", 100), parse(t, `cacheproxy_requests_total{outcome="hit",tier="near"} 20`+"\n", 110))
	if !i.Restarted || i.Seconds != 10 || i.Requests != 2 {
		t.Errorf("%+v", i)
	}
	// One series that went back behind others that grew is no more than not negative.
	i = Between(parse(t, `cacheproxy_saves_total{result="ok"} 5`+"\n", 100), parse(t, `cacheproxy_saves_total{result="ok"} 3`+"\n", 110))
	if i.Restarted || i.Saves["ok"] != 0 {
		t.Errorf("%+v", i)
	}
}

// Of a process that did nothing, or shows nothing, there is nothing to tell.
func TestNothing(t *testing.T) {
	s := read(t, "first.txt", 100)
	for _, i := range []*Interval{Between(s, s), Between(parse(t, "", 1), parse(t, "", 2))} {
		if i.Requests != 0 || i.HitRatio != nil || i.P50 != nil || i.UpstreamP99 != nil || i.Restarted {
			t.Errorf("%+v", i)
		}
		if text, err := json.Marshal(i); err != nil || !strings.Contains(string(text), `"hit_ratio":null`) {
			t.Errorf("%v: %s", err, text)
		}
	}
	if i := Between(parse(t, "", 1), parse(t, "", 2)); i.CPU != nil || i.Resident != nil {
		t.Errorf("%+v", i)
	}
}

func TestQuantile(t *testing.T) {
	spread := []bucket{{.001, 0}, {.01, 50}, {.1, 90}, {math.Inf(1), 100}}
	for _, tt := range []struct {
		name    string
		buckets []bucket
		q, want float64
		ok      bool
	}{
		{"within a bucket", spread, .25, .0055, true},
		{"at a bound", spread, .5, .01, true},
		{"in the next", spread, .7, .055, true},
		{"beyond the last bound", spread, .99, .1, true},
		{"the first bucket begins at 0", []bucket{{.001, 10}, {math.Inf(1), 10}}, .5, .0005, true},
		{"no observations", []bucket{{.001, 0}, {math.Inf(1), 0}}, .5, 0, false},
		{"no buckets", nil, .5, 0, false},
		{"no bounds", []bucket{{math.Inf(1), 3}}, .5, 0, false},
	} {
		if got, ok := quantile(tt.q, tt.buckets); ok != tt.ok || math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: %v %v, want %v %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

func TestNoExposition(t *testing.T) {
	for _, text := range []string{"<html>", "a{", "cacheproxy_requests_total many\n"} {
		if s, err := Read(strings.NewReader(text), began); err == nil || s != nil {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	text, err := os.ReadFile("testdata/second.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("# TYPE cacheproxy_request_seconds histogram\ncacheproxy_request_seconds_bucket{le=\"NaN\"} 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := Read(strings.NewReader(text), began); err == nil {
			Between(s, s)
			Between(&Sample{at: began}, s)
		}
	})
}
