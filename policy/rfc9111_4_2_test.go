package policy

import (
	"testing"
	"time"
)

// RFC 9111 section 4.2: freshness.
func TestRFC9111Section4_2Lifetime(t *testing.T) {
	rule := func(change func(*Rule)) *Rule { return withRule(change) }
	negative := rule(func(r *Rule) { r.NegativeTTL = ptr(sec(5)) })
	defaults := rule(func(r *Rule) { r.DefaultTTL = ptr(sec(30)) })
	both := rule(func(r *Rule) { r.DefaultTTL, r.NegativeTTL = ptr(sec(30)), ptr(sec(5)) })
	ttl := rule(func(r *Rule) { r.TTL = ptr(sec(7)) })
	none := "ETag: \"a\"" // so that it is stored anyway
	for _, tt := range []struct {
		name      string
		rs        Response
		rule      *Rule
		want      time.Duration
		heuristic bool
	}{
		{"s-maxage first", response(200, "Cache-Control: max-age=1, s-maxage=2", "Expires: @3"), DefaultRule, sec(2), false},
		{"max-age next", response(200, "Cache-Control: max-age=1", "Expires: @3"), DefaultRule, sec(1), false},
		{"Expires less Date", response(200, "Expires: @3", "Date: @-2"), DefaultRule, sec(5), false},
		{"Expires less arrival", response(200, "Expires: @3"), DefaultRule, sec(3), false},
		{"Expires in another century", response(200, "Expires: Fri, 01 Jan 9999 00:00:00 GMT"), DefaultRule, MaxDelta, false},
		{"Expires in the past", response(200, "Expires: @-3", none), DefaultRule, 0, false},
		{"saturated", response(200, "Cache-Control: max-age=18446744073709551616"), DefaultRule, MaxDelta, false},

		{"ttl replaces max-age", response(200, "Cache-Control: max-age=60"), ttl, sec(7), false},
		{"ttl replaces an unreadable age", response(200, "Age: x"), ttl, sec(7), false},
		{"ttl of a 404", response(404), ttl, sec(7), false},
		{"ttl below zero", response(200, none), rule(func(r *Rule) { r.TTL = ptr(-time.Second) }), 0, false},

		{"default_ttl", response(200), defaults, sec(30), false},
		{"default_ttl gives way", response(200, "Cache-Control: max-age=60"), defaults, sec(60), false},
		{"default_ttl gives way to a bad one", response(200, "Cache-Control: max-age=x", none), defaults, 0, false},
		{"default_ttl before a guess", response(200, "Last-Modified: @-1000"), defaults, sec(30), false},
		{"default_ttl of a 404", response(404), defaults, sec(30), false},
		{"default_ttl of a public redirect", response(302, "Cache-Control: public"), defaults, sec(30), false},
		{"negative_ttl", response(404), negative, sec(5), false},
		{"negative_ttl gives way", response(404, "Cache-Control: max-age=60"), negative, sec(60), false},
		{"negative_ttl before default_ttl", response(410), both, sec(5), false},
		{"negative_ttl is for errors", response(200), both, sec(30), false},
		{"unreadable age, default_ttl", response(200, none, "Age: x"), defaults, 0, false},

		{"a tenth", response(200, "Last-Modified: @-1000"), DefaultRule, sec(100), true},
		{"a tenth of Date's", response(200, "Last-Modified: @-1000", "Date: @-500"), DefaultRule, sec(50), true},
		{"at most a day", response(200, "Last-Modified: @-90000000"), DefaultRule, 24 * time.Hour, true},
		{"modified in the future", response(200, "Last-Modified: @1000"), DefaultRule, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, reason := Storable(request("GET"), tt.rs, tt.rule, testURL, testOptions)
			if reason != None || f.Lifetime != tt.want || f.Heuristic != tt.heuristic {
				t.Errorf("%q, %v, heuristic %v; want %v, %v", reason, f.Lifetime, f.Heuristic, tt.want, tt.heuristic)
			}
		})
	}
	f, reason := Storable(request("GET"), response(200, "Last-Modified: @-1000"), DefaultRule, testURL, StoreOptions{})
	if reason != None || f.Lifetime != 0 || f.Heuristic {
		t.Errorf("cache.heuristic off: %q, %+v", reason, f)
	}
	f, _ = Storable(request("GET"), response(200, "Last-Modified: @-1000", "Pragma: no-cache"), DefaultRule, testURL, testOptions)
	if !f.NoCache {
		t.Error("Pragma: no-cache without Cache-Control did not ask for validation")
	}
}

// RFC 9111 section 4.2.3: calculating age. The response was asked for 200 ms before t0.
func TestRFC9111Section4_2_3Age(t *testing.T) {
	delay := 200 * time.Millisecond
	for _, tt := range []struct {
		name  string
		lines []string
		wait  float64
		want  time.Duration
	}{
		{"own delay", nil, 0, delay},
		{"time in this cache", nil, 10, sec(10) + delay},
		{"Age and delay", []string{"Age: 30"}, 2, sec(32) + delay},
		{"apparent", []string{"Date: @-40"}, 0, sec(40)},
		{"the greater one", []string{"Date: @-40", "Age: 50"}, 0, sec(50) + delay},
		{"a clock ahead of ours", []string{"Date: @40"}, 0, delay},
		{"Age saturates", []string{"Age: 99999999999999999999"}, 0, MaxDelta + delay},
		{"our clock set back", nil, -10, 0},
	} {
		rs := response(200, append(tt.lines, "Cache-Control: max-age=60", `ETag: "a"`)...)
		f, reason := Storable(request("GET"), rs, DefaultRule, testURL, testOptions)
		if got := f.Age(after(tt.wait)); reason != None || got != tt.want {
			t.Errorf("%s: %q, %v, want %v", tt.name, reason, got, tt.want)
		}
	}
	// Date is cut to the second: what is sent and received within one is not half a second old.
	rs := Response{Status: 200, Header: header("Cache-Control: max-age=1", "Date: @0"), ResponseTime: t0.Add(900 * time.Millisecond)}
	f, _ := Storable(request("GET"), rs, DefaultRule, testURL, testOptions)
	if got := f.Age(rs.ResponseTime); got != 0 {
		t.Errorf("age on arrival %v", got)
	}
}

func TestRetention(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    Freshness
		want time.Duration
	}{
		{"fresh", Freshness{Lifetime: sec(60)}, sec(60)},
		{"validator", Freshness{Lifetime: sec(60), Validator: true}, sec(60) + time.Hour},
		{"window", Freshness{Lifetime: sec(60), StaleWhileRevalidate: sec(5), StaleIfError: sec(9)}, sec(69)},
		{"the longest", Freshness{StaleIfError: 2 * time.Hour, Validator: true}, 2 * time.Hour},
		{"long stale", Freshness{Born: t0.Add(-2 * time.Hour), Validator: true}, -time.Hour},
	} {
		if tt.f.Born.IsZero() {
			tt.f.Born = t0
		}
		if got := tt.f.Retention(t0, time.Hour); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// RFC 9110 section 5.6.7: dates.
func TestRFC9110Section5_6_7Date(t *testing.T) {
	day := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	for _, tt := range []struct {
		value string
		now   time.Time
		want  time.Time
	}{
		{"Sun, 06 Nov 1994 08:49:37 GMT", t0, day},
		{"Sunday, 06-Nov-94 08:49:37 GMT", t0, day},
		{"Sunday, 06-Nov-94 08:49:37 GMT", time.Time{}, day},
		{"Sun Nov  6 08:49:37 1994", t0, day},
		{"Sunday, 06-Nov-70 08:49:37 GMT", t0, day.AddDate(2070-1994, 0, 0)},
		{"Sunday, 06-Nov-76 08:49:37 GMT", t0, day.AddDate(1976-1994, 0, 0)},
		{"Sunday, 06-Nov-26 08:49:37 GMT", t0, day.AddDate(2026-1994, 0, 0)},
		{"", t0, time.Time{}},
		{"0", t0, time.Time{}},
		{"GMT", t0, time.Time{}},
		{"Sun, 06 Nov 1994 08:49:37 CET", t0, time.Time{}},
		{"Sunday, 06-Nov-94 08:49:37 CET", t0, time.Time{}},
		{"Sun, 06 Nov 1994 25:49:37 GMT", t0, time.Time{}},
	} {
		got, ok := parseDate(tt.value, tt.now)
		if !got.Equal(tt.want) || ok == tt.want.IsZero() {
			t.Errorf("%q: %v, %v, want %v", tt.value, got, ok, tt.want)
		}
	}
}
