package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cacheproxy/admin"
	"cacheproxy/limiter"
)

// limitedOperator is an operator's listener in front of a limiter that counts by itself, and the paths that were asked for, as they came.
func limitedOperator(t *testing.T, specs ...limiter.Spec) (at string, l *limiter.Limiter, asked *[]string) {
	t.Helper()
	l, err := limiter.New(limiter.Options{Limits: specs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(t.Context()) })
	routes := func(mux *http.ServeMux) {
		admin.Limits(mux, admin.LimitsOptions{Limiter: l, Log: slog.New(slog.DiscardHandler)})
	}
	h, err := admin.New(admin.Options{Handle: routes})
	if err != nil {
		t.Fatal(err)
	}
	asked = new([]string)
	at = operator(t, func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Method+" "+r.RequestURI)
		h.ServeHTTP(w, r)
	})
	return at, l, asked
}

// sendLimited sends a request through a limiter.
func sendLimited(l *limiter.Limiter, address, field, value string) {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = address
	r.Header.Set(field, value)
	l.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(httptest.NewRecorder(), r)
}

// A client is found by what the list shows and by its address, whatever its key has in it, and is reset.
func TestStandingByCommand(t *testing.T) {
	at, l, asked := limitedOperator(t, limiter.Spec{Name: "per-client", Limit: 1234, Window: time.Hour}, limiter.Spec{Name: "per-tenant", Key: []string{"header.Tenant"}, Limit: 10, Window: time.Hour})
	for _, tenant := range []string{"..", "a/b c", "50%", "é"} {
		sendLimited(l, "[2001:db8::1]:1", "Tenant", tenant)
	}
	for _, tt := range []struct{ name, client, path, key, remaining string }{
		{"per-client", "2001:db8::1", "2001:db8::1", "2001%3Adb8%3A%3A", "1,230 of 1,234"},
		{"per-client", "2001%3Adb8%3A%3A", "2001%253Adb8%253A%253A", "2001%3Adb8%3A%3A", "1,230 of 1,234"},
		{"per-client", "192.0.2.7", "192.0.2.7", "192.0.2.7", "1,234 of 1,234"},
		{"per-client", "~overflow", "~overflow", "~overflow (all for whom there is no room)", "1,234 of 1,234"},
		{"per-tenant", "..", "%2E%2E", "..", "9 of 10"},
		{"per-tenant", "a%2Fb%20c", "a%252Fb%2520c", "a%2Fb%20c", "9 of 10"},
		{"per-tenant", "a/b c", "a%2Fb%20c", "a%2Fb%20c", "9 of 10"},
		{"per-tenant", "50%25", "50%2525", "50%25", "9 of 10"},
		{"per-tenant", "%C3%A9", "%25C3%25A9", "%C3%A9", "9 of 10"},
		{"per-tenant", "", "", `"" (no address, or an empty value)`, "10 of 10"},
	} {
		*asked = nil
		out, prose, code := tellOf("limits", tt.name, tt.client, "--admin", at)
		path := fmt.Sprintf("GET /v1/limits/%s/%s", tt.name, tt.path)
		if begin := fmt.Sprintf("limit     %s\nclient    %s\nremaining %s, by the count of the process that answers\n", tt.name, tt.key, tt.remaining); code != exitFine ||
			prose != "" || !strings.HasPrefix(out, begin) || len(*asked) != 1 || (*asked)[0] != path {
			t.Errorf("%s %s: exit code %d, asked for %q, want %s\n%s%s", tt.name, tt.client, code, *asked, path, out, prose)
		}
	}
	out, prose, code := tellOf("limits", "per-tenant", "50%25", "--reset", "--admin", at)
	if code != exitFine || prose != "" || out != "limit     per-tenant\nclient    50%25\nreset     it has all of its limit again; 1 replica was told\n" {
		t.Errorf("exit code %d\n%s%s", code, out, prose)
	}
	out, _, _ = tellOf("limits", "per-tenant", "50%25", "--json", "--admin", at)
	var told admin.ClientStanding
	if err := json.Unmarshal([]byte(out), &told); err != nil || told.Remaining != 10 || told.Client != "50%25" {
		t.Errorf("%v: %s", err, out)
	}
	out, _, _ = tellOf("limits", "per-tenant", "..", "--reset", "--json", "--admin", at)
	var reset admin.LimitReset
	if err := json.Unmarshal([]byte(out), &reset); err != nil || !reset.Reset || reset.Client != ".." || reset.Limit != "per-tenant" {
		t.Errorf("%v: %s", err, out)
	}
}

const limitsAnswer = `{"limits": [
	{"name": "per-client", "key": ["client"], "limit": 1000, "window": "1h", "algorithm": "fixed", "accuracy": "leased", "on_outage": "local", "clients": 1, "overflow": 1,
	 "busiest": [{"client": "192.0.2.7", "asked": 12345, "refused": 11345}, {"client": "2001%3Adb8%3A%3A", "asked": 12}, {"client": "~overflow", "asked": 1}, {"client": "", "asked": 1}]},
	{"name": "per-tier", "key": ["client", "header.Tier"], "limit": 100, "window": "1m30s", "algorithm": "gcra", "accuracy": "exact", "on_outage": "divided", "burst": 20, "shadow": true,
	 "clients": 2000, "busiest": []}], "redis": "REDIS", "detail": "no\u001b[2J answer"}`

const limitsText = `per-client: 1,000 in 1h, for each client
counted   fixed, leased, in an outage local
clients   1 is known to the process that answers
          1 request was counted in common, for want of room (max_clients)
busiest       asked   refused  client
             12,345    11,345  192.0.2.7
                 12            2001%3Adb8%3A%3A
                  1            ~overflow (all for whom there is no room)
                  1            "" (no address, or an empty value)

per-tier: 100 in 1m30s, 20 at once, for each client, header.Tier
counted   gcra, exact, in an outage divided
          in the shadow: it refuses nobody
clients   2,000 are known to the process that answers
busiest   nobody has asked in the last five minutes
`

// withoutBusiest is a text without the rows of those who ask most.
func withoutBusiest(text string) string {
	begin, rest, _ := strings.Cut(text, "busiest")
	_, rest, _ = strings.Cut(rest, "\n\n")
	rest, _, _ = strings.Cut(rest, "busiest")
	return begin + "\n" + rest
}

func TestLimitsByCommand(t *testing.T) {
	redis, asked := "asked", ""
	at := operator(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.RequestURI
		fmt.Fprint(w, strings.ReplaceAll(limitsAnswer, "REDIS", redis))
	})
	for _, tt := range []struct{ arguments, redis, asked, want string }{
		{"limits", "asked", "/v1/limits?top=5", limitsText},
		{"limits per-client", "asked", "/v1/limits/per-client?top=25", limitsText},
		{"limits --top 100", "none", "/v1/limits?top=100", limitsText},
		{"limits per-client --top 0", "none", "/v1/limits/per-client?top=0", withoutBusiest(limitsText)},
		{"limits", "failed", "/v1/limits?top=5", "redis     could not be asked who asks most:\n          no\\x1b[2J answer\n\n" + withoutBusiest(limitsText)},
	} {
		redis = tt.redis
		out, prose, code := tellOf(append(strings.Fields(tt.arguments), "--admin", at)...)
		if code != exitFine || prose != "" || asked != tt.asked || out != tt.want {
			t.Errorf("%s: asks for %s, exit code %d\n%s%s\nwant\n%s", tt.arguments, asked, code, out, prose, tt.want)
		}
		for line := range strings.Lines(out) {
			if len(line) > 80 {
				t.Errorf("%d columns: %s", len(line)-1, line)
			}
		}
	}
}

// What is wrong is said, before anything is asked or by whom it is asked.
func TestWhatIsWrongWithTheLimitsCommand(t *testing.T) {
	at, _, asked := limitedOperator(t, limiter.Spec{Name: "per-client", Limit: 10, Window: time.Hour})
	for arguments, want := range map[string]string{
		"a b c":            "the name of a limit and a client at the most",
		"--reset":          "--reset is for one client",
		"a --reset":        "--reset is for one client",
		"a b --top 3":      "--top is for a list",
		"--top 101":        "--top: 101 is not a number from 0 to 100",
		"--top -1":         "--top: -1 is not a number from 0 to 100",
		"--name per-tier,": "unknown flag",
	} {
		if out, prose, code := tellOf(append(strings.Fields("limits "+arguments), "--admin", at)...); code != exitUsage || out != "" || !strings.Contains(prose, want) {
			t.Errorf("%s: exit code %d\n%s%s", arguments, code, out, prose)
		}
	}
	if _, prose, code := tellOf("limits", "", "--admin", at); code != exitUsage || !strings.Contains(prose, "is empty") || len(*asked) > 0 {
		t.Errorf("exit code %d, asked for %q: %s", code, *asked, prose)
	}
	for arguments, want := range map[string]string{
		"per-tier":                  `404 Not Found: there is no limit "per-tier": there are per-client`,
		"a/b 192.0.2.7 --reset":     `404 Not Found: there is no limit "a/b": there are per-client`,
		"per-client shop --reset":   "400 Bad Request: \"shop\" is no client of per-client",
		"per-client 192.0.2.7.8":    "400 Bad Request: \"192.0.2.7.8\" is no client of per-client",
		"per-client 192.0.2.7 --cl": "unknown flag: --cl",
	} {
		if out, prose, code := tellOf(append(strings.Fields("limits "+arguments), "--admin", at)...); code == exitFine || out != "" || !strings.Contains(prose, want) {
			t.Errorf("%s: exit code %d\n%s%s", arguments, code, out, prose)
		}
	}
	other := operator(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	if out, prose, code := tellOf("limits", "a", "b", "--reset", "--admin", other); code != exitFailed || out != "" || !strings.Contains(prose, "does not say that it has reset the client") {
		t.Errorf("exit code %d\n%s%s", code, out, prose)
	}
}

// A process answers for its limits, to those with the token.
func TestLimitsOfAProcess(t *testing.T) {
	url, _ := origin(t)
	token := tokenFile(t, "s3cret")
	p := start(t, []string{"CACHEPROXY_ADMIN_TOKEN_FILE=" + token}, "--upstream", url)
	if _, prose, code := p.tell("limits"); code != exitFailed || !strings.Contains(prose, "401 Unauthorized") {
		t.Errorf("exit code %d: %s", code, prose)
	}
	if out, prose, code := p.tell("limits", "--token-file", token); code != exitFine || out != "there are no limits\n" || prose != "" {
		t.Errorf("exit code %d: %s%s", code, out, prose)
	}
	if _, prose, code := p.tell("limits", "per-client", "192.0.2.7", "--reset", "--token-file", token); code != exitFailed ||
		!strings.Contains(prose, `there is no limit "per-client": none is configured`) {
		t.Errorf("exit code %d: %s", code, prose)
	}
}
