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
	"syscall"
	"testing"
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
	post := func(body io.Reader) int {
		transport := &http.Transport{DisableKeepAlives: true}
		r, err := (&http.Client{Transport: transport}).Post(p.public+"/", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode
	}
	if got := post(strings.NewReader("0123456789")); got != http.StatusOK {
		t.Errorf("10 bytes: status %d", got)
	}
	before := requests.Load()
	if got := post(strings.NewReader("0123456789a")); got != http.StatusRequestEntityTooLarge || requests.Load() != before {
		t.Errorf("11 bytes: status %d", got)
	}
	if got := post(io.MultiReader(strings.NewReader("0123456789"), strings.NewReader("a"))); got != http.StatusRequestEntityTooLarge {
		t.Errorf("11 bytes of undeclared length: status %d", got)
	}
}

func TestHostThatNoSiteNames(t *testing.T) {
	url, _ := origin(t)
	file := writeConfig(t, fmt.Sprintf("sites: [{hosts: [shop.example], upstream: '%s'}]\n", url))
	p := start(t, nil, "--config", file)
	if got := p.askAs("http://shop.example/"); got.status != http.StatusOK {
		t.Errorf("the site's own host: %+v", got)
	}
	if got := p.askAs("http://other.example/"); got.status != http.StatusMisdirectedRequest {
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

func TestBoundedListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	slots := make(chan struct{}, 1)
	l := newBounded(inner, slots)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	dial()
	dial()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	one := <-accepted
	if len(slots) != 1 {
		t.Errorf("%d slots are taken", len(slots))
	}
	one.(interface{ CloseWrite() error }).CloseWrite()
	one.Close()
	one.Close() // a second Close gives nothing back
	two := <-accepted
	l.Close() // while Accept waits for a slot
	if conn, more := <-accepted; more {
		t.Errorf("accepted %v after Close", conn)
	}
	two.Close()
	if newBounded(inner, make(chan struct{})) != inner {
		t.Error("no bound, and yet wrapped")
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
