package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// operator is a server in place of an operator's listener.
func operator(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s.URL
}

func tellOf(arguments ...string) (out, prose string, code int) {
	var o, p bytes.Buffer
	code = run(arguments, &o, &p)
	return o.String(), p.String(), code
}

const sweptReceipt = `{"sequence": 7, "applied": ["a"], "complete": true, "matched": 1, "swept": 1, "bytes": 5, "sample": [], "sweep": {"state": %q}}`

// Counting before a purge may take as long as a preview, unless it is said how long.
func TestWaitOfACautiousPurge(t *testing.T) {
	var asked string
	at := operator(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query().Get("wait")
		fmt.Fprintf(w, sweptReceipt, "swept")
	})
	for arguments, want := range map[string]string{"": "1s", "--max 3": "", "--max 3 --wait 5s": "5s", "--wait 0": "0s"} {
		if _, prose, code := tellOf(append(strings.Fields(arguments), "purge", "http://a.example/", "--admin", at)...); code != exitFine || asked != want {
			t.Errorf("%s: waits for %q, exit code %d, %s", arguments, asked, code, prose)
		}
	}
}

// A purge that is made is told of, also where it cannot be watched to its end.
func TestWatchingThatFails(t *testing.T) {
	at := operator(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "POST /v1/purge":
			fmt.Fprintf(w, sweptReceipt, "running")
		case "GET /v1/purges/8":
			fmt.Fprintf(w, `{"sequence": 8, "tags": ["x"], "receipt": `+sweptReceipt+"}", "running")
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	for _, tt := range []struct{ arguments, want string }{
		{"purge --tag x --watch", "applied   by all, 1 of 1\n"}, {"purge --tag x --watch --json", `"sequence":7`}, {"purges 8 --watch", "applied   by all, 1 of 1\n"},
	} {
		out, prose, code := tellOf(append(strings.Fields(tt.arguments), "--admin", at)...)
		if code != exitFailed || !strings.Contains(out, tt.want) || !strings.Contains(prose, "watching ended: 503 Service Unavailable") {
			t.Errorf("%s: exit code %d\n%s%s", tt.arguments, code, out, prose)
		}
	}
}

// What some server answers is shown in a line, and moves no cursor.
func TestAnswerOfAnotherServer(t *testing.T) {
	for body, want := range map[string]string{
		"<html>\n<p>\x1b[2Jno":    `404 Not Found: <html> <p>\x1b[2Jno` + "\n",
		"":                        "404 Not Found\n",
		`{"detail": "\u001b[2J"}`: `404 Not Found: \x1b[2J` + "\n",
		strings.Repeat("x", 5000): "404 Not Found: " + strings.Repeat("x", maxForeign) + " ...\n",
	} {
		at := operator(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, body)
		})
		if _, prose, code := tellOf("replicas", "--admin", at); code != exitFailed || prose != "cacheproxy: "+want {
			t.Errorf("exit code %d: %q, want %q", code, prose, want)
		}
	}
}

// What was wrong is at the end of a line, not of a screen.
func TestMistakeOfALongPurge(t *testing.T) {
	arguments := []string{"purge"}
	for i := range 101 {
		arguments = append(arguments, "--tag", fmt.Sprint("tag", i))
	}
	for _, arguments := range [][]string{arguments, {"purge", "*" + strings.Repeat("é", 9000)}} {
		if _, prose, code := tellOf(arguments...); code != exitUsage || len(prose) > 400 || !strings.Contains(prose, "tags are 101: want 1 to 100") && !strings.Contains(prose, "longer than 8192 bytes") {
			t.Errorf("exit code %d: %s", code, prose)
		}
	}
}

func TestStruckOff(t *testing.T) {
	at := operator(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"removed": %q}`, strings.TrimPrefix(r.Method+" "+r.URL.Path, "DELETE /v1/replicas/"))
	})
	const id = "web-3/127.0.0.1:9090#5f3a9c01"
	if out, prose, code := tellOf("replicas", "--remove", id, "--admin", at); code != exitFine || out != "" || prose != id+" is struck off\n" {
		t.Errorf("exit code %d: %s%s", code, out, prose)
	}
	if out, prose, code := tellOf("replicas", "--remove", id, "--json", "--admin", at); code != exitFine || !strings.Contains(out, `"removed": "`+id+`"`) || prose != "" {
		t.Errorf("exit code %d: %s%s", code, out, prose)
	}
}
