package policy

import (
	"testing"
	"time"
)

// RFC 9111 sections 4, 4.2.4 and 5.2.1: using what is stored, fresh or stale, as the request wishes.
func TestRFC9111Section4Evaluate(t *testing.T) {
	plain := Freshness{Born: t0, Lifetime: sec(60)}
	with := func(change func(*Freshness)) Freshness {
		f := plain
		change(&f)
		return f
	}
	must := with(func(f *Freshness) { f.MustRevalidate = true })
	noCache := with(func(f *Freshness) { f.NoCache = true })
	reload := ignoring(IgnoreClientReload)
	for _, tt := range []struct {
		name    string
		control string // the request's Cache-Control
		f       Freshness
		at      float64
		rule    *Rule
		want    Decision
	}{
		{"fresh", "", plain, 59, DefaultRule, Decision{Action: Fresh}},
		{"stale at the end of its lifetime", "", plain, 60, DefaultRule, Decision{Revalidate, FwdStale, Stale}},
		{"only-if-cached does not matter", "only-if-cached", plain, 61, DefaultRule, Decision{Revalidate, FwdStale, Stale}},
		{"no-store does not matter", "no-store", plain, 1, DefaultRule, Decision{Action: Fresh}},

		{"response no-cache", "", noCache, 1, DefaultRule, Decision{Revalidate, FwdStale, NoCache}},
		{"response no-cache and max-stale", "max-stale", noCache, 61, DefaultRule, Decision{Revalidate, FwdStale, NoCache}},

		{"5.2.1.4 no-cache", "no-cache", plain, 1, DefaultRule, Decision{Revalidate, FwdRequest, RequestNoCache}},
		{"5.2.1.4 no-cache ignored", "no-cache", plain, 1, reload, Decision{Action: Fresh}},
		{"5.2.1.1 max-age", "max-age=10", plain, 10, DefaultRule, Decision{Action: Fresh}},
		{"5.2.1.1 max-age exceeded", "max-age=10", plain, 11, DefaultRule, Decision{Revalidate, FwdRequest, RequestMaxAge}},
		{"5.2.1.1 max-age ignored", "max-age=10", plain, 11, reload, Decision{Action: Fresh}},
		{"5.2.1.1 max-age=0", "max-age=0", plain, 0, DefaultRule, Decision{Revalidate, FwdRequest, RequestMaxAge}},
		{"5.2.1.1 max-age=0 ignored", "max-age=0", plain, 0, reload, Decision{Action: Fresh}},
		{"5.2.1.1 malformed", "max-age=x", plain, 0, DefaultRule, Decision{Revalidate, FwdRequest, RequestMaxAge}},
		{"5.2.1.3 min-fresh", "min-fresh=10", plain, 50, DefaultRule, Decision{Action: Fresh}},
		{"5.2.1.3 min-fresh missed", "min-fresh=10", plain, 51, DefaultRule, Decision{Revalidate, FwdRequest, RequestMinFresh}},
		{"5.2.1.3 min-fresh ignored", "min-fresh=10", plain, 51, reload, Decision{Action: Fresh}},

		{"5.2.1.2 max-stale", "max-stale=10", plain, 70, DefaultRule, Decision{Action: ServeStale, Reason: ServedMaxStale}},
		{"5.2.1.2 max-stale exceeded", "max-stale=10", plain, 71, DefaultRule, Decision{Revalidate, FwdStale, Stale}},
		{"5.2.1.2 any staleness", "max-stale", plain, 1e6, DefaultRule, Decision{Action: ServeStale, Reason: ServedMaxStale}},
		{"5.2.1.2 max-stale and max-age", "max-stale=10, max-age=80", plain, 65, DefaultRule,
			Decision{Action: ServeStale, Reason: ServedMaxStale}},
		{"5.2.2.2 must-revalidate", "max-stale", must, 61, DefaultRule, Decision{Revalidate, FwdStale, MustRevalidate}},
		{"5.2.2.2 must-revalidate, fresh", "", must, 59, DefaultRule, Decision{Action: Fresh}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rq := request("GET")
			if tt.control != "" {
				rq = request("GET", "Cache-Control: "+tt.control)
			}
			if got := Evaluate(rq, tt.f, after(tt.at), tt.rule); got != tt.want {
				t.Errorf("%v %v %v, want %v %v %v", got.Action, got.Fwd, got.Reason, tt.want.Action, tt.want.Fwd, tt.want.Reason)
			}
		})
	}
}

// RFC 5861: stale-while-revalidate (section 3) and stale-if-error (section 4).
func TestRFC5861(t *testing.T) {
	for _, tt := range []struct {
		name     string
		response string // its Cache-Control
		request  string
		rule     *Rule
		at       float64
		want     Action
		ifError  bool
	}{
		{"no window", "max-age=60", "", DefaultRule, 61, Revalidate, false},
		{"while revalidating", "max-age=60, stale-while-revalidate=10", "", DefaultRule, 69, ServeStaleAndRevalidate, false},
		{"window over", "max-age=60, stale-while-revalidate=10", "", DefaultRule, 71, Revalidate, false},
		{"before max-stale", "max-age=60, stale-while-revalidate=10", "max-stale=30", DefaultRule, 69, ServeStaleAndRevalidate, false},
		{"client wants it fresh", "max-age=60, stale-while-revalidate=10", "max-age=100", DefaultRule, 65, Revalidate, false},
		{"client's wish ignored", "max-age=60, stale-while-revalidate=10", "max-age=100", ignoring(IgnoreClientReload), 65,
			ServeStaleAndRevalidate, false},
		{"malformed", "max-age=60, stale-while-revalidate=x", "", DefaultRule, 61, Revalidate, false},
		{"must-revalidate", "max-age=60, stale-while-revalidate=10, must-revalidate", "", DefaultRule, 61, Revalidate, false},
		{"s-maxage", "s-maxage=60, stale-while-revalidate=10", "", DefaultRule, 61, Revalidate, false},
		{"no-cache", "no-cache, max-age=60, stale-while-revalidate=10, stale-if-error=10", "", DefaultRule, 61, Revalidate, false},
		{"rule's", "max-age=60, stale-while-revalidate=1000",
			"", withRule(func(r *Rule) { r.StaleWhileRevalidate = ptr(sec(10)) }), 71, Revalidate, false},

		{"if error", "max-age=60, stale-if-error=10", "", DefaultRule, 69, Revalidate, true},
		{"if error, window over", "max-age=60, stale-if-error=10", "", DefaultRule, 71, Revalidate, false},
		{"if error, on request", "max-age=60", "stale-if-error=10", DefaultRule, 69, Revalidate, true},
		{"if error, the longer one", "max-age=60, stale-if-error=10", "stale-if-error=30", DefaultRule, 89, Revalidate, true},
		{"if error, while fresh", "max-age=60, stale-if-error=10", "max-age=0", DefaultRule, 5, Revalidate, true},
		{"if error, client says no-cache", "max-age=60, stale-if-error=10", "no-cache", DefaultRule, 65, Revalidate, false},
		{"if error, must-revalidate", "max-age=60, stale-if-error=10, must-revalidate", "stale-if-error=10", DefaultRule, 65, Revalidate, false},
		{"if error, proxy-revalidate", "max-age=60, proxy-revalidate", "stale-if-error=10", DefaultRule, 65, Revalidate, false},
		{"if error, s-maxage", "s-maxage=60", "stale-if-error=10", DefaultRule, 65, Revalidate, false},
		{"if error, rule's", "max-age=60", "", withRule(func(r *Rule) { r.StaleIfError = ptr(sec(10)) }), 65, Revalidate, true},
		{"if error, rule's below zero", "max-age=60, stale-if-error=10", "",
			withRule(func(r *Rule) { r.StaleIfError = ptr(-sec(10)) }), 65, Revalidate, false},
		{"if error, rule's and must-revalidate", "max-age=60, must-revalidate", "",
			withRule(func(r *Rule) { r.StaleIfError = ptr(sec(10)) }), 65, Revalidate, false},
		{"a reload is not obeyed", "max-age=60, stale-if-error=10", "no-cache",
			withRule(func(r *Rule) { r.Ignore = IgnoreClientReload }), 65, Revalidate, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rs := response(200, "Cache-Control: "+tt.response, `ETag: "a"`)
			rs.RequestTime = rs.ResponseTime
			f, reason := Storable(request("GET"), rs, tt.rule, testURL, testOptions)
			if reason != None {
				t.Fatalf("not stored: %q", reason)
			}
			rq := request("GET")
			if tt.request != "" {
				rq = request("GET", "Cache-Control: "+tt.request)
			}
			if got := Evaluate(rq, f, after(tt.at), tt.rule); got.Action != tt.want {
				t.Errorf("%v (%v), want %v", got.Action, got.Reason, tt.want)
			}
			if got := MayServeIfError(rq.Directives, f, after(tt.at), tt.rule); got != tt.ifError {
				t.Errorf("if error: %v, want %v", got, tt.ifError)
			}
		})
	}
}

// RFC 8246: immutable.
func TestRFC8246Immutable(t *testing.T) {
	f, _ := Storable(request("GET"), response(200, "Cache-Control: max-age=60, immutable"), DefaultRule, testURL, testOptions)
	for _, tt := range []struct {
		control string
		at      float64
		want    Reason
	}{
		{"max-age=0", 30, None},
		{"max-age=0", 61, RequestMaxAge},
		{"max-age=10", 30, RequestMaxAge},
		{"no-cache", 30, RequestNoCache},
	} {
		if got := Evaluate(request("GET", "Cache-Control: "+tt.control), f, after(tt.at), DefaultRule); got.Reason != tt.want {
			t.Errorf("%s after %v s: %v, want %v", tt.control, tt.at, got.Reason, tt.want)
		}
	}
}

func TestActionString(t *testing.T) {
	if got := Forward.String() + " " + Revalidate.String() + " " + Action(99).String(); got != "forward revalidate unknown" {
		t.Error(got)
	}
}

func TestEvaluateZeroTime(t *testing.T) {
	if got := Evaluate(request("GET"), Freshness{}, time.Now(), DefaultRule); got.Action != Revalidate {
		t.Errorf("the zero Freshness is %v", got.Action)
	}
}
