package limiter

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Handlers behind a limit may flush, hijack and panic as they could without it, whatever the limit's cost depends on.
func TestMiddlewarePassesOn(t *testing.T) {
	for _, cost := range []map[string]int64{nil, {"error": 0}} {
		r := newReplica(t, "", nil, Spec{Name: "a", Limit: 100, Window: time.Hour, Cost: cost})
		proceed := make(chan struct{})
		mux := http.NewServeMux()
		mux.HandleFunc("/events", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "first\n")
			w.(http.Flusher).Flush()
			<-proceed
		})
		mux.HandleFunc("/raw", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 299 Raw\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			conn.Close()
		})
		mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		server := httptest.NewServer(r.Middleware(mux))
		defer server.Close()
		client := server.Client()
		events, err := client.Get(server.URL + "/events")
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(events.Body).ReadString('\n'); line != "first\n" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		close(proceed)
		events.Body.Close()
		if raw, err := client.Get(server.URL + "/raw"); err != nil || raw.StatusCode != 299 {
			t.Errorf("%v, %v", raw, err)
		}
		if _, err := client.Get(server.URL + "/abort"); err == nil {
			t.Error("the connection was not aborted")
		}
		if res, err := client.Get(server.URL + "/broken"); err != nil || res.StatusCode != 502 {
			t.Errorf("%v, %v", res, err)
		}
		want := int64(96)
		if cost != nil {
			want = 98 // errors cost nothing
		}
		await(t, "counted", func() bool {
			told, err := r.Standing(t.Context(), "a", "127.0.0.1")
			return err == nil && told.Remaining == want
		})
	}
}

func TestMiddlewareRefuses(t *testing.T) {
	r := newReplica(t, "", nil, Spec{Name: "a", Limit: 1, Window: time.Hour, Status: 403})
	h := r.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	const body = `{"detail":"too many requests: the limit \"a\" is used up","limit":"a","status":403,"title":"Forbidden","type":"about:blank"}` + "\n"
	if w.Code != 403 || w.Body.String() != body || w.Header().Get("Retry-After") != "3600" || w.Header().Get("Cache-Control") != "no-store" ||
		w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v\n%s", w.Code, w.Header(), w.Body)
	}
}

// A client with which the promises could not be kept is refused.
func TestClientsOfRedis(t *testing.T) {
	for _, c := range []struct {
		client redis.UniversalClient
		want   string
	}{
		{redis.NewClient(&redis.Options{MaxRetries: -1}), "ContextTimeoutEnabled"},
		{redis.NewClient(&redis.Options{ContextTimeoutEnabled: true}), "MaxRetries"},
		{redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}}), "ContextTimeoutEnabled"},
	} {
		if _, err := New(Options{Redis: c.client}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
		c.client.Close()
	}
}
