package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"cacheproxy/metrics"
	"cacheproxy/policy"
	"cacheproxy/proxy"
	"cacheproxy/wire"
)

// problem is a body of RFC 9457, and the fields that go with it.
func problem(status int, detail string) (body []byte, header http.Header) {
	body, _ = json.Marshal(map[string]any{ // strings and a number: cannot fail
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail,
	})
	return body, http.Header{
		"Content-Type": {"application/problem+json"}, "Cache-Control": {"no-store"}, "Content-Length": {strconv.Itoa(len(body))},
	}
}

// malformed is for proxy.Options.
func malformed(r *http.Request) string {
	if fault := wire.Malformed(r.Context()); fault != nil {
		return fault.Detail
	}
	return ""
}

// misdirected answers for hosts that no site names, where no upstream is configured for the others: RFC 9110 section 15.5.20.
type misdirected struct{}

func (misdirected) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	body, header := problem(http.StatusMisdirectedRequest, "this server does not answer for that host")
	return &http.Response{
		StatusCode: http.StatusMisdirectedRequest, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       r,
	}, nil
}

// bodyLimit refuses request bodies longer than bytes. Where the length is declared nothing is read, and it counts and logs the request
// itself; where it is not, reading fails at the bound and the proxy answers 413 then.
type bodyLimit struct {
	next    http.Handler
	bytes   int64
	refused *metrics.RequestObserver
	access  func(*proxy.Access) // nil = no access log
}

func newBodyLimit(next http.Handler, bytes int64, m *metrics.Metrics, access func(*proxy.Access)) *bodyLimit {
	var none proxy.Access // its outcome and its tier: nothing was looked up
	return &bodyLimit{next: next, bytes: bytes, refused: m.Requests(none.Outcome.Label(), none.Tier.String()), access: access}
}

// ServeHTTP implements http.Handler.
func (l *bodyLimit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > l.bytes {
		l.refuse(w, r)
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w, r.Body, l.bytes)
	}
	l.next.ServeHTTP(w, r)
}

func (l *bodyLimit) refuse(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	body, header := problem(http.StatusRequestEntityTooLarge, fmt.Sprintf("the request's content is larger than the %d bytes of server.max_body", l.bytes))
	for name, values := range header {
		w.Header()[name] = values
	}
	w.Header().Set("Connection", "close") // the body is not read
	w.WriteHeader(http.StatusRequestEntityTooLarge)
	n, _ := w.Write(body) // a client that left is nobody to tell
	took := time.Since(start)
	l.refused.Observe(took)
	if l.access == nil {
		return
	}
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // none on a unix socket
	l.access(&proxy.Access{
		Request: r, Start: start, Duration: took, Client: peer.Addr().Unmap(), Status: http.StatusRequestEntityTooLarge, Bytes: int64(n),
		Outcome: policy.Outcome{Detail: policy.TooLarge}, Rule: -1,
	})
}
