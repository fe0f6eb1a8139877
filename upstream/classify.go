package upstream

// From errors of net, crypto/tls and net/http to causes. Where an error has a type or a value, that decides. net/http
// has neither for most of what a server can get wrong, so the rest is told by its words; the tests provoke each from a real
// connection, so that a Go release which words it differently is noticed.

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/textproto"
	"strings"
	"syscall"
)

// phase is how far the exchange had come.
type phase uint8

const (
	inHead phase = iota // no final response head yet
	inBody
)

// dialCause classifies a failure to connect.
func dialCause(err error) Cause {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns) && dns.IsTimeout:
		return DNSTimeout
	case errors.As(err, &dns):
		return DNSError
	case errors.As(err, &timeout) && timeout.Timeout():
		return ConnectionTimeout
	case isErrno(err, syscall.ECONNREFUSED, syscall.ENOENT): // ENOENT: a unix socket that is not there
		return ConnectionRefused
	case isErrno(err, syscall.EHOSTUNREACH, syscall.ENETUNREACH):
		return DestinationIPUnroutable
	case isErrno(err, syscall.ECONNRESET):
		return ConnectionTerminated
	case isErrno(err, syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM):
		return ProxyInternalError // our files, our ports, our rights
	default:
		return DestinationUnavailable
	}
}

// causeOf classifies a failure of net/http's after or instead of connecting.
func causeOf(err error, p phase) Cause {
	var already *Error
	if errors.As(err, &already) {
		return already.Cause
	}
	if c := tlsCause(err); c != CauseNone {
		return c
	}
	words := err.Error()
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		if p == inHead {
			return HTTPResponseTimeout
		}
		return ConnectionReadTimeout
	case containsAny(words, "response headers exceeded", "response header list larger"):
		return HTTPResponseHeaderSectionSize
	case ended(err, words):
		if p == inHead {
			return ConnectionTerminated
		}
		return HTTPResponseIncomplete
	case p == inBody && containsAny(words, "chunk", "header line too long"):
		return HTTPResponseTransferCoding
	case notHTTP(err, words):
		return HTTPProtocolError
	case containsAny(words, "invalid Host header", "invalid method", "invalid header", "invalid trailer",
		"control character in Request.URL", "invalid request :path"):
		return HTTPRequestError
	default:
		return ProxyInternalError
	}
}

// tlsCause classifies what a TLS handshake can end with; CauseNone means that err is something else.
func tlsCause(err error) Cause {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert *net.OpError
	switch {
	case errors.As(err, &certificate):
		return TLSCertificateError
	case errors.As(err, &record):
		return TLSProtocolError
	case errors.As(err, &alert) && alert.Op == "remote error": // how crypto/tls wraps an alert from the peer
		return TLSAlertReceived
	case strings.Contains(err.Error(), "TLS handshake timeout"):
		return ConnectionTimeout
	case strings.HasPrefix(err.Error(), "tls: ") || strings.HasPrefix(err.Error(), "local error: tls: "):
		return TLSProtocolError
	default:
		return CauseNone
	}
}

// ended reports whether the connection, or the HTTP/2 stream, was closed or reset by the server.
func ended(err error, words string) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		isErrno(err, syscall.ECONNRESET, syscall.EPIPE) ||
		containsAny(words, "server closed idle connection", "received from peer", "server sent GOAWAY",
			"client connection lost", "client connection force closed", "http2: client conn is closed", "unexpected EOF")
}

// notHTTP reports whether the server sent what HTTP does not allow. Errors that net/http wraps as a broken
// connection are all of that kind once the connection's own are ruled out.
func notHTTP(err error, words string) bool {
	var mime textproto.ProtocolError
	return errors.As(err, &mime) || containsAny(words, "malformed", "HTTP/1.x transport connection broken",
		"unsupported transfer encoding", "too many transfer encodings", "bad Content-Length",
		"stream error", "connection error", "http2: ")
}

func isErrno(err error, numbers ...syscall.Errno) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	for _, n := range numbers {
		if errno == n {
			return true
		}
	}
	return false
}

func containsAny(s string, parts ...string) bool {
	for _, part := range parts {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}
