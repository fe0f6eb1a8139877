package proxy

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"cacheproxy/upstream"
)

// Who is told that the upstream gave no usable response looks for the mistake there.
func TestProblemsSayWhoseTheyAre(t *testing.T) {
	for _, c := range []struct {
		cause  upstream.Cause
		status int
		detail string
	}{
		{upstream.HTTPRequestError, 400, "the request, or its content, cannot be passed on as it came"},
		{upstream.HTTPResponseTimeout, 504, "the upstream did not answer in time"},
		{upstream.ConnectionRefused, 502, "the upstream gave no usable response"},
	} {
		r := newRig(t, nil, func(o *Options) {
			o.Next = roundTripper(func(*http.Request) (*http.Response, error) {
				return nil, &upstream.Error{Cause: c.cause, Err: errors.New("so it is")}
			})
		})
		a := r.do("POST", "/", nil)
		if a.StatusCode != c.status || !strings.Contains(a.body, c.detail) || a.Header.Get("Proxy-Status") != "cacheproxy; error="+c.cause.String() {
			t.Errorf("%s: %d, Proxy-Status %q, %s", c.cause, a.StatusCode, a.Header.Get("Proxy-Status"), a.body)
		}
	}
}
