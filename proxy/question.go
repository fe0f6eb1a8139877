package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Question is a request that is asked about, as people and programs write it.
type Question struct {
	Method string      `json:"method,omitempty"` // "" = GET
	URL    string      `json:"url"`              // absolute, http or https
	Header [][2]string `json:"headers,omitempty"`
	Client string      `json:"client,omitempty"` // address of the peer; "" = none, which nobody trusts
}

// Request makes the request that a server would have received: it is written as HTTP/1.1 and read by net/http, so that the bytes of
// the target and what is made of the fields are those of a real one. An error begins with the JSON name of what is wrong.
func (q Question) Request(ctx context.Context) (*http.Request, error) {
	secure, host, target, err := splitURL(q.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	method := q.Method
	if method == "" {
		method = http.MethodGet
	}
	if !isToken(method) {
		return nil, fmt.Errorf("method: %q is no method", method)
	}
	var fields strings.Builder
	for i, field := range q.Header {
		name, value := field[0], strings.Trim(field[1], " \t")
		switch {
		case !isToken(name):
			return nil, fmt.Errorf("headers[%d]: %q is no field name", i, name)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return nil, fmt.Errorf("headers[%d]: the value of %s has a control character", i, name)
		case strings.EqualFold(name, "Host"):
			host = value
		default:
			fields.WriteString(name + ": " + value + "\r\n")
		}
	}
	head := method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + fields.String() + "\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		return nil, fmt.Errorf("url: net/http does not read this request: %w", err)
	}
	if secure {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true}
	}
	if q.Client != "" {
		client, err := netip.ParseAddr(q.Client)
		if err != nil {
			return nil, fmt.Errorf("client: %q is no address", q.Client)
		}
		r.RemoteAddr = net.JoinHostPort(client.String(), "0")
	}
	return r.WithContext(ctx), nil
}

// splitURL takes a URL apart without changing a byte of its target.
func splitURL(text string) (secure bool, host, target string, err error) {
	scheme, rest, found := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !found || scheme != "http" && scheme != "https" {
		return false, "", "", fmt.Errorf("%q is not absolute: write http://host/path or https://host/path", text)
	}
	rest, _, _ = strings.Cut(rest, "#")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	host, target = rest[:end], rest[end:]
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	switch {
	case host == "":
		return false, "", "", fmt.Errorf("%q has no host", text)
	case strings.Contains(host, "@"):
		return false, "", "", errors.New("user information is sent in Authorization, not in a URL")
	case strings.ContainsFunc(host+target, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return false, "", "", fmt.Errorf("%q has a blank or a control character, which is percent-encoded in a URL", text)
	}
	return scheme == "https", host, target, nil
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
