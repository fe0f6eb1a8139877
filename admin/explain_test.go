package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cacheproxy/proxy"
)

// post asks the guarded listener with a body.
func post(h http.Handler, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Host = "localhost"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestExplain(t *testing.T) {
	origin := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the origin was asked") })
	cache, err := proxy.New(proxy.Options{Next: proxy.FromHandler(origin), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close(context.Background())
	routes := func(mux *http.ServeMux) { mux.Handle("POST /v1/explain", Explain(cache.Explain)) }
	h := mustNew(t, Options{Handle: routes})
	w := post(h, "/v1/explain", `{"method": "HEAD", "url": "https://shop.example/a?b", "headers": [["X-Forwarded-Host", "evil.example"]], "client": "192.0.2.7"}`)
	var e proxy.Explanation
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 200 {
		t.Fatalf("%d %v: %s", w.Code, err, w.Body)
	}
	if e.Method != "HEAD" || e.Key.URL != "https://shop.example/a?b" || e.Client.Address != "192.0.2.7" || e.CacheStatus != "cacheproxy; fwd=uri-miss" ||
		e.Forward.Header.Get("X-Forwarded-Host") != "shop.example" {
		t.Errorf("%+v", e)
	}
	for body, want := range map[string]string{
		"":                                  "it is empty",
		"[]":                                "cannot unmarshal",
		`{"url": "/path"}`:                  "url: ",
		`{"ural": "http://a.example/"}`:     `unknown field "ural"`,
		`{"url": "http://a.example/"} {}`:   "follows",
		`{"url": "http://a.example/\u0000"`: "EOF",
		`{"url": "` + strings.Repeat("x", maxQuestion) + `"}`:               "too large",
		`{"url": "http://a.example/", "headers": [["A", "x\r\nB: y"]]}`:     "headers[0]: ",
		`{"url": "http://a.example/", "headers": {"A": "b"}}`:               "cannot unmarshal",
		`{"url": "http://a.example/", "client": "10.0.0.1:80"}`:             "client: ",
		`{"url": "http://a.example/", "method": "GET / HTTP/1.1\r\nHost:"}`: "method: ",
	} {
		w := post(h, "/v1/explain", body)
		if p := wantProblem(t, w); !strings.Contains(p.Detail, want) || w.Code != 400 && w.Code != 413 {
			t.Errorf("%.80s: %d %s, want %q", body, w.Code, p.Detail, want)
		}
	}
	if w := ask(mustNew(t, Options{Listen: everywhere, Token: "t", Handle: routes}), "POST", "/v1/explain", "pod.example", ""); w.Code != 401 {
		t.Errorf("without the token: %d", w.Code)
	}
	if w := ask(h, "GET", "/v1/explain", "localhost", ""); w.Code != 405 {
		t.Errorf("GET: %d", w.Code)
	}
}
