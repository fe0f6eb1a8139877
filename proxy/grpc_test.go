package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"cacheproxy/upstream"
)

// What gRPC needs of a proxy: HTTP/2 in and out, content and response at the same time in both directions, trailers at the end, and TE.
func TestBidirectionalStreamOverCleartextHTTP2(t *testing.T) {
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	echo := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_ = http.NewResponseController(w).Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			_, _ = fmt.Fprintf(w, "%s %s %s\n", r.Proto, r.Header.Get("Te"), lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("Grpc-Status", "0")
	}))
	echo.Config.Protocols = h2c
	echo.Start()
	defer echo.Close()
	u, err := upstream.New(upstream.Options{URL: "h2c" + echo.URL[len("http"):]})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	h, err := New(Options{Next: u})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close(context.Background())
	front := httptest.NewUnstartedServer(h)
	front.Config.Protocols = h2c
	front.Start()
	defer front.Close()
	client := &http.Transport{Protocols: h2c}
	defer client.CloseIdleConnections()

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	pr, pw := io.Pipe()
	req, _ := http.NewRequestWithContext(ctx, "POST", front.URL+"/pkg.Service/Method", pr)
	req.Header.Set("Te", "trailers")
	res, err := client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answers := bufio.NewScanner(res.Body)
	for _, message := range []string{"one", "two", "three"} {
		_, _ = io.WriteString(pw, message+"\n")
		if answers.Scan(); answers.Text() != "HTTP/2.0 trailers "+message {
			t.Errorf("got %q", answers.Text())
		}
	}
	_ = pw.Close()
	if answers.Scan() || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("trailers %v", res.Trailer)
	}
}
