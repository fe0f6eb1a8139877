package main

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"cacheproxy/cmd/cacheproxy/internal/config"
	"cacheproxy/proxy"
	"cacheproxy/wire"
)

// The public listeners, and what a request meets between them and the proxy.

// maxStreams is how many requests of one connection are under way at once: net/http's own number, of which docs/security.md speaks.
const maxStreams = 250

// publicServer speaks HTTP/1.1 and HTTP/2, over TLS and, to clients that begin with its preface, in cleartext. The times of HTTP/1.1 are
// wire's to keep, which says why it ends a connection; net/http's own come a little later than any of those.
func publicServer(c *config.Config, handler http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	header, idle := c.Server.HeaderTimeout.Std(), c.Server.IdleTimeout.Std()
	if c.Wire {
		header, idle = 2*header+time.Second, idle+header+time.Second // wire counts a head from its first byte
	}
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: header,
		IdleTimeout:       idle,
		MaxHeaderBytes:    int(c.Server.MaxHeader),
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnContext:       wire.ConnContext,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},

		DisableGeneralOptionsHandler: true, // `OPTIONS *` is asked of the server behind us, and counted and logged as the rest
	}
}

// listen opens all listeners.
func (s *server) listen(c *config.Config) error {
	live, err := liveOf(c)
	if err != nil {
		return err
	}
	s.gate = wire.NewGate(wire.Options{
		HeaderTimeout: c.Server.HeaderTimeout.Std(), IdleTimeout: c.Server.IdleTimeout.Std(),
		BodyTimeout: c.Server.BodyTimeout.Std(), WriteTimeout: c.Server.WriteTimeout.Std(),
		MaxHeader: int(c.Server.MaxHeader), MaxFields: c.Server.MaxFields,
		MaxConnections: c.Server.MaxConnections, MaxPerClient: c.Server.MaxConnectionsPerClient,
		Live: live, Lenient: !c.Wire,
		Refused: s.logRefusal, Metrics: s.metrics, Log: s.log,
	})
	for _, l := range c.Listen {
		if err := s.open(l); err != nil {
			return err
		}
	}
	if c.Admin.Listen == "" {
		return nil
	}
	listener, err := listen(c.Admin.Listen)
	if err != nil {
		return listenError(err, "admin.listen", "--admin")
	}
	s.operatorListener = listener
	s.operator, err = s.operatorServer(c)
	return err
}

// liveOf is what of a configuration the gate takes over with a reload.
func liveOf(c *config.Config) (wire.Live, error) {
	trusted, err := prefixes(c.Client.Trusted)
	l := wire.Live{Trusted: trusted, Name: c.Cache.Name, IPv6Prefix: c.Client.IPv6Prefix}
	if c.Cache.StatusField != string(proxy.StatusAlways) {
		l.Name = "" // nobody who is refused is known to be trusted
	}
	return l, err
}

// open opens one public listener.
func (s *server) open(l config.Listener) error {
	source := wire.Source{ProxyProtocol: l.ProxyProtocol}
	if len(l.TLS) > 0 {
		certs, err := wire.LoadCertificates(l.TLS.Pairs(), s.log)
		if err != nil {
			return failure{err}
		}
		s.certificates = append(s.certificates, certs)
		source.TLS = certs.Config()
	}
	listener, err := listen(l.Address)
	if err != nil {
		return listenError(err, "listen", "--listen")
	}
	s.listeners = append(s.listeners, s.gate.Wrap(listener, source))
	return nil
}

// logRefusal writes what was refused before it was a request, as one of those that the access log samples.
func (s *server) logRefusal(r wire.Refusal) {
	access := newAccessLog(s.current.Load().config.Log, s.log, nil)
	if !access.drawn(false) {
		return
	}
	attributes := []any{"detail", r.Fault.Name, "status", r.Fault.Status, "reason", r.Fault.Detail}
	if r.Client.IsValid() {
		attributes = append(attributes, "client", r.Client.String())
	}
	s.log.Info("refused", attributes...)
}

// serve hands a request to the snapshot of the moment. While the server is ending, each response says that its connection does too, so
// that clients and balancers move before connections are closed; net/http sends GOAWAY for it in HTTP/2.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	if s.gate.Refuse(w, r) {
		return
	}
	snap := s.acquire()
	defer snap.release()
	if s.draining.Load() && r.Header["Upgrade"] == nil {
		w.Header()["Connection"] = []string{"close"}
	}
	if r.ProtoMajor == 2 && r.Body != nil && r.Body != http.NoBody && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		paced := newPacedBody(w, r.Body, snap.config.Server.BodyTimeout.Std())
		defer paced.end()
		r.Body = paced
	}
	if r.ProtoMajor == 2 {
		paced := newPacedWriter(w, snap.config.Server.WriteTimeout.Std())
		defer paced.arm() // what is left is written when the handler has returned
		w = paced
	}
	snap.front.ServeHTTP(w, r)
}

// acquire returns the snapshot of the moment, counted as in use.
func (s *server) acquire() *snapshot {
	for {
		snap := s.current.Load()
		snap.users.Add(1)
		if s.current.Load() == snap { // else it may have been closed before it was counted
			return snap
		}
		snap.release()
	}
}

func (s *server) closeListeners() {
	for _, l := range s.listeners {
		l.Close()
	}
	if s.operatorListener != nil {
		s.operatorListener.Close()
	}
}

func address(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return l.Addr().String()
}

func upstreamName(c *config.Config) string {
	if text, _, ok := c.Named(c.Upstream); ok {
		return text
	}
	return "of each site"
}
