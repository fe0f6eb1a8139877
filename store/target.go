package store

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// A Redis URL has one of these forms; [...] may be left out, and user, password, path and MASTER
// are percent-encoded where they need to be (a percent sign as %25, an @ after the hosts as %40).
//
//	redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]
//	unix://[[USER]:PASSWORD@]/PATH[?db=DB]
//	redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]]...
//	redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]].../MASTER[/DB]
//
// With rediss in place of redis the connection is TLS, and parameters may follow: ?ca=FILE (PEM, instead of the system's
// authorities), &cert=FILE&key=FILE (our own certificate), &server_name=NAME (instead of the host's).

// Mode is how a Redis is deployed.
type Mode uint8

// The modes.
const (
	Standalone Mode = iota
	Cluster
	Sentinel
)

// A Target is a parsed Redis URL. Printed, it shows no password.
type Target struct {
	Mode    Mode
	Network string   // "tcp" or "unix"
	Addrs   []string // host:port of the server, of cluster nodes, of sentinels; or the path of a unix socket
	DB      int
	Master  string // Sentinel's name of the master

	Username, Password string // of the servers; sentinels are asked without

	TLS                   bool
	CA, Cert, Key, Server string // files in PEM; name to verify
}

const (
	redisPort    = "6379"
	sentinelPort = "26379"
)

var schemes = map[string]Target{
	"redis":           {Network: "tcp"},
	"rediss":          {Network: "tcp", TLS: true},
	"unix":            {Network: "unix"},
	"redis+cluster":   {Network: "tcp", Mode: Cluster},
	"rediss+cluster":  {Network: "tcp", Mode: Cluster, TLS: true},
	"redis+sentinel":  {Network: "tcp", Mode: Sentinel},
	"rediss+sentinel": {Network: "tcp", Mode: Sentinel, TLS: true},
}

// ParseURL parses a Redis URL. Its errors quote no part of the URL that could be a password.
//
// net/url is of no use here: it refuses lists of hosts, and its errors quote the whole.
func ParseURL(s string) (Target, error) {
	scheme, rest, found := strings.Cut(s, "://")
	t, known := schemes[strings.ToLower(scheme)]
	if !found || !known {
		return Target{}, errors.New("not a Redis URL: it starts with redis://, rediss://, unix://, " +
			"redis+cluster://, redis+sentinel://, rediss+cluster:// or rediss+sentinel://")
	}
	// The last @ ends the user, so that a password with a bare / ? or @ is never taken for, or quoted as, something else.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if err := t.parseUser(rest[:at]); err != nil {
			return Target{}, err
		}
		rest = rest[at+1:]
	}
	rest, query, _ := strings.Cut(rest, "?")
	if err := t.parsePlace(rest); err != nil {
		return Target{}, err
	}
	if err := t.parseQuery(query); err != nil {
		return Target{}, err
	}
	return t, nil
}

func (t *Target) parseUser(info string) error {
	user, password, found := strings.Cut(info, ":")
	if !found {
		return errors.New("a user without a password: for a password alone, put a colon before it (redis://:PASSWORD@HOST)")
	}
	var err1, err2 error
	t.Username, err1 = url.PathUnescape(user)
	t.Password, err2 = url.PathUnescape(password)
	if err1 != nil || err2 != nil {
		return errors.New("user or password has a bad percent-encoding: a percent sign itself is %25")
	}
	return nil
}

// parsePlace parses what follows the user: hosts and path.
func (t *Target) parsePlace(place string) error {
	if t.Network == "unix" {
		path, err := url.PathUnescape(place)
		if err != nil || !strings.HasPrefix(path, "/") {
			return errors.New("unix:// needs an absolute path: unix:///run/redis.sock")
		}
		t.Addrs = []string{path}
		return nil
	}
	hosts, path, _ := strings.Cut(place, "/")
	port := redisPort
	if t.Mode == Sentinel {
		port = sentinelPort
		var err error
		master, db, _ := strings.Cut(path, "/")
		if t.Master, err = url.PathUnescape(master); err != nil || master == "" {
			return errors.New("a sentinel URL needs the master's name after the hosts: redis+sentinel://HOST:26379/MASTER")
		}
		path = db
	}
	for host := range strings.SplitSeq(hosts, ",") {
		addr, err := withPort(host, port)
		if err != nil {
			return err
		}
		t.Addrs = append(t.Addrs, addr)
	}
	if t.Mode == Standalone && len(t.Addrs) > 1 {
		return errors.New("several hosts: redis+cluster:// or redis+sentinel:// was meant")
	}
	return t.parseDB(path)
}

// withPort splits host[:port], and puts it together again with the default port where it has none. IPv6 addresses stand in
// brackets.
func withPort(host, port string) (string, error) {
	name, rest := host, ""
	if bracketed, isIPv6 := strings.CutPrefix(host, "["); isIPv6 {
		var closed bool
		name, rest, closed = strings.Cut(bracketed, "]")
		if addr, err := netip.ParseAddr(name); !closed || err != nil || !addr.Is6() {
			return "", errors.New("what stands in brackets is no IPv6 address")
		}
	} else if colon := strings.IndexByte(host, ':'); colon >= 0 {
		name, rest = host[:colon], host[colon:]
		if strings.LastIndexByte(host, ':') != colon {
			return "", errors.New("an IPv6 address needs brackets")
		}
	}
	if rest != "" {
		var found bool
		if port, found = strings.CutPrefix(rest, ":"); !found {
			return "", errors.New("after an IPv6 address only a port may follow")
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); name == "" || err != nil || n == 0 {
		return "", errors.New("a host is empty, or a port is no number")
	}
	if strings.ContainsAny(name, " []\\\t\r\n") {
		return "", errors.New("a host has characters that no name has")
	}
	return net.JoinHostPort(name, port), nil
}

func (t *Target) parseDB(s string) error {
	if s == "" {
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	switch {
	case err != nil:
		return errors.New("the database after the host is no number")
	case t.Mode == Cluster && n != 0:
		return errors.New("a cluster has no databases but 0")
	}
	t.DB = int(n)
	return nil
}

func (t *Target) parseQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("bad parameters after the question mark")
	}
	for name, given := range values {
		value := given[len(given)-1]
		switch {
		case name == "db" && t.Network == "unix":
			err = t.parseDB(value)
		case name == "ca" && t.TLS:
			t.CA = value
		case name == "cert" && t.TLS:
			t.Cert = value
		case name == "key" && t.TLS:
			t.Key = value
		case name == "server_name" && t.TLS:
			t.Server = value
		default:
			err = fmt.Errorf("parameter %q is unknown, or not for this kind of URL", name)
		}
		if err != nil {
			return err
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return errors.New("parameters cert and key belong together")
	}
	return nil
}

// String is the URL again, with the password blotted out.
func (t Target) String() string {
	var b strings.Builder
	for scheme, kind := range schemes {
		if kind.Mode == t.Mode && kind.Network == t.Network && kind.TLS == t.TLS {
			b.WriteString(scheme + "://")
		}
	}
	if t.Username != "" || t.Password != "" {
		b.WriteString(url.PathEscape(t.Username) + ":***@")
	}
	b.WriteString(strings.Join(t.Addrs, ","))
	if t.Mode == Sentinel {
		b.WriteString("/" + url.PathEscape(t.Master))
	}
	switch {
	case t.DB != 0 && t.Network == "unix":
		b.WriteString("?db=" + strconv.Itoa(t.DB))
	case t.DB != 0:
		b.WriteString("/" + strconv.Itoa(t.DB))
	}
	return b.String()
}

// GoString keeps the password out of %#v as well.
func (t Target) GoString() string { return t.String() }
