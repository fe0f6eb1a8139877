package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Listeners are the addresses served. In the file they are a string, a map, or a list of either; a single one has the path
// `listen`, those of a list `listen[0]`, `listen[1]`.
type Listeners []Listener

// Listener is one address: host:port, :port or unix:/path.
type Listener struct {
	Address       string      `yaml:"address"`
	TLS           ListenerTLS `yaml:"tls"`
	ProxyProtocol bool        `yaml:"proxy_protocol"`
}

// ListenerTLS names the PEM files of a listener's certificate.
type ListenerTLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// UnmarshalText takes the form that environment and flags have: one address.
func (l *Listeners) UnmarshalText(text []byte) error {
	if err := checkAddress(string(text)); err != nil {
		return err
	}
	*l = Listeners{{Address: string(text)}}
	return nil
}

// path returns the key of the i-th listener, for messages.
func (l Listeners) path(i int) string {
	if len(l) == 1 {
		return "listen"
	}
	return fmt.Sprintf("listen[%d]", i)
}

func (l *Listeners) decodeNode(d *decoder, n *yaml.Node, path string) {
	switch n.Kind {
	case yaml.SequenceNode:
		list := make(Listeners, len(n.Content))
		for i, item := range n.Content {
			at := path
			if len(list) > 1 {
				at = fmt.Sprintf("%s[%d]", path, i)
			}
			list[i].decodeNode(d, item, at)
		}
		*l = list
	default:
		var one Listener
		one.decodeNode(d, n, path)
		*l = Listeners{one}
	}
}

func (l *Listener) decodeNode(d *decoder, n *yaml.Node, path string) {
	n = d.visit(n, path)
	switch n.Kind {
	case yaml.ScalarNode:
		l.Address = n.Value
	case yaml.MappingNode:
		d.mapping(n, structValue(l), path)
		if l.Address == "" {
			d.report.at(path, n.Line, "address is missing", "")
			return
		}
	default:
		d.report.at(path, n.Line, "is an address, or a map with address, tls and proxy_protocol", "")
		return
	}
	if err := checkAddress(l.Address); err != nil {
		d.report.at(path, n.Line, err.Error(), "")
	}
}

// checkAddress says what is wrong with an address to listen on.
func checkAddress(address string) error {
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		if !strings.HasPrefix(path, "/") {
			return fmt.Errorf("%q needs an absolute path: unix:/run/cacheproxy.sock", address)
		}
		return nil
	}
	if _, err := strconv.ParseUint(address, 10, 16); err == nil {
		return fmt.Errorf("%q is a port alone: write :%s", address, address)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not an address: write :8080, 127.0.0.1:8080, [::1]:8080 or unix:/path", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has no port between 0 and 65535", address)
	}
	return nil
}
