package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cacheproxy/proxy"
	"cacheproxy/redistest"
)

// explained is one situation: what the origin answers at /NAME, the fields of the request that goes before, and of the one that is
// explained and then made; and the words that say why.
type explained struct {
	name, header, before, asks string

	text    []string // of the explanation
	reason  string   // in JSON, of the decision, the verdict or going alone
	section string   // of that reason
	status  string   // in Cache-Status of the request
	outcome string   // in the log, and in the metric
	detail  string   // in the log, and, unless it is about the stored response, in the metric of refusals
}

var explainedSituations = []explained{
	{name: "fresh", header: "Cache-Control: max-age=600", text: []string{"decision  fresh ", "RFC 9111 section 4.2", "; hit; ttl="}, status: "; hit; ttl=", outcome: "hit"},
	{
		name: "stale", header: "Cache-Control: max-age=60\nAge: 61\nEtag: \"v1\"", text: []string{"decision  revalidate (fwd=stale): stale ", "stale for 1s", "it asks whether"},
		reason: "stale", section: "RFC 9111 section 4.2", status: "; detail=stale", outcome: "stale", detail: "stale",
	},
	{
		name: "private", header: "Cache-Control: private, max-age=60", text: []string{"ago: private ", "RFC 9111 section 5.2.2.7", "fwd=uri-miss"},
		reason: "private", section: "RFC 9111 section 5.2.2.7", status: "; detail=private", outcome: "uri-miss", detail: "private",
	},
	{
		name: "vary", header: "Cache-Control: max-age=600\nVary: Accept-Language", before: "Accept-Language: de", asks: "Accept-Language: fr",
		text:   []string{"other variants only, by accept-language", "decision  forward (fwd=vary-miss) ", "RFC 9111 section 4.1"},
		status: "; fwd=vary-miss; ttl=600; stored", outcome: "vary-miss",
	},
	{
		name: "authorization", header: "Cache-Control: max-age=60", before: "Authorization: Basic eDp5", asks: "Authorization: Basic eDp5",
		text:   []string{"ago: authorization ", "RFC 9111 section 3.5"},
		reason: "authorization", section: "RFC 9111 section 3.5", status: "; detail=authorization", outcome: "uri-miss", detail: "authorization",
	},
	{
		name: "set-cookie", header: "Cache-Control: max-age=60\nSet-Cookie: a=b", text: []string{"ago: set-cookie ", "RFC 9111 section 7.3"},
		reason: "set-cookie", section: "RFC 9111 section 7.3", status: "; detail=set-cookie", outcome: "uri-miss", detail: "set-cookie",
	},
	{
		name: "bypass", header: "Cache-Control: max-age=60", text: []string{"rules[0] of site default: path: /bypass", "decision  forward (fwd=bypass): bypass ", "RFC 9211 section 2.2"},
		reason: "bypass", section: "RFC 9211 section 2.2", status: "; fwd=bypass; detail=bypass", outcome: "bypass", detail: "bypass",
	},
	{name: "heuristic", header: "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", text: []string{"of 24h, a guess: fresh for", "decision  fresh "}, status: "; hit; ttl=86", outcome: "hit"},
	{
		name: "large", header: "Cache-Control: max-age=60", text: []string{"ago: too-large ", "RFC 9111 section 3"},
		reason: "too-large", section: "RFC 9111 section 3", status: "; detail=too-large", outcome: "uri-miss", detail: "too-large",
	},
	{
		name: "unshared", header: "Cache-Control: max-age=0, stale-if-error=60", text: []string{"for this client alone: ", "(not-shareable)"},
		reason: "not-shareable", section: "RFC 9111 section 4", status: "; stored; detail=not-shareable", outcome: "stale", detail: "not-shareable",
	},
}

// situationOrigin answers at the name of each situation as it says, with ten bytes.
func situationOrigin(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := slices.IndexFunc(explainedSituations, func(s explained) bool { return "/"+s.name == r.URL.Path })
		for line := range strings.SplitSeq(explainedSituations[at].header, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			w.Header().Set(name, value)
		}
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, "0123456789")
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// commandOutput runs a command line in this process and returns its standard output.
func commandOutput(t *testing.T, arguments ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(arguments, &stdout, &stderr); code != exitFine {
		t.Fatalf("%q: exit code %d: %s", arguments, code, &stderr)
	}
	return stdout.String()
}

// with sends a GET with one field, if there is one.
func (p *process) with(path, field string) http.Header {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.public+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Close = true
	if name, value, found := strings.Cut(field, ": "); found {
		r.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		p.t.Fatal(err)
	}
	return res.Header
}

// What explain says of ten situations is what then happens: the same words stand in its text, in its JSON, in Cache-Status, in the log and
// in the metrics. Asking changes nothing.
func TestExplainOfTenSituations(t *testing.T) {
	file := writeConfig(t, "log: {access: {hits: 1}}\nrules:\n- {match: {path: /bypass}, bypass: true}\n- {match: {path: /large}, max_object: 9B}\n")
	p := start(t, nil, "--config", file, "--upstream", situationOrigin(t))
	for i, s := range explainedSituations {
		t.Run(s.name, func(t *testing.T) { s.run(t, p, 2*i) })
	}
}

func (s *explained) run(t *testing.T, p *process, requests int) {
	p.with("/"+s.name, s.before)
	p.awaitRequest(requests)
	before := counters(t, p)
	arguments := []string{"explain", "--admin", p.operator, "--client", "127.0.0.1", p.public + "/" + s.name}
	if s.asks != "" {
		arguments = append(arguments, "-H", s.asks)
	}
	text := commandOutput(t, arguments...)
	for _, words := range append(s.text, "GET "+p.public+"/"+s.name, "127.0.0.1, not trusted") {
		if !strings.Contains(text, words) {
			t.Errorf("the text does not say %q:\n%s", words, text)
		}
	}
	var e proxy.Explanation
	if err := json.Unmarshal([]byte(commandOutput(t, append(arguments, "--json")...)), &e); err != nil {
		t.Fatal(err)
	}
	if e.Outcome != s.outcome || !slices.Contains(reasonsOf(&e), s.reason+" "+s.section) {
		t.Errorf("the JSON says %s, %q", e.Outcome, reasonsOf(&e))
	}
	if after := counters(t, p); !maps.Equal(after, before) {
		t.Errorf("asking left a trace: %v, before %v", after, before)
	}
	status := p.with("/"+s.name, s.asks).Get("Cache-Status")
	if !strings.Contains(status, s.status) || strings.Contains(status, "detail") != (s.detail != "") {
		t.Errorf("Cache-Status: %s, want %s", status, s.status)
	}
	after := counters(t, p)
	if after["requests "+s.outcome] != before["requests "+s.outcome]+1 {
		t.Errorf("requests of outcome %s: %v, before %v", s.outcome, after, before)
	}
	if name := "refusals " + s.detail; s.detail != "" && s.detail != "stale" && after[name] != before[name]+1 {
		t.Errorf("%s: %v, before %v", name, after, before)
	}
	line := p.awaitRequest(requests + 1) // had asking been logged, it would be another
	if detail, _ := line["detail"].(string); line["target"] != "/"+s.name || line["outcome"] != s.outcome || detail != s.detail {
		t.Errorf("logged: %v", line)
	}
}

// reasonsOf lists every reason of an explanation, with its section.
func reasonsOf(e *proxy.Explanation) []string {
	all := []string{" ", e.Decision.Reason + " " + e.Decision.Section} // " " is of a situation that has no reason
	if e.Lately != nil {
		all = append(all, e.Lately.Reason+" "+e.Lately.Section)
	}
	if e.Forward != nil && e.Forward.Alone != nil {
		all = append(all, e.Forward.Alone.Reason+" "+e.Forward.Alone.Section)
	}
	return all
}

// counters are the process's own metrics that requests could move.
func counters(t *testing.T, p *process) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(ask(t, p.operator+"/metrics").body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(name, "cacheproxy_") || strings.Contains(name, "_seconds") || name == "cacheproxy_connections" ||
			name == "cacheproxy_near_bytes" || name == "cacheproxy_near_entries" {
			continue // what takes time moves by itself, clients leave when they do, and near memory counts what it has a moment later
		}
		name = strings.NewReplacer("cacheproxy_", "", "_total", "", `",tier="`, " ", `{outcome="`, " ", `{reason="`, " ", `"}`, "").Replace(name)
		for _, tier := range []string{" none", " near", " redis"} {
			name = strings.TrimSuffix(name, tier)
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); err != nil {
			t.Fatal(err)
		}
		all[name] += v
	}
	return all
}

// awaitRequest waits for the line of the access log with this number, from 0.
func (p *process) awaitRequest(number int) logLine {
	p.t.Helper()
	for {
		var lines []logLine
		for _, line := range p.log() {
			if line["msg"] == "request" {
				lines = append(lines, line)
			}
		}
		if number < len(lines) {
			return lines[number]
		}
		select {
		case <-p.news:
		case code := <-p.ended:
			p.ended <- code
			p.t.Fatalf("it ended with code %d:\n%s", code, p.text())
		}
	}
}

func TestExplainOfWhatIsInRedis(t *testing.T) {
	url, requests := origin(t)
	server := redistest.Start(t)
	arguments := []string{"--upstream", url, "--redis", server.URL()}
	patient := []string{"CACHEPROXY_REDIS_TIMEOUT=10s"}
	p := start(t, patient, arguments...)
	p.await("Redis answers")
	p.askAs("http://shop.example/page")
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Fatalf("exit code %d:\n%s", code, p.text())
	}
	p = start(t, patient, arguments...)
	p.await("Redis answers")
	p.awaitMetric("cacheproxy_replicas", `state="live"`) // it has looked who follows the purges, which it then does seldom
	kept, before := redisContent(t, server), counters(t, p)
	for range 2 {
		text := commandOutput(t, "explain", "--admin", p.operator, "http://shop.example/page")
		if !strings.Contains(text, "stored    200 in Redis") || !strings.Contains(text, "decision  fresh") {
			t.Errorf("%s", text)
		}
	}
	if after := counters(t, p); !maps.Equal(after, before) || after["near_entries"] != 0 {
		t.Errorf("asking left a trace: %v, before %v", after, before)
	}
	if after := redisContent(t, server); !maps.Equal(after, kept) {
		t.Error("asking has changed Redis")
	}
	if got := p.askAs("http://shop.example/page"); !hitStatus.MatchString(got.header.Get("Cache-Status")) || requests.Load() != 1 {
		t.Errorf("%+v after %d requests upstream", got, requests.Load())
	}
	server.Stop()
	if text := commandOutput(t, "explain", "--admin", p.operator, "http://shop.example/other"); !strings.Contains(text, "not known: store-unavailable") {
		t.Errorf("%s", text)
	}
}

// redisContent is every key of what is stored, and of its index, with its value. What replicas tell of themselves changes all the time.
func redisContent(t *testing.T, server *redistest.Server) map[string]string {
	t.Helper()
	client, all := server.Admin(), map[string]string{}
	for _, key := range client.Keys(t.Context(), "cp:[evbltg]:*").Val() {
		all[key] = client.Dump(t.Context(), key).Val()
	}
	if len(all) == 0 {
		t.Fatal("Redis is empty")
	}
	return all
}

// The example of the documentation passes.
func TestExampleCases(t *testing.T) {
	text := commandOutput(t, "test", "../../docs/examples/shop.test.yaml")
	if strings.Count(text, "ok    ") != strings.Count(text, "\n") || strings.Count(text, "\n") < 10 {
		t.Error(text)
	}
}
