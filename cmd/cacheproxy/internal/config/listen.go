package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"cacheproxy/wire"
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

// ListenerTLS are the certificates of a listener, a map or a list of maps; none = no TLS. A client that names no server gets the first.
type ListenerTLS []Certificate

// Certificate names the PEM files of a certificate with its chain, and of its key.
type Certificate struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Pairs are the files as package wire wants them.
func (t ListenerTLS) Pairs() []wire.Pair {
	pairs := make([]wire.Pair, len(t))
	for i, c := range t {
		pairs[i] = wire.Pair(c)
	}
	return pairs
}

func (t *ListenerTLS) decodeNode(d *decoder, n *yaml.Node, path string) {
	n = d.visit(n, path)
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	for i, item := range items {
		at := path
		if len(items) > 1 {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		if item.Kind != yaml.MappingNode {
			d.report.at(at, item.Line, "is a map with cert and key, or a list of such maps", "")
			return
		}
		var c Certificate
		d.mapping(d.visit(item, at), structValue(&c), at)
		*t = append(*t, c)
	}
}

// checkListeners checks what the listeners need beside their addresses.
func (r *report) checkListeners(c *Config) {
	for i, l := range c.Listen {
		path := c.Listen.path(i)
		for j, pair := range l.TLS {
			at := path + ".tls"
			if len(l.TLS) > 1 {
				at = fmt.Sprintf("%s[%d]", at, j)
			}
			switch _, err := wire.LoadCertificates([]wire.Pair{wire.Pair(pair)}, nil); {
			case r.has(at):
			case pair.Cert == "":
				r.add(at+".cert", "is missing")
			case pair.Key == "":
				r.add(at+".key", "is missing")
			case err != nil:
				r.add(at, strings.TrimPrefix(err.Error(), "wire: "))
			}
		}
		if l.ProxyProtocol && len(c.Client.Trusted) == 0 && !strings.HasPrefix(l.Address, "unix:") && !r.has("client.trusted") {
			r.addHint(path+".proxy_protocol", "is read from the peers of client.trusted alone, which names none", "client: {trusted: [10.0.0.0/8]}")
		}
	}
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
