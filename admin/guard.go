package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
)

// crossOrigin finds requests that a browser sends for a page of another origin. Such a page may name localhost, as Host does then, and may
// send a POST without asking before; it only cannot read the answer.
var crossOrigin http.CrossOriginProtection

// refuse returns why r may not be served, nil if it may. The rules, in order.
func (a *admin) refuse(r *http.Request) *problemDetails {
	switch {
	case a.reach == fromLoopback && !loopbackHost(r.Host):
		// 403 rather than 421 (Misdirected Request): a browser would answer 421 by asking again over another connection.
		return problem(http.StatusForbidden,
			"on a loopback address the Host must be localhost or a loopback address, so that no web page reaches it by a name of its own")
	case crossOrigin.Check(r) != nil:
		return problem(http.StatusForbidden, "a browser sends this for a page of another origin, which must not purge or reload anything here")
	case a.reach != fromAnywhere && a.token == nil, a.open(r):
		return nil
	case a.token == nil:
		return problem(http.StatusForbidden,
			"admin.listen is not a loopback address and there is no token: set admin.token_file")
	case !a.authorised(r):
		p := problem(http.StatusUnauthorized, "want Authorization: Bearer and the token of admin.token_file")
		p.challenge = true
		return p
	default:
		return nil
	}
}

// open reports whether r is for one of the paths that need no token and is not served by what Options.Handle registered, as a wider
// pattern takes the methods that ours leave.
func (a *admin) open(r *http.Request) bool {
	if !slices.Contains(open, r.URL.Path) {
		return false
	}
	_, pattern := a.mux.Handler(r)
	return pattern == "" || pattern == "GET "+r.URL.Path
}

// loopbackHost looks at a Host field, with or without a port. An empty one is no browser's.
func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host == "" || isLoopbackName(host)
}

// authorised compares digests, so that the time taken tells neither the token's bytes nor its length.
func (a *admin) authorised(r *http.Request) bool {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(sum[:], a.token) == 1
}

// problemDetails is an error body of RFC 9457. Without a type it is "about:blank": the status says what kind it is.
type problemDetails struct {
	Title   string    `json:"title"`
	Status  int       `json:"status"`
	Detail  string    `json:"detail,omitempty"`
	Reasons []Problem `json:"reasons,omitempty"` // of /readyz

	challenge bool // a 401, which must carry WWW-Authenticate (RFC 9110 section 15.5.2)
}

func problem(status int, detail string) *problemDetails {
	return &problemDetails{Title: http.StatusText(status), Status: status, Detail: detail}
}

// WriteProblem answers with an error body of RFC 9457, for routes that Options.Handle registers; more are further members, which must
// be marshalable.
func WriteProblem(w http.ResponseWriter, status int, detail string, more map[string]any) {
	all := map[string]any{"title": http.StatusText(status), "status": status, "detail": detail}
	maps.Copy(all, more)
	writeBody(w, status, "application/problem+json", all)
}

// WriteJSON answers with v, which must be marshalable, for routes that Options.Handle registers.
func WriteJSON(w http.ResponseWriter, status int, v any) { writeBody(w, status, "application/json", v) }

func (p *problemDetails) write(w http.ResponseWriter) {
	if p.challenge {
		w.Header().Set("WWW-Authenticate", `Bearer realm="cacheproxy admin"`)
	}
	writeBody(w, p.Status, "application/problem+json", p)
}
