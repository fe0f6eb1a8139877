package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// parseQuery reads the query of a request. What cannot be read of it is a mistake: it may have been meant to keep something from happening, and
// url.URL.Query would leave it out.
func parseQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("the query cannot be read: %w; parameters are parted by &, and a ; in a value is written %%3B, a %% is %%25", err)
	}
	return query, nil
}

// parameters reads a query that has no others than those known. ok is false when it has answered.
func parameters(w http.ResponseWriter, r *http.Request, known ...string) (query url.Values, ok bool) {
	query, err := parseQuery(r)
	if err != nil {
		WriteProblem(w, http.StatusBadRequest, err.Error(), nil)
		return nil, false
	}
	for name := range query {
		if !slices.Contains(known, name) {
			told := fmt.Sprintf("%.100q is no parameter here", name)
			if len(known) > 0 {
				told += ": " + strings.Join(known, ", ")
			}
			WriteProblem(w, http.StatusBadRequest, told, nil)
			return nil, false
		}
	}
	return query, true
}
