package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// writeCertificates makes a CA and certificates of the server and of a client, writes them to files, and returns a client's
// configuration that trusts that CA alone.
func (s *Server) writeCertificates() *tls.Config {
	s.t.Helper()
	must := func(err error) {
		if err != nil {
			s.t.Helper()
			s.t.Fatalf("redistest: making certificates: %v", err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := certificate(1, "redistest CA")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)

	write := func(name, kind string, der []byte) {
		must(os.WriteFile(filepath.Join(s.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	sign := func(serial int64, name string, usage x509.ExtKeyUsage) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
		leaf := certificate(serial, "redistest "+name)
		leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{usage}
		leaf.IPAddresses, leaf.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
		leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
		must(err)
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		must(err)
		write(name+".pem", "CERTIFICATE", leafDER)
		write(name+".key", "PRIVATE KEY", keyDER)
	}
	write("ca.pem", "CERTIFICATE", caDER)
	sign(2, "server", x509.ExtKeyUsageServerAuth)
	sign(3, "client", x509.ExtKeyUsageClientAuth)
	parsed, err := x509.ParseCertificate(caDER)
	must(err)
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	client, err := tls.LoadX509KeyPair(s.ClientCertFile(), s.ClientKeyFile())
	must(err)
	return &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{client}}
}

// certificate returns a template valid for a day around now, so that neither a slow clock nor a long test matters.
func certificate(serial int64, name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-12 * time.Hour), NotAfter: now.Add(12 * time.Hour),
	}
}
