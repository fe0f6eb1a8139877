package upstream

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func marshalKey(key any) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(key) }

func TestAddresses(t *testing.T) {
	for _, tt := range []struct{ url, network, dial, host, base string }{
		{"http://127.0.0.1:3000", "tcp", "127.0.0.1:3000", "127.0.0.1:3000", ""},
		{"http://shop.example", "tcp", "shop.example:80", "shop.example", ""},
		{"http://shop.example/", "tcp", "shop.example:80", "shop.example", ""},
		{"https://shop.example/a/b/", "tcp", "shop.example:443", "shop.example", "/a/b"},
		{"h2c://[::1]:50051/a%2Fb", "tcp", "[::1]:50051", "[::1]:50051", "/a%2Fb"},
		{"unix:/run/app.sock", "unix", "/run/app.sock", "localhost", ""},
		{"unix:///run/app.sock", "unix", "/run/app.sock", "localhost", ""},
		{"unix:/run/app:1.sock:/base/", "unix", "/run/app:1.sock", "localhost", "/base"},
	} {
		a, err := parseAddress(tt.url)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		if a.network != tt.network || a.dial != tt.dial || a.host != tt.host || a.base.RawPath != tt.base {
			t.Errorf("%s: %+v", tt.url, a)
		}
		if u := mustNew(t, Options{URL: tt.url}); u.Pick(nil).URL() != tt.url {
			t.Errorf("URL %s, want %s", u.Pick(nil).URL(), tt.url)
		}
	}
}

func TestOptionErrors(t *testing.T) {
	dir := t.TempDir()
	notPEM := filepath.Join(dir, "not.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{}, "url: "},
		{Options{URL: "127.0.0.1:3000"}, "want http://"},
		{Options{URL: "ftp://h"}, "want http://"},
		{Options{URL: "http:///path"}, "no host"},
		{Options{URL: "http://user:secret@h"}, "user and password"},
		{Options{URL: "http://user:secret@h:port"}, "user and password"},
		{Options{URL: "http://user:se/secret@h"}, "user and password"},
		{Options{URL: "http://user:secret%zz@h"}, "user and password"},
		{Options{URL: "http://user:secret@"}, "user and password"},
		{Options{URL: "http://h:port"}, "invalid port"},
		{Options{URL: "http://h:65536"}, "url: port 65536"},
		{Options{URL: "h2c://h:0"}, "url: port 0"},
		{Options{URL: "http://h", Host: "two words"}, `host: "two words"`},
		{Options{URL: "http://h", Host: "a.example/b"}, `host: "a.example/b"`},
		{Options{URL: "http://h/?a=b"}, "query"},
		{Options{URL: "http://h/#f"}, "fragment"},
		{Options{URL: "unix:relative"}, "unix:/path"},
		{Options{URL: "unix:/s:/%zz"}, "base path"},
		{Options{URL: "unix:/s:/a?b"}, "percent-encoded"},
		{Options{URL: "http://h", TLS: TLSOptions{CA: "x"}}, "use https://"},
		{Options{URL: "https://h", TLS: TLSOptions{CA: filepath.Join(dir, "none")}}, "tls.ca"},
		{Options{URL: "https://h", TLS: TLSOptions{CA: notPEM}}, "no certificate"},
		{Options{URL: "https://h", TLS: TLSOptions{Cert: notPEM}}, "both or neither"},
		{Options{URL: "https://h", TLS: TLSOptions{Cert: notPEM, Key: notPEM}}, "tls.cert"},
	} {
		tt.o.Name = "shop"
		_, err := New(tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "upstream shop: ") {
			t.Errorf("%+v: error %v, want one with %q", tt.o, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), ":se")) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestNoProxyFromEnvironment(t *testing.T) {
	if mustNew(t, Options{URL: "http://h"}).member.transport.Proxy != nil {
		t.Error("an upstream is asked through a proxy of the environment")
	}
}
