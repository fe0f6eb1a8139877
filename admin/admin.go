// Package admin is the operator's listener: health, metrics, version, and a guarded place for everything else.
//
//	GET /livez       200 while the process runs; it says nothing about what the process depends on
//	GET /readyz      200 when it may be sent requests, with what is worth knowing all the same, 503 with the reasons otherwise
//	GET /metrics     the exposition of package metrics
//	GET /v1/version  what is running
//
// Those four are for probes and scrapers, which have no secrets, so they need none. Whatever else is registered can forget
// or reveal what is stored, so it is guarded by where the listener is (Options.Listen):
//
//   - On an address that others can reach it needs `Authorization: Bearer TOKEN`; where no token is configured it is closed.
//   - On loopback, or a unix socket, it is open to those on the machine, unless a token is configured all the same.
//   - A web page is also "on the machine", by the operator's browser: the page's own domain may be made to resolve to 127.0.0.1
//     (DNS rebinding). Its requests then carry that domain as Host, so on loopback the Host must be a loopback name. This holds
//     for the four paths too: a page could read them otherwise. No browser speaks to a unix socket.
//   - A page may also send a POST to localhost by that name. What a browser sends for a page of another origin is refused, by what it
//     says of itself (Sec-Fetch-Site, Origin); programs that are no browsers say neither.
//
// Feed is such a route: the requests as they end (GET /v1/log). Purging has those by which stored responses are forgotten (POST /v1/purge),
// Limits those by which limits are looked at (GET /v1/limits).
//
// Errors are problem+json (RFC 9457). The handler sets no time limits; those belong to the http.Server around it.
package admin

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"cacheproxy/metrics"
)

// Problem is one reason not to be ready, or a note on one who is.
type Problem struct {
	// Name is the part concerned, such as "redis" or "drain".
	Name string `json:"name"`
	// Detail says what is wrong with it, in words for an operator.
	Detail string `json:"detail"`
}

// VersionInfo is what /v1/version answers.
type VersionInfo struct {
	Version  string `json:"version"`            // of the release
	Commit   string `json:"commit,omitempty"`   // the source's
	Go       string `json:"go,omitempty"`       // the toolchain's version
	Instance string `json:"instance,omitempty"` // the name of this process among replicas
}

// Options configure the handler.
type Options struct {
	// Listen is the address the handler will be served on, host:port or unix:/path. It decides what is guarded, and how. An
	// empty host, as in ":9090", is every address. Empty means "127.0.0.1:9090".
	Listen string
	// Token is the bearer token; TokenFile names a file with it (surrounding white space is ignored). At most one of
	// them. Empty means that there is none.
	Token, TokenFile string
	// Metrics is what /metrics shows; nil answers 404.
	Metrics *metrics.Metrics
	// Ready returns what stands in the way of being sent requests, nothing when ready. It is called for each probe, also
	// concurrently. Nil means always ready.
	Ready func() []Problem
	// Notes returns what is worth knowing of a process that is ready all the same. It is called as Ready is. Nil means nothing.
	Notes func() []Problem
	// Version is what /v1/version answers.
	Version VersionInfo
	// Handle, when set, registers further routes, such as that of Explain; all of them are guarded.
	Handle func(mux *http.ServeMux)
}

// admin is the state of the handler; immutable.
type admin struct {
	reach   reach
	token   []byte // SHA-256 of the token, nil without one
	ready   func() []Problem
	notes   func() []Problem
	version VersionInfo
	mux     *http.ServeMux
}

// open are the paths that need no token.
var open = []string{"/livez", "/readyz", "/metrics", "/v1/version"}

// New returns the handler. Errors name configuration keys.
func New(o Options) (http.Handler, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:9090"
	}
	a := &admin{ready: o.Ready, notes: o.Notes, version: o.Version, mux: http.NewServeMux()}
	var err error
	if a.reach, err = reachOf(o.Listen); err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	token, err := readToken(o)
	if err != nil {
		return nil, err
	}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		a.token = sum[:]
	}
	a.mux.HandleFunc("GET /livez", a.livez)
	a.mux.HandleFunc("GET /readyz", a.readyz)
	if o.Metrics != nil {
		a.mux.Handle("GET /metrics", o.Metrics.Handler())
	}
	a.mux.HandleFunc("GET /v1/version", a.showVersion)
	if o.Handle != nil {
		o.Handle(a.mux)
	}
	return a, nil
}

func readToken(o Options) (string, error) {
	if o.TokenFile == "" {
		return o.Token, nil
	}
	if o.Token != "" {
		return "", errors.New("admin: a token and admin.token_file; want one of them")
	}
	text, err := os.ReadFile(o.TokenFile)
	if err != nil {
		return "", fmt.Errorf("admin.token_file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("admin.token_file: %s is empty", o.TokenFile)
	}
	return token, nil
}

// reach is who can connect to a listener.
type reach uint8

const (
	fromAnywhere reach = iota
	fromLoopback       // this machine's programs, browsers among them
	fromSocket         // this machine's programs that the socket's file mode lets in
)

// reachOf takes a host name other than localhost for reachable from elsewhere, whatever it resolves to today.
func reachOf(listen string) (reach, error) {
	if strings.HasPrefix(listen, "unix:") {
		return fromSocket, nil
	}
	host, _, err := net.SplitHostPort(listen)
	if err == nil && isLoopbackName(host) {
		return fromLoopback, nil
	}
	return fromAnywhere, err
}

// isLoopbackName reports whether host, without a port, is localhost or a loopback address. RFC 6761 section 6.3 reserves the
// names below localhost as well.
func isLoopbackName(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// ServeHTTP implements http.Handler: first who asks, then what is asked.
func (a *admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store") // nothing here is true for long
	if p := a.refuse(r); p != nil {
		p.write(w)
		return
	}
	// A route that does not match would be answered by ServeMux in plain text.
	if _, pattern := a.mux.Handler(r); pattern == "" {
		a.unmatched(w, r)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// unmatched answers 404, or 405 with Allow where the path exists for other methods: what ServeMux would, as problem+json.
func (a *admin) unmatched(w http.ResponseWriter, r *http.Request) {
	recorded := &statusRecorder{header: http.Header{}}
	a.mux.ServeHTTP(recorded, r)
	if recorded.status != http.StatusMethodNotAllowed {
		problem(http.StatusNotFound, "nothing is served at "+r.URL.Path).write(w)
		return
	}
	w.Header()["Allow"] = recorded.header["Allow"]
	problem(http.StatusMethodNotAllowed, "use "+recorded.header.Get("Allow")).write(w)
}

// statusRecorder keeps what ServeMux says of a route that does not match, and drops its text.
type statusRecorder struct {
	header http.Header
	status int
}

func (s *statusRecorder) Header() http.Header         { return s.header }
func (s *statusRecorder) WriteHeader(status int)      { s.status = status }
func (s *statusRecorder) Write(p []byte) (int, error) { return len(p), nil }

func (a *admin) livez(w http.ResponseWriter, _ *http.Request) {
	WriteJSON(w, http.StatusOK, map[string]string{"status": "live"})
}

// readyz answers with reasons, because a probe that only says no sends its reader to the logs.
func (a *admin) readyz(w http.ResponseWriter, _ *http.Request) {
	var reasons []Problem
	if a.ready != nil {
		reasons = a.ready()
	}
	if len(reasons) == 0 {
		ready := readiness{Status: "ready"}
		if a.notes != nil {
			ready.Notes = a.notes()
		}
		WriteJSON(w, http.StatusOK, ready)
		return
	}
	p := problem(http.StatusServiceUnavailable, "not ready to be sent requests")
	p.Reasons = slices.Clone(reasons)
	p.write(w)
}

// readiness is what /readyz answers with 200.
type readiness struct {
	Status string    `json:"status"`
	Notes  []Problem `json:"notes,omitempty"`
}

func (a *admin) showVersion(w http.ResponseWriter, _ *http.Request) {
	WriteJSON(w, http.StatusOK, a.version)
}

func writeBody(w http.ResponseWriter, status int, kind string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // our own types: none fails
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // a client that left is nobody to tell
}
