package upstream

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// address is where a member listens and what is put in front of paths.
type address struct {
	text    string // as configured
	scheme  string // http, https, h2c or unix
	network string // tcp or unix
	dial    string // host:port or the socket's path
	host    string // what becomes the URL's host: the key of net/http's pool, SNI, and the Host field where nobody named one
	base    url.URL
}

var errUser = errors.New("user and password in the URL are not sent; leave them out")

// parseAddress reads a URL of the package comment. Whatever in it would be ignored is an error.
func parseAddress(text string) (address, error) {
	if rest, ok := strings.CutPrefix(text, "unix:"); ok {
		return parseUnix(text, rest)
	}
	u, err := url.Parse(text)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err // without the URL
		}
		if strings.Contains(text, "@") {
			err = errUser // what could not be parsed may be a part of a password
		}
		return address{}, fmt.Errorf("%w; %w", err, errNoScheme)
	}
	a := address{text: text, scheme: u.Scheme, network: "tcp", host: u.Host}
	port := "80"
	switch u.Scheme {
	case "http", "h2c":
	case "https":
		port = "443"
	default:
		return address{}, fmt.Errorf("scheme %q: %w", u.Scheme, errNoScheme)
	}
	switch {
	case u.User != nil:
		return address{}, errUser
	case u.Hostname() == "":
		return address{}, fmt.Errorf("%q names no host: %w", text, errNoScheme)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return address{}, errors.New("a query or fragment in the URL has no meaning; leave it out")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return address{}, fmt.Errorf("port %s is not between 1 and 65535", port)
	}
	a.dial = net.JoinHostPort(u.Hostname(), port)
	return a, a.setBase(u.EscapedPath())
}

// parseUnix reads what follows "unix:": /path or ///path, then optionally : and a base path, which starts with a slash.
func parseUnix(text, rest string) (address, error) {
	rest = strings.TrimPrefix(rest, "//")
	path, base, _ := strings.Cut(rest, ":/")
	if base != "" {
		base = "/" + base
	}
	if !strings.HasPrefix(path, "/") {
		return address{}, fmt.Errorf("%q: want unix:/path/to/socket or unix:/path/to/socket:/base", text)
	}
	a := address{text: text, scheme: "unix", network: "unix", dial: path, host: "localhost"}
	return a, a.setBase(base)
}

// setBase keeps the base path without its last slash, so that joining is concatenation.
func (a *address) setBase(escaped string) error {
	escaped = strings.TrimRight(escaped, "/")
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return fmt.Errorf("base path: %w", err)
	}
	if strings.ContainsAny(escaped, "?# ") {
		return fmt.Errorf("base path %q: ?, # and spaces must be percent-encoded", escaped)
	}
	a.base = url.URL{Path: path, RawPath: escaped}
	return nil
}

// checkHost refuses what could not stand in a Host field: net/http would cut it at the first such byte, and send the rest.
func checkHost(host string) error {
	if u, err := url.Parse("http://" + host); host != "" && (err != nil || u.Host != host) {
		return fmt.Errorf("%q is not a host name or an address, with or without a port", host)
	}
	return nil
}

// wire is the scheme that net/http is to be told.
func (a *address) wire() string {
	if a.scheme == "https" {
		return "https"
	}
	return "http"
}
