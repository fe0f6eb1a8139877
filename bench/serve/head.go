// Package serve is what benchmarks have at the other end of a proxy, and what they hold it against.
//
// An Origin is the upstream server: it has every resource of package body, and costs as little as it can, so that the machine is the proxy's. A Floor
// sends fixed bytes without looking at what it was asked for: of small responses no server can cost less. NetHTTP sends the same bytes from a handler of
// net/http: what a server in Go costs before it does anything. Each has a method Serve, which ends when its context does.
package serve

import (
	"strconv"

	"cacheproxy/bench/body"
)

const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// The fields of a response that tell nothing of their own.
const contentType = "application/octet-stream"

// appendHead appends the head of a response: status is the number and the reason, date the value of Date, and more are whole fields.
func appendHead(b []byte, r body.Resource, status, date, more string) []byte {
	b = append(append(append(b, "HTTP/1.1 "...), status...), "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(r.Size), 10)
	return appendRest(b, r, date, more)
}

// appendNotModified appends the response that has no body as the client has it.
func appendNotModified(b []byte, r body.Resource, date, more string) []byte {
	return appendRest(append(b, "HTTP/1.1 304 Not Modified"...), r, date, more)
}

// appendRest ends a line and appends the fields that both have.
func appendRest(b []byte, r body.Resource, date, more string) []byte {
	b = append(b, "\r\nContent-Type: "+contentType+"\r\nCache-Control: "...)
	b = append(append(b, r.Kind.CacheControl()...), "\r\nETag: "...)
	b = append(r.AppendETag(b), "\r\nLast-Modified: "+body.Modified+"\r\nDate: "...)
	b = append(append(append(b, date...), "\r\n"...), more...)
	return append(b, "\r\n"...)
}
