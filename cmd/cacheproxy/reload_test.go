package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// postReload is what POST /v1/reload answers.
func (p *process) postReload() (status int, body map[string]any) {
	p.t.Helper()
	r, err := http.Post(p.operator+"/v1/reload", "", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		p.t.Fatal(err)
	}
	return r.StatusCode, body
}

// awaitCount waits until so many lines of the log say what.
func (p *process) awaitCount(what string, n int) logLine {
	p.t.Helper()
	var found []logLine
	await(p.t, func() bool {
		found = nil
		for _, line := range p.log() {
			if line["msg"] == what {
				found = append(found, line)
			}
		}
		return len(found) >= n
	}, func() string { return fmt.Sprintf("%q was logged %d times\n%s", what, len(found), p.text()) })
	return found[len(found)-1]
}

func TestReload(t *testing.T) {
	url, _ := origin(t)
	file := writeConfig(t, "rules:\n  - match: {path: /page}\n    ttl: 1h\ncache: {name: first}\n")
	p := start(t, nil, "--config", file, "--upstream", url)
	status := func(path string) string { return ask(t, p.public+path).header.Get("Cache-Status") }
	if got := status("/page?1"); got != "first; fwd=uri-miss; ttl=3600; stored" {
		t.Errorf("%s", got)
	}
	rewrite(t, file, "1h", "2h")
	rewrite(t, file, "first", "second")
	rewrite(t, file, "cache:", "near: {size: 64MiB}\ncache:")
	code, body := p.postReload()
	want := map[string]any{"generation": 2.0, "changed": []any{"cache", "rules"}, "needs_restart": []any{"near"}}
	if code != http.StatusOK || !reflect.DeepEqual(body, want) {
		t.Errorf("%d %v, want %v", code, body, want)
	}
	if got := status("/page?2"); got != "second; fwd=uri-miss; ttl=7200; stored" {
		t.Errorf("%s", got)
	}
	if got := status("/page?1"); !strings.HasPrefix(got, "second; hit") {
		t.Errorf("what was stored before: %s", got)
	}

	rewrite(t, file, "2h", "2 hours")
	code, body = p.postReload()
	if mistakes := fmt.Sprint(body["mistakes"]); code != http.StatusUnprocessableEntity || !strings.Contains(mistakes, "line:3") || !strings.Contains(mistakes, "rules[0].ttl") {
		t.Errorf("%d %v", code, body)
	}
	p.signal(syscall.SIGHUP)
	if line := p.awaitCount("the configuration was not reloaded: the one before stays", 2); !strings.Contains(fmt.Sprint(line["error"]), file+":3: rules[0].ttl: ") {
		t.Errorf("%v", line)
	}
	if got := status("/page?3"); got != "second; fwd=uri-miss; ttl=7200; stored" {
		t.Errorf("after bad files: %s", got)
	}
	rewrite(t, file, "2 hours", "3h")
	p.signal(syscall.SIGHUP)
	p.awaitCount("the configuration was reloaded, but for what needs a restart", 2)
	if got := status("/page?4"); got != "second; fwd=uri-miss; ttl=10800; stored" {
		t.Errorf("%s", got)
	}
	rewrite(t, file, "near: {size: 64MiB}\n", "")
	if _, body := p.postReload(); !reflect.DeepEqual(body["needs_restart"], []any{}) {
		t.Errorf("%v", body)
	}
	for with, want := range map[string]float64{`"ok"`: 3, `"refused"`: 2} {
		if got := p.metric("cacheproxy_reloads_total", with); got < want { // more where the file was looked at in between
			t.Errorf("%v reloads are %s, want %v", got, with, want)
		}
	}
	if got := p.metric("cacheproxy_config_generation", ""); got < 4 {
		t.Errorf("generation %v", got)
	}
}

// A file that changes is loaded by itself, and one that is bad is told of once.
func TestChangedFileIsLoaded(t *testing.T) {
	url, _ := origin(t)
	file := writeConfig(t, "cache: {name: first}\n")
	p := start(t, nil, "--config", file, "--upstream", url)
	if err := os.WriteFile(file, []byte("cache: {name: second}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if line := p.await("the configuration was reloaded"); line["why"] != "the file has changed" {
		t.Errorf("%v", line)
	}
	if got := ask(t, p.public+"/page").header.Get("Cache-Status"); !strings.HasPrefix(got, "second;") {
		t.Errorf("%s", got)
	}
	if err := os.WriteFile(file, []byte("cache: {nome: third}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.await("the configuration was not reloaded: the one before stays")
}

// Fifty reloads under load, of good and bad files: no request fails, and no event stream ends.
func TestReloadsUnderLoad(t *testing.T) {
	p, file, _ := startSecure(t, newClientsOrigin(t), "cache: {keep: 1h}\n")
	c := &clients{plain: p.public, secure: p.secureOf()}
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() { c.run(done); close(ended) }()
	const reloads = 50
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for i := range reloads {
		<-pace.C
		if i%3 == 0 {
			rewrite(t, file, "keep: ", "kept: ")
		}
		status, body := p.postReload()
		if want := map[bool]int{true: 422, false: 200}[i%3 == 0]; status != want {
			t.Fatalf("reload %d: %d %v", i, status, body)
		}
		if i%3 == 0 {
			rewrite(t, file, "kept: ", "keep: ")
		}
	}
	close(done)
	<-ended
	if c.check(t); c.streams.Load() > 0 {
		t.Errorf("%d event streams have ended", c.streams.Load())
	}
	// What the old configurations had is given back.
	await(t, func() bool { return p.metric("go_goroutines", "") <= 100 }, func() string {
		return fmt.Sprintf("%v goroutines are left", p.metric("go_goroutines", ""))
	})
}

// Certificates are replaced under load: every handshake succeeds, and the new one is served.
func TestCertificatesReplacedUnderLoad(t *testing.T) {
	p, _, dir := startSecure(t, newClientsOrigin(t), "")
	c := &clients{secure: p.secureOf()}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { c.run(done); close(ended) }()
	for serial := int64(2); serial <= 4; serial++ {
		writeCertificate(t, dir, "a.example", serial)
		p.awaitCount("certificates were loaded again", int(serial)-1)
		conn, err := tls.Dial("tcp", p.listening()[1], &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != serial {
			t.Errorf("certificate %d, want %d", got, serial)
		}
		conn.Close()
	}
	close(done)
	<-ended
	c.check(t)
}
