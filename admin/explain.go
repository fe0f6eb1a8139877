package admin

import (
	"net/http"

	"cacheproxy/proxy"
)

// Explain answers POST /v1/explain: the body is a proxy.Question, the answer the proxy.Explanation of such a request at this moment.
// Nothing is fetched, stored or counted by asking. It must be guarded: explanations tell what is stored, by whatever key.
//
//	{"method": "GET", "url": "https://shop.example/products/1", "headers": [["Accept-Language", "de"]], "client": "192.0.2.7"}
func Explain(explain func(*http.Request) proxy.Explanation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q proxy.Question
		if !readJSON(w, r, &q) {
			return
		}
		asked, err := q.Request(r.Context())
		if err != nil {
			WriteProblem(w, http.StatusBadRequest, err.Error(), nil)
			return
		}
		WriteJSON(w, http.StatusOK, explain(asked))
	})
}
