package limiter_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"cacheproxy/limiter"
)

// A limit in front of any handler. With Options.Redis the processes that share it would share the limit.
func ExampleLimiter_Middleware() {
	limits, err := limiter.New(limiter.Options{
		Limits: []limiter.Spec{{Name: "per-client", Limit: 2, Window: time.Minute}},
	})
	if err != nil {
		panic(err)
	}
	defer limits.Close(context.Background())

	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	handler := limits.Middleware(hello)
	for range 3 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		fmt.Println(w.Code, w.Header().Get("RateLimit"))
	}
	// Output:
	// 200 "per-client";r=1;t=60
	// 200 "per-client";r=0;t=60
	// 429 "per-client";r=0;t=60
}
