package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// Pair names the PEM files of a certificate with its chain, and of its key.
type Pair struct{ Cert, Key string }

// Certificates are those of one listener, read from files and read again when these change. A client that names a server (SNI) gets the
// first that is valid for the name; one that names none, or one that no certificate is for, gets the first. Handshakes under way keep
// what they have begun with. It is safe for concurrent use.
type Certificates struct {
	pairs []Pair
	log   *slog.Logger
	texts [][]byte // of the files, as loaded
	now   atomic.Pointer[[]tls.Certificate]
}

// LoadCertificates reads the pairs. Errors name the file.
func LoadCertificates(pairs []Pair, log *slog.Logger) (*Certificates, error) {
	if len(pairs) == 0 {
		return nil, errors.New("wire: no certificate is named")
	}
	if log == nil {
		log = slog.Default()
	}
	c := &Certificates{pairs: pairs, log: log}
	_, err := c.Reload()
	return c, err
}

// Reload reads the files again, and reports whether they have changed. All certificates change together, or none where one of them
// cannot be used. Only one goroutine may call it at a time.
func (c *Certificates) Reload() (changed bool, err error) {
	texts := make([][]byte, 0, 2*len(c.pairs))
	for _, p := range c.pairs {
		for _, file := range []string{p.Cert, p.Key} {
			text, err := os.ReadFile(file)
			if err != nil {
				return false, fmt.Errorf("wire: %w", err)
			}
			texts = append(texts, text)
		}
	}
	if slices.EqualFunc(texts, c.texts, bytes.Equal) {
		return false, nil
	}
	list := make([]tls.Certificate, len(c.pairs))
	for i, p := range c.pairs {
		if list[i], err = tls.X509KeyPair(texts[2*i], texts[2*i+1]); err != nil {
			return false, fmt.Errorf("wire: %s with %s: %w", p.Cert, p.Key, err)
		}
	}
	c.texts = texts
	c.now.Store(&list)
	return true, nil
}

// Watch reads the files each time that so long has gone by, until ctx ends, and logs what came of it. Files that cannot be used are
// told once, and the certificates before them stay.
func (c *Certificates) Watch(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch changed, err := c.Reload(); {
		case err != nil && err.Error() != told:
			told = err.Error()
			c.log.Error("certificates cannot be loaded again: the ones before stay", "error", told)
		case changed:
			told = ""
			c.log.Info("certificates were loaded again", "cert", c.pairs[0].Cert, "expires", c.Expires().UTC().Format(time.RFC3339))
		}
	}
}

// Expires is when the first of them to end does.
func (c *Certificates) Expires() time.Time {
	var first time.Time
	for _, cert := range *c.now.Load() {
		if end := cert.Leaf.NotAfter; first.IsZero() || end.Before(first) {
			first = end
		}
	}
	return first
}

// Config is the TLS configuration of a listener with these certificates: TLS 1.2 and 1.3 with what crypto/tls thinks right.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.choose}
}

// choose is tls.Config.GetCertificate.
func (c *Certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	list := *c.now.Load()
	for i := range list {
		if hello.SupportsCertificate(&list[i]) == nil {
			return &list[i], nil
		}
	}
	return &list[0], nil
}
