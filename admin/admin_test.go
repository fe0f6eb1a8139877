package admin

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cacheproxy/metrics"
)

func mustNew(t *testing.T, o Options) http.Handler {
	t.Helper()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// purge registers a guarded route that says so when it was reached.
func purge(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/purge", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "purged") })
}

func ask(h http.Handler, method, path, host, authorization string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const everywhere, here, here6, socket = ":9090", "127.0.0.1:9090", "[::1]:9090", "unix:/run/admin.sock"

// whoMayAsk: the listener, the request, and the status it gets.
var whoMayAsk = []struct {
	name, listen, token, method, path, host, authorization string
	want                                                   int
}{
	{"probe from anywhere", everywhere, "", "GET", "/livez", "10.1.2.3:9090", "", 200},
	{"probe from anywhere, token set", everywhere, "t", "GET", "/readyz", "pod.example", "", 200},
	{"metrics from anywhere", everywhere, "t", "GET", "/metrics", "pod.example", "", 200},
	{"version from anywhere", everywhere, "t", "HEAD", "/v1/version", "pod.example", "", 200},
	{"no token configured", everywhere, "", "POST", "/v1/purge", "pod.example", "Bearer x", 403},
	{"no token configured, named host", "admin.example:9090", "", "POST", "/v1/purge", "localhost", "", 403},
	{"no token configured, unspecified address", "0.0.0.0:9090", "", "POST", "/v1/purge", "localhost", "", 403},
	{"no token configured, unknown path", everywhere, "", "GET", "/secret", "pod.example", "", 403},
	{"no token sent", everywhere, "t", "POST", "/v1/purge", "pod.example", "", 401},
	{"wrong token", everywhere, "t", "POST", "/v1/purge", "pod.example", "Bearer u", 401},
	{"prefix of the token", everywhere, "token", "POST", "/v1/purge", "pod.example", "Bearer tok", 401},
	{"empty token", everywhere, "t", "POST", "/v1/purge", "pod.example", "Bearer ", 401},
	{"other scheme", everywhere, "t", "POST", "/v1/purge", "pod.example", "Basic t", 401},
	{"right token", everywhere, "t", "POST", "/v1/purge", "pod.example", "Bearer t", 200},
	{"scheme in any case", everywhere, "t", "POST", "/v1/purge", "pod.example", "bEARER t", 200},
	{"open path by another spelling", everywhere, "t", "GET", "/livez/../v1/purge", "pod.example", "", 401},

	{"loopback", here, "", "POST", "/v1/purge", "127.0.0.1:9090", "", 200},
	{"loopback by name", here, "", "POST", "/v1/purge", "localhost:9090", "", 200},
	{"loopback by name, no port", here, "", "POST", "/v1/purge", "LocalHost.", "", 200},
	{"loopback by a name below localhost", here, "", "POST", "/v1/purge", "admin.localhost:9090", "", 200},
	{"loopback, other address", here, "", "POST", "/v1/purge", "127.9.9.9", "", 200},
	{"loopback, IPv6", here6, "", "POST", "/v1/purge", "[::1]:9090", "", 200},
	{"loopback, IPv6 without port", here6, "", "POST", "/v1/purge", "[::1]", "", 200},
	{"loopback, IPv4 in IPv6", here6, "", "POST", "/v1/purge", "[::ffff:127.0.0.1]:9090", "", 200},
	{"loopback, no Host", here, "", "GET", "/livez", "", "", 200},
	{"rebound name", here, "", "POST", "/v1/purge", "evil.example:9090", "", 403},
	{"rebound name, open path", here, "", "GET", "/metrics", "evil.example", "", 403},
	{"rebound name that looks right", here, "", "GET", "/livez", "127.0.0.1.evil.example", "", 403},
	{"rebound name that looks right", here, "", "GET", "/livez", "localhost.evil.example", "", 403},
	{"rebound name with the token", here, "t", "POST", "/v1/purge", "evil.example", "Bearer t", 403},
	{"other address as Host", here, "", "GET", "/livez", "10.0.0.1:9090", "", 403},
	{"loopback with a token, not sent", "localhost:9090", "t", "POST", "/v1/purge", "localhost", "", 401},
	{"loopback with a token, sent", "localhost:9090", "t", "POST", "/v1/purge", "localhost", "Bearer t", 200},

	{"socket", socket, "", "POST", "/v1/purge", "anything", "", 200},
	{"default address is loopback", "", "", "POST", "/v1/purge", "evil.example", "", 403},
}

func TestWhoMayAsk(t *testing.T) {
	for _, tt := range whoMayAsk {
		t.Run(tt.name, func(t *testing.T) {
			h := mustNew(t, Options{Listen: tt.listen, Token: tt.token, Metrics: metrics.New(), Handle: purge})
			w := ask(h, tt.method, tt.path, tt.host, tt.authorization)
			if w.Code != tt.want {
				t.Fatalf("status %d, want %d: %s", w.Code, tt.want, w.Body)
			}
			if w.Code >= 400 {
				wantProblem(t, w)
			}
			if w.Code == 401 && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Error("401 without a challenge")
			}
			if strings.HasPrefix(tt.name, "no token configured") && !strings.Contains(w.Body.String(), "admin.token_file") {
				t.Errorf("the answer does not say what to set: %s", w.Body)
			}
		})
	}
}

// wantProblem checks the form of RFC 9457 and returns the members.
func wantProblem(t *testing.T, w *httptest.ResponseRecorder) problemDetails {
	t.Helper()
	if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("Content-Type %q", ct)
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Error("may be cached")
	}
	var p problemDetails
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if p.Status != w.Code || p.Title == "" || p.Detail == "" {
		t.Errorf("problem %+v with status %d", p, w.Code)
	}
	return p
}

// A guarded route is guarded also where it takes the methods that an open path leaves.
func TestWiderRouteBesideAnOpenPath(t *testing.T) {
	h := mustNew(t, Options{Listen: everywhere, Token: "t", Metrics: metrics.New(), Handle: func(mux *http.ServeMux) {
		mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "guarded") })
		mux.HandleFunc("POST /{page}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "guarded") })
	}})
	for _, tt := range []struct {
		method, path, authorization string
		want                        int
	}{
		{"GET", "/v1/version", "", 200},
		{"HEAD", "/metrics", "", 200},
		{"DELETE", "/livez", "", 405},
		{"POST", "/v1/version", "", 401},
		{"POST", "/metrics", "", 401},
		{"POST", "/v1/version", "Bearer t", 200},
	} {
		if w := ask(h, tt.method, tt.path, "pod.example", tt.authorization); w.Code != tt.want {
			t.Errorf("%s %s: %d, want %d: %s", tt.method, tt.path, w.Code, tt.want, w.Body)
		}
	}
}

func TestRouting(t *testing.T) {
	h := mustNew(t, Options{Handle: purge})
	for _, tt := range []struct {
		method, path string
		want         int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/livez/", 404, ""},
		{"GET", "/v2/version", 404, ""},
		{"POST", "/livez", 405, "GET, HEAD"},
		{"DELETE", "/v1/version", 405, "GET, HEAD"},
		{"GET", "/v1/purge", 405, "POST"},
		{"GET", "/metrics", 404, ""}, // no Metrics were given
	} {
		w := ask(h, tt.method, tt.path, "localhost", "")
		if w.Code != tt.want || w.Header().Get("Allow") != tt.allow {
			t.Errorf("%s %s: %d, Allow %q; want %d, %q", tt.method, tt.path, w.Code, w.Header().Get("Allow"), tt.want, tt.allow)
		}
		wantProblem(t, w)
	}
}

func TestReady(t *testing.T) {
	var reasons []Problem
	h := mustNew(t, Options{Ready: func() []Problem { return reasons }})
	if w := ask(h, "GET", "/readyz", "localhost", ""); w.Code != 200 || w.Body.String() != "{\"status\":\"ready\"}\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	reasons = []Problem{{"drain", "shutting down"}, {"config", "not loaded"}}
	w := ask(h, "GET", "/readyz", "localhost", "")
	if p := wantProblem(t, w); w.Code != 503 || len(p.Reasons) != 2 || p.Reasons[0] != reasons[0] {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(h, "GET", "/livez", "localhost", ""); w.Code != 200 {
		t.Errorf("not live because not ready: %d", w.Code)
	}
	if w := ask(mustNew(t, Options{}), "GET", "/readyz", "localhost", ""); w.Code != 200 {
		t.Errorf("without Ready: %d", w.Code)
	}
}

func TestVersionAndMetrics(t *testing.T) {
	version := VersionInfo{Version: "1.2.3", Commit: "abc", Go: "go1.26", Instance: "a"}
	h := mustNew(t, Options{Version: version, Metrics: metrics.New()})
	w := ask(h, "GET", "/v1/version", "localhost", "")
	var got VersionInfo
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got != version {
		t.Errorf("%s, %v", w.Body, err)
	}
	if w := ask(h, "GET", "/metrics", "localhost", ""); !strings.Contains(w.Body.String(), "cacheproxy_fill_waiters 0") {
		t.Errorf("metrics: %d %.200s", w.Code, w.Body)
	}
}

func TestTokenFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	h := mustNew(t, Options{Listen: ":9090", TokenFile: write("token", "  secret\n"), Handle: purge})
	if w := ask(h, "POST", "/v1/purge", "h", "Bearer secret"); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, o := range []Options{
		{TokenFile: filepath.Join(dir, "none")},
		{TokenFile: write("empty", " \n")},
		{TokenFile: write("both", "x"), Token: "y"},
		{Listen: "9090"},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "admin.") {
			t.Errorf("%+v: error %v, want one that names the key", o, err)
		}
	}
}
