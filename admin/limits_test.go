package admin

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"cacheproxy/limiter"
	"cacheproxy/redistest"
	"cacheproxy/store"
)

// limitsOfTests are one by address, one by several parts, one by a secret, and one by a field.
var limitsOfTests = []limiter.Spec{
	{Name: "per-client", Limit: 5, Window: time.Hour},
	{Name: "per-tier", Key: []string{"client", "header.Tier"}, Limit: 100, Window: 90 * time.Second, Algorithm: limiter.GCRA, Burst: 20, Accuracy: limiter.Exact, OnOutage: limiter.Open, Shadow: true},
	{Name: "per-key", Key: []string{"api_key"}, Limit: 100, Window: 250 * time.Millisecond, Algorithm: limiter.GCRA, OnOutage: limiter.Closed},
	{Name: "per-tenant", Key: []string{"header.Tenant"}, Limit: 100, Window: time.Minute, Algorithm: limiter.Sliding},
}

// limitsOf is a handler with the routes of limits, the limiter behind them, and what is logged.
func limitsOf(t *testing.T, specs []limiter.Spec, server *redistest.Server) (http.Handler, *limiter.Limiter, *bytes.Buffer) {
	t.Helper()
	o := limiter.Options{Limits: specs, Log: slog.New(slog.DiscardHandler)}
	if server != nil {
		client, err := store.Dial(server.URL(), store.DialOptions{Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		o.Redis, o.Timeout = client, time.Second
	}
	l, err := limiter.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(t.Context()) })
	var log bytes.Buffer
	routes := LimitsOptions{
		Limiter: l, Shared: server != nil, Log: slog.New(slog.NewTextHandler(&log, nil)), Redacted: func(name string) bool { return name == "tenant" },
	}
	return mustNew(t, Options{Handle: func(mux *http.ServeMux) { Limits(mux, routes) }}), l, &log
}

// requests sends some through the limiter, and returns how many were refused.
func requests(l *limiter.Limiter, n int, address string, fields ...string) (refused int) {
	h := l.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for range n {
		r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
		r.RemoteAddr = address
		for i := 0; i < len(fields); i += 2 {
			r.Header.Set(fields[i], fields[i+1])
		}
		if h.ServeHTTP(w, r); w.Code != 200 {
			refused++
		}
	}
	return refused
}

func getPath(h http.Handler, path string) *httptest.ResponseRecorder {
	return ask(h, "GET", path, "localhost", "")
}

// eventually asks until the answer is right: who is busiest is told once a second.
func eventually[T any](t *testing.T, h http.Handler, path string, is func(*T) bool) (v T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if v = decoded[T](t, getPath(h, path), 200); is(&v) {
			return v
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", path, v)
		}
	}
}

// withAndWithout runs a test of what a process counts, and of what Redis does.
func withAndWithout(t *testing.T, test func(t *testing.T, server *redistest.Server, redis string)) {
	t.Run("memory", func(t *testing.T) { test(t, nil, "none") })
	t.Run("redis", func(t *testing.T) { test(t, redistest.Start(t), "asked") })
}

func TestLimits(t *testing.T) {
	withAndWithout(t, func(t *testing.T, server *redistest.Server, redis string) {
		h, l, _ := limitsOf(t, limitsOfTests, server)
		if n := requests(l, 8, "192.0.2.7:1", "Tier", "a b", "X-Api-Key", "secret"); n != 3 {
			t.Fatalf("%d were refused", n)
		}
		requests(l, 2, "[2001:db8::1]:1")
		told := eventually(t, h, "/v1/limits", func(told *LimitsInUse) bool {
			return len(told.Limits) == 4 && !slices.ContainsFunc(told.Limits[:3], func(one LimitInUse) bool { return len(one.Busiest) != 2 })
		})
		first := told.Limits[0]
		if told.Redis != redis || told.Detail != "" || !slices.Equal(first.Busiest, []BusyClient{{"192.0.2.7", 8, 3}, {"2001%3Adb8%3A%3A", 2, 0}}) || first.Clients != 2 {
			t.Errorf("%+v", told)
		}
		if b := told.Limits[1].Busiest; len(b) != 2 || b[0].Client != "192.0.2.7,a%20b" {
			t.Errorf("%+v", b)
		}
		if b := told.Limits[2].Busiest; !strings.HasPrefix(b[0].Client, "~") || strings.Contains(b[0].Client, "secret") {
			t.Errorf("%+v", b)
		}
		one := decoded[LimitsInUse](t, getPath(h, "/v1/limits/per-client?top=1"), 200)
		if len(one.Limits) != 1 || one.Limits[0].Name != "per-client" || len(one.Limits[0].Busiest) != 1 || one.Redis != redis {
			t.Errorf("%+v", one)
		}
		if none := decoded[LimitsInUse](t, getPath(h, "/v1/limits?top=0"), 200); len(none.Limits) != 4 || len(none.Limits[0].Busiest) != 0 || none.Redis != "none" {
			t.Errorf("%+v", none)
		}
	})
}

// What a limit leaves to its defaults is written out, and lists are never null.
func TestLimitsAsJSON(t *testing.T) {
	h, _, _ := limitsOf(t, limitsOfTests, nil)
	want := `{"limits":[` +
		`{"name":"per-client","key":["client"],"limit":5,"window":"1h","window_seconds":3600,"algorithm":"fixed","accuracy":"leased","on_outage":"local",` +
		`"shadow":false,"clients":0,"overflow":0,"busiest":[]},` +
		`{"name":"per-tier","key":["client","header.Tier"],"limit":100,"window":"1m30s","window_seconds":90,"algorithm":"gcra","accuracy":"exact","on_outage":"open",` +
		`"burst":20,"shadow":true,"clients":0,"overflow":0,"busiest":[]},` +
		`{"name":"per-key","key":["api_key"],"limit":100,"window":"250ms","window_seconds":0.25,"algorithm":"gcra","accuracy":"leased","on_outage":"closed",` +
		`"burst":100,"shadow":false,"clients":0,"overflow":0,"busiest":[]},` +
		`{"name":"per-tenant","key":["header.Tenant"],"limit":100,"window":"1m","window_seconds":60,"algorithm":"sliding","accuracy":"leased","on_outage":"local",` +
		`"shadow":false,"clients":0,"overflow":0,"busiest":[]}],"redis":"none"}` + "\n"
	if w := getPath(h, "/v1/limits"); w.Body.String() != want {
		t.Errorf("%s\nwant\n%s", w.Body, want)
	}
	h, _, _ = limitsOf(t, nil, nil)
	if w := getPath(h, "/v1/limits"); w.Body.String() != `{"limits":[],"redis":"none"}`+"\n" {
		t.Errorf("%s", w.Body)
	}
	if p := wantProblem(t, getPath(h, "/v1/limits/x")); p.Status != 404 || p.Detail != `there is no limit "x": none is configured` {
		t.Errorf("%+v", p)
	}
}

// The same client by each way to write it in a URL.
func TestStandingOfAClient(t *testing.T) {
	withAndWithout(t, func(t *testing.T, server *redistest.Server, redis string) {
		h, l, _ := limitsOf(t, limitsOfTests, server)
		requests(l, 6, "[2001:db8::1]:1", "Tier", "a b", "Tenant", "x,y:1")
		requests(l, 1, "192.0.2.7:1")
		for path, key := range map[string]string{
			"per-client/2001%253Adb8%253A%253A":                   "2001%3Adb8%3A%3A", // as it is to be
			"per-client/2001%253adb8%253a%253a":                   "2001%3Adb8%3A%3A",
			"per-client/2001%3Adb8%3A%3A":                         "2001%3Adb8%3A%3A", // the key as it is shown, or the address encoded
			"per-client/2001%3Adb8%3A%3A1":                        "2001%3Adb8%3A%3A",
			"per-client/2001:db8::1":                              "2001%3Adb8%3A%3A",
			"per-client/2001:db8::ffff":                           "2001%3Adb8%3A%3A", // of the same network
			"per-tier/2001%253Adb8%253A%253A,a%2520b":             "2001%3Adb8%3A%3A,a%20b",
			"per-tier/2001%253Adb8%253A%253A%2Ca%2520b":           "2001%3Adb8%3A%3A,a%20b",
			"per-tier/2001%3Adb8%3A%3A,a%20b":                     "2001%3Adb8%3A%3A,a%20b",
			"per-tier/2001:db8::,a%20b":                           "2001%3Adb8%3A%3A,a%20b",
			"per-tenant/x%252Cy%253A1":                            "x%2Cy%3A1",
			"per-tenant/x,y:1":                                    "x%2Cy%3A1",
			"per-key/-2001%253Adb8%253A%253A":                     "-2001%3Adb8%3A%3A",
			"per-key/-2001%3Adb8%3A%3A":                           "-2001%3Adb8%3A%3A",
			"per-client/::ffff:192.0.2.7":                         "192.0.2.7",
			"per-client/192.0.2.7":                                "192.0.2.7",
			"per-client/~overflow":                                "~overflow",
			"per-client/":                                         "",
			"per-key/~0f1e2d3c4b5a69788796a5b4c3d2e1f0":           "~0f1e2d3c4b5a69788796a5b4c3d2e1f0",
			"per-tenant/a%2Fb":                                    "a%2Fb",
			"per-tenant/a/b":                                      "a%2Fb",
			"per-tenant/%2E%2E":                                   "..",
			"per-tenant/50%25":                                    "50%25",
			"per-tenant/%7E0f1e2d3c4b5a69788796a5b4c3d2e1f0":      "~0f1e2d3c4b5a69788796a5b4c3d2e1f0",
			"per-tier/192.0.2.7,-192.0.2.7":                       "192.0.2.7,-192.0.2.7",
			"per-tier/2001%253Adb8%253A%253A,~0f1e2d3c4b5a69788a": "2001%3Adb8%3A%3A,~0f1e2d3c4b5a69788a",
		} {
			told := decoded[ClientStanding](t, getPath(h, "/v1/limits/"+path), 200)
			limit, _, _ := strings.Cut(path, "/")
			used := map[string]bool{
				"per-client 2001%3Adb8%3A%3A": true, "per-tier 2001%3Adb8%3A%3A,a%20b": true, "per-tenant x%2Cy%3A1": true, "per-client 192.0.2.7": true,
				"per-tier 192.0.2.7,-192.0.2.7": true,
			}[limit+" "+key]
			if told.Client != key || told.Limit != limit || told.Redis != redis || told.Shadow != (limit == "per-tier") {
				t.Errorf("%s: %+v, want %s", path, told, key)
			}
			if limit != "per-key" && used != (told.Remaining < told.Quota) { // that of per-key is full again soon
				t.Errorf("%s: %+v, used %v", path, told, used)
			}
		}
		told := decoded[ClientStanding](t, getPath(h, "/v1/limits/per-client/2001:db8::1"), 200)
		if told.Quota != 5 || told.Remaining != 0 || told.Reset < 3000e9 || told.Reset > 3600e9 {
			t.Errorf("%+v", told)
		}
	})
}

// What cannot be a client of the limit is refused: that it has used nothing would be no answer.
func TestNoClientOfTheLimit(t *testing.T) {
	h, l, log := limitsOf(t, limitsOfTests, nil)
	requests(l, 1, "192.0.2.7:1")
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/v1/limits?top=101", 400, `top is "101": write a number from 0 to 100`},
		{"GET", "/v1/limits?top=-1", 400, "from 0 to 100"},
		{"GET", "/v1/limits?top=x", 400, "from 0 to 100"},
		{"GET", "/v1/limits?name=x", 400, `"name" is no parameter here: top`},
		{"GET", "/v1/limits?top=1;", 400, "cannot be read"},
		{"GET", "/v1/limits/per-clien", 404, `there is no limit "per-clien": there are per-client, per-tier, per-key, per-tenant`},
		{"GET", "/v1/limits/x/192.0.2.7", 404, "there are per-client, per-tier"},
		{"DELETE", "/v1/limits/x/192.0.2.7", 404, "there are per-client, per-tier"},
		{"GET", "/v1/limits/per-client/192.0.2.7?top=1", 400, "is no parameter here"},
		{"DELETE", "/v1/limits/per-client/192.0.2.7?dry_run=true", 400, "is no parameter here"},
		{"GET", "/v1/limits/per-client/shop.example", 400, "which tells clients apart by their addresses"},
		{"DELETE", "/v1/limits/per-client/192.0.2.300", 400, "which tells clients apart by their addresses"},
		{"GET", "/v1/limits/per-tier/192.0.2.7", 400, "tells clients apart by client,header.Tier"},
		{"GET", "/v1/limits/per-tier/192.0.2.7,a,b", 400, "tells clients apart by client,header.Tier"},
		{"GET", "/v1/limits/per-key/sesame", 400, "~ and a hash"},
		{"DELETE", "/v1/limits/per-key/sesame", 400, "~ and a hash"},
		{"DELETE", "/v1/limits/per-key/-sesame", 400, "~ and a hash"},
		{"DELETE", "/v1/limits/per-key/~sesame", 400, "~ and a hash"},
		{"DELETE", "/v1/limits/per-client", 400, "which client?"},
		{"POST", "/v1/limits", 405, "GET, HEAD"},
	} {
		w := ask(h, tt.method, tt.path, "localhost", "")
		if p := wantProblem(t, w); w.Code != tt.status || !strings.Contains(p.Detail, tt.want) || strings.Contains(p.Detail, "sesame") {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, w.Code, p.Detail)
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged: %s", log)
	}
}

// Another replica hears of a reset, and the log says who asked for it.
func TestResetOfAClient(t *testing.T) {
	withAndWithout(t, func(t *testing.T, server *redistest.Server, _ string) {
		h, l, log := limitsOf(t, limitsOfTests, server)
		if n := requests(l, 7, "[2001:db8::1]:1", "Tenant", "acme", "X-Api-Key", "sesame"); n != 2 {
			t.Fatalf("%d were refused", n)
		}
		r := httptest.NewRequest("DELETE", "/v1/limits/per-client/2001:db8::1", nil)
		r.Host = "localhost"
		r.Header.Set("X-Purged-By", "an operator\n")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		told := decoded[LimitReset](t, w, 200)
		if told.Limit != "per-client" || told.Client != "2001%3Adb8%3A%3A" || !told.Reset || told.Replicas != 1 {
			t.Errorf("%+v", told)
		}
		if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=INFO") || !strings.Contains(text, "limit=per-client client=2001%3Adb8%3A%3A replicas=1") ||
			!strings.Contains(text, `who="192.0.2.1 an operator"`) {
			t.Errorf("logged: %s", text)
		}
		if s := decoded[ClientStanding](t, getPath(h, "/v1/limits/per-client/2001:db8::1"), 200); s.Remaining != 5 || s.Refused != 0 {
			t.Errorf("%+v", s)
		}
		if n := requests(l, 5, "[2001:db8::1]:1"); n != 0 {
			t.Errorf("%d were refused", n)
		}
		for path, want := range map[string]string{
			"per-tenant/acme": "client=REDACTED", "per-tenant/-192.0.2.7": "client=-192.0.2.7", "per-tier/192.0.2.7,gold": "client=192.0.2.7,gold",
			"per-key/~0f1e2d3c4b5a69788796a5b4c3d2e1f0": "client=~0f1e2d3c4b5a69788796a5b4c3d2e1f0",
		} {
			log.Reset()
			decoded[LimitReset](t, ask(h, "DELETE", "/v1/limits/"+path, "localhost", ""), 200)
			if !strings.Contains(log.String(), want+" ") {
				t.Errorf("%s: %s", path, log)
			}
		}
	})
}

// Without Redis nobody knows who is busiest or where a client stands; what the limits are is known all the same.
func TestLimitsWhileRedisIsAway(t *testing.T) {
	server := redistest.Start(t)
	h, _, log := limitsOf(t, limitsOfTests, server)
	server.Stop()
	told := decoded[LimitsInUse](t, getPath(h, "/v1/limits"), 200)
	if told.Redis != "failed" || told.Detail == "" || len(told.Limits) != 4 || told.Limits[3].Name != "per-tenant" || told.Limits[0].Busiest == nil {
		t.Errorf("%+v", told)
	}
	for _, method := range []string{"GET", "DELETE"} {
		if w := ask(h, method, "/v1/limits/per-client/192.0.2.7", "localhost", ""); w.Code != 503 || wantProblem(t, w).Detail == "" {
			t.Errorf("%s: %d %s", method, w.Code, w.Body)
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged: %s", log)
	}
}
