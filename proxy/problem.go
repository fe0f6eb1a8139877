package proxy

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cacheproxy/policy"
	"cacheproxy/upstream"
)

// problem is a response of our own: a refusal, or what we say when the upstream gave no response.
type problem struct {
	status     int
	reason     policy.Reason
	detail     string         // one sentence for a person
	cause      upstream.Cause // why the upstream failed, for Proxy-Status; the zero Cause = it did not
	retryAfter time.Duration
	header     http.Header
	limit      string // the name of the limit that refuses
}

// upstreamProblem says what an error of the upstream means to the client. The status is the one that RFC 9209 recommends for its
// cause; what another round tripper than upstream.Upstream reports is taken as "not available".
func upstreamProblem(err error, method string) problem {
	if method == http.MethodConnect {
		return problem{status: http.StatusNotImplemented, reason: policy.MethodNotStored, detail: "CONNECT is for forward proxies; this is none"}
	}
	p := problem{status: http.StatusBadGateway, reason: policy.UpstreamFailed, cause: upstream.DestinationUnavailable, detail: "the upstream gave no usable response"}
	var known *upstream.Error
	if errors.As(err, &known) {
		p.cause, p.status = known.Cause, known.Cause.Status()
	}
	switch {
	case p.cause == upstream.HTTPRequestError:
		p.detail = "the request, or its content, cannot be passed on as it came"
	case p.status == http.StatusGatewayTimeout:
		p.detail = "the upstream did not answer in time"
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		p = problem{status: http.StatusRequestEntityTooLarge, reason: policy.TooLarge, detail: "the request's content is larger than server.max_body allows"}
	}
	return p
}

// problem answers with the error, as problem+json (RFC 9457) where the client accepts JSON and as a line of text where not.
func (j *journey) problem(p problem) {
	j.outcome.Hit, j.outcome.HasTTL, j.outcome.Detail = false, false, p.reason
	h := j.w.Header()
	for name, values := range p.header {
		h[name] = values
	}
	j.tellLimits(h)
	if j.tells() {
		h["Cache-Status"] = []string{string(j.outcome.AppendCacheStatus(nil, j.h.opt.Cache.Name))}
	}
	if token := p.cause.String(); token != "" {
		h["Proxy-Status"] = []string{j.h.opt.Cache.Name + "; error=" + token}
	}
	if p.retryAfter > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(int64((p.retryAfter+time.Second-1)/time.Second), 10)}
	}
	h["Cache-Control"] = []string{"no-store"}
	body := []byte(p.detail + "\n")
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	if acceptsJSON(j.r.Header) {
		h["Content-Type"] = []string{"application/problem+json"}
		told := map[string]any{
			"type": "about:blank", "title": http.StatusText(p.status), "status": p.status, "detail": p.detail, "reason": p.reason.String(),
		}
		if p.limit != "" {
			told["limit"] = p.limit
		}
		body, _ = json.Marshal(told) // strings and a number: cannot fail
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	j.write(p.status, body)
}

// acceptsJSON: no Accept at all, or one that names JSON or anything.
func acceptsJSON(h http.Header) bool {
	accept := h["Accept"]
	if len(accept) == 0 {
		return true
	}
	for _, line := range accept {
		if strings.Contains(line, "json") || strings.Contains(line, "application/*") || strings.HasPrefix(line, "*/*") {
			return true
		}
	}
	return false
}
