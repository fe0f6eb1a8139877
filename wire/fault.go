package wire

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A Fault is one way in which a request, or a connection, is refused. Its Name is what Cache-Status, the metric and the log call it, and part of the
// contract.
type Fault struct {
	Name   string // also the value of detail in Cache-Status
	Status int
	Detail string // one sentence for a person, with the section that says so
}

// Error makes a Fault the error of the Read that met it.
func (f *Fault) Error() string { return "wire: " + f.Name + ": " + f.Detail }

// The faults, in the order of a request's bytes.
var (
	faultRequestLine = &Fault{"request-line", 400, "the request line is not a method, a target and a version with one space between each (RFC 9112 section 3)"}
	faultMethod      = &Fault{"method", 400, "the method is no token (RFC 9110 section 9.1)"}
	faultTarget      = &Fault{"target", 400, "the request target has none of the four forms, or bytes that no target may have (RFC 9112 section 3.2)"}
	faultTargetLong  = &Fault{"target-too-long", 414, "the request line is longer than server.max_header (RFC 9110 section 15.5.15)"}
	faultVersion     = &Fault{"version", 505, "the version is neither HTTP/1.1 nor HTTP/1.0 (RFC 9110 section 15.6.6)"}
	faultBareLF      = &Fault{"bare-lf", 400, "a line ends with LF alone (RFC 9112 section 2.2)"}
	faultBareCR      = &Fault{"bare-cr", 400, "CR is not followed by LF (RFC 9112 section 2.2)"}
	faultFold        = &Fault{"obs-fold", 400, "a field line begins with white space (RFC 9112 section 5.2)"}
	faultFieldName   = &Fault{"field-name", 400, "a field name is no token right before its colon (RFC 9112 section 5.1)"}
	faultFieldValue  = &Fault{"field-value", 400, "a field value has NUL or another control (RFC 9110 section 5.5)"}
	faultHead        = &Fault{"head-too-large", 431, "the head is longer than server.max_header (RFC 6585 section 5)"}
	faultFields      = &Fault{"too-many-fields", 431, "the head has more field lines than server.max_fields (RFC 6585 section 5)"}
	faultHostMissing = &Fault{"host-missing", 400, "an HTTP/1.1 request needs a Host field (RFC 9112 section 3.2)"}
	faultHostTwice   = &Fault{"host-repeated", 400, "there is more than one Host field (RFC 9112 section 3.2)"}
	faultHost        = &Fault{"host", 400, "the Host field is not a host with at most one port (RFC 9110 section 7.2)"}
	faultHostOther   = &Fault{"host-contradicts", 400, "the target names another host than the Host field (RFC 9112 section 3.2.2)"}
	faultLength      = &Fault{"length", 400, "Content-Length is not one number (RFC 9112 section 6.3)"}
	faultBothLengths = &Fault{"length-and-coding", 400, "there are both Content-Length and Transfer-Encoding (RFC 9112 section 6.1)"}
	faultCoding      = &Fault{"coding", 400, "Transfer-Encoding does not end with one chunked, or is in an HTTP/1.0 request (RFC 9112 section 6.1)"}
	faultExpect      = &Fault{"expectation", 417, "Expect is not one 100-continue (RFC 9110 section 10.1.1)"}
	faultCodingOther = &Fault{"unknown-coding", 501, "of the transfer codings only chunked is understood (RFC 9112 section 6.1)"}
	faultChunk       = &Fault{"chunk", 400, "a chunk is not framed as RFC 9112 section 7.1 says"}
	faultTrailer     = &Fault{"trailer", 400, "the trailers have a field that frames or routes messages (RFC 9110 section 6.5.1)"}
	faultHeadTimeout = &Fault{"head-timeout", 408, "the head was not complete in time (RFC 9110 section 15.5.9)"}

	faultPerClient = &Fault{"max-connections-per-client", 503, "this client has as many connections as server.max_connections_per_client allows"}
	faultProxy     = &Fault{"proxy-protocol", 0, "a trusted peer did not begin with a PROXY protocol header in time"}
	faultHandshake = &Fault{"tls-handshake", 0, "the TLS handshake failed or was not made in time"}
	faultPlain     = &Fault{"plaintext-on-tls", 400, "this is a TLS listener, and the client speaks HTTP without TLS"}
)

// Faults lists all, for documentation and tests of its being complete.
func Faults() []*Fault {
	return []*Fault{
		faultRequestLine, faultMethod, faultTarget, faultTargetLong, faultVersion, faultBareLF, faultBareCR, faultFold, faultFieldName,
		faultFieldValue, faultHead, faultFields, faultHostMissing, faultHostTwice, faultHost, faultHostOther, faultLength, faultBothLengths,
		faultCoding, faultCodingOther, faultExpect, faultChunk, faultTrailer, faultHeadTimeout, faultPerClient, faultProxy, faultHandshake, faultPlain,
	}
}

// problem is what answers a fault: a body of RFC 9457, and the fields that go with it. cache is the name of the cache for Cache-Status; ""
// leaves the field out.
func (f *Fault) problem(cache string) (header [][2]string, body []byte) {
	body = fmt.Appendf(nil, `{"detail":%q,"reason":%q,"status":%d,"title":%q,"type":"about:blank"}`, f.Detail, f.Name, f.Status, http.StatusText(f.Status))
	if cache != "" {
		header = append(header, [2]string{"Cache-Status", cache + "; detail=" + f.Name})
	}
	header = append(header, [2]string{"Cache-Control", "no-store"}, [2]string{"Content-Length", strconv.Itoa(len(body))},
		[2]string{"Content-Type", "application/problem+json"})
	if f.Status == http.StatusServiceUnavailable {
		header = append(header, [2]string{"Retry-After", "1"})
	}
	return header, body
}

// response is the whole answer to a fault on a connection of HTTP/1.1, which it ends, since nobody knows where the next request would begin.
func (f *Fault) response(now time.Time, cache string) []byte {
	header, body := f.problem(cache)
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", f.Status, http.StatusText(f.Status))
	for _, field := range header {
		b = fmt.Appendf(b, "%s: %s\r\n", field[0], field[1])
	}
	b = fmt.Appendf(b, "Connection: close\r\nDate: %s\r\n\r\n", now.UTC().Format(http.TimeFormat))
	return append(b, body...)
}
