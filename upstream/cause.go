package upstream

import (
	"errors"
	"net/http"
)

// Cause says why an exchange failed: a proxy error type of RFC 9209 section 2.3.
type Cause uint8

// CauseNone means that nothing is wrong upstream: there is no error, or the caller gave the request up.
const (
	CauseNone                     Cause = iota
	DNSTimeout                          // the name server did not answer: 2.3.1
	DNSError                            // the name does not resolve: 2.3.2
	DestinationUnavailable              // no connection, for none of the reasons below: 2.3.4
	DestinationIPUnroutable             // no route to the address: 2.3.6
	ConnectionRefused                   // nobody listens: 2.3.7
	ConnectionTerminated                // closed or reset before the response's head: 2.3.8
	ConnectionTimeout                   // TCP or TLS not established within connect_timeout: 2.3.9
	ConnectionReadTimeout               // no more of the body within idle_timeout: 2.3.10
	TLSProtocolError                    // the handshake failed: 2.3.13
	TLSCertificateError                 // the server's certificate is not trusted: 2.3.14
	TLSAlertReceived                    // the server ended the handshake, perhaps because of our certificate: 2.3.15
	HTTPRequestError                    // the client's request cannot be sent, or its body broke off: 2.3.16
	HTTPResponseIncomplete              // closed or reset within the body: 2.3.18
	HTTPResponseHeaderSectionSize       // the response's head is too large: 2.3.19
	HTTPResponseTransferCoding          // the chunked framing is broken: 2.3.24
	HTTPResponseTimeout                 // no head within head_timeout, or the caller's deadline is over: 2.3.26
	HTTPProtocolError                   // what came is not HTTP: 2.3.28
	ProxyInternalError                  // the failure is ours: 2.3.30
	causeCount
)

// causes holds each token and the status that RFC 9209 recommends with it.
var causes = [causeCount]struct {
	token  string
	status int
}{
	CauseNone:                     {"", http.StatusBadGateway},
	DNSTimeout:                    {"dns_timeout", http.StatusGatewayTimeout},
	DNSError:                      {"dns_error", http.StatusBadGateway},
	DestinationUnavailable:        {"destination_unavailable", http.StatusServiceUnavailable},
	DestinationIPUnroutable:       {"destination_ip_unroutable", http.StatusBadGateway},
	ConnectionRefused:             {"connection_refused", http.StatusBadGateway},
	ConnectionTerminated:          {"connection_terminated", http.StatusBadGateway},
	ConnectionTimeout:             {"connection_timeout", http.StatusGatewayTimeout},
	ConnectionReadTimeout:         {"connection_read_timeout", http.StatusGatewayTimeout},
	TLSProtocolError:              {"tls_protocol_error", http.StatusBadGateway},
	TLSCertificateError:           {"tls_certificate_error", http.StatusBadGateway},
	TLSAlertReceived:              {"tls_alert_received", http.StatusBadGateway},
	HTTPRequestError:              {"http_request_error", http.StatusBadRequest},
	HTTPResponseIncomplete:        {"http_response_incomplete", http.StatusBadGateway},
	HTTPResponseHeaderSectionSize: {"http_response_header_section_size", http.StatusBadGateway},
	HTTPResponseTransferCoding:    {"http_response_transfer_coding", http.StatusBadGateway},
	HTTPResponseTimeout:           {"http_response_timeout", http.StatusGatewayTimeout},
	HTTPProtocolError:             {"http_protocol_error", http.StatusBadGateway},
	ProxyInternalError:            {"proxy_internal_error", http.StatusInternalServerError},
}

// String returns the RFC 9209 token; CauseNone is "".
func (c Cause) String() string {
	if c >= causeCount {
		c = ProxyInternalError
	}
	return causes[c].token
}

// Status returns the status code that RFC 9209 recommends for a response generated because of c; 502 for CauseNone.
func (c Cause) Status() int {
	if c >= causeCount {
		c = ProxyInternalError
	}
	return causes[c].status
}

// Causes lists all but CauseNone, in the order of RFC 9209: for documentation.
func Causes() []Cause {
	all := make([]Cause, 0, causeCount-1)
	for c := CauseNone + 1; c < causeCount; c++ {
		all = append(all, c)
	}
	return all
}

// upstreamsFault is false for what clients do.
func (c Cause) upstreamsFault() bool { return c != CauseNone && c != HTTPRequestError }

// Error is a failed exchange. Err has the details, and the cause that errors.Is and errors.As look for: context.Canceled when the
// caller gave up, *http.MaxBytesError when the request's body was too large.
type Error struct {
	Cause Cause
	Err   error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Cause == CauseNone {
		return "upstream: " + e.Err.Error()
	}
	return "upstream: " + e.Cause.String() + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// CauseOf returns the Cause of the *Error in err's tree. An error without one is CauseNone if it is nil, else
// ProxyInternalError, since every failure of an upstream has one.
func CauseOf(err error) Cause {
	var e *Error
	switch {
	case err == nil:
		return CauseNone
	case errors.As(err, &e):
		return e.Cause
	default:
		return ProxyInternalError
	}
}
