package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asker is a command that asks a running process, as a process of its own.
type asker struct {
	*process
	out *bufio.Reader // its standard output
}

// askOperator starts a command that asks p.
func (p *process) askOperator(variables []string, arguments ...string) *asker {
	p.t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { reader.Close() })
	defer writer.Close()
	arguments = append(arguments, "--admin", p.operator)
	return &asker{launchTo(p.t, writer, variables, arguments...), bufio.NewReader(reader)}
}

// line returns the next line of the command's output, "" at the end.
func (a *asker) line() string {
	a.t.Helper()
	line, err := a.out.ReadString('\n')
	if err != nil && err != io.EOF {
		a.t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// rest returns all that is left of the output, and the exit code.
func (a *asker) rest() (text string, code int) {
	a.t.Helper()
	all, err := io.ReadAll(a.out)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(all), a.end()
}

func tokenFile(t *testing.T, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func following(p *process) string {
	return "following " + strings.TrimPrefix(p.operator, "http://") + "; Ctrl-C ends it"
}

// Requests are shown as they pass: hits too, chosen by the flags, with what is redacted left out. Ctrl-C is how it ends.
func TestLogFollows(t *testing.T) {
	url, _ := origin(t)
	file := writeConfig(t, "log: {redact: [token]}\n")
	p := start(t, nil, "--config", file, "--upstream", url)
	all := p.askOperator(nil, "log", "-f")
	hits := p.askOperator(nil, "log", "-f", "--outcome", "hit", "--url", "/page*", "--json", "-n", "1")
	all.await(following(p))
	hits.await(following(p))
	ask(t, p.public+"/page?token=hunter2")
	ask(t, p.public+"/page?token=hunter2")
	host := strings.TrimPrefix(p.public, "http://")
	for _, want := range []string{" 200 uri-miss  none ", " 200 hit       near "} {
		if got := all.line(); !strings.Contains(got, want) || !strings.HasSuffix(got, " GET    "+host+"/page?token=REDACTED 127.0.0.1") || strings.Contains(got, "\x1b") {
			t.Errorf("%q, want%s", got, want)
		}
	}
	all.signal(syscall.SIGINT)
	if text, code := all.rest(); text != "" || code != exitFine {
		t.Errorf("exit code %d after %q:\n%s", code, text, all.text())
	}
	text, code := hits.rest()
	var line logLine
	if json.Unmarshal([]byte(text), &line) != nil || line["outcome"] != "hit" || line["target"] != "/page?token=REDACTED" || line["msg"] != "request" || code != exitFine {
		t.Errorf("exit code %d after %q", code, text)
	}
}

// A reload is nothing to who follows, but that the new log.redact holds.
func TestLogOverAReload(t *testing.T) {
	url, _ := origin(t)
	file := writeConfig(t, "log: {redact: [token]}\n")
	p := start(t, nil, "--config", file, "--upstream", url)
	all := p.askOperator(nil, "log", "-f")
	all.await(following(p))
	ask(t, p.public+"/page?token=1&key=2")
	if err := os.WriteFile(file, []byte("log: {redact: [key]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := http.Post(p.operator+"/v1/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	ask(t, p.public+"/page?token=1&key=2")
	for _, want := range []string{"/page?token=REDACTED&key=2 ", "/page?token=1&key=REDACTED "} {
		if got := all.line(); !strings.Contains(got, want) {
			t.Errorf("%q, want %s", got, want)
		}
	}
}

// Without -f it shows what was no hit of late.
func TestLogOfBefore(t *testing.T) {
	url, _ := origin(t)
	p := start(t, []string{"CACHEPROXY_LOG_ACCESS_SAMPLE=0"}, "--upstream", url)
	for _, path := range []string{"/a", "/a", "/b", "/c"} {
		ask(t, p.public+path)
	}
	text, code := p.askOperator(nil, "log", "-n", "2").rest()
	if lines := strings.Split(text, "\n"); len(lines) != 3 || !strings.Contains(lines[0], "/b ") || !strings.Contains(lines[1], "/c ") || code != exitFine {
		t.Errorf("exit code %d after %q", code, text)
	}
	if text, code := p.askOperator(nil, "log", "--status", "5xx").rest(); text != "" || code != exitFine {
		t.Errorf("exit code %d after %q", code, text)
	}
}

// The process's end is said, after its last requests.
func TestLogOfAProcessThatEnds(t *testing.T) {
	url, _ := origin(t)
	p := start(t, nil, "--upstream", url)
	all := p.askOperator(nil, "log", "-f")
	all.await(following(p))
	ask(t, p.public+"/last")
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Errorf("the process ends with code %d", code)
	}
	text, code := all.rest()
	if !strings.Contains(text, "/last ") || code != exitFailed || !strings.Contains(all.text(), ": the process is ending") {
		t.Errorf("exit code %d after %q:\n%s", code, text, all.text())
	}
	killed := start(t, nil, "--upstream", url)
	all = killed.askOperator(nil, "log", "-f")
	all.await(following(killed))
	killed.signal(syscall.SIGKILL)
	if text, code := all.rest(); code != exitFailed || !strings.Contains(all.text(), ": the process ended, or gave up on this reader") {
		t.Errorf("exit code %d after %q:\n%s", code, text, all.text())
	}
}

// The log reveals what passes, so it needs the token where there is one; the metrics do not.
func TestLogNeedsTheToken(t *testing.T) {
	url, _ := origin(t)
	right, wrong := tokenFile(t, "right"), tokenFile(t, "wrong")
	p := start(t, []string{"CACHEPROXY_ADMIN_TOKEN_FILE=" + right}, "--upstream", url)
	ask(t, p.public+"/page")
	for _, tt := range []struct {
		variables, arguments []string
		code                 int
		want                 string
	}{
		{nil, []string{"log"}, exitFailed, "401 Unauthorized: want Authorization: Bearer and the token of admin.token_file"},
		{nil, []string{"log", "-f", "--token-file", wrong}, exitFailed, "401 Unauthorized: want Authorization: Bearer and the token of admin.token_file"},
		{nil, []string{"log", "--token-file", right}, exitFine, ""},
		{[]string{"CACHEPROXY_ADMIN_TOKEN_FILE=" + right}, []string{"log"}, exitFine, ""},
		{nil, []string{"log", "--token-file", right + "x"}, exitUsage, "--token-file: open "},
		{nil, []string{"stats", "-n", "1", "--interval", "100ms"}, exitFine, ""},
	} {
		a := p.askOperator(tt.variables, tt.arguments...)
		text, code := a.rest()
		if code != tt.code || !strings.Contains(a.text(), tt.want) || (text != "") != (tt.code == exitFine) {
			t.Errorf("%v: exit code %d after %q:\n%s", tt.arguments, code, text, a.text())
		}
	}
}

// printed returns what the command prints of lines that no process of ours sends at will.
func printed(t *testing.T, lines string, arguments ...string) (stdout, stderr string, code int) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, lines) }))
	defer server.Close()
	var out, notes bytes.Buffer
	code = run(append([]string{"log", "--admin", server.URL}, arguments...), &out, &notes)
	return out.String(), notes.String(), code
}

// What strangers send stays text, and what is missing is said: in JSON, in its place.
func TestLinesOfTheLog(t *testing.T) {
	const lines = `{"time":"2026-01-02T03:04:05.678Z","method":"GET","host":"a.example","target":"/\u001b[2J\u202ex","status":502,"bytes":1536,"ms":1234.5,` +
		`"outcome":"error","tier":"none","detail":"upstream-failed","client":"192.0.2.1","error":"no\nroute"}` + "\n" + `{"dropped":12}` + "\n"
	at := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC).Local().Format("15:04:05.000")
	out, notes, code := printed(t, lines)
	want := at + ` 502 error     none      1.2s   1.5K GET    a.example/\x1b[2J\u202ex upstream-failed 192.0.2.1 no\nroute` + "\n"
	if out != want || notes != "12 requests are not shown: they came faster than they were read\n" || code != exitFine {
		t.Errorf("exit code %d, %q, want\n%q\n%s", code, out, want, notes)
	}
	if out, notes, code = printed(t, lines, "--json"); out != lines || notes != "" || code != exitFine {
		t.Errorf("exit code %d, %q, %s", code, out, notes)
	}
	if _, notes, code = printed(t, "<html>\n"); code != exitFailed || !strings.Contains(notes, "a line is no JSON") {
		t.Errorf("exit code %d, %s", code, notes)
	}
	if _, notes, code = printed(t, `{"method":"GET"`); code != exitFailed || !strings.Contains(notes, "the process ended") {
		t.Errorf("exit code %d, %s", code, notes)
	}
}

func TestColours(t *testing.T) {
	l := loggedRequest{Status: 404, Outcome: "hit", Tier: "near"}
	if got := l.text(terminal{colours: true}); !strings.Contains(got, "\x1b[33m404\x1b[0m") || !strings.Contains(got, "\x1b[32mhit      \x1b[0m") {
		t.Errorf("%q", got)
	}
	if got := l.text(terminal{}); strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := terminalOf(file); got != (terminal{}) {
		t.Errorf("a file is taken for a terminal: %+v", got)
	}
}

func TestShortNumbers(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{shortSeconds(0), "0µs"}, {shortSeconds(.000045), "45µs"}, {shortSeconds(.0009996), "1.0ms"}, {shortSeconds(.0012), "1.2ms"},
		{shortSeconds(.34), "340ms"}, {shortSeconds(.9996), "1.0s"}, {shortSeconds(3.44), "3.4s"}, {shortSeconds(125), "2m5s"},
		{shortBytes(0), "0"}, {shortBytes(1023), "1023"}, {shortBytes(1536), "1.5K"}, {shortBytes(240 << 20), "240M"}, {shortBytes(1023.9 * 1024), "1.0M"},
		{shortCount(0), "0"}, {shortCount(.44), "0.4"}, {shortCount(12.3), "12"}, {shortCount(9999), "9999"}, {shortCount(45600), "46k"}, {shortCount(1.25e6), "1.2M"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
	}
}
