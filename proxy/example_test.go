package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"cacheproxy/proxy"
)

// A cache around any handler of a Go service: the second request does not reach it.
func ExampleNew() {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintln(w, "hello")
	})
	cache, err := proxy.New(proxy.Options{Next: proxy.FromHandler(hello)})
	if err != nil {
		panic(err)
	}
	defer cache.Close(context.Background())

	for range 2 {
		w := httptest.NewRecorder()
		cache.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		fmt.Print(w.Header().Get("Cache-Status"), "\n", w.Body)
	}
	// Output:
	// cacheproxy; fwd=uri-miss; ttl=60; stored
	// hello
	// cacheproxy; hit; ttl=60
	// hello
}
