package proxy

import (
	"net/http"
	"strconv"

	"cacheproxy/policy"
)

// Max-Forwards says through how many proxies an OPTIONS or a TRACE may go (RFC 9110 section 7.6.2): one less is passed on, and with none left we
// are the server that was asked.

// mayForward reports whether the request may go on. Where it may not, it has been answered. A field that is no number means nothing.
func (j *journey) mayForward() bool {
	if j.r.Method != http.MethodOptions && j.r.Method != http.MethodTrace {
		return true
	}
	values := j.r.Header["Max-Forwards"]
	if len(values) != 1 {
		return true
	}
	n, err := strconv.ParseUint(values[0], 10, 31)
	switch {
	case err != nil:
		return true
	case n > 0:
		j.forwards = strconv.FormatUint(n-1, 10)
		return true
	}
	j.outcome.Fwd = policy.FwdNone
	if j.r.Method == http.MethodTrace {
		j.problem(problem{
			status: http.StatusMethodNotAllowed, reason: policy.MethodNotStored, detail: "this proxy says nothing of what it received",
			header: http.Header{"Allow": {"OPTIONS"}},
		})
		return false
	}
	j.w.Header()["Cache-Control"] = []string{"no-store"}
	j.w.Header()["Content-Length"] = []string{"0"}
	j.write(http.StatusOK, nil)
	return false
}
