package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/policy"
	"cacheproxy/proxy"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// One line for each request that is not a hit, one for each hit when asked, and no secrets in either.
func TestAccessLog(t *testing.T) {
	url, _ := origin(t)
	file := writeConfig(t, "log: {access: {hits: 1}, redact: [Token, user-agent]}\n")
	p := start(t, nil, "--config", file, "--upstream", url)
	ask(t, p.public+"/page?a=1&token=hunter2&b=%20")
	ask(t, p.public+"/page?a=1&token=hunter2&b=%20")
	p.signal(syscall.SIGTERM)
	p.end()
	var outcomes []string
	for _, line := range p.log() {
		if line["msg"] != "request" {
			continue
		}
		outcomes = append(outcomes, fmt.Sprint(line["outcome"], " ", line["tier"], " ", line["status"]))
		if line["target"] != "/page?a=1&token=REDACTED&b=%20" || line["method"] != "GET" || line["user_agent"] != "REDACTED" || line["client"] != "127.0.0.1" {
			t.Errorf("%v", line)
		}
	}
	if got := strings.Join(outcomes, ", "); got != "uri-miss none 200, hit near 200" {
		t.Errorf("outcomes %s", got)
	}
	if strings.Contains(p.text(), "hunter2") {
		t.Error("a redacted value was logged")
	}
}

func TestRedactedTargets(t *testing.T) {
	l := newAccessLog(config.Log{Redact: []string{"Token"}}, nil, nil)
	for target, want := range map[string]string{
		"/a?token=x":           "/a?token=REDACTED",
		"/a?b=1&TOK%45N=x&c":   "/a?b=1&TOK%45N=REDACTED&c",
		"/a?token=x;y=z&c=1":   "/a?token=REDACTED&c=1",
		"/a?b=1;token=x;c=2&d": "/a?b=1;token=REDACTED&d",
		"/a?b=1;;c&tokens=1&":  "/a?b=1;;c&tokens=1&",
		"/a?":                  "/a?",
		"/token=x":             "/token=x",
	} {
		if got := l.target(&http.Request{RequestURI: target}); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
}

// The names of a configuration are read once, and not for each URL that is shown, of which there may be a thousand.
func TestShownURL(t *testing.T) {
	s := &server{}
	s.current.Store(&snapshot{redact: newRedaction([]string{"Token"})})
	if got := s.shownURL("http://a.example/?token=x&b"); got != "http://a.example/?token=REDACTED&b" {
		t.Error(got)
	}
	if n := testing.AllocsPerRun(100, func() { s.shownURL("http://a.example/") }); n > 0 {
		t.Errorf("%v allocations for a URL without a query", n)
	}
	s.current.Store(&snapshot{redact: newRedaction([]string{"b"})})
	if got := s.shownURL("http://a.example/?token=x&b=y"); got != "http://a.example/?token=x&b=REDACTED" {
		t.Errorf("after a reload: %s", got)
	}
}

// The peer of a unix socket has no address, and none is logged.
func TestAccessLogOfASocket(t *testing.T) {
	var text strings.Builder
	l := newAccessLog(config.Log{Access: config.Access{Sample: 1}}, newLogger(config.Log{}, &text), nil)
	l.request(&proxy.Access{Request: httptest.NewRequest(http.MethodGet, "/a", nil)})
	if got := text.String(); !strings.Contains(got, `"target":"/a"`) || strings.Contains(got, "client") {
		t.Error(got)
	}
}

func TestHitsAreNotLoggedByDefault(t *testing.T) {
	url, _ := origin(t)
	p := start(t, nil, "--upstream", url)
	ask(t, p.public+"/page")
	ask(t, p.public+"/page")
	p.signal(syscall.SIGTERM)
	p.end()
	if got := strings.Count(p.text(), `"msg":"request"`); got != 1 {
		t.Errorf("%d lines:\n%s", got, p.text())
	}
}

func TestMaxBody(t *testing.T) {
	url, requests := origin(t)
	p := start(t, []string{"CACHEPROXY_SERVER_MAX_BODY=10"}, "--upstream", url)
	var contentType string
	post := func(body io.Reader) int {
		transport := &http.Transport{DisableKeepAlives: true}
		r, err := (&http.Client{Transport: transport}).Post(p.public+"/", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		contentType = r.Header.Get("Content-Type")
		return r.StatusCode
	}
	if got := post(strings.NewReader("0123456789")); got != http.StatusOK {
		t.Errorf("10 bytes: status %d", got)
	}
	before := requests.Load()
	if got := post(strings.NewReader("0123456789a")); got != http.StatusRequestEntityTooLarge || requests.Load() != before || contentType != "application/problem+json" {
		t.Errorf("11 bytes: status %d, %s", got, contentType)
	}
	if got := p.metric("cacheproxy_requests_total", `outcome="error"`); got != 1 {
		t.Errorf("%v requests are counted as refused", got)
	}
	if got := post(io.MultiReader(strings.NewReader("0123456789"), strings.NewReader("a"))); got != http.StatusRequestEntityTooLarge {
		t.Errorf("11 bytes of undeclared length: status %d", got)
	}
	p.signal(syscall.SIGTERM)
	p.end()
	var logged logLine
	for _, line := range p.log() {
		if line["status"] == float64(http.StatusRequestEntityTooLarge) && line["outcome"] == "error" {
			logged = line
		}
	}
	if logged["detail"] != "too-large" || logged["client"] != "127.0.0.1" || logged["target"] != "/" {
		t.Errorf("11 bytes: the access log says %v", logged)
	}
}

func TestHostThatNoSiteNames(t *testing.T) {
	url, _ := origin(t)
	file := writeConfig(t, fmt.Sprintf("sites: [{hosts: [shop.example], upstream: '%s'}]\n", url))
	p := start(t, nil, "--config", file)
	if got := p.askAs("http://shop.example/"); got.status != http.StatusOK {
		t.Errorf("the site's own host: %+v", got)
	}
	if got := p.askAs("http://other.example/"); got.status != http.StatusMisdirectedRequest || got.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("another host: %+v", got)
	}
}

// namedOrigin says its name and the Host that it was asked for.
func namedOrigin(t *testing.T, name string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", name, r.Host)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestSitesHaveTheirOwnUpstreams(t *testing.T) {
	first, second := namedOrigin(t, "first"), namedOrigin(t, "second")
	file := writeConfig(t, fmt.Sprintf(`upstream: %s
upstreams: {b: {members: [{url: '%s'}]}}
sites: [{hosts: [b.example], upstream: b}, {hosts: [c.example]}, {hosts: ["*.d.example"], upstream: {url: '%s', host: e.example}}]
`, first, second, second))
	p := start(t, nil, "--config", file)
	for host, want := range map[string]string{
		"a.example": "first a.example", "b.example": "second b.example", "c.example": "first c.example", "x.d.example": "second e.example",
	} {
		if got := p.askAs("http://" + host + "/"); got.body != want {
			t.Errorf("%s: %q, want %q", host, got.body, want)
		}
	}
}

// keep: 0 keeps nothing past its freshness, not by a nanosecond. What is stale at once is then not stored at all.
func TestKeepNothing(t *testing.T) {
	now := time.Now()
	if got := (policy.Freshness{Born: now, Validator: true}).Retention(now, orNone(0)); got != 0 {
		t.Errorf("what is stale at once is kept for %v", got)
	}
	var conditional atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			conditional.Add(1)
		}
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("ETag", `"a"`)
	}))
	t.Cleanup(server.Close)
	for keep, stored := range map[string]bool{"0": false, "0s": false, "1h": true} {
		conditional.Store(0)
		p := start(t, []string{"CACHEPROXY_CACHE_KEEP=" + keep}, "--upstream", server.URL)
		for range 2 {
			if got := ask(t, p.public+"/").header.Get("Cache-Status"); strings.Contains(got, "stored") != stored || strings.Contains(got, "no-freshness") == stored {
				t.Errorf("keep %s: Cache-Status %q", keep, got)
			}
		}
		if conditional.Load() > 0 != stored {
			t.Errorf("keep %s: %d conditional requests", keep, conditional.Load())
		}
	}
}

func TestDemo(t *testing.T) {
	p := launch(t, nil, "serve", "--demo=127.0.0.1:0", "--listen", "127.0.0.1:0", "--admin", "", "--log-format", "json")
	p.public = "http://" + p.await("listening")["address"].(string)
	p.await("The demo is ready. Open " + p.public + "/ or try, each line twice:")
	if got := ask(t, p.public+"/"); !strings.Contains(got.body, p.public+"/clock") {
		t.Errorf("the index does not name this address:\n%s", got.body)
	}
	first := ask(t, p.public+"/clock")
	if second := ask(t, p.public+"/clock"); second.body != first.body || !strings.HasPrefix(second.header.Get("Cache-Status"), "cacheproxy; hit") {
		t.Errorf("%+v", second)
	}
	for range 2 {
		if got := ask(t, p.public+"/private"); strings.Contains(got.header.Get("Cache-Status"), "hit") {
			t.Errorf("the private page: %+v", got)
		}
	}
	p.signal(syscall.SIGINT)
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d:\n%s", code, p.text())
	}
}

func TestDemoAlone(t *testing.T) {
	p := launch(t, nil, "demo", "--listen", "127.0.0.1:0")
	for p.text() == "" {
		<-p.news
	}
	_, address, _ := strings.Cut(p.log()[0]["text"].(string), "http://")
	if got := ask(t, "http://"+address+"/counter"); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d:\n%s", code, p.text())
	}
}

// A head that does not come to its end in time is answered, counted and logged, and so is one after an idle time.
func TestSlowHeadsAreAnswered(t *testing.T) {
	url, _ := origin(t)
	p := start(t, []string{"CACHEPROXY_SERVER_HEADER_TIMEOUT=100ms", "CACHEPROXY_SERVER_IDLE_TIMEOUT=10s"}, "--upstream", url)
	for _, before := range []string{"", "GET /page HTTP/1.1\r\nHost: a\r\n\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.public, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, before+"GET /slow HTTP/1.1\r\nHo")
		if all, err := io.ReadAll(conn); err != nil || !strings.Contains(string(all), "HTTP/1.1 408 Request Timeout\r\nCache-Status: cacheproxy; detail=head-timeout\r\n") {
			t.Errorf("%q, %v", all, err)
		}
	}
	if line := p.await("refused"); line["detail"] != "head-timeout" {
		t.Errorf("%v", line)
	}
	if got := p.metric("cacheproxy_faults_total", "head-timeout"); got != 2 {
		t.Errorf("%v are counted", got)
	}
}
