package wire

import (
	"net/http"
	"strconv"
	"time"

	"cacheproxy/policy"
)

// Refuse answers a request of HTTP/2 that cannot become one of HTTP/1.1 without a doubt, and reports whether it did. net/http has read its frames
// and refused what RFC 9113 section 8.2 forbids; it takes any path, any authority, and a Content-Length that is not so. Requests of HTTP/1.x
// have been judged on their connection.
func (g *Gate) Refuse(w http.ResponseWriter, r *http.Request) bool {
	if r.ProtoMajor != 2 || g.opt.Lenient {
		return false
	}
	fault := g.judge(r)
	if fault == nil {
		return false
	}
	g.opt.Metrics.Fault(fault.Name)
	if g.opt.Refused != nil {
		g.opt.Refused(Refusal{Fault: fault, Client: addrOfText(r.RemoteAddr), Time: time.Now()})
	}
	header, body := fault.problem(g.live.Load().Name)
	for _, field := range header {
		w.Header()[field[0]] = []string{field[1]}
	}
	w.WriteHeader(fault.Status)
	_, _ = w.Write(body) // a client that has left is nobody to tell
	return true
}

// judge applies to a request what the scanner applies to a head, in the same order.
func (g *Gate) judge(r *http.Request) *Fault {
	switch {
	case r.Method == "" || span([]byte(r.Method), isToken) != len(r.Method):
		return faultMethod
	case !g.goodTarget(r):
		return faultTarget
	case g.fields(r.Header) > g.opt.MaxFields:
		return faultFields
	case r.Host == "":
		return faultHostMissing
	case !policy.ValidHost(r.Host):
		return faultHost
	case !goodLength(r):
		return faultLength
	}
	if expect, ok := r.Header["Expect"]; ok && (len(expect) != 1 || !equalFold([]byte(expect[0]), "100-continue")) {
		return faultExpect
	}
	return nil
}

// goodTarget reports whether :path is in origin-form, or for OPTIONS an asterisk (RFC 9113 section 8.3.1).
func (g *Gate) goodTarget(r *http.Request) bool {
	switch {
	case r.Method == http.MethodConnect:
		return true // has none; its authority is the host
	case r.RequestURI == "*":
		return r.Method == http.MethodOptions
	}
	return r.RequestURI != "" && r.RequestURI[0] == '/' && span([]byte(r.RequestURI), isTarget) == len(r.RequestURI)
}

func (g *Gate) fields(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}

// goodLength reports whether Content-Length is one number, and what net/http takes the content for (RFC 9113 section 8.1.1).
func goodLength(r *http.Request) bool {
	lengths := r.Header["Content-Length"]
	for _, length := range lengths {
		if length != lengths[0] {
			return false
		}
	}
	if len(lengths) == 0 {
		return true
	}
	n, err := strconv.ParseUint(lengths[0], 10, 63)
	return err == nil && int64(n) == r.ContentLength
}
